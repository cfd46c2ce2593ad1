-- Purpose: schema of the API's own store, version 3: who is signed in to the pages.
CREATE TABLE sessions (
    token_hash TEXT PRIMARY KEY, -- SHA-256 of the cookie, which is random: nobody can sign in with what is kept here
    access_key TEXT NOT NULL REFERENCES keys ON DELETE CASCADE,
    expires_at TEXT NOT NULL
) STRICT;
CREATE INDEX sessions_expires_at ON sessions (expires_at);
