-- Purpose: time windows of prices that are seen.
-- Grain: one stretch of the week.
-- Parameters: $whole, $payers, $accounts, $projects: the scope of the key (ScopeParameters in api/access.py).
SELECT windows.*
FROM published.windows
WHERE "window" IN (SELECT "window" FROM seen_prices WHERE "window" IS NOT NULL)
