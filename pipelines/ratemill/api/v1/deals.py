"""``/v1/discounts``, ``/v1/commitments`` and ``/v1/credits``: what was agreed, and how far it is used."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from ratemill.api.answers import Answer, Exact, Instant, Money, Reading
from ratemill.api.paging import Asked, Paging
from ratemill.api.periods import InstantAsked

router = APIRouter(prefix="/v1", tags=["Discounts, commitments, credits"])


class AskedDeals(Asked):
    """Which deals."""

    organization_id: str | None = None
    at: InstantAsked | None = None
    """Those that hold at this instant; without it, all."""


class Applies(Answer):
    """What a deal is for; all that are given must hold."""

    category: str | None
    service: str | None
    sku_ids: list[str]
    """Empty: any."""
    project_id: str | None
    region: str | None
    excludes: list[str]
    """SKUs it leaves out."""


class Discount(Answer):
    """A discount, and what it took off so far."""

    discount_id: str
    account_id: str | None
    """Empty: everybody's."""
    percent: Exact | None
    amount: Money | None
    """Off each invoice of a month; either this or percent."""
    applies: Applies
    mode: Literal["compound", "additive"]
    valid_from: Instant | None
    valid_to: Instant | None
    note: str
    taken_off: list[Money]
    """Of all invoices that the key sees, per currency; zero or negative."""


class Discounts(Answer):
    """A page of discounts."""

    items: list[Discount]
    next_cursor: str | None


class CommitmentMonth(Answer):
    """A commitment in one month."""

    period: str
    invoice_id: str
    committed: Money
    """For the days on which it is valid."""
    eligible: Money
    """Usage that counts."""
    shortfall: Money
    """Billed for usage that was not made."""
    discount: Money


class Commitment(Answer):
    """A promise to spend an amount each month, and its months so far."""

    commitment_id: str
    organization_id: str
    amount: Money
    discount_percent: Exact
    applies: Applies
    valid_from: Instant | None
    valid_to: Instant | None
    note: str
    months: list[CommitmentMonth]


class Commitments(Answer):
    """A page of commitments."""

    items: list[Commitment]
    next_cursor: str | None


class Credit(Answer):
    """A balance that invoices draw on."""

    credit_id: str
    organization_id: str
    kind: Literal["promotional", "prepaid"]
    """promotional: lowers what is taxed; prepaid: pays the total."""
    granted: Money
    used: Money
    left: Money
    applies: Applies
    granted_on: Instant
    expires_on: Instant | None
    note: str


class Credits(Answer):
    """A page of credits."""

    items: list[Credit]
    next_cursor: str | None


@router.get("/discounts")
def discounts(asked: Annotated[AskedDeals, Query()], snapshot: Reading, pages: Paging) -> Discounts:
    """Discounts of the organizations that the key sees as a whole, and those that are everybody's."""
    rows = snapshot.rows("api/v1/discounts", _filters(asked) | pages.limits(asked))
    page, following = pages.cut(rows, asked)
    return Discounts(
        items=[
            Discount(
                **{name: row[name] for name in ("discount_id", "account_id", "percent", "mode", *_DATED)},
                amount=Money.or_none(row["amount"], row["currency"]),
                applies=_applies(row),
                taken_off=[Money.of(one["amount"], one["currency"]) for one in row["taken_off"] or ()],
            )
            for row in page
        ],
        next_cursor=following,
    )


@router.get("/commitments")
def commitments(asked: Annotated[AskedDeals, Query()], snapshot: Reading, pages: Paging) -> Commitments:
    """Commitments with their months: committed, eligible, shortfall."""
    rows = snapshot.rows("api/v1/commitments", _filters(asked) | pages.limits(asked))
    page, following = pages.cut(rows, asked)
    return Commitments(
        items=[
            Commitment(
                **{name: row[name] for name in ("commitment_id", "discount_percent", *_DATED)},
                organization_id=row["account_id"],
                amount=Money.of(row["amount"], row["currency"]),
                applies=_applies(row),
                months=[_month(month, row["currency"]) for month in row["months"] or ()],
            )
            for row in page
        ],
        next_cursor=following,
    )


@router.get("/credits")
def credit_balances(asked: Annotated[AskedDeals, Query()], snapshot: Reading, pages: Paging) -> Credits:
    """Credits with what invoices, drafts included, have drawn of them."""
    rows = snapshot.rows("api/v1/credits", _filters(asked) | pages.limits(asked))
    page, following = pages.cut(rows, asked)
    return Credits(
        items=[
            Credit(
                **{name: row[name] for name in ("credit_id", "kind", "granted_on", "expires_on", "note")},
                organization_id=row["account_id"],
                granted=Money.of(row["amount"], row["currency"]),
                used=Money.of(row["used"], row["currency"]),
                left=Money.of(row["amount"] - row["used"], row["currency"]),
                applies=_applies(row),
            )
            for row in page
        ],
        next_cursor=following,
    )


_DATED = ("valid_from", "valid_to", "note")


def _filters(asked: AskedDeals) -> dict[str, Any]:
    return {"organization_id": asked.organization_id, "at": asked.at}


def _applies(row: dict[str, Any]) -> Applies:
    return Applies(
        **{name: row[name] for name in ("category", "service", "project_id", "region")},
        sku_ids=(row["sku_ids"] or "").split(),
        excludes=(row["excludes"] or "").split(),
    )


def _month(month: dict[str, Any], currency: str) -> CommitmentMonth:
    amounts = ("committed", "eligible", "shortfall", "discount")
    return CommitmentMonth(
        period=month["period"],
        invoice_id=month["invoice_id"],
        **{name: Money.of(month[f"{name}_amount"], currency) for name in amounts},
    )
