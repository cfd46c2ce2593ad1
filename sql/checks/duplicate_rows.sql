-- Purpose: how many rows of some usage files are not billed as duplicates.
-- Grain: one row.
-- Parameters: $files: list of file_id.
SELECT
    count(*) FILTER (WHERE kind = 'copy') AS copies,
    count(*) FILTER (WHERE kind = 'conflict') AS conflicts
FROM raw.usage_duplicates
WHERE file_id IN (SELECT unnest($files))
