-- Purpose: how much of each account's use carries each tag, so that costs can be told apart by it. Every tag that occurs
--          in the month is asked of every account.
-- Grain: one period, tag, account and currency.
-- Parameters: none.
-- Example: ratemill query tag_coverage --period 2026-10 --where "tag = 'env'"
--   period   tag  account_id  currency    cost  tagged_cost  untagged_cost  tagged_percent
--   ───────  ───  ──────────  ────────  ──────  ───────────  ─────────────  ──────────────
--   2026-10  env  acme        EUR       140.88       126.48          14.40            89.8
--   2026-10  env  acme-lab    EUR       178.56       178.56           0.00           100.0
--   2026-10  env  globex      EUR       119.04         0.00         119.04             0.0
--   (3 rows)
WITH by_tags AS (
    SELECT period, account_id, currency, tags, sum(cost) AS cost
    FROM charges
    WHERE charge_kind = 'usage'
    GROUP BY ALL
),

totals AS (
    SELECT period, account_id, currency, sum(cost) AS cost
    FROM by_tags
    GROUP BY ALL
),

by_tag AS (
    SELECT period, account_id, currency, unnest(json_keys(tags)) AS tag, cost
    FROM by_tags
),

tagged AS (
    SELECT period, account_id, currency, tag, sum(cost) AS cost
    FROM by_tag
    GROUP BY ALL
),

known AS (
    SELECT DISTINCT period, tag
    FROM tagged
)

SELECT
    totals.period,
    known.tag,
    totals.account_id,
    totals.currency,
    totals.cost,
    coalesce(tagged.cost, 0) AS tagged_cost,
    totals.cost - coalesce(tagged.cost, 0) AS untagged_cost,
    (100 * coalesce(tagged.cost, 0)::DOUBLE / nullif(totals.cost, 0)::DOUBLE)::DECIMAL(18, 1) AS tagged_percent
FROM totals
INNER JOIN known USING (period)
LEFT JOIN tagged USING (period, account_id, currency, tag)
ORDER BY totals.period, known.tag, totals.account_id, totals.currency
