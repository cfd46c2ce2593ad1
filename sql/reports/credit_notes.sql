-- Purpose: each credit note with the invoice it is about, and what is left of that after it.
-- Grain: one credit note and original; a credit note of corrections of several invoices, which names none itself, has a
--        row for each.
-- Parameters: none.
-- Example: ratemill query credit_notes --period 2026-08 --columns number,issue_date,original_number,original_untaxed_amount,untaxed_amount,left_untaxed_amount
--   number         issue_date  original_number  original_untaxed_amount  untaxed_amount  left_untaxed_amount
--   ─────────────  ──────────  ───────────────  ───────────────────────  ──────────────  ───────────────────
--   CN-2026-00001  2026-10-05  2026-00001                         89.16          -12.50                76.66
--   (1 row)
WITH named AS (
    SELECT invoice_id, corrects_invoice_id AS original_id, untaxed_amount
    FROM invoices
    WHERE document = 'credit_note' AND corrects_invoice_id IS NOT NULL
    UNION ALL
    SELECT lines.invoice_id, lines.corrects_invoice_id, sum(lines.net_amount)
    FROM invoice_lines AS lines
    INNER JOIN invoices USING (invoice_id)
    WHERE invoices.document = 'credit_note' AND invoices.corrects_invoice_id IS NULL
    GROUP BY lines.invoice_id, lines.corrects_invoice_id
)

SELECT
    notes.billing_account_id,
    notes.invoice_id,
    notes.number,
    notes.status,
    notes.issue_date,
    notes.period,
    notes.origin,
    originals.invoice_id AS original_id,
    originals.number AS original_number,
    originals.issue_date AS original_issue_date,
    originals.period AS original_period,
    notes.currency,
    originals.untaxed_amount AS original_untaxed_amount,
    named.untaxed_amount,
    notes.tax_amount,
    notes.total_amount,
    originals.untaxed_amount + sum(named.untaxed_amount) OVER (
        PARTITION BY named.original_id
        ORDER BY notes.issue_date NULLS LAST, notes.period, notes.invoice_id
    ) AS left_untaxed_amount
FROM named
INNER JOIN invoices AS notes ON notes.invoice_id = named.invoice_id
LEFT JOIN invoices AS originals ON originals.invoice_id = named.original_id
ORDER BY notes.billing_account_id, notes.issue_date NULLS LAST, notes.invoice_id, originals.invoice_id
