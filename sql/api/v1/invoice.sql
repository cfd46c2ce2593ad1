-- Purpose: one invoice or credit note, by its id or number, and when it was computed.
-- Grain: one invoice or credit note; at most one row: an id never looks like the number of another.
-- Parameters: $invoice.
SELECT seen_invoices.*, coalesce(seen_periods.updated_at, seen_invoices.issue_date) AS updated_at
FROM seen_invoices
LEFT JOIN seen_periods USING (period)
WHERE invoice_id = $invoice OR number = $invoice
ORDER BY invoice_id = $invoice DESC
LIMIT 1
