-- Purpose: a page of SKUs.
-- Grain: one SKU.
-- Parameters: $service, $category, $sku_id (each optional), $limit, $offset.
SELECT sku_id, service, category, name, usage_unit, pricing_unit, units_per_pricing_unit, aggregation
FROM seen_skus
WHERE
    ($service::VARCHAR IS NULL OR service = $service)
    AND ($category::VARCHAR IS NULL OR category = $category)
    AND ($sku_id::VARCHAR IS NULL OR sku_id = $sku_id)
ORDER BY sku_id
LIMIT $limit OFFSET $offset
