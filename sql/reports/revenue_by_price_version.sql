-- Purpose: what each price version earned, so that a price rise shows beside the price it replaced.
-- Grain: one period, SKU, price version and currency.
-- Parameters: none.
-- Example: ratemill query revenue_by_price_version --where "sku_id = 'vm'" --columns period,price_id,valid_from,accounts,quantity,unit,amount,net_amount
--   period   price_id  valid_from            accounts  quantity  unit   amount  net_amount
--   ───────  ────────  ────────────────────  ────────  ────────  ─────  ──────  ──────────
--   2026-08  vm-2025   NULL                         2   1488.00  Hours  140.76      120.90
--   2026-09  vm-2025   NULL                         2   2160.00  Hours  216.00      194.40
--   2026-10  vm-2026   2026-10-01T00:00:00Z         2   2232.00  Hours  267.84      241.06
--   (3 rows)
WITH versions AS (
    SELECT
        price_id,
        any_value(price_list) AS price_list,
        any_value(valid_from) AS valid_from,
        any_value(valid_to) AS valid_to
    FROM prices
    GROUP BY price_id
)

SELECT
    invoices.period,
    lines.sku_id,
    lines.price_id,
    versions.price_list,
    versions.valid_from,
    versions.valid_to,
    count(DISTINCT lines.account_id) AS accounts,
    sum(lines.pricing_quantity) AS quantity,
    any_value(lines.pricing_unit) AS unit,
    invoices.currency,
    sum(lines.amount) AS amount,
    sum(lines.net_amount) AS net_amount
FROM invoice_lines AS lines
INNER JOIN invoices USING (invoice_id)
LEFT JOIN versions USING (price_id)
WHERE lines.line_kind = 'usage'
GROUP BY invoices.period, lines.sku_id, lines.price_id, versions.price_list, versions.valid_from, versions.valid_to,
    invoices.currency
ORDER BY invoices.period, lines.sku_id, versions.valid_from NULLS FIRST, lines.price_id, invoices.currency
