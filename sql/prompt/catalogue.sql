-- Purpose: what the prompt of `ratemill sql` completes and explains: tables and views with their columns, and SQL's words.
-- Grain: one table, view, column, keyword or function.
-- Parameters: none.
SELECT 'table' AS kind, table_name AS parent, table_name AS name, estimated_size AS rows, NULL AS type, comment
FROM duckdb_tables()
WHERE NOT internal
UNION ALL
SELECT 'view', view_name, view_name, NULL, NULL, comment
FROM duckdb_views()
WHERE NOT internal
UNION ALL
(
    SELECT 'column', table_name, column_name, NULL, data_type, comment
    FROM duckdb_columns()
    WHERE NOT internal
    ORDER BY table_name, column_index
)
UNION ALL
SELECT 'keyword', NULL, keyword_name, NULL, NULL, NULL
FROM duckdb_keywords()
UNION ALL
SELECT DISTINCT 'function', NULL, function_name, NULL, NULL, NULL
FROM duckdb_functions()
WHERE function_type IN ('scalar', 'aggregate', 'macro')
  AND regexp_full_match(function_name, '[a-z][a-z0-9_]*')
