-- Purpose: forget accesses that are older than the store keeps them, and the oldest of those that are more than it
--   keeps: of all together, and of those without a key, which cost whoever sends them nothing.
-- Grain: one access, in the store of keys and accesses (SQLite).
-- Parameters: oldest (kept from then on), kept, kept_without_key (rows).
DELETE FROM accesses
WHERE at < :oldest
   OR rowid <= (SELECT rowid FROM accesses ORDER BY rowid DESC LIMIT 1 OFFSET :kept)
   OR (access_key IS NULL AND rowid <= (
        SELECT rowid FROM accesses WHERE access_key IS NULL ORDER BY rowid DESC LIMIT 1 OFFSET :kept_without_key
   ))
