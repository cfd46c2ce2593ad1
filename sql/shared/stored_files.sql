-- Purpose: usage files whose rows lie in the warehouse although usage is shared.
-- Grain: one usage file, with the number of its last stored row.
-- Parameters: none.
SELECT
    files.file_id,
    max(usage.row_number) AS rows,
    files.sha256,
    files.settings_sha256
FROM raw.stored_usage AS usage
INNER JOIN raw.usage_files AS files USING (file_id)
GROUP BY ALL
ORDER BY files.file_id
