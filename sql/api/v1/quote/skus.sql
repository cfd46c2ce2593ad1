-- Purpose: the SKUs of a quote.
-- Grain: one SKU.
-- Parameters: $sku_ids.
SELECT *
FROM seen_skus
WHERE list_contains($sku_ids::VARCHAR[], sku_id)
ORDER BY sku_id
