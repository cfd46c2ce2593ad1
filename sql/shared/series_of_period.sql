-- Purpose: the series that have usage around a period, as all tasks together found them; see core/series_of_period.
-- Grain: one series.
-- Parameters: $found: files of series_id and records.
SELECT
    series.*,
    counted.records
FROM (SELECT series_id, sum(records)::BIGINT AS records FROM read_parquet($found) GROUP BY series_id) AS counted
INNER JOIN raw.series AS series USING (series_id)
ORDER BY series.series_id
