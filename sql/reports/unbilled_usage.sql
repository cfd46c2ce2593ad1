-- Purpose: usage that is on no invoice, and why: it has no price, or its row breaks a rule.
-- Grain: one period, reason, account and SKU. Rows that no book can bill have no period; rejected rows have no account and
--        SKU here, since what they say is not to be trusted (see usage_rejects).
-- Parameters: none.
-- Example: ratemill query unbilled_usage --period 2026-10 --columns kind,account_id,sku_id,records,quantity,unit
--   kind      account_id  sku_id    records  quantity  unit
--   ────────  ──────────  ────────  ───────  ────────  ────
--   no price  acme        snapshot       24    960.00  GiB
--   rejected  NULL        NULL            1      NULL  NULL
--   (2 rows)
WITH unbilled AS (
    SELECT
        period,
        'no price' AS kind,
        reason,
        account_id,
        sku_id,
        sum(records) AS records,
        sum(quantity) AS quantity,
        usage_unit AS unit
    FROM unpriced_usage
    GROUP BY ALL
    UNION ALL
    SELECT period, 'rejected', rule || ': ' || message, NULL, NULL, count(DISTINCT (file_id, row_number)), NULL, NULL
    FROM usage_rejects
    GROUP BY period, rule, message
)

SELECT period, kind, reason, account_id, sku_id, records, quantity, unit
FROM unbilled
ORDER BY period NULLS FIRST, kind, records DESC, reason, account_id, sku_id
