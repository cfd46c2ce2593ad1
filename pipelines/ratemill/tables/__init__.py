"""Every table the product knows: each column once, with type, unit and meaning."""
