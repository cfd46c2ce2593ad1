-- Purpose: what each account costs, month by month.
-- Grain: one period, billing account, account and currency.
-- Parameters: none.
-- Example: ratemill query cost_by_account --period 2026-10
--   period   billing_account_id  account_id  account_name  currency  list_cost    cost
--   ───────  ──────────────────  ──────────  ────────────  ────────  ─────────  ──────
--   2026-10  acme                acme        Acme          EUR          140.88  131.95
--   2026-10  acme                acme-lab    Acme Lab      EUR          178.56  160.71
--   2026-10  globex              globex      Globex        EUR          148.80  114.04
--   (3 rows)
SELECT
    charges.period,
    charges.billing_account_id,
    charges.account_id,
    accounts.name AS account_name,
    charges.currency,
    sum(charges.list_cost) AS list_cost,
    sum(charges.cost) AS cost
FROM charges
LEFT JOIN accounts USING (account_id)
GROUP BY ALL
ORDER BY charges.period, charges.billing_account_id, charges.account_id, charges.currency
