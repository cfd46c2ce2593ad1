-- Purpose: how far each commitment was used, what was billed for the rest, and what its discount took off.
-- Grain: one commitment in one period.
-- Parameters: none.
-- Example: ratemill query commitment_use --columns period,commitment_id,committed_amount,eligible_amount,used_percent,shortfall_amount,discount_amount
--   period   commitment_id  committed_amount  eligible_amount  used_percent  shortfall_amount  discount_amount
--   ───────  ─────────────  ────────────────  ───────────────  ────────────  ────────────────  ───────────────
--   2026-08  plan-100                 100.00           133.92         100.0              0.00            -5.00
--   2026-09  plan-100                 100.00            57.60          57.6             42.40            -5.00
--   2026-10  plan-100                 100.00           119.04         100.0              0.00            -5.00
--   (3 rows)
SELECT
    invoices.period,
    invoices.billing_account_id,
    ledger.commitment_id,
    ledger.description,
    ledger.currency,
    ledger.committed_amount,
    ledger.eligible_amount,
    least(ledger.eligible_amount, ledger.committed_amount) AS used_amount,
    (100 * least(ledger.eligible_amount, ledger.committed_amount)::DOUBLE
        / nullif(ledger.committed_amount, 0)::DOUBLE)::DECIMAL(18, 1) AS used_percent,
    ledger.shortfall_amount,
    ledger.discount_amount
FROM commitment_ledger AS ledger
INNER JOIN invoices USING (invoice_id)
ORDER BY invoices.period, invoices.billing_account_id, ledger.commitment_id
