-- Purpose: what is taken off an invoice, in the order in which it was applied.
-- Grain: one discount, commitment or promotional credit.
-- Parameters: $invoice_id.
SELECT
    deduction_number,
    kind,
    source_id,
    any_value(description) AS description,
    any_value(percent) AS percent,
    sum(amount) AS amount,
    count(*) AS lines
FROM seen_invoice_deductions
WHERE invoice_id = $invoice_id
GROUP BY deduction_number, kind, source_id
ORDER BY deduction_number, source_id
