-- Purpose: how usage spreads over the hours of the week.
-- Grain: one thing that is metered, in one local hour of the week.
-- Parameters: $start, $end: first instant, and first instant after the last. Needs the frames metered (series_id,
--             identity_id, zone) and clock (zone, hour, slot).
SELECT
    metered.identity_id,
    clock.slot,
    sum(usage.quantity)::DOUBLE AS quantity
FROM raw.usage AS usage
INNER JOIN metered USING (series_id)
INNER JOIN clock ON clock.zone = metered.zone AND clock.hour = date_trunc('hour', usage.usage_start)
ANTI JOIN raw.usage_duplicates USING (file_id, row_number)
WHERE usage.usage_start >= $start
  AND usage.usage_start < $end
GROUP BY metered.identity_id, clock.slot
ORDER BY metered.identity_id, clock.slot
