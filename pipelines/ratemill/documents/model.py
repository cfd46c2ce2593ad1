"""What invoice templates get: frozen values, all sums already made.

Numbers are exact Decimals and days are dates. The type of a field says how people read it, so HTML templates (through
filters), the PDF (as ready text) and JSON agree. templates/README.md documents every field;
tests/unit/test_invoice_documents.py compares both ways.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

from ratemill.documents import formats
from ratemill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Shown:
    """Marks a type: people read its values through the template filter of this name."""

    how: str


Amount = Annotated[Decimal, Shown("amount")]
UnitPrice = Annotated[Decimal, Shown("unit_price")]
Quantity = Annotated[Decimal, Shown("quantity")]
Percent = Annotated[Decimal, Shown("percent")]
Exact = Annotated[Decimal, Shown("exact")]
Day = Annotated[date, Shown("day")]
Days = Annotated[tuple[date, date], Shown("days")]
Country = Annotated[str, Shown("country")]


@dataclass(frozen=True)
class Logo:
    """The seller's logo."""

    media_type: str
    """``image/svg+xml`` or ``image/png``."""
    content: bytes = field(repr=False)
    """The file's bytes."""

    @classmethod
    def from_file(cls, name: str, content: bytes) -> Logo:
        """The picture in the file called ``name``.

        Raises:
            UsageError: when it is neither SVG nor PNG.
        """
        if content.startswith(b"\x89PNG\r\n\x1a\n"):
            return cls("image/png", content)
        if b"<svg" in content[:4096]:
            return cls("image/svg+xml", content)
        raise UsageError(f"seller.logo: {name} is neither an SVG nor a PNG file; save the logo as one of these")

    @property
    def data_uri(self) -> str:
        """The picture as a ``data:`` address: nothing is fetched."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.content).decode('ascii')}"


@dataclass(frozen=True)
class SellerParty:
    """Who issues the invoice."""

    name: str
    """Legal name, else the name."""
    trade_name: str
    """Name customers know."""
    address_lines: tuple[str, ...]
    """Postal address without the country."""
    country: Country
    """ISO 3166 alpha-2 code."""
    tax_id: str
    """VAT or tax number; empty: none."""
    registration: str
    """Company register entry; empty: none."""
    email: str
    """Where to write to; empty: none."""
    phone: str
    """Where to call; empty: none."""
    website: str
    """Web site; empty: none."""
    logo: Logo | None
    """Picture for the head of the page, if there is one."""


@dataclass(frozen=True)
class CustomerParty:
    """Who pays."""

    account_id: str
    """The billing account."""
    name: str
    """Legal name, else the account's name."""
    address_lines: tuple[str, ...]
    """Postal address without the country."""
    country: Country
    """ISO 3166 alpha-2 code of the country that taxes the account."""
    tax_id: str
    """VAT or tax number; empty: none."""
    email: str
    """Where the invoice goes; empty: none."""


@dataclass(frozen=True)
class Line:
    """One line: an account's and project's use of one SKU in one region under one price version."""

    number: int
    """Number of the line, from 1."""
    sku_id: str
    """The SKU."""
    description: str
    """Name of the SKU."""
    region: str
    """Region; empty: none."""
    conditions: str
    """What else the price is for: time window and attributes, for example peak; empty: any."""
    price_id: str
    """Price version."""
    first_day: Day
    """First local day with usage."""
    last_day: Day
    """Last local day with usage."""
    part_of_month: Days | None
    """First and last day where the usage does not span the whole month; else none."""
    quantity: Quantity
    """Quantity that is priced."""
    unit: str
    """Unit of the quantity and the price."""
    unit_price: UnitPrice | None
    """Price of one unit; none where there are several: tiers, packages, or exchange rates of several days."""
    cost: Exact
    """Exact cost, before rounding."""
    amount: Amount
    """Cost rounded half-up to the currency's minor unit."""
    rounding: Exact
    """``amount`` minus ``cost``."""
    tax_code: str
    """Tax that applies."""
    tax_category: str
    """Tax category of the SKU."""


@dataclass(frozen=True)
class ServiceSection:
    """The lines of one service."""

    name: str
    """Service, as customers know it."""
    category: str
    """FOCUS service category."""
    subtotal: Amount
    """Sum of the lines' amounts."""
    lines: tuple[Line, ...]
    """Lines, by number."""


@dataclass(frozen=True)
class ProjectSection:
    """The services of one project."""

    project_id: str
    """The project; empty for usage without a project."""
    name: str
    """Name of the project, else its id; empty for usage without a project."""
    subtotal: Amount
    """Sum of the services' subtotals."""
    services: tuple[ServiceSection, ...]
    """Services, in the order of their first lines."""


@dataclass(frozen=True)
class AccountSection:
    """The projects of one account."""

    account_id: str
    """Account that used it."""
    name: str
    """Name of the account."""
    subtotal: Amount
    """Sum of the projects' subtotals."""
    projects: tuple[ProjectSection, ...]
    """Projects, in the order of their first lines."""


@dataclass(frozen=True)
class TaxLine:
    """One tax rate."""

    code: str
    """Tax code."""
    category: str
    """Tax category."""
    kind: str
    """``standard``, ``zero``, ``exempt``, ``reverse_charge`` or ``outside_scope``."""
    rate: Percent
    """Rate in percent: 20 is 20 %."""
    base: Amount
    """Sum of the lines it taxes."""
    tax: Amount
    """The tax."""
    note: str
    """Sentence the invoice must carry; empty: none. All notes are in ``notes``, each once."""


@dataclass(frozen=True)
class Totals:
    """The sums."""

    untaxed: Amount
    """Sum of the lines."""
    tax: Amount
    """Sum of the taxes."""
    total: Amount
    """Untaxed plus tax."""
    due: Amount
    """What is to be paid."""
    saving: Amount | None
    """How much more the lines would cost at public prices; none where that is not known or not more."""


@dataclass(frozen=True)
class Payment:
    """How to pay."""

    is_owed: bool
    """Whether anything is to be paid."""
    terms_days: int
    """Days from issue to due date."""
    due_date: Day | None
    """Day the payment is due; none before the invoice is issued."""
    reference: str
    """What the customer quotes: the number, else the identity."""
    bank_name: str
    """Bank; empty: none given."""
    iban: str
    """Account number, in groups of four; empty: none given."""
    bic: str
    """Bank identifier; empty: none given."""


@dataclass(frozen=True)
class Computation:
    """Where the figures come from."""

    run_id: str
    """Run that computed them."""
    rounding: Exact
    """What rounding the lines added in all."""
    time_zone: str
    """IANA zone that days and the month are counted in."""


@dataclass(frozen=True)
class InvoiceDocument:
    """A whole invoice."""

    invoice_id: str
    """Identity: period, billing account and currency."""
    number: str
    """Number given at issue; empty on a draft."""
    status: str
    """``draft`` or ``issued``."""
    is_draft: bool
    """Whether it may still change."""
    period: str
    """Billing period, YYYY-MM."""
    period_first_day: Day
    """First day of the month."""
    period_last_day: Day
    """Last day of the month: the date of supply."""
    issue_date: Day | None
    """Day of issue; none on a draft."""
    currency: str
    """ISO 4217 code of every amount."""
    language: str
    """Language the customer asked for (BCP 47)."""
    seller: SellerParty
    """Who issues it."""
    customer: CustomerParty
    """Who pays."""
    line_count: int
    """Number of lines."""
    has_several_accounts: bool
    """Whether lines of more than one account are on it."""
    accounts: tuple[AccountSection, ...]
    """The lines, by account, project and service."""
    taxes: tuple[TaxLine, ...]
    """Taxes, by rate."""
    totals: Totals
    """The sums."""
    notes: tuple[str, ...]
    """Sentences the invoice must carry, each once."""
    payment: Payment
    """How to pay."""
    computation: Computation
    """Where the figures come from."""

    def lines(self) -> Iterator[tuple[AccountSection, ProjectSection, ServiceSection, Line]]:
        """Every line with the sections it stands in, by line number."""
        found = [
            (account, project, service, line)
            for account in self.accounts
            for project in account.projects
            for service in project.services
            for line in service.lines
        ]
        yield from sorted(found, key=lambda each: each[3].number)


_WITH_CURRENCY: dict[str, Callable[[Any, str, str], str]] = {
    "amount": formats.format_amount,
    "unit_price": formats.format_unit_price,
}
_WITH_LANGUAGE: dict[str, Callable[[Any, str], str]] = {
    "country": formats.format_country,
    "day": formats.format_day,
    "exact": formats.format_exact,
    "percent": formats.format_percent,
    "quantity": formats.format_quantity,
}


def as_text(value: Any, *, currency: str, language: str) -> Any:
    """A document (or part of one) as dicts, lists and text, each number and day as people of ``language`` read it.

    Names are those of the fields. Customers' text is cleaned; a logo becomes its media type and a list of bytes.
    """
    if is_dataclass(value) and not isinstance(value, type):
        how = shown_as(type(value))
        return {
            each.name: _shown(getattr(value, each.name), how.get(each.name), currency=currency, language=language)
            for each in fields(value)
        }
    if isinstance(value, tuple):
        return [as_text(item, currency=currency, language=language) for item in value]
    if isinstance(value, bytes):
        return list(value)
    if isinstance(value, str):
        return formats.clean_text(value)
    if value is None or isinstance(value, bool | int):
        return value
    raise TypeError(f"{type(value).__name__} has no text form; give its field a type that says how it is shown")


@cache
def shown_as(document_type: type[object]) -> dict[str, str]:
    """Field → filter, of those fields that people do not read as they are."""
    found = {}
    for name, hint in get_type_hints(document_type, include_extras=True).items():
        for part in (hint, *get_args(hint)):  # an optional field's mark is inside the union
            for mark in getattr(part, "__metadata__", ()):
                if isinstance(mark, Shown):
                    found[name] = mark.how
    return found


def _shown(value: Any, how: str | None, *, currency: str, language: str) -> Any:
    if how is None or value is None:
        return as_text(value, currency=currency, language=language)
    if how == "days":
        first, last = value
        return formats.format_days(first, last, language)
    if how in _WITH_CURRENCY:
        return _WITH_CURRENCY[how](value, currency, language)
    return formats.clean_text(_WITH_LANGUAGE[how](value, language))
