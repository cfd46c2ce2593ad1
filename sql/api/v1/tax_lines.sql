-- Purpose: taxes of an invoice.
-- Grain: one tax rate.
-- Parameters: $invoice_id.
SELECT tax_code, kind, rate, base_amount, tax_amount, note
FROM seen_tax_lines
WHERE invoice_id = $invoice_id
ORDER BY tax_code, category, kind, rate, note
