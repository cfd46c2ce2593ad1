-- Purpose: discounts of the book, and what each took off this month.
-- Grain: one discount at one organization, or one that is everybody's.
-- Parameters: $period (YYYY-MM: the month that an amount is of).
WITH used AS (
    SELECT source_id, billing_account_id, -sum(seen_invoice_deductions.amount) AS amount
    FROM seen_invoice_deductions
    INNER JOIN seen_invoices USING (invoice_id)
    WHERE kind = 'discount' AND seen_invoices.period = $period
    GROUP BY ALL
)

SELECT
    seen_discounts.*,
    seen_accounts.payer_id,
    used.billing_account_id AS used_by,
    coalesce(used.amount, 0) AS used_amount
FROM seen_discounts
LEFT JOIN seen_accounts USING (account_id)
LEFT JOIN used ON used.source_id = seen_discounts.discount_id
ORDER BY discount_id, used_by
