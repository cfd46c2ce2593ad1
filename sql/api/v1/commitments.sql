-- Purpose: a page of commitments, with their months.
-- Grain: one commitment.
-- Parameters: $organization_id, $at (each optional), $limit, $offset.
WITH months AS (
    SELECT
        ledger.commitment_id,
        list(
            {
                'period': invoices.period,
                'invoice_id': ledger.invoice_id,
                'committed_amount': ledger.committed_amount,
                'eligible_amount': ledger.eligible_amount,
                'shortfall_amount': ledger.shortfall_amount,
                'discount_amount': ledger.discount_amount
            }
            ORDER BY invoices.period, ledger.invoice_id
        ) AS months
    FROM seen_commitment_ledger AS ledger
    INNER JOIN seen_invoices AS invoices USING (invoice_id)
    GROUP BY ledger.commitment_id
)

SELECT commitments.*, months.months
FROM seen_commitments AS commitments
LEFT JOIN months USING (commitment_id)
WHERE
    ($organization_id::VARCHAR IS NULL OR commitments.account_id = $organization_id)
    AND (
        $at::TIMESTAMPTZ IS NULL
        OR (
            (commitments.valid_from IS NULL OR commitments.valid_from <= $at)
            AND (commitments.valid_to IS NULL OR commitments.valid_to > $at)
        )
    )
ORDER BY commitments.commitment_id
LIMIT $limit OFFSET $offset
