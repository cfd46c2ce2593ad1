-- Purpose: names and addresses of the organizations of a key, where it sees them.
-- Grain: one account that pays.
-- Parameters: $payers, of the key.
SELECT
    account_id,
    name,
    legal_name,
    address_line1,
    address_line2,
    postal_code,
    city,
    state,
    country,
    tax_id,
    currency
FROM seen_accounts
WHERE list_contains($payers::VARCHAR[], account_id)
ORDER BY account_id
