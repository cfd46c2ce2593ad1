-- Purpose: what one unit of each SKU came to, at public prices and as billed after everything that was taken off.
-- Grain: one period, SKU and currency. Unit costs are rounded to six digits, amounts are exact.
-- Parameters: none.
-- Example: ratemill query unit_costs --period 2026-10 --columns service,sku_id,quantity,unit,net_amount,list_unit_cost,net_unit_cost
--   service        sku_id    quantity  unit       net_amount  list_unit_cost  net_unit_cost
--   ─────────────  ──────  ──────────  ─────────  ──────────  ──────────────  ─────────────
--   Block Storage  disk    1488000.00  GiB-Hours      114.04          0.0001       0.000077
--   Compute        vm         2232.00  Hours          241.06          0.1200       0.108002
--   Network        egress     1032.00  GiB             51.60          0.0500       0.050000
--   (3 rows)
SELECT
    invoices.period,
    lines.service,
    lines.sku_id,
    sum(lines.pricing_quantity) AS quantity,
    any_value(lines.pricing_unit) AS unit,
    invoices.currency,
    sum(lines.list_cost) AS list_cost,
    sum(lines.net_amount) AS net_amount,
    (sum(lines.list_cost)::DOUBLE / nullif(sum(lines.pricing_quantity), 0)::DOUBLE)::DECIMAL(38, 6) AS list_unit_cost,
    (sum(lines.net_amount)::DOUBLE / nullif(sum(lines.pricing_quantity), 0)::DOUBLE)::DECIMAL(38, 6) AS net_unit_cost
FROM invoice_lines AS lines
INNER JOIN invoices USING (invoice_id)
WHERE lines.line_kind = 'usage'
GROUP BY invoices.period, lines.service, lines.sku_id, invoices.currency
ORDER BY invoices.period, lines.service, lines.sku_id, invoices.currency
