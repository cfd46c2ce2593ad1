"""Cost reports as HTML: one page per invoice, one for the provider, and the index of the period's folder.

``insight/costs.py`` adds everything up once for all accounts; this module gives the sums their names, shapes them for
the templates in templates/report/ and renders. It opens no file and knows no rule of billing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal, Inexact, InvalidOperation, localcontext
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.documents.charts import SERIES_COLOURS, stacked_days
from ratemill.documents.environment import make_environment, render
from ratemill.documents.filenames import safe_name
from ratemill.documents.formats import format_day, format_money, format_month
from ratemill.documents.invoice_files import invoice_stem
from ratemill.documents.report_model import (
    AccountReport,
    Bill,
    Breakdown,
    Chart,
    CommitmentRow,
    CreditRow,
    Day,
    Document,
    Index,
    IndexRow,
    IndexTotal,
    Legend,
    Mover,
    NoteRow,
    Page,
    ProviderReport,
    ProviderSection,
    Row,
    RunFacts,
    Summary,
    TaxRow,
)
from ratemill.frames import collect
from ratemill.insight import costs
from ratemill.money import ZERO, minor_unit_decimals
from ratemill.period import BillingPeriod

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    import jinja2

    from ratemill.config import Seller
    from ratemill.documents.guard import Guard
    from ratemill.tables.invoices import Billed

INDEX_FILE = "index.html"
PROVIDER_FILE = "reports/provider.html"
INVOICE_FORMATS = ("html", "pdf", "json", "csv")
"""Endings of an invoice's files, in the order in which links to them are shown."""

_TEMPLATES = {
    AccountReport: "report/account.html.j2",
    ProviderReport: "report/provider.html.j2",
    Index: "report/index.html.j2",
}
_LANGUAGE = "en"
_SHOWN_ROWS = 10
"""Rows of a table before the rest is summed up (two more are shown rather than summed up)."""
_LONGEST_TABLE = 500
_SHOWN_MOVERS = 10
_SHOWN_TAGS = 8
_SHOWN_DAILY_SERVICES = len(SERIES_COLOURS)

_KIND_NAMES = {
    "cap": "Monthly caps",
    "minimum": "Monthly minimums",
    "recurring": costs.FEES,
    "adjustment": costs.ADJUSTMENTS,
    "commitment": costs.SHORTFALLS,
    "correction": costs.CORRECTIONS,
    "discount": "Discounts",
    costs.COMMITMENT_DISCOUNT: "Discounts of commitments",
    "credit": "Promotional credits",
    "rounding": "Rounding of invoice lines to whole amounts",
}

Record = dict[str, Any]
"""One row of a small frame."""

_EXACT = Context(prec=80, traps=[InvalidOperation, Inexact])
"""Decimal's usual 28 digits are fewer than an exact cost can have; a digit that would be lost raises instead."""


def report_path(billing_account_id: str, currency: str) -> str:
    """Where an account report lies, relative to the period's folder."""
    return f"reports/{safe_name(billing_account_id)}-{currency}.html"


def render_report(report: AccountReport | ProviderReport | Index, environment: jinja2.Environment) -> str:
    """A customer's cost report, the seller's revenue report, or the first page of the period's folder, as HTML.

    Raises:
        UsageError: when a template of the user is wrong.
    """
    return render(
        environment, _TEMPLATES[type(report)], report=report, page=report.page, language=_LANGUAGE, direction="ltr"
    )


def report_jobs(
    *,
    period: BillingPeriod,
    charges: pl.DataFrame | pl.LazyFrame,
    previous_charges: pl.DataFrame | pl.LazyFrame,
    billed: Billed,
    accounts: pl.DataFrame,
    projects: pl.DataFrame,
    skus: pl.DataFrame,
    granted: pl.DataFrame,
    drawn: pl.DataFrame,
    seller: Seller,
    run: RunFacts,
    default_zone: str = "UTC",
    invoice_formats: Sequence[str] = INVOICE_FORMATS,
    others: Sequence[Document] = (),
    originals: Mapping[str, Record] | None = None,
    notes: pl.DataFrame | None = None,
) -> tuple[ReportFacts, Iterator[ReportJob]]:
    """What :class:`ReportPrinter` needs, and its jobs: accounts in order, the provider's report, the index.

    Args:
        period: the month.
        charges: its charges, all kinds, those of invoicing included.
        previous_charges: those of the month before; no rows where there are none.
        billed: the month's invoices and credit notes; each payer and currency gets a report.
        accounts: the book's accounts.
        projects: the book's projects.
        skus: the book's SKUs.
        granted: the book's credits.
        drawn: credit_id, amount: what invoices use of each credit until the end of the month, the month's included.
        seller: who bills.
        run: what happened to the usage.
        default_zone: IANA zone of accounts that name none.
        invoice_formats: endings of the files that each invoice was written to.
        others: further files of the period that the index leads to.
        originals: invoice_id → row of INVOICES, of invoices that are corrected.
        notes: rows of INVOICES, of credit notes by hand that were issued in the month; only the index shows them.

    Raises:
        InvariantError: when charges, lines and invoices don't add up to the same.
    """
    monthly = costs.monthly_costs(charges, previous_charges, skus=skus)
    bill_totals = costs.totals(monthly)
    costs.check_adds_up(bill_totals, billed.invoices, billed.lines)
    daily = costs.daily_costs(charges, accounts=accounts, skus=skus, default_zone=default_zone)
    names = _Names.of(accounts, projects, skus, period)
    month = _Month(period, seller.name, run.run_id)
    documents = _Documents(tuple(invoice_formats), originals or {}, tuple(others))
    ordered = sorted(
        billed.invoices.iter_rows(named=True),
        key=lambda row: (
            names.account(row["billing_account_id"])[0].casefold(),
            row["billing_account_id"],
            row["currency"],
            row["invoice_id"],
        ),
    )
    balances = costs.outstanding_credits(granted, drawn, billed.credits, at=period.end(default_zone))

    def jobs() -> Iterator[ReportJob]:
        yield from _account_jobs(ordered, monthly, daily, charges, billed, totals=bill_totals)
        provider = _provider_report(monthly, daily, billed, balances, month=month, names=names, run=run)
        yield PageJob(PROVIDER_FILE, provider, size=len(ordered))
        by_hand = [] if notes is None else notes.sort("number").to_dicts()
        index = _index(ordered, by_hand, month=month, names=names, run=run, documents=documents)
        yield PageJob(INDEX_FILE, index, size=len(ordered))

    return ReportFacts(month, names, documents), jobs()


def _account_jobs(
    invoices: Sequence[Record],
    monthly: pl.DataFrame,
    daily: pl.DataFrame,
    charges: pl.DataFrame | pl.LazyFrame,
    billed: Billed,
    *,
    totals: pl.DataFrame,
) -> Iterator[AccountJob]:
    """One job per payer and currency, in the order of ``invoices``."""
    totals_of = _grouped(totals, costs.BILL)
    by = {view.key: _grouped(costs.cost_by(monthly, *view.dimensions), costs.BILL) for view in _VIEWS if view.account}
    movers = _grouped(costs.movers(monthly, "sku_id", "service", "sku_name"), costs.BILL)
    days = _grouped(daily, costs.BILL)
    tags = _grouped(costs.tag_costs(charges), costs.BILL)
    taxes = _grouped(_summed_taxes(billed, costs.BILL), costs.BILL)
    of_bill: defaultdict[tuple[str, str], list[Record]] = defaultdict(list)
    for invoice in invoices:
        of_bill[invoice["billing_account_id"], invoice["currency"]].append(invoice)
    for bill, documents in of_bill.items():
        yield AccountJob(
            bill=bill,
            invoices=documents,
            totals=totals_of[bill],
            by={key: rows.get(bill, []) for key, rows in by.items()},
            movers=movers.get(bill, []),
            daily=days.get(bill, []),
            tags=tags.get(bill, []),
            taxes=taxes.get(bill, []),
        )


@dataclass(frozen=True)
class ReportFacts:
    """What all reports of a period share."""

    month: _Month
    names: _Names
    documents: _Documents


@dataclass(frozen=True)
class AccountJob:
    """The report of one payer in one currency, and all it is made of."""

    bill: tuple[str, str]
    """Billing account and currency."""
    invoices: Sequence[Record]
    totals: Sequence[Record]
    by: Mapping[str, Sequence[Record]]
    """Key of a view → its rows."""
    movers: Sequence[Record]
    daily: Sequence[Record]
    tags: Sequence[Record]
    taxes: Sequence[Record]

    @property
    def size(self) -> int:
        """Rows to show."""
        return sum(map(len, (*self.by.values(), self.movers, self.daily, self.tags)))

    def page(self, facts: ReportFacts) -> tuple[str, AccountReport]:
        """Its name in the period's folder, and what the template shows."""
        return report_path(*self.bill), _account_report(self, facts)


@dataclass(frozen=True)
class PageJob:
    """Another page, ready to be rendered."""

    name: str
    model: ProviderReport | Index
    size: int
    """Documents that it is about."""

    def page(self, facts: ReportFacts) -> tuple[str, ProviderReport | Index]:  # noqa: ARG002 - as of AccountJob
        """Its name in the period's folder, and what the template shows."""
        return self.name, self.model


ReportJob = AccountJob | PageJob


@dataclass(frozen=True)
class ReportPrinter:
    """Makes reports; it can be pickled, and templates are opened where the work is done."""

    facts: ReportFacts
    templates: Path
    """The workspace's own; need not exist."""

    def open(self, guard: Guard) -> Callable[[ReportJob], Iterator[tuple[str, str, bytes]]]:
        """The function that makes the page of a job: nothing it belongs to, name, and bytes.

        Raises:
            UsageError: a template of the workspace is wrong.
        """
        environment = make_environment(self.templates, guard)

        def make(job: ReportJob) -> Iterator[tuple[str, str, bytes]]:
            name, model = job.page(self.facts)
            yield "", name, render_report(model, environment).encode()

        return make


@dataclass(frozen=True)
class _Documents:
    """How invoices and credit notes are called, and where their files are."""

    formats: tuple[str, ...]
    originals: Mapping[str, Record]
    others: tuple[Document, ...]

    def bill(self, invoice: Record, *, base: str = "") -> Bill:
        stem = invoice_stem(
            invoice["invoice_id"],
            period=invoice["period"],
            billing_account_id=invoice["billing_account_id"],
            currency=invoice["currency"],
        )
        corrected = invoice["corrects_invoice_id"] or ""
        return Bill(
            kind="Credit note" if invoice["document"] == "credit_note" else "Invoice",
            name=invoice["number"] or invoice["invoice_id"],
            status=invoice["status"],
            corrects=self.originals.get(corrected, {}).get("number") or corrected,
            total=invoice["total_amount"],
            documents=tuple(Document(ending.upper(), f"{base}{stem}.{ending}") for ending in self.formats),
        )


@dataclass(frozen=True)
class _Names:
    """Names of the book by id."""

    accounts: Mapping[str, str]
    projects: Mapping[str, str]
    skus: Mapping[str, str]

    @classmethod
    def of(cls, accounts: pl.DataFrame, projects: pl.DataFrame, skus: pl.DataFrame, period: BillingPeriod) -> _Names:
        """A project that moved or was renamed is called what its last row before the end of the month calls it."""
        begun = pl.col("valid_from").is_null() | (pl.col("valid_from") < period.widest_end)
        dated = projects.filter(begun).sort("valid_from", "account_id", nulls_last=False)
        return cls(
            accounts=dict(accounts.select("account_id", "name").iter_rows()),
            projects=dict(dated.select("project_id", "name").iter_rows()),
            skus=dict(skus.select("sku_id", "name").iter_rows()),
        )

    def account(self, account_id: str) -> tuple[str, str]:
        return _named(account_id, self.accounts)

    def project(self, project_id: str | None) -> tuple[str, str]:
        return ("No project", "") if project_id is None else _named(project_id, self.projects)

    def sku(self, row: Record) -> tuple[str, str]:
        """Of a row with sku_id and sku_name; what is for no SKU has a name alone."""
        return (row["sku_name"], "") if row["sku_id"] is None else _named(row["sku_id"], self.skus)


@dataclass(frozen=True)
class _Month:
    """What every page of a run shares."""

    period: BillingPeriod
    seller: str
    run_id: str

    @property
    def name(self) -> str:
        return format_month(self.period.first_day, _LANGUAGE)

    def page(self, title: str) -> Page:
        previous = self.period.shift(-1)
        return Page(
            title=f"{title} · {self.name} · {self.seller}",
            seller=self.seller,
            period=self.period.first_day,
            previous_period=previous.first_day,
            extra_days=self.period.days - previous.days,
            run_id=self.run_id,
        )


@dataclass(frozen=True)
class _View:
    """One way to break costs down."""

    key: str
    title: str
    heading: str
    dimensions: tuple[str, ...]
    name: Callable[[_Names, Record], tuple[str, str]]
    """Name and note of a row."""
    account: bool = True
    """Whether it is on account reports."""
    provider: bool = True
    """Whether it is on the provider's report."""


_VIEWS = (
    _View("customer", "By customer", "Customer", ("billing_account_id",),
          lambda names, row: names.account(row["billing_account_id"]), account=False),
    _View("service", "By service", "Service", ("service",), lambda _, row: (row["service"], "")),
    _View("project", "By project", "Project", ("project_id",), lambda names, row: names.project(row["project_id"]),
          provider=False),
    _View("account", "By account", "Account", ("account_id",), lambda names, row: names.account(row["account_id"]),
          provider=False),
    _View("region", "By region", "Region", ("region",), lambda _, row: (row["region"] or "No region", "")),
    _View("category", "By category", "Category", ("category",), lambda _, row: (row["category"], "")),
    _View("sku", "By SKU", "SKU", ("sku_id", "sku_name"), lambda names, row: names.sku(row)),
)  # fmt: skip


def _account_report(job: AccountJob, facts: ReportFacts) -> AccountReport:
    names = facts.names
    account, currency = job.bill
    customer, _ = names.account(account)
    summary = _summary(currency, job.totals, job.invoices)
    movers, other_change = _movers(job.movers, summary, names.sku)
    breakdowns = [
        _breakdown(view, job.by[view.key], names, summary)
        for view in _VIEWS
        if view.account and not (view.key == "account" and len(job.by[view.key]) == 1)
    ]
    return AccountReport(
        page=facts.month.page(f"Cost report, {customer}"),
        customer=customer,
        billing_account_id=account,
        is_draft=any(invoice["status"] == "draft" for invoice in job.invoices),
        bills=tuple(facts.documents.bill(invoice, base="../") for invoice in job.invoices),
        index_href=f"../{INDEX_FILE}",
        summary=summary,
        chart=_chart(job.daily, facts.month, summary.currency),
        movers=movers,
        other_change=other_change,
        breakdowns=tuple(breakdowns),
        tags=_tag_breakdowns(job.tags, summary),
        days=_days(job.daily, summary),
        taxes=_taxes(job.taxes),
    )


def _provider_report(
    monthly: pl.DataFrame,
    daily: pl.DataFrame,
    billed: Billed,
    balances: pl.DataFrame,
    *,
    month: _Month,
    names: _Names,
    run: RunFacts,
) -> ProviderReport:
    within = costs.PROVIDER
    by = {
        view.key: _grouped(costs.cost_by(monthly, *view.dimensions, within=within), within)
        for view in _VIEWS
        if view.provider
    }
    customer_movers = _grouped(costs.movers(monthly, "billing_account_id", within=within), within)
    sku_movers = _grouped(costs.movers(monthly, "sku_id", "sku_name", within=within), within)
    invoices = _grouped(billed.invoices, within)
    days = _grouped(daily, within)
    taxes = _grouped(_summed_taxes(billed, within), within)
    commitments = _grouped(_commitments(billed), within)
    credits_of = _grouped(balances, within)
    sections = []
    for key, rows in _grouped(costs.totals(monthly, within=within), within).items():
        here = invoices.get(key, [])
        notes = sum(row["document"] == "credit_note" for row in here)
        summary = _summary(key[0], rows, here)
        reported = {row["billing_account_id"] for row in here}
        link = _report_link(reported, summary.currency)
        by_customer, other_by_customer = _movers(
            customer_movers[key], summary, lambda row: names.account(row["billing_account_id"]), link
        )
        by_sku, other_by_sku = _movers(sku_movers[key], summary, names.sku)
        sections.append(
            ProviderSection(
                summary=summary,
                invoices=len(here) - notes,
                credit_notes=notes,
                commitments=tuple(_commitment(row, names) for row in commitments.get(key, [])),
                credits=tuple(_credit(row, names) for row in credits_of.get(key, [])),
                credits_left=_sum(row["left"] for row in credits_of.get(key, [])),
                chart=_chart(days.get(key, []), month, summary.currency),
                customer_movers=by_customer,
                other_customer_change=other_by_customer,
                sku_movers=by_sku,
                other_sku_change=other_by_sku,
                breakdowns=tuple(
                    _breakdown(
                        view,
                        by[view.key][key],
                        names,
                        summary,
                        prefix=f"{summary.currency}-",
                        link=link if view.key == "customer" else _no_link,
                    )
                    for view in _VIEWS
                    if view.provider
                ),
                days=_days(days.get(key, []), summary),
                taxes=_taxes(taxes.get(key, [])),
            )
        )
    # Amounts of different currencies cannot be compared, numbers of invoices can: the main currency comes first.
    sections.sort(key=lambda section: (-section.invoices, section.summary.currency))
    return ProviderReport(
        page=month.page("Revenue report"), index_href=f"../{INDEX_FILE}", sections=tuple(sections), run=run
    )


def _commitments(billed: Billed) -> pl.DataFrame:
    """The month's commitments with who made them, the largest shortfall first."""
    payers = billed.invoices.select("invoice_id", "billing_account_id")
    return billed.commitments.join(payers, on="invoice_id", how="left", validate="m:1").sort(
        "currency", "shortfall_amount", "billing_account_id", "commitment_id", descending=[False, True, False, False]
    )


def _commitment(row: Record, names: _Names) -> CommitmentRow:
    return CommitmentRow(
        customer=names.account(row["billing_account_id"])[0],
        name=row["description"],
        committed=row["committed_amount"],
        used=row["eligible_amount"],
        shortfall=row["shortfall_amount"],
        discount=row["discount_amount"],
    )


def _credit(row: Record, names: _Names) -> CreditRow:
    return CreditRow(
        customer=names.account(row["account_id"])[0],
        name=row["note"],
        kind=row["kind"],
        expires=None if row["expires_on"] is None else row["expires_on"].date(),
        used=row["used"],
        left=row["left"],
    )


def _index(
    invoices: Sequence[Record],
    notes: Sequence[Record],
    *,
    month: _Month,
    names: _Names,
    run: RunFacts,
    documents: _Documents,
) -> Index:
    rows = [
        IndexRow(
            customer=names.account(row["billing_account_id"])[0],
            billing_account_id=row["billing_account_id"],
            currency=row["currency"],
            bill=documents.bill(row),
            untaxed=row["untaxed_amount"],
            tax=row["tax_amount"],
            due=row["due_amount"],
            report_href=report_path(row["billing_account_id"], row["currency"]),
        )
        for row in invoices
    ]
    by_currency: defaultdict[str, list[Record]] = defaultdict(list)
    for row in invoices:
        by_currency[row["currency"]].append(row)
    by_hand: defaultdict[str, list[Record]] = defaultdict(list)
    for row in notes:
        by_hand[row["currency"]].append(row)
    totals = []
    for currency in sorted({*by_currency, *by_hand}):
        here, given_back = by_currency[currency], by_hand[currency]
        total, notes_total = (_sum(row["total_amount"] for row in rows) for rows in (here, given_back))
        negative = sum(row["document"] == "credit_note" for row in here)
        totals.append(
            IndexTotal(
                currency=currency,
                invoices=len(here) - negative,
                credit_notes=negative,
                untaxed=_sum(row["untaxed_amount"] for row in here),
                tax=_sum(row["tax_amount"] for row in here),
                total=total,
                due=_sum(row["due_amount"] for row in here),
                prepaid=_sum(row["prepaid_amount"] for row in here),
                notes=len(given_back),
                notes_total=notes_total,
                together=total + notes_total,
            )
        )
    return Index(
        page=month.page("Invoices and reports"),
        provider_href=PROVIDER_FILE,
        others=documents.others,
        rows=tuple(rows),
        notes=tuple(_note(row, names, documents) for row in notes),
        totals=tuple(totals),
        run=run,
    )


def _note(row: Record, names: _Names, documents: _Documents) -> NoteRow:
    """Its files are among those of the month that it credits."""
    return NoteRow(
        customer=names.account(row["billing_account_id"])[0],
        billing_account_id=row["billing_account_id"],
        currency=row["currency"],
        bill=documents.bill(row, base=f"../{row['period']}/"),
        issued=row["issue_date"],
        period=BillingPeriod.parse(row["period"]).first_day,
        untaxed=row["untaxed_amount"],
        tax=row["tax_amount"],
    )


def _summary(currency: str, totals: Sequence[Record], invoices: Sequence[Record]) -> Summary:
    """Of one bill, or of all bills in a currency: ``invoices`` are their documents."""
    (row,) = totals

    def total(column: str) -> Decimal:
        return _sum(invoice[column] for invoice in invoices)

    return Summary(
        currency=currency,
        total=total("total_amount"),
        untaxed=total("untaxed_amount"),
        tax=total("tax_amount"),
        due=total("due_amount"),
        prepaid=total("prepaid_amount"),
        gross=row["gross_cost"],
        deductions=row["deductions"],
        previous=row["previous_cost"],
        change=row["change"],
        change_percent=_percent(row["change"], row["previous_cost"]),
        has_previous=row["previous_charges"] > 0,
        list_cost=row["list_cost"],
        saving=row["saving"],
        saving_percent=_percent(row["saving"], row["list_cost"]),
        unlisted=row["unlisted_cost"],
    )


Link = Callable[[Record], str]


def _no_link(_: Record) -> str:
    return ""


def _report_link(reported: set[str], currency: str) -> Link:
    """Links customers that have a report this month; a customer who left has none."""

    def link(row: Record) -> str:
        customer = row["billing_account_id"]
        return report_path(customer, currency).removeprefix("reports/") if customer in reported else ""

    return link


def _breakdown(
    view: _View,
    records: Sequence[Record],
    names: _Names,
    summary: Summary,
    *,
    prefix: str = "",
    link: Link = _no_link,
) -> Breakdown:
    items = [
        _Item(
            *view.name(names, row),
            cost=row["cost"],
            deductions=row["deductions"],
            previous=row["previous_cost"],
            href=link(row),
        )
        for row in records
        if row["charges"] or row["previous_charges"] or row["cost"] or row["previous_cost"]
    ]
    return _table(
        f"{prefix}{view.key}", view.title, view.heading, items, whole=summary.untaxed, compares=summary.has_previous
    )


@dataclass(frozen=True)
class _Item:
    """What a row of a table of costs is made of."""

    name: str
    note: str
    cost: Decimal
    deductions: Decimal = ZERO
    previous: Decimal = ZERO
    href: str = ""


def _table(
    anchor: str,
    title: str,
    heading: str,
    items: Sequence[_Item],
    *,
    whole: Decimal,
    compares: bool,
) -> Breakdown:
    """A table of costs; what is beyond its length is summed up in one row."""
    longest = max((item.cost for item in items), default=ZERO)

    def row(item: _Item) -> Row:
        change = _minus(item.cost, item.previous)
        return Row(
            name=item.name,
            note=item.note,
            cost=item.cost,
            gross=_minus(item.cost, item.deductions),
            deductions=item.deductions,
            previous=item.previous,
            change=change,
            change_percent=_percent(change, item.previous),
            share_percent=_percent(item.cost, whole),
            bar_percent=max(min(_percent(item.cost, longest) or ZERO, Decimal(100)), ZERO),
            href=item.href,
        )

    def summed(name: str, several: Sequence[_Item]) -> _Item:
        return _Item(
            name,
            "",
            cost=_sum(item.cost for item in several),
            deductions=_sum(item.deductions for item in several),
            previous=_sum(item.previous for item in several),
        )

    def rows(most: int) -> tuple[Row, ...]:
        rest = items[most:]
        return tuple(row(item) for item in (*items[:most], *([summed(f"{len(rest)} more", rest)] if rest else [])))

    short = len(items) <= _SHOWN_ROWS + 2
    return Breakdown(
        anchor=anchor,
        title=title,
        heading=heading,
        rows=rows(len(items) if short else _SHOWN_ROWS),
        every_row=() if short else rows(_LONGEST_TABLE),
        count=len(items),
        total=row(summed("Total", items)),
        compares=compares,
        deducts=any(item.deductions for item in items),
    )


def _tag_breakdowns(records: Sequence[Record], summary: Summary) -> tuple[Breakdown, ...]:
    """One table per tag key, the key that covers most cost first."""
    by_key: defaultdict[str, list[Record]] = defaultdict(list)
    for row in records:
        by_key[row["key"]].append(row)
    covered = {
        key: _sum(row["cost"].copy_abs() for row in rows if row["value"] is not None) for key, rows in by_key.items()
    }
    tables = []
    for number, key in enumerate(
        sorted(by_key, key=lambda key: (covered[key].copy_negate(), key))[:_SHOWN_TAGS], start=1
    ):
        rows = by_key[key]
        items = [
            _Item(_tag_name(row), "", _shown(row["cost"], summary)) for row in rows if row["part"] != costs.ROUNDED
        ]
        # What is shown has to add up: costs by tag are no whole cents, and the rounding of invoice lines has no tags.
        rounding = _minus(summary.untaxed, _sum(item.cost for item in items))
        if rounding:
            items.append(_Item("Rounding", "", rounding))
        tables.append(_table(f"tag-{number}", key, "Value", items, whole=summary.untaxed, compares=False))
    return tuple(tables)


def _tag_name(row: Record) -> str:
    if row["value"] is None:
        return "Not tagged" if row["part"] == costs.USED else "Fees, discounts, credits and corrections"
    return row["value"] or "(empty)"


def _days(records: Sequence[Record], summary: Summary) -> tuple[Day, ...]:
    """Cost per local day, then what belongs to no day, then rounding: they add up to the untaxed total as shown."""
    by_day: defaultdict[date, Decimal] = defaultdict(lambda: ZERO)
    by_kind: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
    for row in records:
        if row["day"] is not None:
            by_day[row["day"]] = _sum([by_day[row["day"]], row["cost"]])
        elif row["charge_kind"] != "rounding":
            by_kind[row["charge_kind"]] = _sum([by_kind[row["charge_kind"]], row["cost"]])
    days = [Day(day, "", _shown(cost, summary)) for day, cost in sorted(by_day.items())]
    days += [Day(None, _KIND_NAMES.get(kind, kind), _shown(cost, summary)) for kind, cost in sorted(by_kind.items())]
    rounding = _minus(summary.untaxed, _sum(day.cost for day in days))
    if rounding:
        days.append(Day(None, _KIND_NAMES["rounding"], rounding))
    return tuple(days)


def _chart(records: Sequence[Record], month: _Month, currency: str) -> Chart | None:
    """Cost per day of the month, the largest services apart, the others in one colour.

    The legend's sums are those of the table by service: with rounding, discounts, and all else that belongs to no day.
    What has no day at all (fees, corrections) is left to the tables.
    """
    costs_of: defaultdict[str, dict[date, Decimal]] = defaultdict(dict)
    total: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
    for row in records:
        total[row["service"]] = _sum([total[row["service"]], row["cost"]])
        if row["day"] is not None:
            days = costs_of[row["service"]]
            days[row["day"]] = _sum([days.get(row["day"], ZERO), row["cost"]])
    ranked = sorted(costs_of, key=lambda service: (total[service].copy_negate(), service))
    if not any(any(days.values()) for days in costs_of.values()):
        return None
    groups = [(service, [service]) for service in ranked]
    if len(groups) > _SHOWN_DAILY_SERVICES:
        rest = ranked[_SHOWN_DAILY_SERVICES - 1 :]
        groups = [*groups[: _SHOWN_DAILY_SERVICES - 1], (f"{len(rest)} other services", rest)]
    calendar = [month.period.first_day.replace(day=number) for number in range(1, month.period.days + 1)]
    series = [
        [_sum(costs_of[service].get(day, ZERO) for service in services) for day in calendar] for _, services in groups
    ]
    per_day = [_sum(values) for values in zip(*series, strict=True)]
    highest = max(range(len(calendar)), key=lambda index: (per_day[index], -index))
    description = (
        f"Bar chart of the cost per day by service in {currency}, {month.name}. The highest day is "
        f"{format_day(calendar[highest], _LANGUAGE)} with {format_money(per_day[highest], currency, _LANGUAGE)}. "
        "The table of costs by day has the numbers."
    )
    return Chart(
        svg=stacked_days(series, unit=currency, month=month.name, description=description),
        legend=tuple(
            Legend(name, number, _sum(total[service] for service in services))
            for number, (name, services) in enumerate(groups, start=1)
        ),
    )


def _movers(
    records: Sequence[Record],
    summary: Summary,
    name: Callable[[Record], tuple[str, str]],
    link: Link = _no_link,
) -> tuple[tuple[Mover, ...], Decimal]:
    """The largest changes, and the sum of all smaller ones; nothing where there is no month to compare with."""
    if not summary.has_previous:
        return (), ZERO
    shown = [
        Mover(
            name=name(row)[0],
            note=name(row)[1],
            reason=row["reason"],
            cost=row["cost"],
            previous=row["previous_cost"],
            change=row["change"],
            change_percent=_percent(row["change"], row["previous_cost"]),
            # What is shown has to add up: the price effect is the rest of the change as shown, too.
            quantity_effect=_shown(row["quantity_effect"], summary),
            price_effect=_minus(row["change"], _shown(row["quantity_effect"], summary)),
            href=link(row),
        )
        for row in records[:_SHOWN_MOVERS]
        if row["change"]
    ]
    return tuple(shown), _minus(summary.change, _sum(mover.change for mover in shown))


def _summed_taxes(billed: Billed, within: Sequence[str]) -> pl.DataFrame:
    key = [*within, "tax_code", "category", "kind", "rate"]
    joined = billed.taxes.lazy().join(
        billed.invoices.lazy().select("invoice_id", *within), on="invoice_id", validate="m:1"
    )
    return collect(joined.group_by(key).agg(pl.col("base_amount", "tax_amount").sum()).sort(key))


def _taxes(records: Iterable[Record]) -> tuple[TaxRow, ...]:
    return tuple(
        TaxRow(row["tax_code"], row["category"], row["kind"], row["rate"], row["base_amount"], row["tax_amount"])
        for row in records
    )


def _grouped(frame: pl.DataFrame, key: Sequence[str]) -> dict[tuple[str, ...], list[Record]]:
    """Rows by key, in order."""
    groups: defaultdict[tuple[str, ...], list[Record]] = defaultdict(list)
    for row in frame.iter_rows(named=True):
        groups[tuple(row[name] for name in key)].append(row)
    return dict(groups)


def _named(identifier: str, names: Mapping[str, str]) -> tuple[str, str]:
    """Name and, behind it, the id where the name is something else."""
    name = names.get(identifier) or identifier
    return name, "" if name == identifier else identifier


def _sum(values: Iterable[Decimal]) -> Decimal:
    total = ZERO
    for value in values:
        total = _EXACT.add(total, value)
    return total


def _minus(value: Decimal, less: Decimal) -> Decimal:
    return _EXACT.subtract(value, less)


def _shown(value: Decimal, summary: Summary) -> Decimal:
    """``value`` rounded half-up to the minor unit, as it is going to be shown."""
    with localcontext(prec=60):
        return value.quantize(Decimal(1).scaleb(-minor_unit_decimals(summary.currency)), rounding=ROUND_HALF_UP)


def _percent(part: Decimal, whole: Decimal) -> Decimal | None:
    """``part`` in percent of ``whole`` to one decimal; None unless ``whole`` is above zero."""
    if whole <= 0:
        return None
    with localcontext(prec=90):
        return (part * 100 / whole).quantize(Decimal("0.1"), rounding=ROUND_HALF_UP)
