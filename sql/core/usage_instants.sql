-- Purpose: the instants at which usage of a period starts, a month of hours, however many rows there are.
-- Grain: one instant.
-- Parameters: $widest_start, $widest_end.
SELECT DISTINCT usage_start
FROM raw.usage
WHERE usage_start >= $widest_start
  AND usage_start < $widest_end
ORDER BY usage_start
