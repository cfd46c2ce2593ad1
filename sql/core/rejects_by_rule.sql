-- Purpose: how many rows of a period break each rule, with one example.
-- Grain: one rule.
-- Parameters: $files: list of file_id of the period's files; $period: YYYY-MM.
WITH broken AS (
    SELECT file_id, row_number, "column", value, rule, message
    FROM raw.usage_rejects
    WHERE file_id IN (SELECT unnest($files))

    UNION ALL

    SELECT file_id, row_number, "column", value, rule, message
    FROM raw.book_rejects
    WHERE period = $period

    UNION ALL

    SELECT file_id, row_number, 'quantity', NULL, 'record.conflict',
        'must be the same in every record of one resource, SKU and hour; another record says otherwise'
    FROM raw.usage_duplicates
    WHERE kind = 'conflict' AND file_id IN (SELECT unnest($files))
)

SELECT
    broken.rule,
    count(*) AS rows,
    arg_min(files.file, (files.file, broken.row_number)) AS file,
    arg_min(broken.row_number, (files.file, broken.row_number)) AS row_number,
    arg_min(broken."column", (files.file, broken.row_number)) AS "column",
    arg_min(broken.value, (files.file, broken.row_number)) AS value,
    arg_min(broken.message, (files.file, broken.row_number)) AS message
FROM broken
INNER JOIN raw.usage_files AS files USING (file_id)
GROUP BY broken.rule
ORDER BY broken.rule
