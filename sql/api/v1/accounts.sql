-- Purpose: a page of accounts.
-- Grain: one account.
-- Parameters: $organization_id (optional), $limit, $offset.
SELECT account_id, payer_id AS organization_id, name, country, currency, time_zone
FROM seen_accounts
WHERE $organization_id::VARCHAR IS NULL OR payer_id = $organization_id
ORDER BY account_id
LIMIT $limit OFFSET $offset
