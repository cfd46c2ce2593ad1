-- Purpose: the series that a task's buckets have usage of around a period, each with how many records.
-- Grain: one series.
-- Parameters: none, reads usage_of_period.
SELECT series_id, count(*) AS records
FROM usage_of_period
GROUP BY series_id
