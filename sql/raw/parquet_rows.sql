-- Purpose: how many rows the footer of a Parquet file announces.
-- Grain: one row.
-- Parameters: $file: path, escaped as a glob.
SELECT num_rows AS rows
FROM parquet_file_metadata($file)
