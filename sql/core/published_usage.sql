-- Purpose: usage of a period as analysts see it, hour by hour, duplicates left out.
-- Grain: one accepted usage record.
-- Parameters: $since: instant before which the month before has it. Reads usage_of_period.
SELECT
    series.account_id,
    series.project_id,
    series.resource_id,
    series.resource_name,
    series.sku_id,
    series.region,
    series.unit,
    series.tags,
    usage.usage_start,
    usage.usage_end,
    usage.quantity,
    records.record_id
FROM usage_of_period AS usage
INNER JOIN raw.series AS series USING (series_id)
INNER JOIN raw.usage AS records USING (file_id, row_number)
WHERE usage.usage_start >= $since
ORDER BY ALL
