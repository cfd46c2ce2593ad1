-- Purpose: what invoices draw on credits that are seen as a whole.
-- Grain: one invoice and credit.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
SELECT credit_ledger.*
FROM published.credit_ledger
SEMI JOIN seen_invoices USING (invoice_id)
