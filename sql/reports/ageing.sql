-- Purpose: what was invoiced and how long it is due. Payments are not known here, so this is what would be open if
--          nobody had paid: hold it against the payments of your accounting system. A credit note counts with the due
--          date of the invoice that it is about.
-- Grain: one billing account and currency.
-- Parameters:
--   $as_of (day, default today): the day to count from; later invoices are left out.
-- Example: ratemill query ageing --set as_of=2026-11-15
--   billing_account_id  name    currency  not_due  late_1_to_30  late_31_to_60  late_61_to_90  late_over_90   total
--   ──────────────────  ──────  ────────  ───────  ────────────  ─────────────  ─────────────  ────────────  ──────
--   acme                Acme    EUR          0.00        276.48          91.99           0.00          0.00  368.47
--   globex              Globex  EUR          0.00        113.05         153.41           0.00          0.00  266.46
--   (2 rows)
WITH documents AS (
    SELECT
        invoices.billing_account_id,
        invoices.currency,
        invoices.due_amount,
        datediff('day', coalesce(originals.due_date, invoices.due_date, invoices.issue_date), $as_of) AS days_late
    FROM invoices
    LEFT JOIN invoices AS originals ON originals.invoice_id = invoices.corrects_invoice_id
    WHERE invoices.status = 'issued'
      AND invoices.issue_date <= $as_of
)

SELECT
    documents.billing_account_id,
    accounts.name,
    documents.currency,
    coalesce(sum(documents.due_amount) FILTER (WHERE documents.days_late <= 0), 0) AS not_due,
    coalesce(sum(documents.due_amount) FILTER (WHERE documents.days_late BETWEEN 1 AND 30), 0) AS late_1_to_30,
    coalesce(sum(documents.due_amount) FILTER (WHERE documents.days_late BETWEEN 31 AND 60), 0) AS late_31_to_60,
    coalesce(sum(documents.due_amount) FILTER (WHERE documents.days_late BETWEEN 61 AND 90), 0) AS late_61_to_90,
    coalesce(sum(documents.due_amount) FILTER (WHERE documents.days_late > 90), 0) AS late_over_90,
    sum(documents.due_amount) AS total
FROM documents
LEFT JOIN accounts ON accounts.account_id = documents.billing_account_id
GROUP BY documents.billing_account_id, accounts.name, documents.currency
ORDER BY total DESC, documents.billing_account_id, documents.currency
