"""``/v1/quotes``: what given quantities would cost one's own account."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import polars as pl
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from ratemill.api.answers import Answer, Exact, Instant, Money, Reading
from ratemill.api.periods import InstantAsked
from ratemill.api.problems import FieldError, Problem
from ratemill.insight.quote import Item, Terms, quote
from ratemill.period import BillingPeriod
from ratemill.tables.book import FX_RATES, PRICES, SKUS
from ratemill.tables.columns import TEXT

if TYPE_CHECKING:
    from ratemill.api.app import Core

router = APIRouter(prefix="/v1", tags=["Prices"])
_AT_ONCE = threading.BoundedSemaphore(2)
_MOST_ITEMS = 100

Text = Annotated[str, Field(min_length=1, max_length=512)]


class AskedItem(BaseModel):
    """All that one resource uses of one SKU in the month."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    sku_id: Text
    quantity: Annotated[Decimal, Field(ge=0, le=10**15, max_digits=27, decimal_places=12, examples=["744"])]
    """In usage units, as text or a number; of SKUs whose hours are not added up (`aggregation`), the level of every
    hour."""
    region: Text | None = None
    project_id: Text | None = None
    """Of tiers that count by project, items of the same one count together."""
    window: Text | None = None
    attributes: dict[Text, Text] = Field(default_factory=dict, max_length=20)


class AskedQuote(BaseModel):
    """What is asked about."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"examples": [{"account_id": "acme", "items": [{"sku_id": "vm", "quantity": "744"}]}]},
    )

    account_id: Text
    """An account that the key sees; its price lists and currency decide."""
    at: InstantAsked | None = None
    """The instant whose prices apply; else now."""
    items: list[AskedItem] = Field(min_length=1, max_length=_MOST_ITEMS)


class QuotedItem(Answer):
    """What an item costs."""

    sku_id: str
    quantity: Exact
    usage_unit: str
    pricing_quantity: Exact | None
    pricing_unit: str
    price_id: str | None
    unit_price: Money | None
    """Empty where tiers give several."""
    list_cost: Money | None
    """At public prices; empty where there is none."""
    cost: Money | None
    """Exact, not rounded, with caps and minimums; empty where nothing prices it."""
    problem: str | None
    """Why nothing prices it."""


class Quote(Answer):
    """A quote: items at the prices of an instant, before discounts, commitments, credits and tax."""

    account_id: str
    at: Instant
    period: str
    """The month whose hours count where a price is for a month."""
    items: list[QuotedItem]
    total: Money
    """Sum of the costs of items that have a price."""
    is_complete: bool
    """Whether every item has a price."""
    snapshot: str


@router.post("/quotes")
def quotes(asked: AskedQuote, request: Request, snapshot: Reading) -> Quote:
    """What given quantities would cost an account: by its own prices, tiers included, through the code that bills.

    Items are rated together, so that tiers count them together; what the account uses besides does not count.
    """
    core = request.app.state.core
    terms = _terms(snapshot.rows("api/v1/quote/terms", {"account_id": asked.account_id}), asked, core)
    at = asked.at or core.now()
    sku_ids = sorted({item.sku_id for item in asked.items})
    skus = {row["sku_id"]: row for row in snapshot.rows("api/v1/quote/skus", {"sku_ids": sku_ids})}
    unknown = [number for number, item in enumerate(asked.items) if item.sku_id not in skus]
    if unknown:
        raise Problem.invalid(
            *(FieldError(f"items.{n}.sku_id", "body", f"{asked.items[n].sku_id!r} is no SKU") for n in unknown)
        )
    prices = snapshot.rows("api/v1/quote/prices", {"sku_ids": sku_ids})
    items = [Item(**vars(item)) for item in asked.items]
    with _AT_ONCE:
        try:
            rated = quote(
                items,
                terms,
                at=at,
                skus=pl.DataFrame(list(skus.values()), SKUS.polars_schema),
                prices=pl.DataFrame(prices, {**PRICES.polars_schema, **_attributes(prices)}),
                fx_rates=pl.DataFrame(snapshot.rows("api/v1/quote/fx_rates"), FX_RATES.polars_schema),
            )
        except pl.exceptions.ComputeError:
            raise Problem.invalid(FieldError("items", "body", "cost more than can be told; ask for less")) from None
    charges: dict[int, list[dict[str, Any]]] = {}
    for row in rated.charges.iter_rows(named=True):
        charges.setdefault(int(row["resource_id"]), []).append(row)
    problems = {(row["sku_id"], row["region"]): row["reason"] for row in rated.unpriced.iter_rows(named=True)}
    quoted = [
        _quoted(item, skus[item.sku_id], charges.get(number, []), problems.get((item.sku_id, item.region)), terms)
        for number, item in enumerate(items)
    ]
    return Quote(
        account_id=asked.account_id,
        at=at,
        period=str(BillingPeriod.containing(at.astimezone(ZoneInfo(terms.time_zone)).date())),
        items=quoted,
        total=Money.of(sum((row["cost"] for rows in charges.values() for row in rows), Decimal()), terms.currency),
        is_complete=len(charges) == len(items),
        snapshot=snapshot.version,
    )


def _terms(rows: list[dict[str, Any]], asked: AskedQuote, core: Core) -> Terms:
    if not rows:
        raise Problem.not_found("account", asked.account_id)
    time_zone = rows[0]["time_zone"] or core.workspace.config.period.time_zone
    return Terms(**{**rows[0], "time_zone": time_zone})


def _attributes(prices: list[dict[str, Any]]) -> dict[str, Any]:
    names = prices[0] if prices else ()
    return {name: TEXT for name in names if name.startswith(str(PRICES.open_prefix))}


def _quoted(
    item: Item, sku: dict[str, Any], charges: list[dict[str, Any]], problem: str | None, terms: Terms
) -> QuotedItem:
    usage = next((row for row in charges if row["charge_kind"] == "usage"), None)
    listed = [row["list_cost"] for row in charges]
    return QuotedItem(
        sku_id=item.sku_id,
        quantity=item.quantity,
        usage_unit=sku["usage_unit"],
        pricing_quantity=usage["pricing_quantity"] if usage else None,
        pricing_unit=sku["pricing_unit"],
        price_id=usage["price_id"] if usage else None,
        unit_price=Money.or_none(usage["contracted_unit_price"] if usage else None, terms.currency),
        list_cost=Money.of(sum(listed, Decimal()), terms.currency) if usage and None not in listed else None,
        cost=Money.of(sum((row["cost"] for row in charges), Decimal()), terms.currency) if usage else None,
        problem=None if usage else problem or "no price applies",
    )
