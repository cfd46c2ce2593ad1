-- Purpose: every usage row that is not billed because it breaks a rule, with the reason.
-- Grain: one broken rule of one row. Rules that depend on the book are judged per period, the others hold for all.
-- Parameters: none.
SELECT NULL AS period, file_id, row_number, "column", value, rule, message
FROM raw.usage_rejects

UNION ALL

SELECT period, file_id, row_number, "column", value, rule, message
FROM raw.book_rejects

UNION ALL

SELECT
    NULL AS period,
    file_id,
    row_number,
    'quantity' AS "column",
    NULL AS value,
    'record.conflict' AS rule,
    'must be the same in every record of one resource, SKU and hour, but another record differs' AS message
FROM raw.usage_duplicates
WHERE kind = 'conflict'
