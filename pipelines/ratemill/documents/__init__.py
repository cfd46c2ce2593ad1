"""What people see: invoices and reports as HTML, PDF, JSON and CSV. Knows no rule of billing."""
