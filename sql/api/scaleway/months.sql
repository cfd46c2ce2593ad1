-- Purpose: when what was billed in a month was last computed.
-- Grain: one billing period.
SELECT period, updated_at, is_closed FROM seen_periods ORDER BY period
