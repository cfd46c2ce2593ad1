"""Who is signed in to the pages: a random cookie for an API key, kept here by its hash, for a working day.

The key itself is asked for once and kept by nobody: the cookie says nothing of it, no script can read it (HttpOnly),
other sites' pages can't send it (SameSite=Strict), and signing out, or taking the key back, ends it at once.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ratemill.api.access import Principal
from ratemill.api.keys import KeyRing

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratemill.api.store import Store

COOKIE = "ratemill_session"
LIFETIME = timedelta(hours=8)


class Sessions:
    """The sessions of a store."""

    def __init__(self, store: Store, *, now: Callable[[], datetime]) -> None:
        self._store, self._now, self._ring = store, now, KeyRing(store)

    def start(self, principal: Principal) -> str:
        """Sign in; what the cookie is to hold."""
        token, now = secrets.token_urlsafe(32), self._now()
        self._store.write("DELETE FROM sessions WHERE expires_at <= :now", {"now": _text(now)})
        row = {
            "token_hash": _hashed(token),
            "access_key": principal.key_id,
            "expires_at": _text(now + LIFETIME),
        }
        self._store.insert("sessions", [row])
        return token

    def principal(self, token: str) -> Principal | None:
        """Whoever is signed in with a cookie; nobody when it is unknown, too old, or of a key that no longer holds."""
        rows = self._store.rows(
            "SELECT access_key FROM sessions WHERE token_hash = :token_hash AND expires_at > :now",
            {"token_hash": _hashed(token), "now": _text(self._now())},
        )
        key = self._ring.find(rows[0]["access_key"]) if rows else None
        if key is None or key.state(self._now()) != "active":
            return None
        return Principal(key.access_key, key.name, key.role, key.scope)

    def end(self, token: str) -> None:
        """Sign out."""
        self._store.write("DELETE FROM sessions WHERE token_hash = :token_hash", {"token_hash": _hashed(token)})


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds")
