-- Purpose: files of issued invoices and credit notes that are seen as a whole.
-- Grain: one file.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
SELECT documents.*
FROM published.documents
SEMI JOIN seen_invoices USING (invoice_id)
