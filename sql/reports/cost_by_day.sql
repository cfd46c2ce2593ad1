-- Purpose: what each UTC day costs. (Charges are cut at local days, their first instant decides.)
-- Grain: one period, billing account, day and currency.
-- Parameters: none.
-- Example: ratemill query cost_by_day --period 2026-10 --where "billing_account_id = 'acme' AND day BETWEEN '2026-10-19' AND '2026-10-21'" --columns day,currency,list_cost,cost
--   day         currency  list_cost   cost
--   ──────────  ────────  ─────────  ─────
--   2026-10-19  EUR            9.84   9.84
--   2026-10-20  EUR           24.24  24.24
--   2026-10-21  EUR            9.84   9.84
--   (3 rows)
SELECT
    period,
    billing_account_id,
    charge_start::DATE AS day,
    currency,
    sum(list_cost) AS list_cost,
    sum(cost) AS cost
FROM charges
WHERE charge_kind = 'usage'
GROUP BY ALL
ORDER BY period, billing_account_id, day, currency
