"""The only code that touches files and DuckDB. Knows no rule of billing."""
