-- Purpose: the instants at which usage of some series starts.
-- Grain: one instant.
-- Parameters: $series: numbers of the series. Reads usage_of_period.
SELECT DISTINCT usage.usage_start
FROM usage_of_period AS usage
WHERE usage.series_id IN (SELECT unnest(CAST($series AS INTEGER[])))
ORDER BY usage.usage_start
