-- Purpose: what is taken off a line, in the order in which it was applied.
-- Grain: one discount, commitment or promotional credit.
-- Parameters: $invoice_id, $line_number.
SELECT kind, source_id, description, amount
FROM seen_invoice_deductions
WHERE invoice_id = $invoice_id AND line_number = $line_number
ORDER BY deduction_number, source_id
