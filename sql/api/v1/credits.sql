-- Purpose: a page of credits, with what invoices drew on them.
-- Grain: one credit.
-- Parameters: $organization_id, $at (each optional), $limit, $offset.
WITH drawn AS (
    SELECT credit_id, sum(amount) AS used
    FROM seen_credit_ledger
    GROUP BY credit_id
)

SELECT credits.*, coalesce(drawn.used, 0) AS used
FROM seen_credits AS credits
LEFT JOIN drawn USING (credit_id)
WHERE
    ($organization_id::VARCHAR IS NULL OR credits.account_id = $organization_id)
    AND (
        $at::TIMESTAMPTZ IS NULL
        OR (credits.granted_on <= $at AND (credits.expires_on IS NULL OR credits.expires_on > $at))
    )
ORDER BY credits.credit_id
LIMIT $limit OFFSET $offset
