-- Purpose: a page of charges in the order in which they start; the row's number in the published state decides among
--          those of one instant, so that a page begins right after the last row of the one before.
-- Grain: one charge.
-- Parameters: $period, $starts_from, $starts_before, $organization_id, $account_id, $project_id, $resource_id, $sku_id,
--             $invoice_id, $kind (each optional), $backwards (whether the last comes first), $after_start and $after_row
--             (last row of the page before; empty: the first page), $limit.
SELECT
    period,
    billing_account_id,
    account_id,
    project_id,
    resource_id,
    resource_name,
    sku_id,
    region,
    tags::JSON::MAP(VARCHAR, VARCHAR) AS tags,
    charge_start,
    charge_end,
    charge_kind,
    price_id,
    usage_quantity,
    usage_unit,
    pricing_quantity,
    pricing_unit,
    currency,
    contracted_unit_price,
    list_unit_price,
    list_cost,
    cost,
    source_id,
    corrects_period,
    invoice_id,
    charge_row
FROM seen_charges
WHERE
    ($period::VARCHAR IS NULL OR period = $period)
    AND ($starts_from::TIMESTAMPTZ IS NULL OR charge_start >= $starts_from)
    AND ($starts_before::TIMESTAMPTZ IS NULL OR charge_start < $starts_before)
    AND ($organization_id::VARCHAR IS NULL OR billing_account_id = $organization_id)
    AND ($account_id::VARCHAR IS NULL OR account_id = $account_id)
    AND ($project_id::VARCHAR IS NULL OR project_id = $project_id)
    AND ($resource_id::VARCHAR IS NULL OR resource_id = $resource_id)
    AND ($sku_id::VARCHAR IS NULL OR sku_id = $sku_id)
    AND ($invoice_id::VARCHAR IS NULL OR invoice_id = $invoice_id)
    AND ($kind::VARCHAR IS NULL OR charge_kind = $kind)
    AND (
        $after_row::BIGINT IS NULL
        OR (NOT $backwards AND (charge_start, charge_row) > ($after_start::TIMESTAMPTZ, $after_row::BIGINT))
        OR ($backwards AND (charge_start, charge_row) < ($after_start::TIMESTAMPTZ, $after_row::BIGINT))
    )
ORDER BY
    CASE WHEN NOT $backwards THEN charge_start END,
    CASE WHEN NOT $backwards THEN charge_row END,
    CASE WHEN $backwards THEN charge_start END DESC,
    CASE WHEN $backwards THEN charge_row END DESC
LIMIT $limit
