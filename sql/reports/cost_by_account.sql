-- Purpose: what each account costs, month by month.
-- Grain: one period, billing account, account and currency.
-- Parameters: none.
SELECT
    charges.period,
    charges.billing_account_id,
    charges.account_id,
    accounts.name AS account_name,
    charges.currency,
    sum(charges.list_cost) AS list_cost,
    sum(charges.cost) AS cost
FROM charges
LEFT JOIN accounts USING (account_id)
GROUP BY ALL
ORDER BY charges.period, charges.billing_account_id, charges.account_id, charges.currency
