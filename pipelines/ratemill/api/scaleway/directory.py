"""The things that a key sees, by UUID: accounts as organizations, projects, invoices; and which of them it asks for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request

from ratemill.api.access import Asking, Principal
from ratemill.api.answers import Reading
from ratemill.api.scaleway.errors import not_found, permissions_denied
from ratemill.api.scaleway.ids import Ids

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ratemill.api.snapshots import Snapshot

SEPARATOR = "\x1f"
_REMEMBERED = 64
DEFAULT_PROJECT = "default"


@dataclass(frozen=True)
class Project:
    """A project at an account; without an id it is the account's default one."""

    account_id: str
    project_id: str | None
    name: str
    description: str = ""
    since: Any = None
    until: Any = None

    @property
    def key(self) -> str:
        """Account and project as one text, as sql/api/scaleway/charges.sql takes them."""
        return f"{self.account_id}{SEPARATOR}{self.project_id or ''}"


@dataclass(frozen=True)
class Directory:
    """What one key sees of one published state."""

    ids: Ids
    principal: Principal
    accounts: Mapping[str, Mapping[str, Any]]
    """account_id → its row of sql/api/scaleway/accounts.sql."""
    projects: Mapping[str, Project]
    """UUID → project."""
    time_zone: str
    """Of accounts that name none."""

    @cached_property
    def _by_uuid(self) -> dict[str, str]:
        return {self.ids.organization(name): name for name in (*self.accounts, *self.principal.organizations)}

    @cached_property
    def whole(self) -> frozenset[str]:
        """Organizations of which the key sees everything, and their documents."""
        return self.principal.scope.organizations

    def name(self, account_id: str) -> str:
        """What people call an account; empty where the key does not see that."""
        return str(self.accounts[account_id]["name"]) if account_id in self.accounts else ""

    def zone(self, account_id: str) -> str:
        """The zone that an account's months are counted in."""
        return str(self.accounts.get(account_id, {}).get("time_zone") or self.time_zone)

    def account(self, uuid: str | None, *, resource: str = "billing", action: str = "read") -> str | None:
        """The account that a UUID is of; none of none.

        Raises:
            Problem: the key sees no such account (403): whether there is one can't be told from that.
        """
        if uuid is None:
            return None
        found = self._by_uuid.get(uuid)
        if found is None:
            raise permissions_denied(resource, action)
        return found

    def whole_organization(self, uuid: str | None, *, resource: str, action: str = "read") -> str | None:
        """The same, of documents and the like: they are of organizations that are seen as a whole.

        Of an account that another one pays for there are none; that is no error.

        Raises:
            Problem: the key sees none of them, or only a part (403).
        """
        account = self.account(uuid, resource=resource, action=action)
        payer = self.payer(account) if account is not None else None
        if not self.whole or (payer is not None and payer not in self.whole):
            raise permissions_denied(resource, action)
        return account

    def whole_organizations(self, organization: str | None) -> list[str]:
        """Organizations that are seen as a whole: the one that is asked for (:meth:`whole_organization`), or all."""
        return sorted(self.whole if organization is None else self.whole & {organization})

    def managed_organization(self, uuid: str, *, resource: str, action: str) -> str:
        """The account that pays and for which the key may change something.

        Raises:
            Problem: the key may not (403).
        """
        self.principal.require_manager(resource, action)
        account = self.account(uuid, resource=resource, action=action)
        if account is None or account not in self.whole or account not in self.accounts:
            raise permissions_denied(resource, action)
        return account

    def payer(self, account_id: str) -> str:
        """Who pays for an account."""
        return str(self.accounts.get(account_id, {}).get("payer_id") or account_id)

    def is_of(self, account_id: str, organization: str | None) -> bool:
        """Whether an account is the organization that is asked for, or one that it pays for; any where none is."""
        return organization is None or organization in (account_id, self.payer(account_id))

    def project(self, uuid: str) -> Project:
        """The project that a UUID is of, in bills.

        Raises:
            Problem: the key sees no such project (403).
        """
        if uuid not in self.projects:
            raise permissions_denied("billing", "read")
        return self.projects[uuid]

    def existing_project(self, uuid: str) -> Project:
        """The project that a UUID is of, as a thing by itself.

        Raises:
            Problem: the key sees no such project (404).
        """
        if uuid not in self.projects:
            raise not_found("project", uuid)
        return self.projects[uuid]


class _Recent:
    """The directories that were made last: UUIDs of thousands of projects take some milliseconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: OrderedDict[Any, Directory] = OrderedDict()

    def get(self, key: Any, make: Callable[[], Directory]) -> Directory:
        with self._lock:
            found = self._made.pop(key, None)
        found = found or make()
        with self._lock:
            self._made[key] = found
            while len(self._made) > _REMEMBERED:
                self._made.popitem(last=False)
        return found


_RECENT = _Recent()


def _directory(request: Request, principal: Asking, snapshot: Reading) -> Directory:
    config = request.app.state.core.workspace.config
    ids = Ids.of(config.seller.name)
    key = (ids, snapshot.version, principal, config.period.time_zone)
    return _RECENT.get(key, lambda: _made(ids, principal, snapshot, config.period.time_zone))


Known = Annotated[Directory, Depends(_directory)]
"""``known: Known`` in a route."""


def _made(ids: Ids, principal: Principal, snapshot: Snapshot, time_zone: str) -> Directory:
    accounts = {row["account_id"]: row for row in snapshot.rows("api/scaleway/accounts")}
    listed = [Project(name, None, DEFAULT_PROJECT) for name, row in accounts.items() if row["is_own"]]
    listed += [
        Project(
            row["account_id"],
            row["project_id"],
            row["name"],
            row["cost_center"] or "",
            row["since"],
            row["until"],
        )
        for row in snapshot.rows("api/scaleway/projects")
    ]
    projects = {ids.project(project.account_id, project.project_id): project for project in listed}
    return Directory(ids, principal, accounts, projects, time_zone)
