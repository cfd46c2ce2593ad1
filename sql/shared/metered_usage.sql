-- Purpose: what a task added up, with the shard that rates it.
-- Grain: one series in one cell, see core/metered_usage.
-- Needs the table metered_usage and rating_series as lent while usage is added up. Rows of a shard lie together in its file.
SELECT metered_usage.*, rating_series.shard
FROM metered_usage
INNER JOIN rating_series USING (series_id)
ORDER BY rating_series.shard
