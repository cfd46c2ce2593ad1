-- Purpose: what was billed in a month before deductions, and what was deducted, by project and SKU. Documents that a
--          person made by hand have no charges and are not consumption.
-- Grain: one SKU (or one fee, adjustment or shortfall that is for none) of one project in one currency.
-- Parameters: $period (YYYY-MM).
WITH documents AS (
    SELECT DISTINCT invoice_id FROM seen_charges WHERE period = $period
)

SELECT
    billing_account_id,
    account_id,
    project_id,
    currency,
    sku_id,
    coalesce(sku_name, description, source_id, line_kind) AS product_name,
    coalesce(pricing_unit, '') AS unit,
    max(project_name) AS project_name,
    max(account_name) AS account_name,
    max(service) AS service,
    max(category) AS category,
    min(line_kind) AS line_kind,
    sum(pricing_quantity) AS quantity,
    sum(amount) AS amount,
    sum(discount_amount + commitment_amount + credit_amount) AS deducted
FROM seen_invoice_lines
SEMI JOIN documents USING (invoice_id)
WHERE period = $period
GROUP BY ALL
ORDER BY billing_account_id, currency, account_id, project_id NULLS FIRST, sku_id NULLS FIRST, product_name, unit
