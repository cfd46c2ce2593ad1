-- Purpose: consumption of months, added up by what is asked for.
-- Grain: one combination of what is grouped by, and one currency; with the unit where SKUs are.
-- Parameters: $by_period, $by_organization, $by_account, $by_project, $by_service, $by_category, $by_sku, $by_region,
--             $by_resource, $by_kind, $by_day, $by_tag (booleans: whether to group by it), $tag (key of the tag),
--             $first_period, $last_period, $organization_id, $account_id, $project_id, $service, $category, $sku_id,
--             $region, $resource_id (optional filters), $time_zone (of organizations that name none), $limit, $offset.
WITH described AS (
    SELECT
        CASE WHEN $by_period THEN charges.period END AS period,
        CASE WHEN $by_organization THEN charges.billing_account_id END AS organization_id,
        CASE WHEN $by_account THEN charges.account_id END AS account_id,
        CASE WHEN $by_project THEN charges.project_id END AS project_id,
        CASE WHEN $by_service THEN skus.service END AS service,
        CASE WHEN $by_category THEN skus.category END AS category,
        CASE WHEN $by_sku THEN charges.sku_id END AS sku_id,
        CASE WHEN $by_region THEN charges.region END AS region,
        CASE WHEN $by_resource THEN charges.resource_id END AS resource_id,
        CASE WHEN $by_kind THEN charges.charge_kind END AS kind,
        CASE
            WHEN $by_day THEN timezone(coalesce(zones.time_zone, $time_zone), charges.charge_start)::DATE::VARCHAR
        END AS day,
        CASE
            WHEN $by_tag
                THEN map_extract_value(charges.tags::JSON::MAP(VARCHAR, VARCHAR), $tag::VARCHAR)
        END AS tag_value,
        CASE WHEN $by_sku THEN coalesce(charges.usage_unit, skus.usage_unit) END AS unit,
        CASE WHEN $by_sku THEN charges.usage_quantity END AS quantity,
        charges.currency,
        charges.charge_kind,
        coalesce(charges.list_cost, 0) AS list_cost,
        charges.cost
    FROM seen_charges AS charges
    LEFT JOIN seen_skus AS skus ON skus.sku_id = charges.sku_id
    LEFT JOIN seen_time_zones AS zones ON zones.organization_id = charges.billing_account_id
    WHERE
        charges.period BETWEEN $first_period AND $last_period
        AND ($organization_id::VARCHAR IS NULL OR charges.billing_account_id = $organization_id)
        AND ($account_id::VARCHAR IS NULL OR charges.account_id = $account_id)
        AND ($project_id::VARCHAR IS NULL OR charges.project_id = $project_id)
        AND ($service::VARCHAR IS NULL OR skus.service = $service)
        AND ($category::VARCHAR IS NULL OR skus.category = $category)
        AND ($sku_id::VARCHAR IS NULL OR charges.sku_id = $sku_id)
        AND ($region::VARCHAR IS NULL OR charges.region = $region)
        AND ($resource_id::VARCHAR IS NULL OR charges.resource_id = $resource_id)
)

SELECT
    period,
    organization_id,
    account_id,
    project_id,
    service,
    category,
    sku_id,
    region,
    resource_id,
    kind,
    day,
    tag_value,
    unit,
    currency,
    sum(quantity) AS quantity,
    count(*) AS charges,
    sum(list_cost) AS list_cost,
    sum(CASE WHEN charge_kind IN ('discount', 'commitment', 'credit') THEN 0 ELSE cost END) AS gross,
    sum(CASE WHEN charge_kind IN ('discount', 'commitment') THEN cost ELSE 0 END) AS discounts,
    sum(CASE WHEN charge_kind = 'credit' THEN cost ELSE 0 END) AS credits,
    sum(cost) AS untaxed
FROM described
GROUP BY ALL
ORDER BY
    period,
    organization_id,
    account_id,
    project_id,
    service,
    category,
    sku_id,
    region,
    resource_id,
    kind,
    day,
    tag_value,
    unit,
    currency
LIMIT $limit OFFSET $offset
