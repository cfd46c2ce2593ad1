-- Purpose: names of accounts.
-- Grain: one account.
-- Parameters: none.
SELECT account_id, name
FROM seen_accounts
ORDER BY account_id
