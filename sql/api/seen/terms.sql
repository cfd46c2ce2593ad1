-- Purpose: what decides about the prices of own accounts: the price lists to search in order, and currency and time zone of
--          who pays.
-- Grain: one account.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
SELECT
    own.account_id,
    own.payer_id AS billing_account_id,
    payers.currency,
    payers.time_zone,
    coalesce(own.price_lists, payers.price_lists, '') AS price_lists
FROM seen_own_accounts AS own
INNER JOIN published.accounts AS payers ON payers.account_id = own.payer_id
