-- Purpose: what decides about the prices of an account.
-- Grain: one account; at most one row.
-- Parameters: $account_id.
SELECT account_id, billing_account_id, currency, time_zone, price_lists
FROM seen_terms
WHERE account_id = $account_id
