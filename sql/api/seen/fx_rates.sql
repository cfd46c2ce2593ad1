-- Purpose: exchange rates between currencies of own accounts and of prices that are seen.
-- Grain: one exchange rate of one day.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
WITH currencies AS (
    SELECT currency FROM seen_accounts
    UNION
    SELECT currency FROM seen_prices
)

SELECT fx_rates.*
FROM published.fx_rates
WHERE base IN (SELECT currency FROM currencies) AND quote IN (SELECT currency FROM currencies)
