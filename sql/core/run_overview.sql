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
LEFT JOIN invoices ON invoices.run_id = runs.run_id AND invoices.origin = 'run'
GROUP BY ALL
ORDER BY runs.period
