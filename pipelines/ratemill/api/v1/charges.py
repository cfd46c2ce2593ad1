"""``/v1/charges``: the rated unit that everything else adds up from."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from ratemill.api.answers import Answer, Exact, Instant, Money, Reading, instant_text
from ratemill.api.paging import Asked, Paging
from ratemill.api.periods import InstantAsked, PeriodText

router = APIRouter(prefix="/v1", tags=["Consumption and charges"])

Kind = Literal[
    "usage", "cap", "minimum", "rounding", "recurring", "adjustment", "correction", "discount", "commitment", "credit",
]  # fmt: skip


class AskedCharges(Asked):
    """Which charges."""

    period: PeriodText | None = None
    starts_from: InstantAsked | None = None
    """The first instant at which a charge may start (inclusive)."""
    starts_before: InstantAsked | None = None
    """The first instant at which none may start any more (exclusive)."""
    organization_id: str | None = None
    account_id: str | None = None
    project_id: str | None = None
    resource_id: str | None = None
    sku_id: str | None = None
    invoice_id: str | None = None
    kind: Kind | None = None
    sort: Literal["start", "-start"] = "start"


class Charge(Answer):
    """What one resource used of one SKU on one local day (or hour) at one price, or one other amount of a kind."""

    period: str
    organization_id: str
    account_id: str
    project_id: str | None
    resource_id: str | None
    resource_name: str | None
    sku_id: str | None
    region: str | None
    tags: dict[str, str] | None
    start: Instant
    end: Instant
    """The first instant that is no longer part of it."""
    kind: Kind
    price_id: str | None
    usage_quantity: Exact | None
    usage_unit: str | None
    pricing_quantity: Exact | None
    pricing_unit: str | None
    unit_price: Money | None
    """Empty where tiers give several."""
    list_unit_price: Money | None
    list_cost: Money | None
    cost: Money
    """What it adds to the invoice, before rounding: that is a charge of its own."""
    source_id: str | None
    """The discount, commitment, credit, fee or adjustment it comes from."""
    corrects_period: str | None
    invoice_id: str


class Charges(Answer):
    """A page of charges."""

    items: list[Charge]
    next_cursor: str | None
    snapshot: str


@router.get("/charges")
def charges(asked: Annotated[AskedCharges, Query()], snapshot: Reading, pages: Paging) -> Charges:
    """Charges, in the order in which they start.

    A range of time has the charges that start in it. None is cut: a charge was priced as a whole, with tiers, caps and
    minimums, and a part of it would be on no invoice. So ranges side by side add up to the whole, to the last digit.
    """
    position = pages.position(asked.cursor) or [None, None]
    rows = snapshot.rows(
        "api/v1/charges",
        {
            **asked.model_dump(exclude={"cursor", "page_size", "sort"}),
            "backwards": asked.sort == "-start",
            "after_start": _instant(position[0]),
            "after_row": position[1],
            "limit": asked.page_size + 1,
        },
    )
    page, following = rows[: asked.page_size], None
    if len(rows) > asked.page_size:
        last = page[-1]
        following = pages.cursor([instant_text(last["charge_start"]), last["charge_row"]])
    return Charges(items=[_charge(row) for row in page], next_cursor=following, snapshot=snapshot.version)


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


_SAME = (
    "period", "account_id", "project_id", "resource_id", "resource_name", "sku_id", "region", "price_id",
    "usage_quantity", "usage_unit", "pricing_quantity", "pricing_unit", "source_id", "corrects_period", "invoice_id",
)  # fmt: skip


def _charge(row: dict[str, Any]) -> Charge:
    currency = row["currency"]
    return Charge(
        **{name: row[name] for name in _SAME},
        organization_id=row["billing_account_id"],
        tags=row["tags"],
        start=row["charge_start"],
        end=row["charge_end"],
        kind=row["charge_kind"],
        unit_price=Money.or_none(row["contracted_unit_price"], currency),
        list_unit_price=Money.or_none(row["list_unit_price"], currency),
        list_cost=Money.or_none(row["list_cost"], currency),
        cost=Money.of(row["cost"], currency),
    )
