-- Purpose: SKUs that have a price that is seen, or are on a line that is.
-- Grain: one SKU.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
SELECT skus.*
FROM published.skus
WHERE
    sku_id IN (SELECT sku_id FROM seen_prices)
    OR sku_id IN (SELECT sku_id FROM seen_invoice_lines WHERE sku_id IS NOT NULL)
