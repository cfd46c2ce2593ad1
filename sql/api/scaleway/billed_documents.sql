-- Purpose: documents that anything seen is charged on.
-- Grain: one invoice or credit note.
SELECT DISTINCT invoice_id FROM seen_charges ORDER BY invoice_id
