"""What the templates of price pages may use: frozen objects, every field documented.

Prices are exact (Decimal). Texts come from the book and are not escaped yet: the templates' autoescape does that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date
    from decimal import Decimal


@dataclass(frozen=True)
class PriceStep:
    """What a unit costs within a span of quantity."""

    above: Decimal
    """The span begins above this quantity: 0 for the first."""
    up_to: Decimal | None
    """Last quantity of the span; none: no end."""
    unit_price: Decimal
    """Price of one unit, or of one package."""
    flat_fee: Decimal
    """Due once when the span is entered; 0: nothing."""
    package_size: Decimal | None
    """Units in a package, sold whole; none: any quantity."""
    public_price: Decimal | None
    """The public price of the same; none where there is none to compare with, and on public pages."""
    saving: Decimal | None
    """The public price less this one, per unit."""
    saving_percent: Decimal | None
    """The saving in percent of the public price, to one decimal."""


@dataclass(frozen=True)
class PriceVersion:
    """A price for a time."""

    price_id: str
    """The price version, as invoices name it."""
    first_day: date | None
    """First day it is valid; none: since ever."""
    first_time: str
    """Time of that day at which it begins, HH:MM; empty: midnight."""
    last_day: date | None
    """Last day it is valid; none: open."""
    last_time: str
    """Time of that day at which it ends, HH:MM; empty: midnight at the end of it."""
    mode: str
    """`per_unit`, `graduated` (a span's price is for the quantity in it) or `volume` (the span of the month's total is
    for all of it)."""
    scope: str
    """What quantities are counted over, each month: `account`, `project` or `resource`."""
    cap: Decimal | None
    """Never more than this per resource and month; none: no cap."""
    minimum: Decimal | None
    """Never less than this per resource and month with usage; none: no minimum."""
    change_percent: Decimal | None
    """By how many percent it is dearer than the version before; none where that is not one number."""
    steps: tuple[PriceStep, ...]
    """Its prices by quantity, without comparison."""


@dataclass(frozen=True)
class PriceOffer:
    """One product in one region, time window and so on."""

    region: str
    """Region it is for; empty: any."""
    conditions: tuple[str, ...]
    """What else it is for: a time window or attributes, for example `windows`; empty: anything."""
    is_contract: bool
    """Whether it is a price of the customer's own."""
    currency: str
    """Currency of the price: the page's, unless invoices convert it."""
    current: PriceVersion | None
    """The price that is valid; none: the first one is still to come."""
    public: PriceVersion | None
    """The public price for the same, on customers' pages; none: there is none."""
    steps: tuple[PriceStep, ...]
    """What is to be paid by quantity, with the public price beside it."""
    later: tuple[PriceVersion, ...]
    """Prices to come, the earliest first."""
    earlier: tuple[PriceVersion, ...]
    """Former prices, the latest first."""


@dataclass(frozen=True)
class PriceProduct:
    """One SKU."""

    sku_id: str
    """The SKU."""
    name: str
    """What invoices call it."""
    unit: str
    """Unit of the price."""
    usage_unit: str
    """Unit of the meter."""
    units_per_unit: str
    """Units of the meter in one unit of the price: a number, or `hours_in_month`."""
    aggregation: str
    """How hours add up: `sum`, `max`, `mean` or `p95`."""
    increment: Decimal | None
    """Each record is rounded up to a multiple of this; none: not at all."""
    row_count: int
    """Rows of a table with one row for each step of each offer."""
    offers: tuple[PriceOffer, ...]
    """Its prices, the least specific first."""


@dataclass(frozen=True)
class PriceService:
    """Products of one service."""

    name: str
    """The service."""
    anchor: str
    """Id of its section, unique on the page."""
    has_tiers: bool
    """Whether any price depends on the quantity."""
    has_conditions: bool
    """Whether any price is for a region, time window or attribute."""
    has_contract: bool
    """Whether any price is the customer's own."""
    products: tuple[PriceProduct, ...]
    """In the order of the book."""


@dataclass(frozen=True)
class PriceCategory:
    """Services of one category."""

    name: str
    """FOCUS service category."""
    anchor: str
    """Id of its section, unique on the page."""
    services: tuple[PriceService, ...]
    """In the order of the book."""


@dataclass(frozen=True)
class PriceWindow:
    """A time window that prices are for."""

    name: str
    """Its name: peak."""
    hours: tuple[str, ...]
    """When it is, in local time: mon tue wed 08:00-20:00."""


@dataclass(frozen=True)
class PriceRate:
    """A rate that prices in another currency are converted at."""

    currency: str
    """Currency of the price."""
    rate: Decimal
    """What one of it is worth in the page's currency."""


@dataclass(frozen=True)
class PriceLink:
    """Another page or file."""

    name: str
    """What it is: USD, CSV."""
    href: str
    """Where it is, relative to the page; empty: this page."""


@dataclass(frozen=True)
class PricePage:
    """The prices of a day in one currency."""

    title: str
    """For the browser's tab."""
    seller: str
    """Name of the seller."""
    website: str
    """Web site of the seller; empty: none."""
    email: str
    """Where to write to; empty: none."""
    customer: str
    """Whose prices these are; empty: everybody's."""
    account_id: str
    """The customer's account; empty on public pages."""
    currency: str
    """ISO 4217 code of the prices."""
    day: date
    """Day of which the prices are."""
    time_zone: str
    """IANA zone of days and times."""
    product_count: int
    """How many products are on the page."""
    contract_count: int
    """How many of the prices are the customer's own."""
    best_saving: PriceStep | None
    """The step with the largest saving in percent; none: nothing is saved."""
    best_product: str
    """Name of the product that saves most; empty: none."""
    coming: tuple[tuple[PriceProduct, PriceOffer], ...]
    """Prices that are going to change, with their products."""
    currencies: tuple[PriceLink, ...]
    """The page in every currency, this one included; empty on customers' pages."""
    files: tuple[PriceLink, ...]
    """The same for machines."""
    windows: tuple[PriceWindow, ...]
    """Time windows that prices on the page are for."""
    rates: tuple[PriceRate, ...]
    """Rates of the day, where prices are in other currencies."""
    categories: tuple[PriceCategory, ...]
    """The prices, in the order of the book."""
