"""Checks of the book (price tables, accounts, taxes). Pure: frames in, findings out."""
