-- Purpose: how much was used on each day of whoever pays now.
-- Grain: one thing that is metered, on one local day.
-- Parameters: $start, $end: first instant, and first instant after the last. Needs the frames metered (series_id,
--             identity_id, zone) and clock (zone, hour, day).
SELECT
    metered.identity_id,
    clock.day,
    sum(usage.quantity)::DOUBLE AS quantity
FROM raw.usage AS usage
INNER JOIN metered USING (series_id)
INNER JOIN clock ON clock.zone = metered.zone AND clock.hour = date_trunc('hour', usage.usage_start)
ANTI JOIN raw.usage_duplicates USING (file_id, row_number)
WHERE usage.usage_start >= $start
  AND usage.usage_start < $end
GROUP BY metered.identity_id, clock.day
ORDER BY metered.identity_id, clock.day
