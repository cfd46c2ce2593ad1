"""``/v1/organizations``, ``/v1/accounts`` and ``/v1/projects``: who is billed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from ratemill.api.access import Asking
from ratemill.api.answers import Answer, Instant, Reading
from ratemill.api.paging import Asked, Paging

router = APIRouter(prefix="/v1", tags=["Organizations, accounts, projects"])


class Organization(Answer):
    """An account that pays, of which the key sees all or a part."""

    organization_id: str
    name: str | None
    """Empty where the key sees a part that does not tell it."""
    legal_name: str | None
    address: list[str]
    postal_code: str | None
    city: str | None
    state: str | None
    country: str | None
    """ISO 3166."""
    tax_id: str | None
    currency: str | None
    """Of its invoices, ISO 4217."""
    sees_all: bool
    """Whether the key sees its invoices, and all that it pays for."""


class Organizations(Answer):
    """Organizations of a key."""

    items: list[Organization]


class Account(Answer):
    """An account: what uses things, and is billed to an organization."""

    account_id: str
    organization_id: str
    name: str
    country: str
    currency: str
    time_zone: str | None
    """IANA; empty: the provider's."""


class Accounts(Answer):
    """A page of accounts."""

    items: list[Account]
    next_cursor: str | None


class Project(Answer):
    """A project at an account for a time; one that moved is there more than once."""

    project_id: str
    name: str
    account_id: str
    organization_id: str
    cost_center: str | None
    valid_from: Instant | None
    valid_to: Instant | None
    """The first instant at which it no longer is there."""


class Projects(Answer):
    """A page of projects."""

    items: list[Project]
    next_cursor: str | None


class AskedAccounts(Asked):
    """Which accounts."""

    organization_id: str | None = None


class AskedProjects(AskedAccounts):
    """Which projects."""

    account_id: str | None = None
    project_id: str | None = None


@router.get("/organizations")
def organizations(principal: Asking, snapshot: Reading) -> Organizations:
    """Organizations that the key sees anything of."""
    known = {row["account_id"]: row for row in snapshot.rows("api/v1/organizations")}
    return Organizations(
        items=[
            _organization(name, known.get(name, {}), sees_all=principal.sees_all) for name in principal.organizations
        ]
    )


def _organization(organization_id: str, row: dict[str, str | None], *, sees_all: bool) -> Organization:
    names = ("name", "legal_name", "postal_code", "city", "state", "country", "tax_id", "currency")
    return Organization(
        organization_id=organization_id,
        address=[line for name in ("address_line1", "address_line2") if (line := row.get(name))],
        sees_all=sees_all,
        **{name: row.get(name) for name in names},
    )


@router.get("/accounts")
def accounts(asked: Annotated[AskedAccounts, Query()], snapshot: Reading, pages: Paging) -> Accounts:
    """Accounts, by id."""
    rows = snapshot.rows("api/v1/accounts", {"organization_id": asked.organization_id, **pages.limits(asked)})
    page, following = pages.cut(rows, asked)
    return Accounts(items=[Account(**row) for row in page], next_cursor=following)


@router.get("/projects")
def projects(asked: Annotated[AskedProjects, Query()], snapshot: Reading, pages: Paging) -> Projects:
    """Projects, by id and time."""
    filters = asked.model_dump(exclude={"cursor", "page_size"})
    page, following = pages.cut(snapshot.rows("api/v1/projects", {**filters, **pages.limits(asked)}), asked)
    return Projects(items=[Project(**row) for row in page], next_cursor=following)
