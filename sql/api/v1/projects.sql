-- Purpose: a page of projects.
-- Grain: one project at one account for a time.
-- Parameters: $organization_id, $account_id, $project_id (each optional), $limit, $offset.
SELECT
    seen_projects.project_id,
    seen_projects.name,
    seen_projects.account_id,
    seen_accounts.payer_id AS organization_id,
    seen_projects.cost_center,
    seen_projects.valid_from,
    seen_projects.valid_to
FROM seen_projects
INNER JOIN seen_accounts USING (account_id)
WHERE
    ($organization_id::VARCHAR IS NULL OR seen_accounts.payer_id = $organization_id)
    AND ($account_id::VARCHAR IS NULL OR seen_projects.account_id = $account_id)
    AND ($project_id::VARCHAR IS NULL OR seen_projects.project_id = $project_id)
ORDER BY seen_projects.project_id, seen_projects.valid_from NULLS FIRST, seen_projects.account_id
LIMIT $limit OFFSET $offset
