-- Purpose: discounts of organizations that are granted as a whole, and those that are everybody's.
-- Grain: one discount.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
WITH organizations_projects AS (
    SELECT project_id
    FROM published.projects
    INNER JOIN published.accounts USING (account_id)
    WHERE list_contains($whole::VARCHAR[], coalesce(accounts.billing_account_id, accounts.account_id))
)

SELECT discounts.*
FROM published.discounts
LEFT JOIN published.accounts USING (account_id)
WHERE
    list_contains($whole::VARCHAR[], coalesce(accounts.billing_account_id, accounts.account_id))
    OR (
        -- Everybody's; but one that names a project or SKUs that are not seen was made for somebody else.
        len($whole::VARCHAR[]) > 0
        AND discounts.account_id IS NULL
        AND (
            discounts.project_id IS NULL
            OR discounts.project_id IN (SELECT project_id FROM organizations_projects)
        )
        AND NOT EXISTS (
            SELECT named.sku_id
            FROM (
                SELECT unnest(
                    regexp_extract_all(concat_ws(' ', discounts.sku_ids, discounts.excludes), '\S+')
                ) AS sku_id
            ) AS named
            ANTI JOIN seen_skus USING (sku_id)
        )
    )
