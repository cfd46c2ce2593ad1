"""The inputs and outputs of the reference as plain records.

Inputs mirror the book's tables and a usage file: the same names, one object a row. Instants are aware datetimes in
UTC; None in ``valid_from`` or ``valid_to`` means since ever or open. The books given to the reference are valid ones:
what a book check refuses (overlaps, unknown accounts, a missing tax) raises here instead of being explained.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

ZERO = Decimal(0)
HOURS_IN_MONTH = "hours_in_month"
PUBLIC = "public"


class BookError(Exception):
    """The book has no answer, or two."""


# The book ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Account:
    account_id: str
    billing_account_id: str | None = None
    name: str = "Account"
    currency: str = "USD"
    country: str = "US"
    state: str | None = None
    tax_code: str | None = None
    time_zone: str | None = None
    price_lists: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Project:
    project_id: str
    account_id: str
    name: str = "Project"
    valid_from: datetime | None = None
    valid_to: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Sku:
    sku_id: str
    service: str = "Service"
    category: str = "Compute"
    name: str = "SKU"
    usage_unit: str = "hour"
    pricing_unit: str = "hour"
    units_per_pricing_unit: str = "1"
    aggregation: str = "sum"
    record_increment: Decimal | None = None
    tax_category: str = "standard"


@dataclass(frozen=True, kw_only=True)
class PriceTier:
    """One row of the price table: one tier of one price version."""

    price_id: str
    sku_id: str
    unit_price: Decimal = ZERO
    price_list: str = PUBLIC
    currency: str = "USD"
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    region: str | None = None
    window: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    """``attr.NAME`` columns that are not empty, by NAME."""
    mode: str = "per_unit"
    up_to: Decimal | None = None
    flat_fee: Decimal = ZERO
    package_size: Decimal | None = None
    scope: str = "account"
    cap: Decimal | None = None
    minimum: Decimal | None = None
    flat_at_zero: bool = False
    tier_reset: bool = False


@dataclass(frozen=True, kw_only=True)
class Window:
    window: str
    days: str
    from_time: str
    to_time: str


@dataclass(frozen=True, kw_only=True)
class Tax:
    tax_code: str
    country: str
    rate: Decimal
    region: str | None = None
    category: str = "standard"
    kind: str = "standard"
    note: str | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class FxRate:
    date: date
    base: str
    quote: str
    rate: Decimal
    source: str = "Central bank"


@dataclass(frozen=True, kw_only=True)
class Book:
    accounts: tuple[Account, ...] = ()
    projects: tuple[Project, ...] = ()
    skus: tuple[Sku, ...] = ()
    prices: tuple[PriceTier, ...] = ()
    windows: tuple[Window, ...] = ()
    taxes: tuple[Tax, ...] = ()
    fx_rates: tuple[FxRate, ...] = ()

    def account(self, account_id: str) -> Account:
        for account in self.accounts:
            if account.account_id == account_id:
                return account
        raise BookError(f"account {account_id} is not in the book")

    def sku(self, sku_id: str) -> Sku:
        for sku in self.skus:
            if sku.sku_id == sku_id:
                return sku
        raise BookError(f"SKU {sku_id} is not in the book")


# Usage ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Usage:
    """One record of a meter."""

    account_id: str
    sku_id: str
    usage_start: datetime
    quantity: Decimal
    usage_end: datetime | None = None
    project_id: str | None = None
    resource_id: str | None = None
    resource_name: str | None = None
    region: str | None = None
    unit: str | None = None
    tags: Mapping[str, str] | None = None
    record_id: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    """What ``attr.NAME`` conditions of prices look at, by NAME."""

    @property
    def end(self) -> datetime:
        """First instant after the record: one hour after its start unless it says otherwise."""
        return self.usage_end or self.usage_start + timedelta(hours=1)

    @property
    def tags_text(self) -> str | None:
        """Tags as a compact JSON object with sorted keys; no tags: None."""
        if not self.tags:
            return None
        return json.dumps(dict(self.tags), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything a month's bill depends on."""

    book: Book
    usage: tuple[Usage, ...]
    period: str
    time_zone: str = "UTC"
    """``[period].time_zone``: the zone of accounts that name none."""
    detail: str = "day"


# Months --------------------------------------------------------------------------------------------------------------


def month_start(period: str, zone: str) -> datetime:
    """First instant of the local month, in UTC."""
    return midnight(date.fromisoformat(f"{period}-01"), zone)


def month_end(period: str, zone: str) -> datetime:
    """First instant after the local month, in UTC."""
    some_day_of_next = date.fromisoformat(f"{period}-28") + timedelta(days=4)
    return midnight(some_day_of_next.replace(day=1), zone)


def month_hours(period: str, zone: str) -> int:
    """Whole real hours of the local month: 672 to 745."""
    return int((month_end(period, zone) - month_start(period, zone)) / timedelta(hours=1))


def midnight(day: date, zone: str = "UTC") -> datetime:
    """First instant of a local day, in UTC."""
    return datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)


# Results -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Charge:
    """A row of the charges table; the fields after ``cost`` exist in the reference only, or are not compared."""

    period: str
    billing_account_id: str
    account_id: str
    project_id: str | None
    resource_id: str | None
    resource_name: str | None
    sku_id: str
    region: str | None
    tags: str | None
    charge_start: datetime
    charge_end: datetime
    charge_kind: str
    price_id: str
    list_price_id: str | None
    usage_quantity: Decimal | None
    usage_unit: str | None
    pricing_quantity: Decimal | None
    pricing_unit: str | None
    currency: str
    list_unit_price: Decimal | None
    contracted_unit_price: Decimal | None
    list_cost: Decimal | None
    contracted_cost: Decimal
    cost: Decimal
    invoice_id: str
    local_day: date | None
    """Local day of the charge; None on rounding rows, which belong to no day."""
    price_currency: str
    exchange_rate: Decimal | None = None
    """What one unit of the price's currency is worth in ``currency``; None where they are the same."""
    list_exchange_rate: Decimal | None = None

    @property
    def order(self) -> tuple[tuple[bool, str | datetime], ...]:
        """Place of the row among all charges: nulls first, text by code point."""
        key = (
            self.billing_account_id, self.currency, self.account_id, self.project_id, self.sku_id, self.region,
            self.resource_id, self.tags, self.charge_start, self.price_id, self.list_price_id, self.charge_kind,
        )  # fmt: skip
        return tuple((value is not None, value if value is not None else "") for value in key)


COMPARED_CHARGE_FIELDS = (
    "period", "billing_account_id", "account_id", "project_id", "resource_id", "resource_name", "sku_id", "region",
    "tags", "charge_start", "charge_end", "charge_kind", "price_id", "list_price_id", "usage_quantity", "usage_unit",
    "pricing_quantity", "pricing_unit", "currency", "list_unit_price", "contracted_unit_price", "list_cost",
    "contracted_cost", "cost", "invoice_id",
)  # fmt: skip
"""Columns of the charges table that the reference computes: all but the run's name."""


@dataclass(frozen=True, kw_only=True)
class Unpriced:
    """Usage that found no price, per account, SKU, region and reason."""

    billing_account_id: str
    account_id: str
    sku_id: str
    region: str | None
    first_usage: datetime
    last_usage: datetime
    quantity: Decimal
    usage_unit: str
    records: int
    reason: str
    """``no_price`` or ``no_exchange_rate``; the product says it in words."""


@dataclass(frozen=True, kw_only=True)
class InvoiceLine:
    invoice_id: str
    line_number: int
    account_id: str
    account_name: str
    project_id: str | None
    project_name: str | None
    service: str
    category: str
    sku_id: str
    sku_name: str
    region: str | None
    price_id: str
    first_day: date
    last_day: date
    pricing_quantity: Decimal
    pricing_unit: str
    unit_price: Decimal | None
    list_cost: Decimal | None
    cost: Decimal
    amount: Decimal
    rounding: Decimal
    tax_code: str
    tax_category: str


@dataclass(frozen=True, kw_only=True)
class TaxLine:
    invoice_id: str
    tax_code: str
    category: str
    kind: str
    rate: Decimal
    base_amount: Decimal
    tax_amount: Decimal
    note: str | None


@dataclass(frozen=True, kw_only=True)
class Invoice:
    invoice_id: str
    period: str
    billing_account_id: str
    currency: str
    lines: int
    list_amount: Decimal
    untaxed_amount: Decimal
    tax_amount: Decimal
    total_amount: Decimal
    due_amount: Decimal
    rounding: Decimal
    status: str = "draft"


@dataclass(frozen=True, kw_only=True)
class Bill:
    """Everything the reference says about one month."""

    charges: tuple[Charge, ...]
    """In the order of :attr:`Charge.order`, rounding rows included."""
    unpriced: tuple[Unpriced, ...]
    invoices: tuple[Invoice, ...]
    lines: tuple[InvoiceLine, ...]
    tax_lines: tuple[TaxLine, ...]
    accepted: tuple[Usage, ...]
    """Records that are billed or unpriced, of this month only."""
    copies: tuple[Usage, ...]
    """Records of any month left out because another one says the same."""
    conflicts: tuple[Usage, ...]
    """Records of any month left out because another one contradicts them."""
