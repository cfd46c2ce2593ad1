-- Purpose: charges that are seen, each with the line of its invoice that its usage is added up in.
-- Grain: one charge of a usage line.
-- Parameters: none of its own.
SELECT
    charges.*,
    lines.line_number
FROM seen_charges AS charges
INNER JOIN seen_invoice_lines AS lines
    ON lines.invoice_id = charges.invoice_id
    AND lines.line_kind = 'usage'
    AND lines.account_id = charges.account_id
    AND lines.project_id IS NOT DISTINCT FROM charges.project_id
    AND lines.sku_id IS NOT DISTINCT FROM charges.sku_id
    AND lines.region IS NOT DISTINCT FROM charges.region
    AND lines.price_id IS NOT DISTINCT FROM charges.price_id
