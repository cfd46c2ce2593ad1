-- Purpose: days on which an account's use of a service cost far more or less than on the days before: further from their
--          mean than so many standard deviations (z). A quick look; a spread below 5 % of the mean counts as 5 %, and a
--          day is judged only by seven earlier days or more.
-- Grain: one UTC day, account, service and currency that stands out. usual_cost is the mean, rounded.
-- Parameters:
--   $first_period, $last_period: months, YYYY-MM, both included; from --period. Earlier days are looked at as well.
--   $z (number, default 3): how many standard deviations are unusual.
--   $days (whole, default 28): how many days before are looked at.
-- Example: ratemill query unusual_days --period 2026-10 --set z=5
--   period   day         account_id  service        currency   cost  usual_cost      z
--   ───────  ──────────  ──────────  ─────────────  ────────  ─────  ──────────  ─────
--   2026-10  2026-10-01  globex      Block Storage  EUR        3.84        1.92   20.0
--   2026-10  2026-10-02  globex      Block Storage  EUR        3.84        1.99    5.2
--   2026-10  2026-10-20  acme        Network        EUR       15.60        1.20  240.0
--   (3 rows)
WITH daily AS (
    SELECT
        charges.account_id,
        skus.service,
        charges.currency,
        charges.charge_start::DATE AS day,
        max(charges.period) AS period,
        sum(charges.cost) AS cost
    FROM charges
    INNER JOIN skus USING (sku_id)
    WHERE charges.charge_kind = 'usage'
      AND charges.period <= $last_period
    GROUP BY ALL
),

judged AS (
    SELECT
        *,
        avg(cost::DOUBLE) OVER days_before AS mean,
        stddev_pop(cost::DOUBLE) OVER days_before AS spread,
        count(*) OVER days_before AS days
    FROM daily
    WINDOW days_before AS (
        PARTITION BY account_id, service, currency
        ORDER BY day
        RANGE BETWEEN to_days($days::INTEGER) PRECEDING AND INTERVAL 1 DAY PRECEDING
    )
),

scored AS (
    SELECT *, (cost::DOUBLE - mean) / nullif(greatest(spread, abs(mean) / 20), 0) AS z
    FROM judged
    WHERE days >= 7
)

SELECT
    period,
    day,
    account_id,
    service,
    currency,
    cost,
    mean::DECIMAL(38, 2) AS usual_cost,
    z::DECIMAL(18, 1) AS z
FROM scored
WHERE abs(z) >= $z
  AND period >= $first_period
ORDER BY day, abs(z) DESC, account_id, service, currency
