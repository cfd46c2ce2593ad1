"""From charges to invoices. Pure: frames in, frames out."""
