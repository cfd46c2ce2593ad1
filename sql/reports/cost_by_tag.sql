-- Purpose: what each value of each tag costs. A charge with several tags counts under each, untagged charges have
--          no tag, so that the sum over one tag and the rows without it is the whole.
-- Grain: one period, billing account, tag, value and currency.
-- Parameters: none.
SELECT
    charges.period,
    charges.billing_account_id,
    tag.tag,
    json_extract_string(charges.tags, '$."' || replace(tag.tag, '"', '\"') || '"') AS value,
    charges.currency,
    sum(charges.cost) AS cost
FROM charges
LEFT JOIN LATERAL (SELECT unnest(json_keys(charges.tags)) AS tag) AS tag ON true
GROUP BY ALL
ORDER BY charges.period, charges.billing_account_id, tag.tag, value, charges.currency
