-- Purpose: a page of the lines of an invoice, in its order.
-- Grain: one line.
-- Parameters: $invoice_id, $limit, $offset.
SELECT *
FROM seen_invoice_lines
WHERE invoice_id = $invoice_id
ORDER BY line_number
LIMIT $limit OFFSET $offset
