-- Purpose: every record whose record_id occurs more than once, in whichever file or month.
-- Grain: one accepted usage record that shares its record_id with another one.
-- Parameters: none.
WITH repeated AS (
    SELECT record_id
    FROM raw.usage
    WHERE record_id IS NOT NULL
    GROUP BY record_id
    HAVING count(*) > 1
)

SELECT
    usage.file_id,
    usage.row_number,
    'record ' || usage.record_id AS identity,
    usage.usage_end,
    usage.quantity,
    series.unit,
    series.attributes,
    usage.usage_start,
    true AS has_record_id,
    series.identity_id AS compared_identity,
    usage.usage_start AS compared_start,
    series.resource_name,
    files.sha256
FROM raw.usage AS usage
INNER JOIN repeated USING (record_id)
INNER JOIN raw.series AS series USING (series_id)
INNER JOIN raw.usage_files AS files USING (file_id)
