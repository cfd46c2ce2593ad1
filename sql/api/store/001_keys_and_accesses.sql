-- Purpose: schema of the API's own store (SQLite), version 1: keys, and who asked for what.
CREATE TABLE keys (
    access_key TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('billing_reader', 'billing_manager')),
    grants TEXT NOT NULL, -- JSON list of {organization_id, account_id?, project_id?}
    secret_index TEXT NOT NULL UNIQUE, -- HMAC-SHA256 of the secret: finds the key
    secret_hash TEXT NOT NULL, -- argon2id of the secret: proves it
    created_at TEXT NOT NULL,
    expires_at TEXT,
    revoked_at TEXT,
    last_used_at TEXT
) STRICT;

CREATE TABLE key_changes (generation INTEGER NOT NULL) STRICT;
INSERT INTO key_changes VALUES (0);
CREATE TRIGGER key_created AFTER INSERT ON keys
BEGIN
    UPDATE key_changes SET generation = generation + 1;
END;
CREATE TRIGGER key_changed AFTER UPDATE OF role, grants, secret_index, secret_hash, expires_at, revoked_at ON keys
BEGIN
    UPDATE key_changes SET generation = generation + 1;
END;
CREATE TRIGGER key_deleted AFTER DELETE ON keys
BEGIN
    UPDATE key_changes SET generation = generation + 1;
END;

CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT; -- made at random: of the index, of cursors

CREATE TABLE accesses (
    at TEXT NOT NULL,
    request_id TEXT NOT NULL,
    access_key TEXT, -- empty where no key held
    address TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    status INTEGER NOT NULL,
    milliseconds INTEGER NOT NULL
) STRICT;
CREATE INDEX accesses_at ON accesses (at);
