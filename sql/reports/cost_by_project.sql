-- Purpose: what each project costs, month by month.
-- Grain: one period, billing account, account, project and currency.
-- Parameters: none.
-- Example: ratemill query cost_by_project --period 2026-10 --where "account_id = 'acme'"
--   period   billing_account_id  account_id  project_id  project_name  currency  list_cost    cost
--   ───────  ──────────────────  ──────────  ──────────  ────────────  ────────  ─────────  ──────
--   2026-10  acme                acme        web         Web shop      EUR          126.48  117.55
--   2026-10  acme                acme        NULL        NULL          EUR           14.40   14.40
--   (2 rows)
WITH names AS (
    SELECT project_id, arg_max(name, coalesce(valid_from, TIMESTAMPTZ '0001-01-01 00:00:00+00')) AS project_name
    FROM projects
    GROUP BY project_id
)

SELECT
    charges.period,
    charges.billing_account_id,
    charges.account_id,
    charges.project_id,
    names.project_name,
    charges.currency,
    sum(charges.list_cost) AS list_cost,
    sum(charges.cost) AS cost
FROM charges
LEFT JOIN names USING (project_id)
GROUP BY ALL
ORDER BY charges.period, charges.billing_account_id, charges.account_id, charges.project_id, charges.currency
