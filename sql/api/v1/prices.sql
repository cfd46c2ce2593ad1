-- Purpose: a page of price versions with their tiers, by SKU, list and time.
-- Grain: one price version: the columns of one of its tiers, with the columns attr.… that a book may have, and all tiers.
-- Parameters: $sku_id, $price_list, $currency, $region, $at, $price_ids (each optional), $limit, $offset.
SELECT
    price_id,
    any_value(prices) AS version,
    list(
        {'up_to': up_to, 'unit_price': unit_price, 'flat_fee': flat_fee, 'package_size': package_size}
        ORDER BY up_to NULLS LAST
    ) AS tiers
FROM seen_prices AS prices
WHERE
    ($sku_id::VARCHAR IS NULL OR sku_id = $sku_id)
    AND ($price_list::VARCHAR IS NULL OR price_list = $price_list)
    AND ($currency::VARCHAR IS NULL OR currency = $currency)
    AND ($region::VARCHAR IS NULL OR region IS NULL OR region = $region)
    AND (
        $at::TIMESTAMPTZ IS NULL
        OR ((valid_from IS NULL OR valid_from <= $at) AND (valid_to IS NULL OR valid_to > $at))
    )
    AND ($price_ids::VARCHAR[] IS NULL OR list_contains($price_ids::VARCHAR[], price_id))
GROUP BY price_id
ORDER BY
    min(sku_id),
    min(price_list),
    min(region) NULLS FIRST,
    min("window") NULLS FIRST,
    min(valid_from) NULLS FIRST,
    price_id
LIMIT $limit OFFSET $offset
