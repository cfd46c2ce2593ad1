-- Purpose: a shard's sums from all tasks that added usage up: records with ids of their own are spread over buckets.
-- Grain: one series in one cell, see core/metered_usage.
-- Parameters: $found: files of sums, $shard: number of the shard.
SELECT
    series_id,
    cell,
    sum(quantity) AS quantity,
    sum(records)::BIGINT AS records,
    min(charge_start) AS charge_start,
    max(charge_end) AS charge_end,
    max(last_usage_start) AS last_usage_start
FROM read_parquet($found)
WHERE shard = $shard
GROUP BY series_id, cell
