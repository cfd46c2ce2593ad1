-- Purpose: how many rows a task's buckets hold; all tasks together must find every row once.
-- Grain: one row.
-- Parameters: $rows: shared files, $first_bucket, $last_bucket (inclusive).
SELECT count(*) AS rows
FROM read_parquet($rows)
WHERE bucket BETWEEN $first_bucket AND $last_bucket
