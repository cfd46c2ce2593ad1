-- Purpose: usage as it was billed, by resource and local day (or hour, as configured), [output] publish_usage = "hour"
--          publishes every record instead.
-- Grain: one charge of kind usage.
-- Parameters: none.
SELECT
    period,
    account_id,
    project_id,
    resource_id,
    resource_name,
    sku_id,
    region,
    tags,
    charge_start AS usage_start,
    charge_end AS usage_end,
    usage_quantity AS quantity,
    usage_unit AS unit
FROM charges
WHERE charge_kind = 'usage'
