-- Purpose: the invoice of lines that are seen, by its id; by its number where it is seen as a whole.
-- Grain: one invoice; at most one row.
-- Parameters: $invoice.
SELECT invoice_id
FROM seen_invoice_lines
WHERE invoice_id = $invoice OR invoice_id IN (SELECT invoice_id FROM seen_invoices WHERE number = $invoice)
ORDER BY invoice_id = $invoice DESC
LIMIT 1
