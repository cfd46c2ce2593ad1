-- Purpose: projects that are seen, where they are at accounts that the granted organization pays for.
-- Grain: one project at one account for a time.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
SELECT projects.*
FROM published.projects
LEFT JOIN published.accounts USING (account_id)
WHERE
    list_contains($whole::VARCHAR[], coalesce(accounts.billing_account_id, accounts.account_id))
    OR (
        list_contains($payers::VARCHAR[], coalesce(accounts.billing_account_id, accounts.account_id))
        AND (
            list_contains($accounts::VARCHAR[], account_id) OR list_contains($projects::VARCHAR[], projects.project_id)
        )
    )
