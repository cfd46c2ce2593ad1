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
    FROM seen_line_charges AS charges
    WHERE
        charges.invoice_id = $invoice_id
        AND charges.line_number = $line_number
        AND charges.charge_kind IN ('usage', 'cap', 'minimum')
    GROUP BY charges.resource_id
)

SELECT *
FROM sums
ORDER BY cost DESC, resource_id
