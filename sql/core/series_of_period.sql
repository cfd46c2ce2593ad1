-- Purpose: the series that have usage around a period, each with how many records and how much.
-- Grain: one series.
-- Parameters: none, reads usage_of_period.
SELECT
    series.*,
    counted.records
FROM (SELECT series_id, count(*) AS records FROM usage_of_period GROUP BY series_id) AS counted
INNER JOIN raw.series AS series USING (series_id)
ORDER BY series.series_id
