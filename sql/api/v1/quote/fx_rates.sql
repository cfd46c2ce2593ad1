-- Purpose: exchange rates that a quote may need.
-- Grain: one exchange rate of one day.
-- Parameters: none.
SELECT *
FROM seen_fx_rates
ORDER BY "date", base, quote
