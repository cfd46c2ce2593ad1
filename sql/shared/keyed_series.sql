-- Purpose: a key for each series that machines which know nothing of each other give it alike, and the bucket of its
--          rows: all records of one identity are in one bucket.
-- Grain: one series.
-- Parameters: none, reads incoming_series (series, content and identity: structs of the columns that make them).
SELECT
    series,
    left(sha256(to_json(content)::VARCHAR), 32)::UUID AS series_key,
    ('0x' || left(sha256(to_json(identity)::VARCHAR), 4))::INTEGER AS bucket,
    unnest(content)
FROM incoming_series
