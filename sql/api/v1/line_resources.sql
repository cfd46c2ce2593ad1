-- Purpose: what each resource adds to a usage line before rounding, the costliest first.
-- Grain: one resource.
-- Parameters: $invoice_id, $line_number.
WITH sums AS (
    SELECT
        charges.resource_id,
        max_by(charges.resource_name, charges.charge_start) AS resource_name,
        count(*) AS charges,
        min(charges.charge_start) AS first_start,
        max(charges.charge_end) AS last_end,
        sum(charges.pricing_quantity) AS quantity,
        sum(charges.cost) AS cost
    FROM seen_charges AS charges
    INNER JOIN seen_invoice_lines AS lines
        ON lines.invoice_id = charges.invoice_id
        AND lines.line_number = $line_number
        AND lines.line_kind = 'usage'
        AND lines.account_id = charges.account_id
        AND lines.project_id IS NOT DISTINCT FROM charges.project_id
        AND lines.sku_id IS NOT DISTINCT FROM charges.sku_id
        AND lines.region IS NOT DISTINCT FROM charges.region
        AND lines.price_id IS NOT DISTINCT FROM charges.price_id
    WHERE charges.invoice_id = $invoice_id AND charges.charge_kind IN ('usage', 'cap', 'minimum')
    GROUP BY charges.resource_id
)

SELECT *
FROM sums
ORDER BY cost DESC, resource_id
