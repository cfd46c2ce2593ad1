-- Purpose: accounts as organizations: what their names are, who pays for each, and what its months are counted in.
-- Grain: one account.
SELECT
    account_id,
    payer_id,
    name,
    currency,
    time_zone,
    language,
    account_id IN (SELECT account_id FROM seen_own_accounts) AS is_own
FROM seen_accounts
ORDER BY account_id
