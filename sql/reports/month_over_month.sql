-- Purpose: what changed against the month before, by one of account, payer, project, service, category, sku or region.
-- Grain: one period, value and currency; also values that cost something in only one of the two months.
-- Parameters:
--   $first_period, $last_period: months, YYYY-MM, both included; from --period. The month before needs no mention.
--   $by (text, default service): what to compare by.
-- Example: ratemill query month_over_month --period 2026-10 --set by=account
--   period   value     currency  cost_before    cost  change  change_percent
--   ───────  ────────  ────────  ───────────  ──────  ──────  ──────────────
--   2026-10  acme-lab  EUR            129.60  160.71   31.11            24.0
--   2026-10  acme      EUR            100.80  131.95   31.15            30.9
--   2026-10  globex    EUR             95.00  114.04   19.04            20.0
--   (3 rows)
WITH costs AS (
    SELECT
        charges.period,
        coalesce(
            CASE
                WHEN $by = 'account' THEN charges.account_id
                WHEN $by = 'payer' THEN charges.billing_account_id
                WHEN $by = 'project' THEN charges.project_id
                WHEN $by = 'service' THEN skus.service
                WHEN $by = 'category' THEN skus.category
                WHEN $by = 'sku' THEN charges.sku_id
                WHEN $by = 'region' THEN charges.region
                ELSE error('by: ' || $by || ' is nothing to compare by, use account, payer, project, service, category,'
                    || ' sku or region')
            END,
            '(none)'
        ) AS value,
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
    SELECT months.period, costs.value, costs.currency, costs.cost AS cost, 0 AS cost_before
    FROM months
    INNER JOIN costs ON costs.period = months.period
    UNION ALL
    SELECT months.period, costs.value, costs.currency, 0, costs.cost
    FROM months
    INNER JOIN costs ON costs.period = months.month_before
),

compared AS (
    SELECT
        pairs.period,
        pairs.value,
        pairs.currency,
        -- Unknown, not zero, where the month before is not published.
        CASE WHEN pairs.period > (SELECT min(period) FROM months) THEN sum(pairs.cost_before) END AS cost_before,
        sum(pairs.cost) AS cost
    FROM pairs
    GROUP BY pairs.period, pairs.value, pairs.currency
)

SELECT
    period,
    value,
    currency,
    cost_before,
    cost,
    cost - cost_before AS change,
    (100 * (cost - cost_before)::DOUBLE / nullif(cost_before::DOUBLE, 0))::DECIMAL(18, 1) AS change_percent
FROM compared
WHERE period >= $first_period
ORDER BY period, currency, cost DESC, value
