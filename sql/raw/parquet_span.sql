-- Purpose: the first and the last instant in a column of a Parquet file, as its footer says; no data is read.
-- Grain: one row. Both are NULL where a row group says nothing of them.
-- Parameters: $file: path, escaped as a glob. $column: name of the column.
SELECT
    CASE WHEN count(stats_min_value) = count(*) THEN min(try_cast(stats_min_value AS TIMESTAMPTZ)) END AS first_start,
    CASE WHEN count(stats_max_value) = count(*) THEN max(try_cast(stats_max_value AS TIMESTAMPTZ)) END AS last_start
FROM parquet_metadata($file)
WHERE path_in_schema = $column
