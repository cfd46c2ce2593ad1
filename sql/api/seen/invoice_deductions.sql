-- Purpose: what is taken off lines that are seen.
-- Grain: one discount, commitment or promotional credit on one line.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
SELECT invoice_deductions.*
FROM published.invoice_deductions
SEMI JOIN seen_invoice_lines USING (invoice_id, line_number)
