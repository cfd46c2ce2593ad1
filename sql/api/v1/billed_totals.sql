-- Purpose: what organizations owe for a month: their invoices as runs make them, drafts included.
-- Grain: one organization and currency.
-- Parameters: $period.
SELECT billing_account_id AS organization_id, currency, sum(total_amount) AS total_amount
FROM seen_invoices
WHERE period = $period AND origin = 'run'
GROUP BY ALL
