-- Purpose: usage added up to what pricing needs: no price, account or local day changes inside a cell.
--          Rating after this sum is exact because a price is constant inside a cell.
-- Grain: one series (account, project, resource, SKU, region, tags) in one cell of its calendar.
-- Parameters: $widest_start, $widest_end. Needs the temporary tables rating_series (series_id, calendar_id) and
--             rating_cells (calendar_id, usage_start, cell), which hold only usage that belongs to the period.
SELECT
    usage.series_id,
    rating_cells.cell,
    sum(usage.quantity) AS quantity,
    count(*) AS records,
    min(usage.usage_start) AS charge_start,
    max(usage.usage_end) AS charge_end,
    max(usage.usage_start) AS last_usage_start
FROM usage_of_period AS usage
INNER JOIN rating_series USING (series_id)
INNER JOIN rating_cells USING (calendar_id, usage_start)
GROUP BY usage.series_id, rating_cells.cell
