-- Purpose: one line, by the id or number of its invoice.
-- Grain: one line; at most one row.
-- Parameters: $invoice, $line_number.
SELECT *
FROM seen_invoice_lines
WHERE
    line_number = $line_number
    AND (invoice_id = $invoice OR invoice_id IN (SELECT invoice_id FROM seen_invoices WHERE number = $invoice))
ORDER BY invoice_id = $invoice DESC
LIMIT 1
