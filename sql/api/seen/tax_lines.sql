-- Purpose: taxes of invoices that are seen as a whole.
-- Grain: one tax rate of one invoice.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
SELECT tax_lines.*
FROM published.tax_lines
SEMI JOIN seen_invoices USING (invoice_id)
