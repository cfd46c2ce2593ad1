-- Purpose: when each thing that is metered was used, how finely its meter counts, and how long it paused.
-- Grain: one identity: what is the same series but for labels and units.
-- Parameters: $start, $end: first instant, and first instant after the last.
WITH records AS (
    SELECT
        series.identity_id,
        usage.series_id,
        usage.usage_start,
        usage.usage_end,
        usage.quantity
    FROM raw.usage AS usage
    INNER JOIN raw.series AS series USING (series_id)
    ANTI JOIN raw.usage_duplicates USING (file_id, row_number)
    WHERE usage.usage_start >= $start
      AND usage.usage_start < $end
),

lives AS (
    SELECT
        identity_id,
        arg_max(series_id, (usage_start, series_id)) AS series_id,
        min(usage_start) AS first_start,
        max(usage_start) AS last_start,
        max(usage_end) AS last_end,
        sum(quantity) AS quantity,
        count(*) AS records,
        max(
            CASE
                WHEN quantity % 1 = 0 THEN 0
                WHEN quantity % 0.001 = 0 THEN 3
                WHEN quantity % 0.000001 = 0 THEN 6
                WHEN quantity % 0.000000001 = 0 THEN 9
                ELSE 12
            END
        ) AS decimals
    FROM records
    GROUP BY identity_id
),

paused AS ( -- whoever has a record for every hour of its life has no pause, and most have
    SELECT identity_id
    FROM lives
    WHERE records < date_diff('hour', first_start, last_end)
),

pauses AS (
    SELECT
        identity_id,
        usage_start - lag(usage_end) OVER (PARTITION BY identity_id ORDER BY usage_start, usage_end) AS pause
    FROM records
    INNER JOIN paused USING (identity_id)
),

longest AS (
    SELECT identity_id, max(pause) AS longest_pause
    FROM pauses
    GROUP BY identity_id
)

SELECT
    lives.*,
    greatest(coalesce(epoch(longest.longest_pause), 0), 0) / 3600 AS longest_pause_hours
FROM lives
LEFT JOIN longest USING (identity_id)
ORDER BY lives.identity_id
