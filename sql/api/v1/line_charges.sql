-- Purpose: the charges of a usage line added up: exact usage, caps, minimums, and what rounding them added.
-- Grain: one kind of charge.
-- Parameters: $invoice_id, $line_number.
WITH sums AS (
    SELECT
        charges.charge_kind AS kind,
        coalesce(list_distinct(list(charges.price_id)), []) AS price_ids,
        sum(charges.cost) AS amount
    FROM seen_line_charges AS charges
    WHERE
        charges.invoice_id = $invoice_id
        AND charges.line_number = $line_number
        AND charges.charge_kind IN ('usage', 'cap', 'minimum', 'rounding')
    GROUP BY ALL
)

SELECT kind, price_ids, amount
FROM sums
ORDER BY list_position(['usage', 'cap', 'minimum', 'rounding'], kind)
