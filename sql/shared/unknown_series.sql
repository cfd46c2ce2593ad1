-- Purpose: the series of a usage file that the warehouse has no number for.
-- Grain: one series.
-- Parameters: $series: file of series_key and the columns of a series.
SELECT incoming.*
FROM read_parquet($series) AS incoming
ANTI JOIN raw.series_keys USING (series_key)
