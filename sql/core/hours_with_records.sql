-- Purpose: how many usage records there are in each hour of a stretch of time: where usage ends as far as it is loaded.
-- Grain: one hour with usage.
-- Parameters: $start, $end: first instant, and first instant after the last.
SELECT
    date_trunc('hour', usage_start) AS hour,
    count(*) AS records
FROM raw.usage
WHERE usage_start >= $start
  AND usage_start < $end
GROUP BY hour
ORDER BY hour
