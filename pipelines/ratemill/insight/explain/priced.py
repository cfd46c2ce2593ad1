"""A usage line with its charges, and the words its derivation is told in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from ratemill.insight.explain.arithmetic import shown_unit

if TYPE_CHECKING:
    from datetime import datetime

    from ratemill.book.model import Book
    from ratemill.insight.explain.costing import Charge, Costing, Walk
    from ratemill.insight.explain.prices import Version
    from ratemill.period import BillingPeriod

Row = Mapping[str, Any]
NOTHING = "\N{EN DASH}"
_NO_RESOURCE = "(no resource)"


@dataclass(frozen=True)
class Priced:
    """A usage line's charges, and what is needed to price them again."""

    book: Book
    period: BillingPeriod
    zone: str
    """Of the account that pays."""
    default_zone: str
    """Of the workspace: in which dates of the book are told."""
    currency: str
    places: int
    line: Row
    costing: Costing
    versions: Mapping[str, Version]
    mine: Sequence[Charge]
    """Usage charges of the line."""
    limits: Sequence[Row]
    """The line's stored charges of kind cap and minimum."""
    siblings: Sequence[Charge] = field(default=())
    """Every charge of the line's account, project, SKU and region in the month, whatever priced it: what a month's
    figure (a peak, an average, a percentile) is shared over."""
    hourly: bool = False

    @property
    def version(self) -> Version:
        """The price version of the line."""
        return self.versions[self.line["price_id"]]

    def number_of(self, charge: Charge) -> int:
        """The number of a charge on the line, from 1."""
        return self._numbers[charge.number]

    @cached_property
    def _numbers(self) -> dict[int, int]:
        return {charge.number: place for place, charge in enumerate(self.mine, start=1)}

    @property
    def unit(self) -> str:
        """The unit that is priced."""
        return str(self.sku["pricing_unit"])

    @property
    def unit_shown(self) -> str:
        """The same for sentences and headings."""
        return shown_unit(self.unit)

    @cached_property
    def sku(self) -> Row:
        """The SKU's row of the book."""
        return self.book.skus.filter(self.book.skus["sku_id"] == self.line["sku_id"]).row(0, named=True)


def counted(count: int, thing: str) -> str:
    """``1 record``, ``744 records``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def resource_name(resource_id: str | None, name: str | None) -> str:
    """``web-1 (i-0a1b)``: the name a customer gave it, and its id."""
    if resource_id is None:
        return name or _NO_RESOURCE
    return resource_id if name in (None, resource_id) else f"{name} ({resource_id})"


def entity_name(walk: Walk) -> str:
    """Whose count it is."""
    if walk.version.scope == "project":
        return f"project {walk.entity[1] or NOTHING} of {walk.entity[0]}"
    return resource_name(walk.entity[2], None)


def clock(zone: str, instant: datetime) -> str:
    """An instant as the clock on the wall of a zone shows it."""
    return f"{instant.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M}"


def moment_name(priced: Priced, at: tuple[Any, int]) -> str:
    """A local day, or an hour of the month."""
    return f"{at[0]}" if not priced.hourly else f"{at[0]}, hour {at[1] + 1} of the month"


def charge_name(priced: Priced, charge: Charge) -> str:
    """Number on the line, day and resource."""
    row = charge.row
    when = clock(priced.zone, row["charge_start"])
    when = when if priced.hourly else when[:10]
    return f"#{priced.number_of(charge)}  {when}  {resource_name(row['resource_id'], row['resource_name'])}"
