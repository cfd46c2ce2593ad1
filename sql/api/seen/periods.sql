-- Purpose: months that something seen was billed in, and when they were computed and closed.
-- Grain: one billing period.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
SELECT
    runs.period,
    runs.finished_at AS updated_at,
    closed_periods.issue_date,
    closed_periods.period IS NOT NULL AS is_closed
FROM published.runs
LEFT JOIN published.closed_periods USING (period)
WHERE runs.period IN (SELECT period FROM seen_charges)
