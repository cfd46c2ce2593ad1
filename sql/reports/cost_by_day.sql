-- Purpose: what each UTC day costs. (Charges are cut at local days, their first instant decides.)
-- Grain: one period, billing account, day and currency.
-- Parameters: none.
SELECT
    period,
    billing_account_id,
    charge_start::DATE AS day,
    currency,
    sum(list_cost) AS list_cost,
    sum(cost) AS cost
FROM charges
WHERE charge_kind = 'usage'
GROUP BY ALL
ORDER BY period, billing_account_id, day, currency
