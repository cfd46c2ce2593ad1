-- Purpose: the hours of a stretch of time in which anything at all was used.
-- Grain: one hour, counted from 0 at $start.
-- Parameters: $start, $end: first instant, and first instant after the last. Reads usage_of_period.
SELECT DISTINCT (epoch_us(usage_start) - epoch_us($start::TIMESTAMPTZ)) // 3600000000 AS hour
FROM usage_of_period
WHERE usage_start >= $start
  AND usage_start < $end
ORDER BY hour
