"""What report templates may use: frozen objects, every field documented.

Money is exact (Decimal); ``*_percent`` fields are percentages rounded to one decimal (20 is 20 %), null (None) where
there is nothing to divide by. Texts come from the customer's data and are not escaped yet: the templates' autoescape
does that. Links are relative to the page that shows them, ready for ``href``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date
    from decimal import Decimal

    from markupsafe import Markup

    from ratemill.findings import Finding


@dataclass(frozen=True)
class Row:
    """One line of a table of costs."""

    name: str
    """What is shown: a name from the book, else the id."""
    note: str
    """Smaller, behind the name: the id, where the name is something else."""
    cost: Decimal
    """This month, before tax."""
    gross: Decimal
    """The same before discounts and credits."""
    deductions: Decimal
    """What discounts and credits take off, zero or negative; ``gross`` with them is the cost."""
    previous: Decimal
    """Last month, before tax."""
    change: Decimal
    """cost minus previous."""
    change_percent: Decimal | None
    """Change in percent of last month; None if there was nothing last month."""
    share_percent: Decimal | None
    """Share of the table's total in percent; None if the total is not above zero."""
    bar_percent: Decimal
    """Length of the bar, 0 to 100: the cost against the largest of the table; 0 for negative costs."""
    href: str = ""
    """Page that tells more; empty: none."""


@dataclass(frozen=True)
class Breakdown:
    """One table of costs; its rows add up to its total to the last digit shown."""

    anchor: str
    """Id of the section, unique on the page."""
    title: str
    """Heading of the section: By project."""
    heading: str
    """Heading of the first column: Project."""
    rows: tuple[Row, ...]
    """Largest cost first; the last one may sum up all further rows."""
    every_row: tuple[Row, ...]
    """The long table, where ``rows`` leaves some out; else empty."""
    count: int
    """How many rows there are, left out ones included."""
    total: Row
    """Sum of the rows: the untaxed total."""
    compares: bool = True
    """Whether last month's numbers are meaningful in this table."""
    deducts: bool = False
    """Whether discounts and credits take anything off in this table."""


@dataclass(frozen=True)
class Mover:
    """One thing whose cost changed, and why."""

    name: str
    note: str
    """Smaller, behind the name."""
    reason: str
    """new, gone, quantity, price, or quantity and price."""
    cost: Decimal
    previous: Decimal
    change: Decimal
    change_percent: Decimal | None
    quantity_effect: Decimal
    """Part of the change that comes from using more or less, at last month's average price; rounded half-up to the
    minor unit."""
    price_effect: Decimal
    """The rest of the change, at this month's quantity; the two add up to the change exactly."""
    href: str = ""


@dataclass(frozen=True)
class Legend:
    """One colour of a chart."""

    name: str
    series: int
    """Number of the colour: ``var(--series-N)``."""
    cost: Decimal
    """Whole cost of what has the colour, also what belongs to no day and is not drawn."""


@dataclass(frozen=True)
class Chart:
    """A drawing with its legend."""

    svg: Markup
    """An ``<svg>`` element, described for screen readers."""
    legend: tuple[Legend, ...]


@dataclass(frozen=True)
class Day:
    """Cost of one local day."""

    day: date | None
    """None: what belongs to no day (fees, discounts, corrections, rounding)."""
    name: str
    """What it is, where ``day`` is None."""
    cost: Decimal
    """Rounded half-up to the minor unit; the rounding row makes up for that."""


@dataclass(frozen=True)
class Summary:
    """The large numbers of a page, in one currency."""

    currency: str
    total: Decimal
    """Untaxed plus tax."""
    untaxed: Decimal
    tax: Decimal
    due: Decimal
    """Total less what prepaid credits pay."""
    prepaid: Decimal
    """What prepaid credits pay, zero or negative."""
    gross: Decimal
    """Untaxed, before discounts and credits."""
    deductions: Decimal
    """What discounts and promotional credits take off, zero or negative."""
    previous: Decimal
    """Untaxed, last month."""
    change: Decimal
    change_percent: Decimal | None
    has_previous: bool
    """Whether there is anything in last month to compare with."""
    list_cost: Decimal
    """At public prices, of the usage that has one."""
    saving: Decimal
    """``list_cost`` minus what the same usage costs at the prices that applied, before discounts; negative: dearer than
    public."""
    saving_percent: Decimal | None
    """Saving in percent of ``list_cost``."""
    unlisted: Decimal
    """Cost of usage that no public price exists for."""


@dataclass(frozen=True)
class TaxRow:
    """One tax rate."""

    tax_code: str
    category: str
    kind: str
    """standard, zero, exempt, reverse_charge or outside_scope."""
    rate: Decimal
    """In percent."""
    base: Decimal
    tax: Decimal


@dataclass(frozen=True)
class Page:
    """What every page knows."""

    title: str
    """For the browser's tab."""
    seller: str
    """Name of the seller."""
    period: date
    """First day of the month."""
    previous_period: date
    """First day of the month before."""
    extra_days: int
    """How many days longer than the month before it is; may be negative."""
    run_id: str


@dataclass(frozen=True)
class Document:
    """A file to link to."""

    name: str
    """What it is: PDF."""
    href: str


@dataclass(frozen=True)
class Bill:
    """One invoice or credit note."""

    kind: str
    """Invoice or Credit note."""
    name: str
    """Its number, else its identity."""
    status: str
    """draft or issued."""
    corrects: str
    """Number (else identity) of the invoice that it corrects; empty: none."""
    total: Decimal
    """With tax; negative on a credit note."""
    documents: tuple[Document, ...]
    """It in every format."""


@dataclass(frozen=True)
class AccountReport:
    """Costs of one billing account in one currency."""

    page: Page
    customer: str
    """Name of the billing account."""
    billing_account_id: str
    is_draft: bool
    """Whether any of the bills may still change."""
    bills: tuple[Bill, ...]
    """The invoice, then corrections that are documents of their own."""
    index_href: str
    """The index page."""
    summary: Summary
    chart: Chart | None
    """Cost per day by service; None if no charge has a day."""
    movers: tuple[Mover, ...]
    """Largest changes by SKU, if there is a month before to compare with."""
    other_change: Decimal
    """Change of everything that ``movers`` leaves out."""
    breakdowns: tuple[Breakdown, ...]
    """By service, project, account (if several), region, category and SKU, in this order."""
    tags: tuple[Breakdown, ...]
    """One per tag key, the one that covers most cost first."""
    days: tuple[Day, ...]
    """Adds up to the untaxed total."""
    taxes: tuple[TaxRow, ...]
    part: str = ""
    """Which part of the account's costs it is, where it is made for a member who sees no more: then it has no bills and
    taxes, and its summary's amounts are those of the part, before tax. Empty: all of it."""


@dataclass(frozen=True)
class CommitmentRow:
    """One customer's commitment in the month."""

    customer: str
    name: str
    committed: Decimal
    used: Decimal
    """Usage that counts towards it, before discounts."""
    shortfall: Decimal
    """What was billed for usage that was not made."""
    discount: Decimal
    """Zero or negative."""


@dataclass(frozen=True)
class CreditRow:
    """One customer's credit at the end of the month."""

    customer: str
    name: str
    kind: str
    """promotional or prepaid."""
    expires: date | None
    """First day on which it can no longer be used (UTC); None: never expires."""
    used: Decimal
    """What the month's invoices use of it."""
    left: Decimal
    """What is left of it."""


@dataclass(frozen=True)
class ProviderSection:
    """Revenue in one currency."""

    summary: Summary
    invoices: int
    """Number of invoices."""
    credit_notes: int
    """Number of credit notes."""
    commitments: tuple[CommitmentRow, ...]
    """Commitments of the month, the largest shortfall first."""
    credits: tuple[CreditRow, ...]
    """Credits that were used or have something left, the largest rest first."""
    credits_left: Decimal
    """Sum of what is left: what the seller still owes."""
    chart: Chart | None
    """Revenue per day by service."""
    customer_movers: tuple[Mover, ...]
    other_customer_change: Decimal
    sku_movers: tuple[Mover, ...]
    other_sku_change: Decimal
    breakdowns: tuple[Breakdown, ...]
    """By customer, service, category, region and SKU, in this order."""
    days: tuple[Day, ...]
    taxes: tuple[TaxRow, ...]


@dataclass(frozen=True)
class RunFacts:
    """What happened to the usage on the way to the invoices."""

    run_id: str
    rows_in: int
    """Rows in the usage files of the period."""
    rows_accepted: int
    rows_rejected: int
    rows_duplicate: int
    unpriced_records: int
    """Usage records that no price applies to; they are on no invoice."""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class ProviderReport:
    """Revenue of the month, currency by currency; currencies are never added up."""

    page: Page
    index_href: str
    sections: tuple[ProviderSection, ...]
    run: RunFacts


@dataclass(frozen=True)
class IndexRow:
    """One invoice or credit note and where its documents are."""

    customer: str
    billing_account_id: str
    currency: str
    bill: Bill
    untaxed: Decimal
    tax: Decimal
    due: Decimal
    """Total less what prepaid credits pay."""
    report_href: str


@dataclass(frozen=True)
class NoteRow:
    """A credit note that a person made."""

    customer: str
    billing_account_id: str
    currency: str
    bill: Bill
    issued: date
    period: date
    """First day of the month whose invoice it credits."""
    untaxed: Decimal
    tax: Decimal


@dataclass(frozen=True)
class IndexTotal:
    """All invoices and credit notes in one currency."""

    currency: str
    invoices: int
    credit_notes: int
    untaxed: Decimal
    tax: Decimal
    total: Decimal
    due: Decimal
    prepaid: Decimal
    """What prepaid credits pay, zero or negative."""
    notes: int
    """Credit notes by hand that were issued in the month; the sums above are without them."""
    notes_total: Decimal
    """Their sum with tax, zero or negative."""
    together: Decimal
    """total with them."""


@dataclass(frozen=True)
class Index:
    """The first page of a period's folder."""

    page: Page
    provider_href: str
    others: tuple[Document, ...]
    """Further files of the period: the workbook, price pages."""
    rows: tuple[IndexRow, ...]
    """By customer's name, then id, currency, and identity of the document."""
    notes: tuple[NoteRow, ...]
    """Credit notes by hand that were issued in the month, by number; their invoices may be of any earlier month."""
    totals: tuple[IndexTotal, ...]
    """One per currency."""
    run: RunFacts


@dataclass(frozen=True)
class MemberGrant:
    """One thing that a member may see."""

    role: str
    """Billing reader or Billing manager."""
    level: str
    """organization, account or project."""
    name: str
    """Of the organization, account or project; else its id."""
    id: str
    within: str
    """Account or organization that it must be of as well; empty: not restricted."""


@dataclass(frozen=True)
class MemberFile:
    """One table of the export."""

    name: str
    meaning: str
    """What one row is."""
    rows: int
    parquet_href: str
    csv_href: str


@dataclass(frozen=True)
class MemberSection:
    """One month of the export."""

    period: date
    """First day of the month."""
    is_draft: bool
    """Whether the amounts may still change."""
    reports: tuple[Document, ...]
    """Cost reports: of which customer and currency, and where."""
    bills: tuple[Bill, ...]
    """Invoices and credit notes of organizations that are seen as a whole, with their files."""


@dataclass(frozen=True)
class MemberCover:
    """First page of what a member may see."""

    seller: str
    principal: str
    as_of: date
    """Day (UTC) for which the grants were looked up."""
    grants: tuple[MemberGrant, ...]
    sections: tuple[MemberSection, ...]
    """By month."""
    files: tuple[MemberFile, ...]
    database_href: str
    workbook_href: str
    is_part: bool
    """Whether any of it is a part of an organization: of that, invoices and their totals are left out."""
