-- Purpose: invoices and credit notes with what their amounts consist of.
-- Grain: one invoice or credit note.
SELECT
    invoice_id,
    document,
    period,
    billing_account_id,
    currency,
    status,
    number,
    issue_date,
    due_date,
    subtotal_amount,
    discount_amount + commitment_amount + credit_amount AS deducted_amount,
    untaxed_amount,
    tax_amount,
    total_amount
FROM seen_invoices
ORDER BY period DESC, invoice_id
