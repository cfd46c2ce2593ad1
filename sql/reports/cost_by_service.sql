-- Purpose: what each service costs, month by month.
-- Grain: one period, billing account, service category, service and currency.
-- Parameters: none.
SELECT
    charges.period,
    charges.billing_account_id,
    skus.category,
    skus.service,
    charges.currency,
    sum(charges.list_cost) AS list_cost,
    sum(charges.cost) AS cost
FROM charges
LEFT JOIN skus USING (sku_id)
GROUP BY ALL
ORDER BY charges.period, charges.billing_account_id, skus.category, skus.service, charges.currency
