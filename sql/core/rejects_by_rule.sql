-- Purpose: how many rows of a period break each rule, with the first as an example.
-- Grain: one rule.
-- Parameters: $files: list of file_id of the period's files, $period: YYYY-MM.
SELECT
    rejected.rule,
    count(*) AS rows,
    arg_min(files.file, (files.file, rejected.row_number)) AS file,
    arg_min(rejected.row_number, (files.file, rejected.row_number)) AS row_number,
    arg_min(rejected."column", (files.file, rejected.row_number)) AS "column",
    arg_min(rejected.value, (files.file, rejected.row_number)) AS value,
    arg_min(rejected.message, (files.file, rejected.row_number)) AS message
FROM raw.rejected_rows AS rejected
INNER JOIN raw.usage_files AS files USING (file_id)
WHERE rejected.period = $period
   OR (rejected.period IS NULL AND rejected.file_id IN (SELECT unnest($files)))
GROUP BY rejected.rule
ORDER BY rejected.rule
