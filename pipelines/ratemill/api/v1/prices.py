"""``/v1/skus`` and ``/v1/prices``: what is sold, and what it costs, did cost and will cost."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from ratemill.api.answers import Answer, Exact, Instant, Money, Reading
from ratemill.api.paging import Asked, Paging
from ratemill.api.periods import InstantAsked
from ratemill.api.snapshots import Snapshot
from ratemill.tables.book import PRICES

router = APIRouter(prefix="/v1", tags=["Prices"])


class AskedSkus(Asked):
    """Which SKUs."""

    service: str | None = None
    category: str | None = None
    sku_id: str | None = None


class AskedPrices(Asked):
    """Which price versions."""

    sku_id: str | None = None
    price_list: str | None = None
    currency: str | None = None
    region: str | None = None
    """Those for this region, and those for any."""
    at: InstantAsked | None = None
    """Those that hold at this instant; without it, all: former ones and those to come too."""


class Sku(Answer):
    """One thing that is metered and sold."""

    sku_id: str
    service: str
    category: str
    name: str
    usage_unit: str
    """What the meter counts."""
    pricing_unit: str
    """What the price is for."""
    units_per_pricing_unit: str
    """Usage units in one pricing unit: a number, or `hours_in_month`."""
    aggregation: Literal["sum", "max", "mean", "p95"]
    """How hours add up to what is priced."""


class Skus(Answer):
    """A page of SKUs."""

    items: list[Sku]
    next_cursor: str | None


class Tier(Answer):
    """One tier of a price."""

    up_to: Exact | None
    """Last quantity of the tier; empty on the last one."""
    unit_price: Money
    flat_fee: Money
    package_size: Exact | None


class Price(Answer):
    """One version of a price."""

    price_id: str
    price_list: str
    sku_id: str
    region: str | None
    window: str | None
    """Time window it is for; empty: any hour."""
    attributes: dict[str, str]
    """Other conditions that usage must meet."""
    valid_from: Instant | None
    valid_to: Instant | None
    """The first instant at which it no longer holds."""
    mode: Literal["per_unit", "graduated", "volume"]
    """per_unit: one price; graduated: each tier prices its part; volume: the tier reached prices all."""
    scope: Literal["account", "project", "resource"]
    """What tiers count over, each month."""
    tiers: list[Tier]
    cap: Money | None
    """Never more than this per resource and month."""
    minimum: Money | None
    """Never less than this per resource and month with usage."""


class Prices(Answer):
    """A page of prices."""

    items: list[Price]
    next_cursor: str | None


@router.get("/skus")
def skus(asked: Annotated[AskedSkus, Query()], snapshot: Reading, pages: Paging) -> Skus:
    """SKUs that the key sees a price or a line of."""
    filters = asked.model_dump(exclude={"cursor", "page_size"})
    page, following = pages.cut(snapshot.rows("api/v1/skus", {**filters, **pages.limits(asked)}), asked)
    return Skus(items=[Sku(**row) for row in page], next_cursor=following)


@router.get("/prices")
def prices(asked: Annotated[AskedPrices, Query()], snapshot: Reading, pages: Paging) -> Prices:
    """Prices with their history: the public list, the lists of one's own contract, and what one's lines were priced by.

    Which of them applies to usage is decided by the price lists of an account in their order; `POST /v1/quotes` says
    it for given quantities.
    """
    filters = asked.model_dump(exclude={"cursor", "page_size"})
    rows = snapshot.rows("api/v1/prices", {**filters, "price_ids": None, **pages.limits(asked)})
    page, following = pages.cut(rows, asked)
    return Prices(items=[_price(row) for row in page], next_cursor=following)


def prices_of(snapshot: Snapshot, price_ids: list[str]) -> list[Price]:
    """Price versions by their ids."""
    nothing = dict.fromkeys(AskedPrices.model_fields.keys() - Asked.model_fields.keys())
    rows = snapshot.rows("api/v1/prices", {**nothing, "price_ids": price_ids, "limit": None, "offset": 0})
    return [_price(row) for row in rows]


_FACTS = ("price_id", "price_list", "sku_id", "region", "window", "valid_from", "valid_to", "mode", "scope")


def _price(row: dict[str, Any]) -> Price:
    version = row["version"]
    currency, prefix = version["currency"], str(PRICES.open_prefix)
    return Price(
        **{name: version[name] for name in _FACTS},
        attributes={
            name.removeprefix(prefix): value
            for name, value in version.items()
            if name.startswith(prefix) and value is not None
        },
        tiers=[
            Tier(
                up_to=tier["up_to"],
                unit_price=Money.of(tier["unit_price"], currency),
                flat_fee=Money.of(tier["flat_fee"], currency),
                package_size=tier["package_size"],
            )
            for tier in row["tiers"]
        ],
        cap=Money.or_none(version["cap"], currency),
        minimum=Money.or_none(version["minimum"], currency),
    )
