-- Purpose: the rows behind series that the book does not know.
-- Grain: one broken rule of one row.
-- Parameters: $period: YYYY-MM. Needs usage_of_period and the frame unknown (series_id, column, value, rule, message).
SELECT
    $period AS period,
    usage.file_id,
    usage.row_number,
    unknown."column",
    unknown.value,
    unknown.rule,
    unknown.message
FROM usage_of_period AS usage
INNER JOIN unknown USING (series_id)
