-- Purpose: everything that is taken off the lines of an invoice, for its workbook.
-- Grain: one discount, commitment or promotional credit on one line.
-- Parameters: $invoice_id.
SELECT *
FROM seen_invoice_deductions
WHERE invoice_id = $invoice_id
ORDER BY deduction_number, line_number
