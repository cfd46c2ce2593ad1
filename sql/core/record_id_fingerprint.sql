-- Purpose: which records of some usage files are not billed because of their record_id. The other record may lie in a
--          file of another month, so the files alone do not say what a period is billed from.
-- Grain: one row; equal rows mean equal decisions.
-- Parameters: $files: list of file_id.
SELECT
    count(*) AS records,
    bit_xor(md5_number(files.sha256 || ' ' || duplicates.row_number || ' ' || duplicates.kind))::VARCHAR AS fingerprint
FROM raw.usage_duplicates AS duplicates
INNER JOIN raw.usage_files AS files USING (file_id)
WHERE duplicates.has_record_id
  AND duplicates.file_id IN (SELECT unnest($files))
