-- Purpose: the time zones that the days of what is seen are counted in: those of who pays.
-- Grain: one organization.
-- Parameters: $payers, of the scope of the key (ScopeParameters in api/access.py).
SELECT account_id AS organization_id, time_zone
FROM published.accounts
WHERE list_contains($payers::VARCHAR[], account_id)
