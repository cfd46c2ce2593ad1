-- Purpose: every record whose identity occurs more than once, with all that decides between copy and conflict.
--          Identity: the meter's record_id where given, else series identity (account, project, resource, SKU, region,
--          tags) and usage_start.
--          Most records are alone in their hour. So that not each of them has to be remembered, the hours of a series
--          are bits of one number first, 64 to a stretch: only where an identity has more records than hours can two
--          have begun at once, and only there are instants compared.
-- Grain: one accepted usage record that shares its identity with another one.
-- Parameters: $first, $last: instants between which new rows arrived (inclusive).
WITH searched AS NOT MATERIALIZED (
    SELECT
        usage.file_id, usage.row_number, usage.series_id, usage.usage_start, usage.usage_end, usage.quantity,
        epoch_us(usage.usage_start) // 3600000000 AS hour
    FROM raw.usage AS usage
    WHERE usage.usage_start BETWEEN $first AND $last
      AND usage.record_id IS NULL
),

hours_of_series AS (
    SELECT series_id, hour // 64 AS stretch, count(*) AS records, bit_or(1::UBIGINT << (hour & 63)::UTINYINT) AS hours
    FROM searched
    GROUP BY series_id, hour // 64
),

crowded AS (
    SELECT series.identity_id, hours_of_series.stretch
    FROM hours_of_series
    INNER JOIN raw.series AS series USING (series_id)
    GROUP BY series.identity_id, hours_of_series.stretch
    HAVING sum(hours_of_series.records) > bit_count(bit_or(hours_of_series.hours))
),

candidates AS (
    SELECT searched.*, crowded.identity_id
    FROM searched
    INNER JOIN raw.series AS series USING (series_id)
    INNER JOIN crowded ON crowded.identity_id = series.identity_id AND crowded.stretch = searched.hour // 64
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
