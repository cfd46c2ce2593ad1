-- Purpose: accounts of which everything is seen: paid by an organization that is granted as a whole, or granted one by one
--          and still paid by the organization they were granted with.
-- Grain: one account, with who pays for it.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
SELECT accounts.*, coalesce(billing_account_id, account_id) AS payer_id
FROM published.accounts
WHERE
    list_contains($whole::VARCHAR[], coalesce(billing_account_id, account_id))
    OR (
        list_contains($payers::VARCHAR[], coalesce(billing_account_id, account_id))
        AND list_contains($accounts::VARCHAR[], account_id)
    )
