-- Purpose: what an invoice draws on credits.
-- Grain: one credit.
-- Parameters: $invoice_id.
SELECT credit_id, kind, currency, balance_before, amount, balance_after, description
FROM seen_credit_ledger
WHERE invoice_id = $invoice_id
ORDER BY credit_id
