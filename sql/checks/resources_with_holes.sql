-- Purpose: the resources whose records leave out time between the first and the last of a stretch of time.
-- Grain: one resource of one account, with the hours that are left out, over all its SKUs.
-- Parameters: $start, $end: first instant, and first instant after the last. Reads usage_of_period.
WITH spans AS (
    SELECT
        series_id,
        epoch_us(max(usage_end)) - epoch_us(min(usage_start)) AS span,
        sum(epoch_us(usage_end) - epoch_us(usage_start)) AS used
    FROM usage_of_period
    WHERE usage_start >= $start
      AND usage_start < $end
    GROUP BY series_id
)

SELECT
    series.account_id,
    series.resource_id,
    sum((spans.span - spans.used) // 3600000000)::BIGINT AS hours
FROM spans
INNER JOIN raw.series AS series USING (series_id)
WHERE spans.span > spans.used
  AND series.resource_id IS NOT NULL
GROUP BY series.account_id, series.resource_id
HAVING hours > 0
ORDER BY hours DESC, series.account_id, series.resource_id
