-- Purpose: files that an invoice was issued with.
-- Grain: one file.
-- Parameters: $invoice_id.
SELECT file, sha256
FROM seen_documents
WHERE invoice_id = $invoice_id
ORDER BY file
