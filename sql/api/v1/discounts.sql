-- Purpose: a page of discounts, with what invoices that are seen took off by them.
-- Grain: one discount.
-- Parameters: $organization_id, $at (each optional), $limit, $offset.
WITH taken AS (
    SELECT source_id, list({'currency': currency, 'amount': amount} ORDER BY currency) AS taken_off
    FROM (
        SELECT deductions.source_id, invoices.currency, sum(deductions.amount) AS amount
        FROM seen_invoice_deductions AS deductions
        INNER JOIN seen_invoices AS invoices USING (invoice_id)
        WHERE deductions.kind = 'discount'
        GROUP BY ALL
    )
    GROUP BY source_id
)

SELECT discounts.*, taken.taken_off
FROM seen_discounts AS discounts
LEFT JOIN taken ON taken.source_id = discounts.discount_id
LEFT JOIN seen_accounts AS accounts USING (account_id)
WHERE
    ($organization_id::VARCHAR IS NULL OR discounts.account_id IS NULL OR accounts.payer_id = $organization_id)
    AND (
        $at::TIMESTAMPTZ IS NULL
        OR (
            (discounts.valid_from IS NULL OR discounts.valid_from <= $at)
            AND (discounts.valid_to IS NULL OR discounts.valid_to > $at)
        )
    )
ORDER BY discounts.discount_id
LIMIT $limit OFFSET $offset
