-- Purpose: what a shard's records count for where that is not what was metered, from all tasks that added usage up.
-- Grain: one series in one cell, and in one hour where hours are needed; see core/billable_usage.
-- Parameters: $found: files of sums, $shard: number of the shard.
SELECT
    series_id,
    cell,
    hour,
    sum(billable) AS billable
FROM read_parquet($found)
WHERE shard = $shard
GROUP BY series_id, cell, hour
