-- Purpose: what usage counts for pricing where that is not what was metered: records rounded up to whole increments,
--          and hours one by one for SKUs whose hours are not summed.
-- Grain: one series in one cell, and in one hour of the month where hours are needed.
-- Parameters: none. Needs usage_of_period, rating_series and rating_cells, see metered_usage.
SELECT
    usage.series_id,
    rating_cells.cell,
    CASE WHEN rating_series.by_the_hour THEN rating_cells.hour END AS hour,
    sum(
        CASE
            WHEN rating_series.record_increment IS NULL OR usage.quantity % rating_series.record_increment = 0
                THEN usage.quantity
            ELSE usage.quantity - usage.quantity % rating_series.record_increment + rating_series.record_increment
        END
    ) AS billable
FROM usage_of_period AS usage
INNER JOIN rating_series USING (series_id)
INNER JOIN rating_cells USING (calendar_id, usage_start)
WHERE rating_series.record_increment IS NOT NULL OR rating_series.by_the_hour
GROUP BY ALL
