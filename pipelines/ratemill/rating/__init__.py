"""From metered usage to charges. Pure: frames in, frames out."""
