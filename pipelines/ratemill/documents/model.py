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
Unit = Annotated[str, Shown("unit")]
Percent = Annotated[Decimal, Shown("percent")]
Exact = Annotated[Decimal, Shown("exact")]
Day = Annotated[date, Shown("day")]
Month = Annotated[date, Shown("month")]
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
class PostalAddress:
    """A postal address in parts, as machines want it; ``address_lines`` is the same as people read it."""

    street: tuple[str, ...]
    """Lines above the town; the whole address where it is not known in parts."""
    postal_code: str
    """Postal code; empty: not given by itself."""
    city: str
    """Town; empty: not given by itself."""
    state: str
    """State, province or region; empty: none."""


@dataclass(frozen=True)
class SellerParty:
    """Who issues the invoice."""

    name: str
    """Legal name, else the name."""
    trade_name: str
    """Name customers know."""
    address_lines: tuple[str, ...]
    """Postal address without the country."""
    address: PostalAddress
    """Its parts."""
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
    electronic_address: str
    """Where its e-invoices come from, as scheme:identifier; empty: the e-mail address."""
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
    address: PostalAddress
    """Its parts."""
    country: Country
    """ISO 3166 alpha-2 code of the country that taxes the account."""
    tax_id: str
    """VAT or tax number; empty: none."""
    email: str
    """Where the invoice goes; empty: none."""
    electronic_address: str
    """Where e-invoices go, as scheme:identifier; empty: the e-mail address."""
    reference: str
    """What the customer wants invoices to carry, such as an order number; empty: nothing."""


@dataclass(frozen=True)
class Original:
    """An issued invoice that is corrected."""

    invoice_id: str
    """Identity of the invoice."""
    number: str
    """Its number; empty where it is not known."""
    issue_date: Day | None
    """Its day of issue; none where it is not known."""


@dataclass(frozen=True)
class Line:
    """One line: what was used of one SKU under one price version, or one other amount."""

    number: int
    """Number of the line, from 1."""
    kind: str
    """``usage``, ``recurring``, ``adjustment``, ``commitment`` (a shortfall) or ``correction``."""
    account_id: str
    """Account it is for."""
    account_name: str
    """Name of the account."""
    project_id: str
    """The project; empty: none."""
    project_name: str
    """Name of the project, else its id; empty: none."""
    service: str
    """Service of the SKU; empty: none."""
    category: str
    """FOCUS service category; empty: none."""
    sku_id: str
    """The SKU; empty: none."""
    sku_name: str
    """Name of the SKU; empty: none."""
    description: str
    """What the line is for: the SKU of usage and corrections, the name of a fee, the reason of an adjustment."""
    remark: str
    """What else is said of it: why it is credited, or the SKU of a fee; empty: nothing."""
    region: str
    """Region; empty: none."""
    conditions: str
    """What else the price is for: time window and attributes, for example peak; empty: any."""
    price_id: str
    """Price version; empty: none."""
    source_id: str
    """The recurring fee, adjustment or commitment; empty: none."""
    corrects_period: str
    """Closed period that it corrects, YYYY-MM; empty: none."""
    corrects: Original | None
    """Invoice that it corrects, if there is one."""
    first_day: Day
    """First local day it is for."""
    last_day: Day
    """Last local day it is for."""
    part_of_month: Days | None
    """First and last day where they do not span the whole month; else none."""
    quantity: Quantity | None
    """Quantity that is priced, of a correction the difference; none on amounts that are for no quantity."""
    unit: Unit
    """Unit of the quantity and the price; empty: none."""
    unit_price: UnitPrice | None
    """Price of one unit; none on corrections, and where there are several: tiers, packages, rates of several days."""
    cost: Exact
    """Exact cost, before rounding."""
    cap: Exact | None
    """What monthly caps took back of the cost, below zero; none where none was reached."""
    minimum: Exact | None
    """What monthly minimums added to the cost; none where usage reached them."""
    amount: Amount
    """Cost rounded half-up to the currency's minor unit, before discounts and credits."""
    rounding: Exact
    """``amount`` minus ``cost``."""
    discount: Amount
    """Its share of discounts, zero or negative."""
    commitment: Amount
    """Its share of discounts of commitments, zero or negative."""
    credit: Amount
    """Its share of promotional credits, zero or negative."""
    net: Amount
    """What is taxed: ``amount`` with its shares."""
    tax_code: str
    """Tax that applies."""
    tax_category: str
    """Tax category."""
    tax_rate: Percent
    """Rate in percent: 20 is 20 %."""


@dataclass(frozen=True)
class ServiceSection:
    """The usage of one service."""

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
class OtherSection:
    """The lines of one kind that are no usage: fees, adjustments, shortfalls."""

    kind: str
    """``recurring``, ``adjustment`` or ``commitment``; ``usage`` for amounts that are for no SKU."""
    subtotal: Amount
    """Sum of the lines' amounts."""
    lines: tuple[Line, ...]
    """Lines, by number."""


@dataclass(frozen=True)
class AccountSection:
    """The lines of one account, corrections left out."""

    account_id: str
    """Account that used it."""
    name: str
    """Name of the account."""
    subtotal: Amount
    """Sum of the projects' and the other sections' subtotals."""
    projects: tuple[ProjectSection, ...]
    """Projects, in the order of their first lines."""
    others: tuple[OtherSection, ...]
    """What is no usage, by kind."""


@dataclass(frozen=True)
class CorrectionSection:
    """The corrections of one closed month."""

    period: str
    """The month that is corrected, YYYY-MM."""
    first_day: Month
    """Its first day."""
    original: Original | None
    """The invoice that is corrected; none where there was none that month."""
    subtotal: Amount
    """Sum of the lines' amounts."""
    lines: tuple[Line, ...]
    """Lines, by number; account and project are on each."""


@dataclass(frozen=True)
class Share:
    """What a deduction takes off one line."""

    line: int
    """Number of the line."""
    amount: Amount
    """Share of the amount."""


@dataclass(frozen=True)
class Deduction:
    """One discount, discount of a commitment, or promotional credit, taken off before tax."""

    number: int
    """Order in which they were applied, from 1."""
    kind: str
    """``discount``, ``commitment`` or ``credit``."""
    source_id: str
    """The discount, commitment or credit."""
    name: str
    """What it is called."""
    percent: Percent | None
    """Percent, where it has one."""
    amount: Amount
    """What it takes off, negative."""
    balance_left: Amount | None
    """What is left of a credit afterwards; none on others."""
    shares: tuple[Share, ...]
    """How it is spread over lines."""


@dataclass(frozen=True)
class Prepaid:
    """One prepaid credit that pays for the taxed total."""

    credit_id: str
    """The credit."""
    name: str
    """What it is called."""
    amount: Amount
    """What it pays, negative."""
    balance_before: Amount
    """What was left of it before."""
    balance_left: Amount
    """What is left of it afterwards."""


@dataclass(frozen=True)
class Commitment:
    """One commitment in the month."""

    commitment_id: str
    """The commitment."""
    name: str
    """What it is called."""
    committed: Amount
    """Amount committed to, for the days it is valid."""
    used: Amount
    """Usage that counts towards it, before discounts."""
    shortfall: Amount
    """What is billed for usage that was not made."""
    discount: Amount
    """What its discount takes off, zero or negative."""
    days: int
    """Days of the month on which it is valid."""
    days_in_month: int
    """Days of the month."""


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
    """The sums: subtotal + discount + commitment + credit = untaxed, + tax = total, + prepaid = due."""

    subtotal: Amount
    """Sum of the lines' amounts."""
    discount: Amount
    """Sum of the discounts, zero or negative."""
    commitment: Amount
    """Sum of the discounts of commitments, zero or negative."""
    credit: Amount
    """Sum of the promotional credits, zero or negative."""
    untaxed: Amount
    """What is left before tax."""
    tax: Amount
    """Sum of the taxes."""
    total: Amount
    """Untaxed plus tax."""
    prepaid: Amount
    """Sum of the prepaid credits that pay for it, zero or negative."""
    due: Amount
    """What is to be paid; on a credit note, what is credited."""
    saving: Amount | None
    """How much more the usage would cost at public prices; none where that is not known or not more."""


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
    """A whole invoice or credit note. On a credit note, what is credited is positive, in every field."""

    invoice_id: str
    """Identity: period, billing account and currency; of a correction, with a suffix."""
    document: str
    """``invoice`` or ``credit_note``."""
    is_credit_note: bool
    """Whether it gives money back."""
    corrects: Original | None
    """Invoice that a credit note, or an invoice of corrections, is about; none on others."""
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
    """The lines, by account, project and service; corrections left out."""
    corrections: tuple[CorrectionSection, ...]
    """Corrections of earlier months, by month."""
    deductions: tuple[Deduction, ...]
    """What is taken off before tax, in the order in which it was applied."""
    prepaid: tuple[Prepaid, ...]
    """Prepaid credits that pay for it."""
    commitments: tuple[Commitment, ...]
    """Commitments of the month, by commitment_id."""
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

    def lines(self) -> Iterator[Line]:
        """Every line, by line number."""
        yield from sorted(self.shown_lines(), key=lambda line: line.number)

    def shown_lines(self) -> Iterator[Line]:
        """Every line, in the order in which people see them: account by account, corrections last."""
        for account in self.accounts:
            for project in account.projects:
                for service in project.services:
                    yield from service.lines
            for other in account.others:
                yield from other.lines
        for correction in self.corrections:
            yield from correction.lines


_WITH_CURRENCY: dict[str, Callable[[Any, str, str], str]] = {
    "amount": formats.format_amount,
    "unit_price": formats.format_unit_price,
}
_WITH_LANGUAGE: dict[str, Callable[[Any, str], str]] = {
    "country": formats.format_country,
    "day": formats.format_day,
    "exact": formats.format_exact,
    "month": formats.format_month,
    "percent": formats.format_percent,
    "quantity": formats.format_quantity,
    "unit": formats.format_unit,
}


def as_text(value: Any, *, currency: str, language: str) -> Any:
    """A document (or part of one) as dicts, lists and text, each number and day as people of ``language`` read it.

    Names are those of the fields. Customers' text is cleaned; a logo becomes its media type and a list of bytes.
    """
    if isinstance(value, str):
        return formats.clean_text(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, tuple):
        return [as_text(item, currency=currency, language=language) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {
            name: _shown(getattr(value, name), how, currency=currency, language=language)
            for name, how in _fields_of(type(value))
        }
    if isinstance(value, bytes):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no text form; give its field a type that says how it is shown")


@cache
def _fields_of(document_type: Any) -> tuple[tuple[str, str | None], ...]:
    """Each field, and the filter that people read it through."""
    how = shown_as(document_type)
    return tuple((each.name, how.get(each.name)) for each in fields(document_type))


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
