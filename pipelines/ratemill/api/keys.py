"""API keys: made, shown once, proven on each request, taken back.

A key is an access key, ``SCW`` and 17 letters or digits, which names it everywhere and is no secret, and a secret, a
random UUID. The secret is kept as its argon2id hash. It is found by an index, its HMAC-SHA256 under a key of the store:
a UUID of version 4 has 122 random bits, so even whoever copies the store can't find a secret by trying, hash or index;
what the slow hash is for, words that people choose, does not occur here. It stays as the second lock.

A secret that was proven is remembered for a short time, so that a request costs no argon2; a key that is revoked or
expires is refused within a second, since every change of keys counts up a number that is looked at as often.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import string
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from ratemill.api.access import Principal
from ratemill.api.problems import Problem
from ratemill.insight.access import Grant, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.requests import Request

    from ratemill.api.limits import Limits
    from ratemill.api.store import Store

_ALPHABET = string.ascii_uppercase + string.digits
_REMEMBERED_SECONDS = 300.0
_REMEMBERED_KEYS = 10_000
_LOOK_AGAIN_SECONDS = 1.0
"""How long a change of keys by another process may go unnoticed."""
_HASHING_AT_ONCE = 2
"""Each takes 19 MB and tens of milliseconds of a core."""


@dataclass(frozen=True)
class Key:
    """A key as it is listed: everything but the secret."""

    access_key: str
    name: str
    role: str
    grants: tuple[Grant, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def state(self, now: datetime) -> str:
        """active, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"

    @property
    def scope(self) -> Scope:
        """What it may see."""
        return Scope(self.access_key, self.grants)


@dataclass(frozen=True)
class NewKey:
    """A key and its secret, which is known here and now only."""

    key: Key
    secret: str


class KeyRing:
    """The keys of a store: what ``ratemill keys`` works with."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(
        self, *, name: str, role: str, grants: Iterable[Grant], now: datetime, lifetime: timedelta | None = None
    ) -> NewKey:
        """Make a key and keep it."""
        access_key = "SCW" + "".join(secrets.choice(_ALPHABET) for _ in range(17))
        secret = str(uuid.uuid4())
        row = {
            "access_key": access_key,
            "name": name,
            "role": role,
            "grants": json.dumps([_as_facts(grant) for grant in sorted(grants)]),
            "secret_index": self.index(secret),
            "secret_hash": _HASHER.hash(secret),
            "created_at": _text(now),
            "expires_at": _text(now + lifetime) if lifetime is not None else None,
        }
        self._store.insert("keys", [row])
        key = self.find(access_key)
        if key is None:
            raise LookupError(access_key)
        return NewKey(key, secret)

    def all(self) -> list[Key]:
        """Every key, the oldest first; revoked ones stay, as names in the log of accesses."""
        return [_key(row) for row in self._store.rows("SELECT * FROM keys ORDER BY created_at, access_key")]

    def find(self, access_key: str) -> Key | None:
        """One key."""
        rows = self._store.rows("SELECT * FROM keys WHERE access_key = :access_key", {"access_key": access_key})
        return _key(rows[0]) if rows else None

    def revoke(self, access_key: str, *, now: datetime) -> None:
        """Take a key back for good; one that is revoked keeps its date."""
        self._store.write(
            "UPDATE keys SET revoked_at = coalesce(revoked_at, :now) WHERE access_key = :access_key",
            {"now": _text(now), "access_key": access_key},
        )

    def index(self, secret: str) -> str:
        """What a secret is found by."""
        return hmac.new(self._index_secret, secret.encode(), hashlib.sha256).hexdigest()

    @cached_property
    def _index_secret(self) -> bytes:
        return store_secret(self._store, "key-index")


def store_secret(store: Store, name: str) -> bytes:
    """A secret of the store, made where it is not there yet: the same in all its processes."""
    store.write(
        "INSERT INTO secrets (name, value) VALUES (:name, :value) ON CONFLICT DO NOTHING",
        {"name": name, "value": secrets.token_bytes(32)},
    )
    (row,) = store.rows("SELECT value FROM secrets WHERE name = :name", {"name": name})
    value: bytes = row["value"]
    return value


@dataclass
class _Proven:
    principal: Principal
    expires_at: datetime | None
    generation: int
    until: float


class Keys:
    """Proves the keys of requests."""

    def __init__(self, store: Store, *, now: Callable[[], datetime], limits: Limits) -> None:
        self._store, self._now, self._limits = store, now, limits
        self._ring = KeyRing(store)
        self._lock = threading.Lock()
        self._hashing = threading.BoundedSemaphore(_HASHING_AT_ONCE)
        self._proven: OrderedDict[str, _Proven] = OrderedDict()
        self._generation, self._looked = store.generation, time.monotonic()

    def remembered(self, request: Request) -> Principal | None:
        """Whoever the request's secret was proven to be of, not long ago; None: prove it."""
        secret = _secret_of(request)
        if secret is None:
            return None
        now, instant = time.monotonic(), self._now()
        with self._lock:
            if now - self._looked > _LOOK_AGAIN_SECONDS:
                self._generation, self._looked = self._store.generation, now
            proven = self._proven.get(self._ring.index(secret))
            if proven is None or proven.generation != self._generation or proven.until < now:
                return None
            if proven.expires_at is not None and proven.expires_at <= instant:
                return None
            return proven.principal

    def authenticate(self, request: Request) -> Principal:
        """Whoever the request's secret is of.

        Raises:
            Problem: there is none, or no key that holds (401); too many wrong ones came from this address (429).
        """
        secret = _secret_of(request)
        if secret is None:
            raise Problem.unauthenticated(
                "a key is needed: send the header `Authorization: Bearer SECRET` or `X-Auth-Token: SECRET`",
                reason="missing",
            )
        return self.prove(secret, address_of(request))

    def prove(self, secret: str, address: str) -> Principal:
        """Whoever a secret is of, which came from an address.

        Raises:
            Problem: it is of no key that holds (401); too many wrong ones came from this address (429).
        """
        self._limits.refuse_after_failures(address)
        try:
            return self._prove(secret)
        except Problem:
            self._limits.count_failure(address)
            raise

    def _prove(self, secret: str) -> Principal:
        generation = self._store.generation
        index = self._ring.index(secret)
        rows = self._store.rows("SELECT * FROM keys WHERE secret_index = :secret_index", {"secret_index": index})
        if not rows or not self._matches(rows[0]["secret_hash"], secret):
            raise Problem.unauthenticated("there is no such key", reason="invalid")
        key, now = _key(rows[0]), self._now()
        state = key.state(now)
        if state != "active":
            raise Problem.unauthenticated(f"the key {key.access_key} is {state}", reason=state)
        principal = Principal(key.access_key, key.name, key.role, key.scope)
        with self._lock:
            until = time.monotonic() + _REMEMBERED_SECONDS
            self._proven[index] = _Proven(principal, key.expires_at, generation, until)
            while len(self._proven) > _REMEMBERED_KEYS:
                self._proven.popitem(last=False)
        return principal

    def _matches(self, hashed: str, secret: str) -> bool:
        with self._hashing:
            try:
                return _HASHER.verify(hashed, secret)
            except VerificationError:
                return False


def _secret_of(request: Request) -> str | None:
    """The secret that a request brings; a UUID in whatever capitals."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if not secret or scheme.lower() != "bearer":
        secret = request.headers.get("x-auth-token", "")
    secret = secret.strip().lower()
    return secret if 0 < len(secret) <= 64 else None  # noqa: PLR2004 - longer than any secret


def address_of(request: Request) -> str:
    """Where a request came from: the peer, or what a trusted proxy says (``--proxy-headers``)."""
    return request.client.host if request.client is not None else "unknown"


_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)  # OWASP's choice for argon2id


def _as_facts(grant: Grant) -> dict[str, str]:
    names = ("role", "organization_id", "account_id", "project_id")
    return {name: getattr(grant, name) for name in names if getattr(grant, name)}


def _key(row: dict[str, Any]) -> Key:
    times = {name: _instant(row[name]) for name in ("expires_at", "revoked_at", "last_used_at")}
    return Key(
        access_key=row["access_key"],
        name=row["name"],
        role=row["role"],
        grants=tuple(Grant(**grant) for grant in json.loads(row["grants"])),
        created_at=datetime.fromisoformat(row["created_at"]),
        **times,
    )


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds")


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
