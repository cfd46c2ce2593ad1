-- Purpose: usage that may belong to a billing period in some time zone, without records that are billed once already.
-- Grain: one accepted usage record.
-- Parameters: $widest_start, $widest_end: instants around the month, wide enough for every time zone.
SELECT
    usage.file_id,
    usage.row_number,
    usage.series_id,
    usage.usage_start,
    usage.usage_end,
    usage.quantity
FROM raw.usage AS usage
ANTI JOIN raw.usage_duplicates USING (file_id, row_number)
WHERE usage.usage_start >= $widest_start
  AND usage.usage_start < $widest_end
