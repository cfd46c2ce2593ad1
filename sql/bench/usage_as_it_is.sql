-- Purpose: the yardstick of loading: every column of every usage file, as the bare engine reads it.
-- Grain: one row of a usage file.
-- Parameters: $files: list of paths.
SELECT *
FROM read_parquet($files)
