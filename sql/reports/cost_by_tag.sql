-- Purpose: what each value of each tag costs. A charge with several tags counts under each, untagged charges have
--          no tag, so that the sum over one tag and the rows without it is the whole.
-- Grain: one period, billing account, tag, value and currency.
-- Parameters: none.
-- Example: ratemill query cost_by_tag --where "tag = 'env' OR tag IS NULL" --period 2026-10
--   period   billing_account_id  tag   value  currency    cost
--   ───────  ──────────────────  ────  ─────  ────────  ──────
--   2026-10  acme                env   prod   EUR       126.48
--   2026-10  acme                env   test   EUR       178.56
--   2026-10  acme                NULL  NULL   EUR       -12.38
--   2026-10  globex              NULL  NULL   EUR       114.04
--   (4 rows)
WITH by_tags AS (
    SELECT period, billing_account_id, tags, currency, sum(cost) AS cost
    FROM charges
    GROUP BY ALL
)

SELECT
    by_tags.period,
    by_tags.billing_account_id,
    tag.tag,
    json_extract_string(by_tags.tags, '$."' || replace(tag.tag, '"', '\"') || '"') AS value,
    by_tags.currency,
    sum(by_tags.cost) AS cost
FROM by_tags
LEFT JOIN LATERAL (SELECT unnest(json_keys(by_tags.tags)) AS tag) AS tag ON true
GROUP BY ALL
ORDER BY by_tags.period, by_tags.billing_account_id, tag.tag, value, by_tags.currency
