-- Purpose: what anything costs, month by month: by one or two of account, payer, project, service, category, sku, region,
--          resource, kind (of charge), day (UTC), or the value of a tag.
-- Grain: one period, value of the first, value of the second, and currency.
-- Parameters:
--   $first_period, $last_period: months, YYYY-MM, both included; from --period.
--   $by (text, default service): what to add up by, for example project or tag.env.
--   $then_by (text, default all): a second one; all: none.
-- Example: ratemill query cost_by --period 2026-10 --set by=account --set then_by=kind --where "value = 'acme'"
--   period   value  then_value  currency  list_cost    cost
--   ───────  ─────  ──────────  ────────  ─────────  ──────
--   2026-10  acme   usage       EUR          140.88  140.88
--   2026-10  acme   discount    EUR            0.00   -8.93
--   (2 rows)
WITH described AS (
    SELECT
        charges.period,
        charges.currency,
        charges.list_cost,
        charges.cost,
        CASE
            WHEN $by = 'account' THEN charges.account_id
            WHEN $by = 'payer' THEN charges.billing_account_id
            WHEN $by = 'project' THEN charges.project_id
            WHEN $by = 'service' THEN skus.service
            WHEN $by = 'category' THEN skus.category
            WHEN $by = 'sku' THEN charges.sku_id
            WHEN $by = 'region' THEN charges.region
            WHEN $by = 'resource' THEN charges.resource_id
            WHEN $by = 'kind' THEN charges.charge_kind
            WHEN $by = 'day' THEN charges.charge_start::DATE::VARCHAR
            WHEN $by LIKE 'tag.%'
                THEN json_extract_string(charges.tags, '$."' || replace(nullif(substr($by, 5), ''), '"', '\"') || '"')
            ELSE error('by: ' || $by || ' is nothing to add up by, use account, payer, project, service, category, sku,'
                || ' region, resource, kind, day or tag.NAME')
        END AS value,
        CASE
            WHEN $then_by = 'all' THEN NULL
            WHEN $then_by = 'account' THEN charges.account_id
            WHEN $then_by = 'payer' THEN charges.billing_account_id
            WHEN $then_by = 'project' THEN charges.project_id
            WHEN $then_by = 'service' THEN skus.service
            WHEN $then_by = 'category' THEN skus.category
            WHEN $then_by = 'sku' THEN charges.sku_id
            WHEN $then_by = 'region' THEN charges.region
            WHEN $then_by = 'resource' THEN charges.resource_id
            WHEN $then_by = 'kind' THEN charges.charge_kind
            WHEN $then_by = 'day' THEN charges.charge_start::DATE::VARCHAR
            WHEN $then_by LIKE 'tag.%'
                THEN json_extract_string(charges.tags, '$."' || replace(nullif(substr($then_by, 5), ''), '"', '\"') || '"')
            ELSE error('then_by: ' || $then_by || ' is nothing to add up by, use account, payer, project, service,'
                || ' category, sku, region, resource, kind, day, tag.NAME or all')
        END AS then_value
    FROM charges
    LEFT JOIN skus USING (sku_id)
    WHERE charges.period BETWEEN $first_period AND $last_period
)

SELECT
    period,
    value,
    then_value,
    currency,
    sum(list_cost) AS list_cost,
    sum(cost) AS cost
FROM described
GROUP BY ALL
ORDER BY period, currency, cost DESC, value, then_value
