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
WHERE usage.usage_start >= $widest_start
  AND usage.usage_start < $widest_end
  AND NOT EXISTS (
      SELECT 1
      FROM raw.usage_duplicates AS duplicates
      WHERE duplicates.file_id = usage.file_id AND duplicates.row_number = usage.row_number
  )
