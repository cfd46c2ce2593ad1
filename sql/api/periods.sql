-- Purpose: months that something seen was billed in.
-- Grain: one billing period.
-- Parameters: none.
SELECT period, updated_at, issue_date, is_closed
FROM seen_periods
ORDER BY period
