-- Purpose: prices that are seen: public ones, those of the lists of own accounts, and those that seen lines name.
-- Grain: one tier of one price version.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
WITH lists AS (
    SELECT unnest(string_split_regex(trim(coalesce(own.price_lists, payer.price_lists, '')), '\s+')) AS price_list
    FROM seen_own_accounts AS own
    LEFT JOIN published.accounts AS payer ON payer.account_id = own.payer_id
),

versions AS (
    SELECT price_id
    FROM published.prices
    WHERE
        price_list = 'public'
        OR price_list IN (SELECT price_list FROM lists)
        OR price_id IN (SELECT price_id FROM seen_invoice_lines WHERE price_id IS NOT NULL)
)

SELECT prices.*
FROM published.prices
SEMI JOIN versions USING (price_id)
