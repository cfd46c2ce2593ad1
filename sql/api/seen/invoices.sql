-- Purpose: invoices and credit notes that are seen, as a whole: those of organizations that are granted as a whole.
-- Grain: one invoice or credit note.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
SELECT
    invoices.* REPLACE (
        CASE WHEN corrected.billing_account_id = invoices.billing_account_id THEN invoices.corrects_invoice_id END
        AS corrects_invoice_id
    )
FROM published.invoices
LEFT JOIN published.invoices AS corrected ON corrected.invoice_id = invoices.corrects_invoice_id
WHERE list_contains($whole::VARCHAR[], invoices.billing_account_id)
