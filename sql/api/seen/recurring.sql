-- Purpose: monthly fees that are seen.
-- Grain: one monthly fee.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
SELECT recurring.*
FROM published.recurring
INNER JOIN published.accounts USING (account_id)
WHERE
    list_contains($payers::VARCHAR[], coalesce(accounts.billing_account_id, accounts.account_id))
    AND (
        list_contains($whole::VARCHAR[], coalesce(accounts.billing_account_id, accounts.account_id))
        OR (
            (list_contains($accounts::VARCHAR[], account_id) OR list_contains($projects::VARCHAR[], recurring.project_id))
            -- What stands at the account that pays, for no project and no SKU, is of the organization as a whole.
            AND NOT (account_id = coalesce(accounts.billing_account_id, accounts.account_id) AND recurring.project_id IS NULL AND recurring.sku_id IS NULL)
        )
    )
