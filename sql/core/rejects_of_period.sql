-- Purpose: every usage row of a period that is not billed because it breaks a rule, with the reason.
-- Grain: one broken rule of one row.
-- Parameters: $files: list of file_id of the period's files; $period: YYYY-MM; $most: how many rows to show.
WITH broken AS (
    SELECT file_id, row_number, "column", value, rule, message
    FROM raw.usage_rejects
    WHERE file_id IN (SELECT unnest($files))

    UNION ALL

    SELECT file_id, row_number, "column", value, rule, message
    FROM raw.book_rejects
    WHERE period = $period

    UNION ALL

    SELECT
        file_id,
        row_number,
        'quantity' AS "column",
        NULL AS value,
        'record.conflict' AS rule,
        'must be the same in every record of one resource, SKU and hour; another record says otherwise' AS message
    FROM raw.usage_duplicates
    WHERE kind = 'conflict' AND file_id IN (SELECT unnest($files))
)

SELECT
    files.file,
    broken.row_number,
    broken."column",
    broken.value,
    broken.rule,
    broken.message
FROM broken
INNER JOIN raw.usage_files AS files USING (file_id)
ORDER BY files.file, broken.row_number, broken."column", broken.rule
LIMIT $most
