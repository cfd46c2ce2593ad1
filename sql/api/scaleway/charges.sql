-- Purpose: charges before deductions, each in whole billionths. The ledger has eighteen decimals: a charge is rounded
--          down, and what is lost goes one by one to those that lost most, so that the charges of one invoice, project
--          and SKU add up to its lines, to the last digit, whatever of them is asked for.
-- Grain: one charge.
-- Parameters: $period (YYYY-MM, or empty for any), $since_period (YYYY-MM, or empty: the first month that may hold what
--             is asked for), $organization, $wanted_invoices, $wanted_projects (account and project, a unit separator
--             between them), $wanted_skus, $wanted_resources, $wanted_names (each empty for any), $since and $until
--             (instants; empty: without end), $clamp (whether a charge may begin before or end after them), $direction
--             (1 or -1), $after_start (microseconds since 1970) and $after_row (the last charge of the page before),
--             $rows.
WITH gross AS (
    SELECT *
    FROM seen_charges
    WHERE
        charge_kind NOT IN ('discount', 'credit')
        AND NOT (charge_kind = 'commitment' AND cost < 0)
        AND ($period::VARCHAR IS NULL OR period = $period)
        AND ($since_period::VARCHAR IS NULL OR period >= $since_period)
        AND ($organization::VARCHAR IS NULL OR billing_account_id = $organization OR account_id = $organization)
        AND ($wanted_invoices::VARCHAR[] IS NULL OR list_contains($wanted_invoices::VARCHAR[], invoice_id))
        AND (
            $wanted_projects::VARCHAR[] IS NULL
            OR list_contains($wanted_projects::VARCHAR[], account_id || chr(31) || coalesce(project_id, ''))
        )
        AND ($wanted_skus::VARCHAR[] IS NULL OR list_contains($wanted_skus::VARCHAR[], coalesce(sku_id, '')))
),

exact AS (
    SELECT
        *,
        floor(cost)::HUGEINT AS whole,
        (cost - floor(cost)) * 1000000000::DECIMAL(10, 0) AS billionths
    FROM gross
),

rounded AS (
    SELECT
        *,
        whole * 1000000000 + floor(billionths)::HUGEINT AS nanos,
        billionths - floor(billionths) AS lost
    FROM exact
),

shared AS (
    SELECT
        *,
        round(sum(lost) OVER line)::BIGINT AS left_over,
        row_number() OVER (line ORDER BY lost DESC, charge_start, charge_row) AS place
    FROM rounded
    WINDOW line AS (PARTITION BY invoice_id, account_id, project_id, sku_id)
)

SELECT
    billing_account_id,
    account_id,
    project_id,
    sku_id,
    resource_id,
    resource_name,
    currency,
    invoice_id,
    period,
    charge_start,
    charge_end,
    nanos + (place <= left_over)::INT AS nanos,
    epoch_us(charge_start) AS start_us,
    charge_row
FROM shared
WHERE
    ($wanted_resources::VARCHAR[] IS NULL OR list_contains($wanted_resources::VARCHAR[], coalesce(resource_id, '')))
    AND ($wanted_names::VARCHAR[] IS NULL OR list_contains($wanted_names::VARCHAR[], coalesce(resource_name, '')))
    AND (
        $since::TIMESTAMPTZ IS NULL
        OR CASE WHEN $clamp::BOOLEAN THEN charge_end > $since::TIMESTAMPTZ ELSE charge_start >= $since::TIMESTAMPTZ END
    )
    AND (
        $until::TIMESTAMPTZ IS NULL
        OR CASE WHEN $clamp::BOOLEAN THEN charge_start < $until::TIMESTAMPTZ ELSE charge_end <= $until::TIMESTAMPTZ END
    )
    AND (
        $after_row::BIGINT IS NULL
        OR epoch_us(charge_start) * $direction::INT > $after_start::BIGINT * $direction::INT
        OR (epoch_us(charge_start) = $after_start::BIGINT AND charge_row * $direction::INT > $after_row * $direction::INT)
    )
ORDER BY epoch_us(charge_start) * $direction::INT, charge_row * $direction::INT
LIMIT $rows::BIGINT
