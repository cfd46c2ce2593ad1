-- Purpose: the usage files that the published figures come from.
-- Grain: one usage file.
-- Parameters: none, reads the published database.
SELECT file, sha256, status, reason
FROM usage_files
ORDER BY file
