-- Purpose: every price that a quote may be made with.
-- Grain: one tier of one price version.
-- Parameters: $sku_ids.
SELECT *
FROM seen_prices
WHERE list_contains($sku_ids::VARCHAR[], sku_id)
ORDER BY price_id, up_to NULLS LAST
