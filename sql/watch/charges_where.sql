-- Purpose: charges of some months that fulfil a condition of a budget, added up to what budgets look at.
-- Grain: one combination of what budgets look at.
-- Parameters: none; $condition stands for the condition of the budget, $periods for a list of months, and both are put
--   in before the query goes to the process for queries of others.
SELECT
    period,
    invoice_id,
    billing_account_id,
    account_id,
    project_id,
    sku_id,
    region,
    tags,
    currency,
    corrects_period,
    charge_kind,
    charge_start,
    charge_end,
    sum(cost) AS cost
FROM (
    SELECT *
    FROM charges
    WHERE
        (
            $condition
        )
)
WHERE period IN ($periods)
GROUP BY ALL
