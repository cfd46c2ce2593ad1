-- Purpose: what records of a task count for where that is not what was metered, with the shard that rates it.
-- Grain: one series in one cell, and in one hour where hours are needed; see core/billable_usage.
-- Needs the table billable_usage and rating_series as lent while usage is added up. Rows of a shard lie together in its file.
SELECT billable_usage.*, rating_series.shard
FROM billable_usage
INNER JOIN rating_series USING (series_id)
ORDER BY rating_series.shard
