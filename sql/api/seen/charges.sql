-- Purpose: charges that are seen: by what they are billed to, never by what the book says now.
-- Grain: one charge.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
SELECT charges.*, charges.rowid AS charge_row
FROM published.charges
WHERE
    list_contains($payers::VARCHAR[], billing_account_id)
    AND (
        list_contains($whole::VARCHAR[], billing_account_id)
        OR (
            (list_contains($accounts::VARCHAR[], account_id) OR list_contains($projects::VARCHAR[], project_id))
            -- What stands at the account that pays, for no project and no SKU, is of the organization as a whole.
            AND NOT (account_id = billing_account_id AND project_id IS NULL AND sku_id IS NULL)
        )
    )
