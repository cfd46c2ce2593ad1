-- Purpose: every record whose identity occurs more than once, with all that decides between copy and conflict.
--          Identity: the meter's record_id where given, else series identity (account, project, resource, SKU, region,
--          tags) and usage_start.
-- Grain: one accepted usage record that shares its identity with another one.
-- Parameters: $first, $last: instants between which new rows arrived (inclusive).
WITH candidates AS (
    SELECT
        usage.file_id, usage.row_number, usage.series_id, series.identity_id, usage.usage_start, usage.usage_end,
        usage.quantity, usage.record_id
    FROM raw.usage AS usage
    INNER JOIN raw.series AS series USING (series_id)
    WHERE usage.usage_start BETWEEN $first AND $last
      AND usage.record_id IS NULL
),

repeated AS (
    SELECT identity_id, usage_start
    FROM candidates
    GROUP BY identity_id, usage_start
    HAVING count(*) > 1
)

SELECT
    candidates.file_id,
    candidates.row_number,
    candidates.identity_id::VARCHAR || '@' || epoch_us(candidates.usage_start)::VARCHAR AS identity,
    candidates.usage_end,
    candidates.quantity,
    series.unit,
    series.attributes,
    candidates.usage_start,
    false AS has_record_id,
    NULL::INTEGER AS compared_identity, -- part of the identity: equal by definition
    NULL::TIMESTAMPTZ AS compared_start,
    series.resource_name,
    files.sha256
FROM candidates
INNER JOIN repeated USING (identity_id, usage_start)
INNER JOIN raw.series AS series ON series.series_id = candidates.series_id
INNER JOIN raw.usage_files AS files USING (file_id)
