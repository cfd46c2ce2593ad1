-- Purpose: names of SKUs.
-- Grain: one SKU.
SELECT sku_id, name FROM seen_skus ORDER BY sku_id
