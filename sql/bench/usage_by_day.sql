-- Purpose: the yardstick of rating: the same rows added up to the grain of a charge, by the bare engine.
-- Grain: one account, project, resource, SKU, region, tag set and UTC day.
-- Parameters: none. Needs the table that usage_as_it_is made.
SELECT
    account_id,
    project_id,
    resource_id,
    sku_id,
    region,
    tags,
    usage_start::DATE AS day,
    sum(quantity) AS quantity,
    min(usage_start) AS first_start,
    max(usage_end) AS last_end
FROM usage
GROUP BY ALL
