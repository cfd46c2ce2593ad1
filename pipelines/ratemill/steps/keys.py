"""keys: made for what was published, listed and taken back; beside the run, which neither reads nor writes them."""

from __future__ import annotations

import difflib
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import polars as pl

from ratemill.api.keys import KeyRing, NewKey
from ratemill.api.store import STORE_FILE, Store
from ratemill.errors import UsageError
from ratemill.insight.access import Grant
from ratemill.io.published import PublishedTables
from ratemill.tables.book import ACCOUNTS, PROJECTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime, timedelta

    from ratemill.workspace import Workspace

_MEMORY_BYTES = 256 << 20
"""To read the names of accounts and projects with."""


@contextmanager
def open_store(workspace: Workspace) -> Iterator[KeyRing]:
    """The keys of a workspace; the store is made where it is not there yet."""
    with closing(Store(workspace.state / STORE_FILE)) as store:
        yield KeyRing(store)


def create_key(
    workspace: Workspace,
    *,
    name: str,
    role: str,
    organizations: Sequence[str],
    accounts: Sequence[str],
    projects: Sequence[str],
    lifetime: timedelta | None,
    now: datetime,
) -> NewKey:
    """Make a key for organizations as a whole, or for accounts and projects of one of them.

    Raises:
        UsageError: nothing was published yet, or an organization, account or project is not there.
    """
    if not name.strip():
        raise UsageError("--name is empty; say whose key it is, such as --name 'Lumen, data warehouse'")
    if (accounts or projects) and len(organizations) != 1:
        raise UsageError("--account and --project are parts of one organization; make a key for each organization")
    with PublishedTables.open(workspace.published_database, memory=_MEMORY_BYTES) as published:
        owned = published.frame(ACCOUNTS).select("account_id", payer=pl.coalesce("billing_account_id", "account_id"))
        moves = published.frame(PROJECTS).select("project_id", "account_id").join(owned, on="account_id")
    for organization in organizations:
        _require(organization, owned["payer"], "--organization", "an account that pays, of what was published")
    payer = organizations[0]
    for account in accounts:
        _require(account, owned.filter(payer=payer)["account_id"], "--account", f"an account that {payer} pays for")
    for project in projects:
        _require(project, moves.filter(payer=payer)["project_id"], "--project", f"a project that {payer} pays for")
    parts = [Grant(role, payer, account_id=account) for account in dict.fromkeys(accounts)]
    parts += [Grant(role, payer, project_id=project) for project in dict.fromkeys(projects)]
    whole = [Grant(role, organization) for organization in dict.fromkeys(organizations)]
    with open_store(workspace) as ring:
        return ring.create(name=name, role=role, grants=parts or whole, now=now, lifetime=lifetime)


def _require(value: str, known: Iterable[str], option: str, what: str) -> None:
    names = sorted(set(known))
    if value not in names:
        near = difflib.get_close_matches(value, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"{option}: {value!r} is not {what}{hint}")
