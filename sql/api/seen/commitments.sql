-- Purpose: commitments of organizations that are granted as a whole.
-- Grain: one commitment.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
SELECT commitments.*
FROM published.commitments
INNER JOIN published.accounts USING (account_id)
WHERE list_contains($whole::VARCHAR[], coalesce(accounts.billing_account_id, accounts.account_id))
