-- Purpose: how many rows of some usage files are stored.
-- Grain: one row.
-- Parameters: $files: list of file_id.
SELECT count(*) AS rows
FROM raw.usage
WHERE file_id IN (SELECT unnest($files))
