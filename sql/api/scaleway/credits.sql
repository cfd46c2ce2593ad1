-- Purpose: credits of the book, and what invoices have drawn on each so far.
-- Grain: one credit.
WITH used AS (
    SELECT credit_id, sum(amount) AS amount
    FROM seen_credit_ledger
    GROUP BY credit_id
)

SELECT seen_credits.*, coalesce(used.amount, 0) AS used_amount
FROM seen_credits
LEFT JOIN used USING (credit_id)
ORDER BY credit_id
