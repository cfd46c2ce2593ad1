-- Purpose: what a month was used for until an instant, and what is expected from there on, as if it had been metered.
-- Grain: one usage record, metered or expected.
-- Parameters: $widest_start, $before: instants. Reads expected_usage, beside the warehouse.
SELECT
    0::INTEGER AS file_id,
    usage.row_number,
    usage.series_id,
    usage.usage_start,
    usage.usage_end,
    usage.quantity
FROM warehouse.raw.usage AS usage
ANTI JOIN warehouse.raw.usage_duplicates AS duplicates
    ON duplicates.file_id = usage.file_id AND duplicates.row_number = usage.row_number
WHERE usage.usage_start >= $widest_start
  AND usage.usage_start < $before
UNION ALL
SELECT
    0::INTEGER AS file_id,
    0::BIGINT AS row_number,
    expected.series_id,
    expected.usage_start,
    expected.usage_start + INTERVAL 1 HOUR AS usage_end,
    expected.quantity
FROM expected_usage AS expected
