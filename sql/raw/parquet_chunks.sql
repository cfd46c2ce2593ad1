-- Purpose: what the footer of a Parquet file says of its data, none of which is read.
-- Grain: one column of one row group. The parts of a nested column's path are separated by ', '.
-- Parameters: $file: path, escaped as a glob.
SELECT
    row_group_id,
    row_group_num_rows AS rows,
    path_in_schema AS path,
    num_values,
    total_uncompressed_size AS unfolded_bytes
FROM parquet_metadata($file)
ORDER BY row_group_id, column_id
