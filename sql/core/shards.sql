-- Purpose: the shards that have usage, and how much there is to rate in each.
-- Grain: one shard.
-- Parameters: none. Needs the temporary tables metered_usage and rating_series.
SELECT
    rating_series.shard,
    count(*) AS rows
FROM metered_usage
INNER JOIN rating_series USING (series_id)
GROUP BY rating_series.shard
ORDER BY rating_series.shard
