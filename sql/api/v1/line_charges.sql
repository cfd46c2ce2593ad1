-- Purpose: the charges of a usage line added up: exact usage, caps, minimums, and what rounding them added.
-- Grain: one kind of charge.
-- Parameters: $invoice_id, $line_number.
WITH sums AS (
    SELECT
        charges.charge_kind AS kind,
        coalesce(list_distinct(list(charges.price_id)), []) AS price_ids,
        sum(charges.cost) AS amount
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
    WHERE charges.invoice_id = $invoice_id AND charges.charge_kind IN ('usage', 'cap', 'minimum', 'rounding')
    GROUP BY ALL
)

SELECT kind, price_ids, amount
FROM sums
ORDER BY list_position(['usage', 'cap', 'minimum', 'rounding'], kind)
