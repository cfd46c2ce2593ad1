-- Purpose: all usage, whether its rows are in the warehouse or in shared files.
-- Grain: one accepted usage record.
-- Parameters: none. The variable shared_rows lists the shared files.
SELECT file_id, row_number, series_id, usage_start, usage_end, quantity, record_id
FROM raw.stored_usage

UNION ALL

SELECT
    shared.file_id,
    shared.row_number,
    keys.series_id,
    shared.usage_start,
    shared.usage_end,
    shared.quantity,
    shared.record_id
FROM read_parquet(getvariable('shared_rows')) AS shared
INNER JOIN raw.series_keys AS keys USING (series_key)
