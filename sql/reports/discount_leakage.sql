-- Purpose: how much of the public price of usage arrives on invoices, and what took the rest: contract prices (with caps
--          and minimums), discounts, commitments, credits. What is left is exact:
--          list_cost + price_effect + rounding + discount_amount + commitment_amount + credit_amount = net_amount.
--          Where there is no public price, the price that applied stands for it.
-- Grain: one period, billing account, service and currency.
-- Parameters: none.
-- Example: ratemill query discount_leakage --period 2026-10 --columns billing_account_id,service,list_cost,price_effect,discount_amount,commitment_amount,net_amount,off_list_percent
--   billing_account_id  service        list_cost  price_effect  discount_amount  commitment_amount  net_amount  off_list_percent
--   ──────────────────  ─────────────  ─────────  ────────────  ───────────────  ─────────────────  ──────────  ────────────────
--   acme                Compute           267.84          0.00           -26.78               0.00      241.06              10.0
--   acme                Network            51.60          0.00             0.00               0.00       51.60               0.0
--   globex              Block Storage     148.80        -29.76             0.00              -5.00      114.04              23.4
--   (3 rows)
SELECT
    invoices.period,
    invoices.billing_account_id,
    lines.service,
    invoices.currency,
    sum(coalesce(lines.list_cost, lines.cost)) AS list_cost,
    sum(lines.cost - coalesce(lines.list_cost, lines.cost)) AS price_effect,
    sum(lines.rounding) AS rounding,
    sum(lines.discount_amount) AS discount_amount,
    sum(lines.commitment_amount) AS commitment_amount,
    sum(lines.credit_amount) AS credit_amount,
    sum(lines.net_amount) AS net_amount,
    (100 - 100 * sum(lines.net_amount)::DOUBLE
        / nullif(sum(coalesce(lines.list_cost, lines.cost)), 0)::DOUBLE)::DECIMAL(18, 1) AS off_list_percent
FROM invoice_lines AS lines
INNER JOIN invoices USING (invoice_id)
WHERE lines.line_kind = 'usage'
GROUP BY invoices.period, invoices.billing_account_id, lines.service, invoices.currency
ORDER BY invoices.period, invoices.billing_account_id, lines.service, invoices.currency
