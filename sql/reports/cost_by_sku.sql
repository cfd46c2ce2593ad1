-- Purpose: what each SKU costs and how much of it was used, month by month.
-- Grain: one period, billing account, SKU, region and currency.
-- Parameters: none.
SELECT
    charges.period,
    charges.billing_account_id,
    skus.service,
    charges.sku_id,
    skus.name AS sku_name,
    charges.region,
    sum(charges.pricing_quantity) AS pricing_quantity,
    any_value(charges.pricing_unit) AS pricing_unit,
    charges.currency,
    sum(charges.list_cost) AS list_cost,
    sum(charges.cost) AS cost
FROM charges
LEFT JOIN skus USING (sku_id)
GROUP BY charges.period, charges.billing_account_id, skus.service, charges.sku_id, skus.name, charges.region,
    charges.currency
ORDER BY charges.period, charges.billing_account_id, skus.service, charges.sku_id, charges.region, charges.currency
