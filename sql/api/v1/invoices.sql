-- Purpose: a page of invoices and credit notes, sorted as asked; the id decides among equals.
-- Grain: one invoice or credit note.
-- Parameters: $organization_id, $first_period, $last_period, $document, $status, $issued_from, $issued_until (each
--             optional), $sort (period, number, issue_date or total; with - before it the last comes first), $limit,
--             $offset.
SELECT *
FROM seen_invoices
WHERE
    ($organization_id::VARCHAR IS NULL OR billing_account_id = $organization_id)
    AND ($first_period::VARCHAR IS NULL OR period >= $first_period)
    AND ($last_period::VARCHAR IS NULL OR period <= $last_period)
    AND ($document::VARCHAR IS NULL OR document = $document)
    AND ($status::VARCHAR IS NULL OR status = $status)
    AND ($issued_from::DATE IS NULL OR issue_date >= $issued_from)
    AND ($issued_until::DATE IS NULL OR issue_date <= $issued_until)
ORDER BY
    CASE $sort WHEN 'period' THEN period WHEN 'number' THEN number WHEN 'issue_date' THEN issue_date::VARCHAR END,
    CASE $sort WHEN '-period' THEN period WHEN '-number' THEN number WHEN '-issue_date' THEN issue_date::VARCHAR END
    DESC,
    CASE $sort WHEN 'total' THEN total_amount END,
    CASE $sort WHEN '-total' THEN total_amount END DESC,
    invoice_id
LIMIT $limit OFFSET $offset
