-- Purpose: accepted rows of a usage file as shared files hold them. A record with an id of its own is in the bucket of
--          that id, whichever series it names.
-- Grain: one accepted usage record.
-- Parameters: $file_id: number of the file. Reads incoming_rows (as a slice of a file comes to) and keyed_series.
SELECT
    $file_id::INTEGER AS file_id,
    CASE
        WHEN incoming.record_id IS NULL THEN keyed.bucket
        ELSE ('0x' || left(sha256(incoming.record_id), 4))::INTEGER
    END AS bucket,
    keyed.series_key,
    incoming.row_number,
    incoming.usage_start,
    incoming.usage_end,
    incoming.quantity,
    incoming.record_id
FROM incoming_rows AS incoming
INNER JOIN keyed_series AS keyed USING (series)
