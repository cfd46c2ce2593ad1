-- Purpose: the runs whose charges are needed, and those of closed periods that they bill corrections of.
-- Grain: one period.
-- Parameters: none, reads the published database.
SELECT period, run_id, inputs
FROM runs
ORDER BY period
