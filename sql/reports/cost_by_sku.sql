-- Purpose: what each SKU costs and how much of it was used, month by month.
-- Grain: one period, billing account, SKU, region and currency.
-- Parameters: none.
-- Example: ratemill query cost_by_sku --period 2026-10 --columns service,sku_id,sku_name,pricing_quantity,pricing_unit,list_cost,cost
--   service        sku_id  sku_name   pricing_quantity  pricing_unit  list_cost    cost
--   ─────────────  ──────  ─────────  ────────────────  ────────────  ─────────  ──────
--   Compute        vm      VM, small           2232.00  Hours            267.84  241.06
--   Network        egress  Egress              1032.00  GiB               51.60   51.60
--   Block Storage  disk    Disk             1488000.00  GiB-Hours        148.80  114.04
--   (3 rows)
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
