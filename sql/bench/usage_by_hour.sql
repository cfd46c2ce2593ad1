-- Purpose: the yardstick of rating: the same rows added up where prices change every hour, by the bare engine.
-- Grain: one account, project, resource, SKU, region, tag set and hour.
-- Parameters: none. Needs the table that usage_as_it_is made.
SELECT
    account_id,
    project_id,
    resource_id,
    sku_id,
    region,
    tags,
    usage_start AS hour,
    sum(quantity) AS quantity,
    max(usage_end) AS last_end
FROM usage
GROUP BY ALL
