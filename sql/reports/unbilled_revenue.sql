-- Purpose: revenue that is on drafts and not on issued invoices yet: what to accrue at the end of a month.
-- Grain: one draft.
-- Parameters: none.
-- Example: ratemill query unbilled_revenue --columns period,name,document,currency,lines,untaxed_amount,total_amount
--   period   name    document  currency  lines  untaxed_amount  total_amount
--   ───────  ──────  ────────  ────────  ─────  ──────────────  ────────────
--   2026-10  Acme    invoice   EUR           4          292.66        351.19
--   2026-10  Globex  invoice   EUR           1          114.04        135.71
--   (2 rows)
SELECT
    invoices.period,
    invoices.billing_account_id,
    accounts.name,
    invoices.document,
    invoices.currency,
    invoices.lines,
    invoices.untaxed_amount,
    invoices.tax_amount,
    invoices.total_amount
FROM invoices
LEFT JOIN accounts ON accounts.account_id = invoices.billing_account_id
WHERE invoices.status = 'draft'
ORDER BY invoices.period, invoices.billing_account_id, invoices.currency, invoices.invoice_id
