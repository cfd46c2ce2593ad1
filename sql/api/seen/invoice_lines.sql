-- Purpose: lines that are seen, of any invoice, with what their invoice says about who pays, when and how it stands.
-- Grain: one line.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
SELECT
    invoice_lines.* REPLACE (
        CASE WHEN corrected.billing_account_id = invoices.billing_account_id THEN invoice_lines.corrects_invoice_id END
        AS corrects_invoice_id
    ),
    invoices.billing_account_id,
    invoices.period,
    invoices.currency,
    invoices.status
FROM published.invoice_lines
INNER JOIN published.invoices USING (invoice_id)
LEFT JOIN published.invoices AS corrected ON corrected.invoice_id = invoice_lines.corrects_invoice_id
WHERE
    list_contains($payers::VARCHAR[], invoices.billing_account_id)
    AND (
        list_contains($whole::VARCHAR[], invoices.billing_account_id)
        OR (
            (list_contains($accounts::VARCHAR[], invoice_lines.account_id) OR list_contains($projects::VARCHAR[], invoice_lines.project_id))
            -- What stands at the account that pays, for no project and no SKU, is of the organization as a whole.
            AND NOT (invoice_lines.account_id = invoices.billing_account_id AND invoice_lines.project_id IS NULL AND invoice_lines.sku_id IS NULL)
        )
    )
