-- Purpose: what became of each invoice: the original, lines of later invoices that correct it, and its credit notes.
-- Grain: one document that has to do with an invoice, the invoice itself included.
-- Parameters: none.
-- Example: ratemill query document_chain --where "original_number = '2026-00001'" --columns original_number,relation,number,issue_date,untaxed_amount,untaxed_so_far
--   original_number  relation             number         issue_date  untaxed_amount  untaxed_so_far
--   ───────────────  ───────────────────  ─────────────  ──────────  ──────────────  ──────────────
--   2026-00001       original             2026-00001     2026-09-02           89.16           89.16
--   2026-00001       credit note by hand  CN-2026-00001  2026-10-05          -12.50           76.66
--   (2 rows)
WITH corrections AS (
    SELECT
        lines.corrects_invoice_id AS original_id,
        lines.invoice_id,
        count(*) AS lines,
        sum(lines.net_amount) AS untaxed_amount
    FROM invoice_lines AS lines
    INNER JOIN invoices AS carriers USING (invoice_id)
    WHERE lines.line_kind = 'correction'
      AND lines.corrects_invoice_id IS NOT NULL
      AND carriers.corrects_invoice_id IS NULL
    GROUP BY lines.corrects_invoice_id, lines.invoice_id
),

links AS (
    SELECT invoice_id AS original_id, invoice_id, 0 AS step, 'original' AS relation, lines, untaxed_amount, tax_amount,
        total_amount
    FROM invoices
    WHERE corrects_invoice_id IS NULL
    UNION ALL
    -- Their tax is part of the tax of the invoice they are on.
    SELECT original_id, invoice_id, 1, 'correction lines', lines, untaxed_amount, NULL, NULL
    FROM corrections
    UNION ALL
    SELECT corrects_invoice_id, invoice_id, 1,
        CASE WHEN origin = 'hand' THEN 'credit note by hand'
             WHEN document = 'credit_note' THEN 'credit note of a correction'
             ELSE 'invoice of a correction' END,
        lines, untaxed_amount, tax_amount, total_amount
    FROM invoices
    WHERE corrects_invoice_id IS NOT NULL
)

SELECT
    originals.billing_account_id,
    originals.period AS original_period,
    links.original_id,
    originals.number AS original_number,
    links.relation,
    documents.invoice_id,
    documents.number,
    documents.document,
    documents.status,
    documents.issue_date,
    documents.period,
    links.lines,
    documents.currency,
    links.untaxed_amount,
    links.tax_amount,
    links.total_amount,
    sum(links.untaxed_amount) OVER (
        PARTITION BY links.original_id
        ORDER BY links.step, documents.period, documents.issue_date NULLS LAST, documents.invoice_id
    ) AS untaxed_so_far
FROM links
INNER JOIN invoices AS originals ON originals.invoice_id = links.original_id
INNER JOIN invoices AS documents ON documents.invoice_id = links.invoice_id
ORDER BY originals.billing_account_id, links.original_id, links.step, documents.period,
    documents.issue_date NULLS LAST, documents.invoice_id
