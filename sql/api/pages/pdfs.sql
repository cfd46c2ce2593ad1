-- Purpose: which invoices were issued as PDF.
-- Grain: one invoice or credit note.
-- Parameters: none.
SELECT DISTINCT invoice_id
FROM seen_documents
WHERE ends_with(file, '.pdf')
ORDER BY invoice_id
