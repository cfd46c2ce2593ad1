-- Purpose: own accounts whole; of the account that a granted project is at, what its costs can't be read without.
-- Grain: one account, with who pays for it.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
WITH named AS (
    SELECT account_id FROM seen_own_accounts
    UNION
    SELECT account_id FROM seen_projects
    UNION
    -- Of an account that has another payer by now, only its lines say anything: its row says who that is.
    SELECT seen_invoice_lines.account_id
    FROM seen_invoice_lines
    INNER JOIN published.accounts AS now ON now.account_id = seen_invoice_lines.account_id
    WHERE coalesce(now.billing_account_id, now.account_id) = seen_invoice_lines.billing_account_id
)

SELECT
    accounts.account_id,
    accounts.billing_account_id,
    coalesce(accounts.billing_account_id, accounts.account_id) AS payer_id,
    accounts.name,
    accounts.country,
    accounts.currency,
    accounts.time_zone,
    accounts.language,
    own.legal_name,
    own.address_line1,
    own.address_line2,
    own.postal_code,
    own.city,
    own.state,
    own.tax_id,
    own.tax_code,
    own.price_lists,
    own.payment_terms_days,
    own.email,
    own.electronic_address,
    own.buyer_reference,
    own.valid_from,
    own.valid_to
FROM published.accounts
SEMI JOIN named ON named.account_id = accounts.account_id
LEFT JOIN seen_own_accounts AS own ON own.account_id = accounts.account_id
