-- Purpose: the usage rows of a period that are not billed because they break a rule, with the reason.
-- Grain: one broken rule of one row.
-- Parameters: $files: list of file_id of the period's files, $period: YYYY-MM, $most: how many rows to show.
SELECT
    files.file,
    rejected.row_number,
    rejected."column",
    rejected.value,
    rejected.rule,
    rejected.message
FROM raw.rejected_rows AS rejected
INNER JOIN raw.usage_files AS files USING (file_id)
WHERE rejected.period = $period
   OR (rejected.period IS NULL AND rejected.file_id IN (SELECT unnest($files)))
ORDER BY files.file, rejected.row_number, rejected."column", rejected.rule
LIMIT $most
