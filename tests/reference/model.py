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
class Scope:
    """Which lines a row is for: all conditions that are given must hold, and its SKU must not be left out."""

    category: str | None = None
    service: str | None = None
    sku_ids: tuple[str, ...] = ()
    project_id: str | None = None
    region: str | None = None
    excludes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Discount(Scope):
    discount_id: str
    account_id: str | None = None
    percent: Decimal | None = None
    amount: Decimal | None = None
    currency: str | None = None
    mode: str = "compound"
    priority: int = 100
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    note: str = "Discount"


@dataclass(frozen=True, kw_only=True)
class Commitment(Scope):
    commitment_id: str
    account_id: str
    amount: Decimal
    discount_percent: Decimal = ZERO
    currency: str = "USD"
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    note: str = "Commitment"


@dataclass(frozen=True, kw_only=True)
class Credit(Scope):
    credit_id: str
    account_id: str
    amount: Decimal
    granted_on: datetime
    currency: str = "USD"
    kind: str = "promotional"
    expires_on: datetime | None = None
    note: str = "Credit"


@dataclass(frozen=True, kw_only=True)
class Recurring:
    recurring_id: str
    account_id: str
    amount: Decimal
    project_id: str | None = None
    sku_id: str | None = None
    description: str | None = None
    currency: str | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Adjustment:
    adjustment_id: str
    account_id: str
    period: str
    amount: Decimal
    project_id: str | None = None
    sku_id: str | None = None
    currency: str | None = None
    reason: str = "As agreed"
    author: str = "Ada Example"


@dataclass(frozen=True, kw_only=True)
class Book:
    accounts: tuple[Account, ...] = ()
    projects: tuple[Project, ...] = ()
    skus: tuple[Sku, ...] = ()
    prices: tuple[PriceTier, ...] = ()
    windows: tuple[Window, ...] = ()
    discounts: tuple[Discount, ...] = ()
    commitments: tuple[Commitment, ...] = ()
    credits: tuple[Credit, ...] = ()
    recurring: tuple[Recurring, ...] = ()
    adjustments: tuple[Adjustment, ...] = ()
    taxes: tuple[Tax, ...] = ()
    fx_rates: tuple[FxRate, ...] = ()

    def account(self, account_id: str) -> Account:
        for account in self.accounts:
            if account.account_id == account_id:
                return account
        raise BookError(f"account {account_id} is not in the book")

    def payer_of(self, account: Account) -> Account:
        """The account that pays: one step, no chains."""
        if account.billing_account_id is None:
            return account
        payer = self.account(account.billing_account_id)
        if payer.billing_account_id not in (None, payer.account_id):
            raise BookError(f"{account.account_id} is paid by {payer.account_id}, which does not pay for itself")
        return payer

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
class Correction:
    """What a closed month was billed wrongly, to be billed with this one."""

    billing_account_id: str
    currency: str
    corrects_period: str
    corrects_invoice_id: str | None = None
    corrected_kind: str = "usage"
    account_id: str
    project_id: str | None = None
    sku_id: str | None = None
    region: str | None = None
    price_id: str | None = None
    source_id: str | None = None
    description: str | None = None
    first_day: date
    last_day: date
    pricing_quantity: Decimal | None = None
    pricing_unit: str | None = None
    billed_amount: Decimal
    correct_amount: Decimal
    amount: Decimal
    """The difference."""
    tax_code: str
    tax_category: str
    tax_kind: str
    tax_rate: Decimal
    tax_note: str | None


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything a month's bill depends on."""

    book: Book
    usage: tuple[Usage, ...]
    period: str
    time_zone: str = "UTC"
    """``[period].time_zone``: the zone of accounts that name none."""
    detail: str = "day"
    credits_drawn: Mapping[str, Decimal] = field(default_factory=dict)
    """What the invoices of earlier months have used of each credit, by its id."""
    corrections: tuple[Correction, ...] = ()
    """What closed months were billed wrongly: to be billed on this month's invoices."""


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


def noon(day: date, zone: str) -> datetime:
    """The middle of a local day, in UTC."""
    return datetime.combine(day, time(12), ZoneInfo(zone)).astimezone(UTC)


def month_days(period: str) -> list[date]:
    """The days of a month, in order."""
    first = date.fromisoformat(f"{period}-01")
    return [day for number in range(31) if (day := first + timedelta(days=number)).month == first.month]


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
    sku_id: str | None
    region: str | None
    tags: str | None
    charge_start: datetime
    charge_end: datetime
    charge_kind: str
    price_id: str | None
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
    source_id: str | None = None
    """The discount, commitment, credit, fee or adjustment it comes from; None on what comes from a price."""
    corrects_period: str | None = None
    local_day: date | None = None
    """Local day of a usage charge; None on rows of invoicing, which belong to no day."""
    price_currency: str | None = None
    exchange_rate: Decimal | None = None
    """What one unit of the price's currency is worth in ``currency``; None where they are the same."""
    list_exchange_rate: Decimal | None = None

    @property
    def order(self) -> tuple[tuple[bool, str | datetime | Decimal], ...]:
        """Place of the row among all charges: nulls first, text by code point.

        What it comes from decides ties; a shortfall and what its discount takes off come from one commitment.
        """
        key = (
            self.billing_account_id, self.currency, self.account_id, self.project_id, self.sku_id, self.region,
            self.resource_id, self.tags, self.charge_start, self.price_id, self.list_price_id, self.charge_kind,
            self.source_id, self.cost,
        )  # fmt: skip
        return tuple((value is not None, value if value is not None else "") for value in key)


COMPARED_CHARGE_FIELDS = (
    "period", "billing_account_id", "account_id", "project_id", "resource_id", "resource_name", "sku_id", "region",
    "tags", "charge_start", "charge_end", "charge_kind", "price_id", "list_price_id", "usage_quantity", "usage_unit",
    "pricing_quantity", "pricing_unit", "currency", "list_unit_price", "contracted_unit_price", "list_cost",
    "contracted_cost", "cost", "source_id", "corrects_period",
    "invoice_id",
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
    line_number: int = 0
    line_kind: str
    account_id: str
    account_name: str
    project_id: str | None = None
    project_name: str | None = None
    service: str | None = None
    category: str | None = None
    sku_id: str | None = None
    sku_name: str | None = None
    region: str | None = None
    price_id: str | None = None
    source_id: str | None = None
    description: str | None = None
    corrects_period: str | None = None
    corrects_invoice_id: str | None = None
    first_day: date
    last_day: date
    pricing_quantity: Decimal | None = None
    pricing_unit: str | None = None
    unit_price: Decimal | None = None
    list_cost: Decimal | None = None
    cost: Decimal
    amount: Decimal
    rounding: Decimal = ZERO
    discount_amount: Decimal = ZERO
    commitment_amount: Decimal = ZERO
    credit_amount: Decimal = ZERO
    net_amount: Decimal
    tax_code: str
    tax_category: str
    tax_rate: Decimal


@dataclass(frozen=True, kw_only=True)
class Deduction:
    """What one discount, commitment or promotional credit takes off one line."""

    invoice_id: str
    deduction_number: int
    line_number: int
    kind: str
    source_id: str
    description: str
    percent: Decimal | None
    amount: Decimal
    """Below zero."""


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
class CreditDraw:
    """What one invoice uses of one credit."""

    invoice_id: str
    credit_id: str
    kind: str
    currency: str
    balance_before: Decimal
    amount: Decimal
    """Above zero."""
    balance_after: Decimal
    description: str


@dataclass(frozen=True, kw_only=True)
class CommitmentMonth:
    """One commitment in one month."""

    invoice_id: str
    commitment_id: str
    currency: str
    committed_amount: Decimal
    days: int
    days_in_month: int
    eligible_amount: Decimal
    shortfall_amount: Decimal
    discount_amount: Decimal
    """What is taken off for it: zero or below."""
    description: str


@dataclass(frozen=True, kw_only=True)
class Invoice:
    invoice_id: str
    document: str
    period: str
    billing_account_id: str
    currency: str
    lines: int
    list_amount: Decimal
    subtotal_amount: Decimal
    discount_amount: Decimal
    commitment_amount: Decimal
    credit_amount: Decimal
    untaxed_amount: Decimal
    tax_amount: Decimal
    total_amount: Decimal
    prepaid_amount: Decimal
    due_amount: Decimal
    rounding: Decimal
    status: str = "draft"
    origin: str = "run"


@dataclass(frozen=True, kw_only=True)
class Bill:
    """Everything the reference says about one month."""

    charges: tuple[Charge, ...]
    """In the order of :attr:`Charge.order`, those of invoicing included."""
    unpriced: tuple[Unpriced, ...]
    invoices: tuple[Invoice, ...]
    lines: tuple[InvoiceLine, ...]
    deductions: tuple[Deduction, ...]
    tax_lines: tuple[TaxLine, ...]
    credits: tuple[CreditDraw, ...]
    commitments: tuple[CommitmentMonth, ...]
    accepted: tuple[Usage, ...]
    """Records that are billed or unpriced, of this month only."""
    copies: tuple[Usage, ...]
    """Records of any month left out because another one says the same."""
    conflicts: tuple[Usage, ...]
    """Records of any month left out because another one contradicts them."""
