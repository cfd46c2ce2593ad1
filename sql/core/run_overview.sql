-- Purpose: the runs that count, with how many invoices they drafted.
-- Grain: one period.
-- Parameters: none, reads the published database.
SELECT
    runs.period,
    runs.run_id,
    runs.status,
    runs.finished_at,
    count(invoices.invoice_id) AS invoices
FROM runs
LEFT JOIN invoices USING (run_id)
GROUP BY ALL
ORDER BY runs.period
