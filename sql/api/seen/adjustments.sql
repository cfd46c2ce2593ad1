-- Purpose: adjustments that are seen.
-- Grain: one amount added or taken off by hand.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
SELECT
    -- Who decided is the seller's business; the invoice it is about, the organization's.
    adjustments.* EXCLUDE (author) REPLACE (
        CASE
            WHEN list_contains($whole::VARCHAR[], coalesce(accounts.billing_account_id, accounts.account_id))
                THEN adjustments.invoice_ref
        END AS invoice_ref
    )
FROM published.adjustments
INNER JOIN published.accounts USING (account_id)
WHERE
    list_contains($payers::VARCHAR[], coalesce(accounts.billing_account_id, accounts.account_id))
    AND (
        list_contains($whole::VARCHAR[], coalesce(accounts.billing_account_id, accounts.account_id))
        OR (
            (list_contains($accounts::VARCHAR[], account_id) OR list_contains($projects::VARCHAR[], adjustments.project_id))
            -- What stands at the account that pays, for no project and no SKU, is of the organization as a whole.
            AND NOT (account_id = coalesce(accounts.billing_account_id, accounts.account_id) AND adjustments.project_id IS NULL AND adjustments.sku_id IS NULL)
        )
    )
