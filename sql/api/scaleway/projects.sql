-- Purpose: projects at accounts: those of the book, and those that something was billed for.
-- Grain: one project at one account.
WITH listed AS (
    SELECT
        account_id,
        project_id,
        arg_max(name, coalesce(valid_from, '-infinity'::TIMESTAMPTZ)) AS name,
        arg_max(cost_center, coalesce(valid_from, '-infinity'::TIMESTAMPTZ)) AS cost_center,
        CASE WHEN count(valid_from) = count(*) THEN min(valid_from) END AS since,
        CASE WHEN count(valid_to) = count(*) THEN max(valid_to) END AS until
    FROM seen_projects
    GROUP BY account_id, project_id
),

billed AS (
    SELECT account_id, project_id, max_by(project_name, period) AS name
    FROM seen_invoice_lines
    WHERE project_id IS NOT NULL
    GROUP BY account_id, project_id
)

SELECT
    account_id,
    project_id,
    coalesce(listed.name, billed.name, project_id) AS name,
    listed.cost_center,
    listed.since,
    listed.until
FROM listed
FULL JOIN billed USING (account_id, project_id)
ORDER BY account_id, project_id
