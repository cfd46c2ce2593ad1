-- Purpose: public prices that hold at an instant: the first tier of each.
-- Grain: one price version.
-- Parameters: $at (instant).
SELECT
    seen_prices.price_id,
    seen_prices.sku_id,
    seen_prices.currency,
    seen_prices.region,
    seen_prices.window,
    seen_prices.unit_price,
    seen_prices.flat_fee,
    seen_prices.package_size,
    seen_skus.name,
    seen_skus.service,
    seen_skus.category,
    seen_skus.pricing_unit,
    count(*) OVER (PARTITION BY seen_prices.price_id) AS tiers
FROM seen_prices
INNER JOIN seen_skus USING (sku_id)
WHERE
    seen_prices.price_list = 'public'
    AND (seen_prices.valid_from IS NULL OR seen_prices.valid_from <= $at::TIMESTAMPTZ)
    AND (seen_prices.valid_to IS NULL OR seen_prices.valid_to > $at::TIMESTAMPTZ)
QUALIFY row_number() OVER (PARTITION BY seen_prices.price_id ORDER BY seen_prices.up_to NULLS LAST) = 1
ORDER BY seen_skus.service, seen_prices.sku_id, seen_prices.currency, seen_prices.region, seen_prices.price_id
