-- Purpose: which accounts' services moved a month's revenue most, up or down, against the month before.
-- Grain: one period, account, service and currency whose cost changed; the largest change first.
-- Parameters:
--   $first_period, $last_period: months, YYYY-MM, both included; from --period. The month before needs no mention.
--   $at_least (number, default 0): only changes of at least this amount, up or down.
-- Example: ratemill query top_movers --period 2026-10 --set at_least=5
--   period   account_id  service        currency  cost_before    cost  change  moved
--   ───────  ──────────  ─────────────  ────────  ───────────  ──────  ──────  ─────
--   2026-10  globex      Block Storage  EUR             54.72  114.04   59.32  up
--   2026-10  globex      (none)         EUR             40.28    0.00  -40.28  gone
--   2026-10  acme-lab    Compute        EUR            129.60  160.71   31.11  up
--   2026-10  acme        Network        EUR             36.00   51.60   15.60  up
--   2026-10  acme        Compute        EUR             64.80   80.35   15.55  up
--   (5 rows)
WITH costs AS (
    SELECT
        charges.period,
        charges.account_id,
        coalesce(skus.service, '(none)') AS service,
        charges.currency,
        sum(charges.cost) AS cost
    FROM charges
    LEFT JOIN skus USING (sku_id)
    WHERE charges.period <= $last_period
    GROUP BY ALL
),

months AS (
    SELECT DISTINCT period, strftime((period || '-01')::DATE - INTERVAL 1 MONTH, '%Y-%m') AS month_before
    FROM costs
),

pairs AS (
    SELECT months.period, costs.account_id, costs.service, costs.currency, costs.cost AS cost, 0 AS cost_before
    FROM months
    INNER JOIN costs ON costs.period = months.period
    UNION ALL
    SELECT months.period, costs.account_id, costs.service, costs.currency, 0, costs.cost
    FROM months
    INNER JOIN costs ON costs.period = months.month_before
),

compared AS (
    SELECT
        period,
        account_id,
        service,
        currency,
        sum(cost_before) AS cost_before,
        sum(cost) AS cost,
        sum(cost) - sum(cost_before) AS change
    FROM pairs
    GROUP BY ALL
)

SELECT
    period,
    account_id,
    service,
    currency,
    cost_before,
    cost,
    change,
    CASE WHEN cost_before = 0 THEN 'new' WHEN cost = 0 THEN 'gone' WHEN change > 0 THEN 'up' ELSE 'down' END AS moved
FROM compared
WHERE change <> 0
  AND abs(change) >= $at_least
  AND period >= $first_period
  AND period > (SELECT min(period) FROM months)
ORDER BY period, currency, abs(change) DESC, account_id, service
