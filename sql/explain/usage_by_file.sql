-- Purpose: usage of some series as its files brought it, added up where its price is the same; and what of it counts
--          for pricing where records are rounded up to whole increments.
-- Grain: one series in one cell of its calendar, of one file.
-- Parameters: none. Needs usage_of_period, rating_series and rating_cells, see core/metered_usage.
SELECT
    usage.series_id,
    rating_cells.cell,
    files.file,
    count(*) AS records,
    sum(usage.quantity) AS quantity,
    sum(
        CASE
            WHEN rating_series.record_increment IS NULL OR usage.quantity % rating_series.record_increment = 0
                THEN usage.quantity
            ELSE usage.quantity - usage.quantity % rating_series.record_increment + rating_series.record_increment
        END
    ) AS billable,
    min(usage.usage_start) AS first_start,
    max(usage.usage_end) AS last_end
FROM usage_of_period AS usage
INNER JOIN rating_series USING (series_id)
INNER JOIN rating_cells USING (calendar_id, usage_start)
INNER JOIN raw.usage_files AS files USING (file_id)
GROUP BY usage.series_id, rating_cells.cell, files.file
