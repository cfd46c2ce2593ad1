"""What reports and questions need from the ledger. Pure: frames in, frames out."""
