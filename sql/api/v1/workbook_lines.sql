-- Purpose: every line of an invoice, for its workbook.
-- Grain: one line.
-- Parameters: $invoice_id.
SELECT *
FROM seen_invoice_lines
WHERE invoice_id = $invoice_id
ORDER BY line_number
