-- Purpose: the periods that are closed, and what was issued for them.
-- Grain: one period.
-- Parameters: none, reads the published database.
SELECT
    period,
    issue_date,
    closed_at,
    closed_by,
    invoices,
    first_number,
    last_number
FROM closed_periods
ORDER BY period
