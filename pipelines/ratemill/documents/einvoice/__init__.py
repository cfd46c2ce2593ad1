"""E-invoices: the document as EN 16931 models it, written as UBL 2.1 and as CII."""
