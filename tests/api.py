"""The Billing API of a workspace, in this process, and keys of it.

::

    with serving(shop) as api:
        kestrel = api.client(organization="kestrel")
        kestrel.get("/v1/invoices").json()

Nothing listens on a port here: tests of the real server are in tests/e2e.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from fastapi.testclient import TestClient

from ratemill.api.app import Settings, create_app
from ratemill.api.keys import KeyRing
from ratemill.insight.access import Grant
from ratemill.workspace import find_workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

    from ratemill.api.app import Core
    from ratemill.api.keys import NewKey
    from workspaces import TinyWorkspace

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


@dataclass
class Api:
    """An application, and the clock it looks at."""

    app: FastAPI
    now: datetime

    @property
    def core(self) -> Core:
        core: Core = self.app.state.core
        return core

    def key(self, *, lifetime: timedelta | None = None, role: str = "billing_reader", **given: str) -> NewKey:
        """A key for an ``organization``, or an ``account`` or ``project`` of it."""
        grant = Grant(role, **{f"{name}_id": value for name, value in given.items()})
        ring = KeyRing(self.core.store)
        return ring.create(name="a test's", role=role, grants=[grant], now=self.now, lifetime=lifetime)

    def client(self, **given: Any) -> TestClient:
        """A client with a key of its own, see :meth:`key`."""
        return self.client_of(self.key(**given).secret)

    def client_of(self, secret: str | None) -> TestClient:
        """A client that sends a secret, or none."""
        headers = {"Authorization": f"Bearer {secret}"} if secret is not None else {}
        return TestClient(self.app, headers=headers, raise_server_exceptions=False)


@contextmanager
def serving(shop: TinyWorkspace, **settings: Any) -> Iterator[Api]:
    """The API of a workspace."""
    api: Api
    app = create_app(
        find_workspace(shop.root),
        now=lambda: api.now,
        settings=Settings(**{"requests_per_minute": 100_000, **settings}),
    )
    api = Api(app, NOON)
    with TestClient(app):  # runs what starts and stops with the server
        yield api
