-- Purpose: the usage records of some series between two instants, each with the file and row it came from.
-- Grain: one accepted usage record.
-- Parameters: $first, $end: instants, the second exclusive. Needs usage_of_period, rating_series and rating_cells, see
--             core/metered_usage.
SELECT
    usage.series_id,
    rating_cells.cell,
    files.file,
    usage.row_number,
    usage.usage_start,
    usage.usage_end,
    usage.quantity,
    stored.record_id
FROM usage_of_period AS usage
INNER JOIN rating_series USING (series_id)
INNER JOIN rating_cells USING (calendar_id, usage_start)
INNER JOIN raw.usage_files AS files USING (file_id)
INNER JOIN raw.usage AS stored USING (file_id, row_number)
WHERE usage.usage_start >= $first
  AND usage.usage_start < $end
ORDER BY usage.usage_start, files.file, usage.row_number
