-- Purpose: taxes on what was consumed in a month.
-- Grain: one tax at one rate of one organization and currency.
-- Parameters: $period (YYYY-MM).
SELECT
    seen_invoices.billing_account_id,
    seen_invoices.currency,
    seen_tax_lines.tax_code,
    seen_tax_lines.kind,
    seen_tax_lines.rate,
    max(seen_tax_lines.note) AS note,
    sum(seen_tax_lines.tax_amount) AS tax_amount
FROM seen_tax_lines
INNER JOIN seen_invoices USING (invoice_id)
WHERE seen_invoices.period = $period AND seen_invoices.origin = 'run'
GROUP BY ALL
ORDER BY ALL
