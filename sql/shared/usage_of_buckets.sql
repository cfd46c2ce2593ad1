-- Purpose: the part of the shared usage that one task works on.
-- Grain: one accepted usage record.
-- Parameters: $rows: shared files, $keys: file of series_key and series_id, $first_bucket, $last_bucket (inclusive),
--             $start, $end: instants, the second exclusive, $with_ids: whether records with an id of their own are
--             wanted whenever they are.
SELECT
    shared.file_id,
    shared.row_number,
    keys.series_id,
    shared.usage_start,
    shared.usage_end,
    shared.quantity,
    shared.record_id
FROM read_parquet($rows) AS shared
INNER JOIN read_parquet($keys) AS keys USING (series_key)
WHERE shared.bucket BETWEEN $first_bucket AND $last_bucket
  AND ((shared.usage_start >= $start AND shared.usage_start < $end) OR ($with_ids AND shared.record_id IS NOT NULL))
