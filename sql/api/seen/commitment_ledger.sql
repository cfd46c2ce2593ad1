-- Purpose: months of commitments that are seen as a whole.
-- Grain: one commitment in one month.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
SELECT commitment_ledger.*
FROM published.commitment_ledger
SEMI JOIN seen_invoices USING (invoice_id)
