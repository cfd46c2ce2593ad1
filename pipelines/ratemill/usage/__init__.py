"""From a file's raw frame to usage that keeps every rule, and the rows that do not. Pure: frames in, frames out."""
