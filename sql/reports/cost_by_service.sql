-- Purpose: what each service costs, month by month.
-- Grain: one period, billing account, service category, service and currency.
-- Parameters: none.
-- Example: ratemill query cost_by_service --period 2026-10
--   period   billing_account_id  category    service        currency  list_cost    cost
--   ───────  ──────────────────  ──────────  ─────────────  ────────  ─────────  ──────
--   2026-10  acme                Compute     Compute        EUR          267.84  241.06
--   2026-10  acme                Networking  Network        EUR           51.60   51.60
--   2026-10  globex              Storage     Block Storage  EUR          148.80  114.04
--   (3 rows)
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
