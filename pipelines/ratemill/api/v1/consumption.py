"""``/v1/consumption``: what was used and what it costs, added up by whatever is asked for."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Query, Request
from pydantic import Field

from ratemill.api.answers import Answer, Exact, Money, Reading
from ratemill.api.paging import Asked, Paging
from ratemill.api.periods import PeriodText, periods_asked
from ratemill.api.problems import Problem

router = APIRouter(prefix="/v1", tags=["Consumption and charges"])

Dimension = Literal[
    "period", "organization", "account", "project", "service", "category", "sku", "region", "resource", "kind", "day",
    "tag",
]  # fmt: skip


class AskedConsumption(Asked):
    """What to add up, and by what."""

    group_by: list[Dimension] = Field(default=["period"], max_length=6)
    """Repeat it for several; rows are always by currency too."""
    tag: str | None = Field(default=None, min_length=1, max_length=256)
    """Key of the tag whose values `group_by=tag` adds up by."""
    first_period: PeriodText | None = None
    """The first month; else the last one that is published."""
    last_period: PeriodText | None = None
    """The last month; else the first one again."""
    organization_id: str | None = None
    account_id: str | None = None
    project_id: str | None = None
    service: str | None = None
    category: str | None = None
    sku_id: str | None = None
    region: str | None = None
    resource_id: str | None = None


class Consumed(Answer):
    """Consumption of one combination of what was grouped by, in one currency. What was not grouped by is left out."""

    period: str | None = None
    organization_id: str | None = None
    account_id: str | None = None
    project_id: str | None = None
    service: str | None = None
    category: str | None = None
    sku_id: str | None = None
    region: str | None = None
    resource_id: str | None = None
    kind: str | None = None
    day: str | None = None
    tag_value: str | None = None
    quantity: Exact | None = None
    """Metered quantity, where grouped by SKU."""
    unit: str | None = None
    charges: int
    list_cost: Money
    """At public prices."""
    gross: Money
    """At the prices that apply, with fees, adjustments and what rounding adds or takes."""
    discounts: Money
    """What discounts and commitments take off, zero or negative."""
    credits: Money
    """What promotional credits take off, zero or negative."""
    untaxed: Money
    """gross with discounts and credits: what invoices add up to before tax."""


class Consumption(Answer):
    """A page of consumption, and the sums of all pages."""

    first_period: str
    last_period: str
    items: list[Consumed]
    totals: list[Consumed]
    """Per currency, of everything that the filters leave."""
    next_cursor: str | None
    snapshot: str
    """The published state that all of this is of."""


_NAMES = {"organization": "organization_id", "account": "account_id", "project": "project_id", "sku": "sku_id",
          "resource": "resource_id", "tag": "tag_value"}  # fmt: skip
_FILTERS = ("organization_id", "account_id", "project_id", "service", "category", "sku_id", "region", "resource_id")


@router.get("/consumption", response_model_exclude_unset=True)
def consumption(
    asked: Annotated[AskedConsumption, Query()], request: Request, snapshot: Reading, pages: Paging
) -> Consumption:
    """What was used and what it costs, by period, organization, project, service, SKU, region, day, tag and the like.

    The sums of `untaxed` are what the invoices of these months add up to before tax (credit notes that were issued by
    hand are documents, and no consumption). Days are those of the time zone of the organization.
    """
    if ("tag" in asked.group_by) != (asked.tag is not None):
        raise Problem.wrong_query("tag", "names the key for group_by=tag; give both or none")
    first, last = periods_asked(snapshot, asked.first_period, asked.last_period)
    parameters = {
        **{f"by_{name}": name in asked.group_by for name in get_args(Dimension)},
        **{name: getattr(asked, name) for name in _FILTERS},
        "tag": asked.tag,
        "first_period": first,
        "last_period": last,
        "time_zone": request.app.state.core.workspace.config.period.time_zone,
    }
    rows = snapshot.rows("api/v1/consumption", {**parameters, **pages.limits(asked)})
    page, following = pages.cut(rows, asked)
    whole = {name: False for name in parameters if name.startswith("by_")}
    totals = snapshot.rows("api/v1/consumption", {**parameters, **whole, "limit": None, "offset": 0})
    return Consumption(
        first_period=first,
        last_period=last,
        items=[_consumed(row, asked.group_by) for row in page],
        totals=[_consumed(row, []) for row in totals],
        next_cursor=following,
        snapshot=snapshot.version,
    )


def _consumed(row: dict[str, Any], group_by: list[Dimension]) -> Consumed:
    names = [_NAMES.get(name, name) for name in group_by]
    names += ["quantity", "unit"] if "sku" in group_by else []
    currency = row["currency"]
    return Consumed(
        charges=row["charges"],
        list_cost=Money.of(row["list_cost"], currency),
        gross=Money.of(row["gross"], currency),
        discounts=Money.of(row["discounts"], currency),
        credits=Money.of(row["credits"], currency),
        untaxed=Money.of(row["untaxed"], currency),
        **{name: row[name] for name in names},
    )
