"""What a member's export shows people: a cover page, cost reports, and a workbook, of the member's scope alone.

A member of an organization gets its cost report as the seller has it. A member of a part of it gets a report of this
part: what the organization's invoice as a whole says, its total, tax and documents, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.documents.environment import make_environment, render
from ratemill.documents.formats import format_month
from ratemill.documents.report import AccountJob, ReportFacts, render_report, report_jobs, report_path
from ratemill.documents.report_model import MemberCover, RunFacts
from ratemill.documents.sheets import Field, Kind, Sheets
from ratemill.documents.workbook import MOST_ROWS
from ratemill.documents.workbook_tables import invoice_fields, line_fields
from ratemill.frames import collect
from ratemill.money import ZERO
from ratemill.tables.book import CREDITS
from ratemill.tables.invoices import INVOICES, Billed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import date
    from pathlib import Path

    from ratemill.config import Seller
    from ratemill.documents.guard import Guard
    from ratemill.period import BillingPeriod

COVER_FILE = "index.html"
WORKBOOK_FILE = "workbook.xlsx"
_TEMPLATE = "report/member.html.j2"
_NOTHING = RunFacts(run_id="", rows_in=0, rows_accepted=0, rows_rejected=0, rows_duplicate=0, unpriced_records=0)
"""What happened to usage on the way is about all customers' usage."""


@dataclass(frozen=True)
class MemberMonth:
    """One month of a member's costs: frames that hold nothing else."""

    period: BillingPeriod
    charges: pl.LazyFrame
    previous_charges: pl.LazyFrame
    billed: Billed
    """Documents of a whole organization; of a part, its lines alone."""
    originals: Mapping[str, dict[str, Any]]
    """invoice_id → row of INVOICES, of invoices that are corrected."""


@dataclass(frozen=True)
class Names:
    """Tables of the book that give names, as far as the member sees them."""

    accounts: pl.DataFrame
    projects: pl.DataFrame
    skus: pl.DataFrame


@dataclass(frozen=True)
class MemberReport:
    """One cost report to be made."""

    folder: str
    """The month's folder in the export."""
    account: AccountJob
    facts: ReportFacts
    part: str
    """Of which part of the organization it is; empty: all of it."""

    @property
    def size(self) -> int:
        """Rows to show."""
        return self.account.size

    @property
    def name(self) -> str:
        """Path in the export."""
        return f"{self.folder}/{report_path(*self.account.bill)}"

    @property
    def title(self) -> str:
        """Customer and currency, as links call it."""
        payer, currency = self.account.bill
        return f"{self.facts.names.account(payer)[0]}, {currency}"


@dataclass(frozen=True)
class MemberPage:
    """The cover."""

    cover: MemberCover
    size: int = 1


MemberJob = MemberReport | MemberPage


@dataclass(frozen=True)
class MemberPrinter:
    """Makes the pages; it can be pickled, and templates are opened where the work is done."""

    templates: Path
    """The workspace's own; need not exist."""

    def open(self, guard: Guard) -> Callable[[MemberJob], Iterator[tuple[str, str, bytes]]]:
        """The function that makes a page: nothing it belongs to, name, and bytes.

        Raises:
            UsageError: a template of the workspace is wrong.
        """
        environment = make_environment(self.templates, guard)

        def make(job: MemberJob) -> Iterator[tuple[str, str, bytes]]:
            if isinstance(job, MemberPage):
                text = render(environment, _TEMPLATE, report=job.cover, language="en", direction="ltr")
                yield "", COVER_FILE, text.encode()
                return
            name, report = job.account.page(job.facts)
            report = replace(report, index_href=f"../../{COVER_FILE}", part=job.part)
            if job.part:
                report = replace(report, bills=(), taxes=())
            yield "", f"{job.folder}/{name}", render_report(report, environment).encode()

        return make


def member_reports(
    month: MemberMonth,
    *,
    parts: Mapping[str, str],
    names: Names,
    seller: Seller,
    default_zone: str,
    invoice_formats: Sequence[str],
) -> Iterator[MemberReport]:
    """The cost reports of a month: one per payer and currency.

    Args:
        month: what is shown of it.
        parts: payer → which part of it, in words; a payer that is not in here is shown as a whole.
        names: how things are called.
        seller: who bills.
        default_zone: IANA zone of accounts that name none.
        invoice_formats: endings of the files that each invoice was written to.

    Raises:
        InvariantError: charges, lines and invoices don't add up to the same.
    """
    billed = replace(month.billed, invoices=_with_totals_of_parts(month.billed, sorted(parts)))
    if billed.invoices.is_empty():
        return
    facts, jobs = report_jobs(
        period=month.period,
        charges=month.charges,
        previous_charges=month.previous_charges,
        billed=billed,
        accounts=names.accounts,
        projects=names.projects,
        skus=names.skus,
        granted=CREDITS.empty(),
        drawn=CREDITS.empty().select("credit_id", "amount"),
        seller=seller,
        run=_NOTHING,
        default_zone=default_zone,
        invoice_formats=invoice_formats,
        originals=month.originals,
    )
    bills = billed.invoices.select("billing_account_id", "currency").n_unique()
    # Behind the reports of accounts come pages of the seller.
    for job in islice(jobs, bills):
        if isinstance(job, AccountJob):
            yield MemberReport(str(month.period), job, facts, parts.get(job.bill[0], ""))


def _with_totals_of_parts(billed: Billed, payers: Sequence[str]) -> pl.DataFrame:
    """The invoices, those of ``payers`` as if the lines that are there were all: before tax, which is the invoice's."""
    sums = billed.lines.group_by("invoice_id").agg(pl.col("net_amount").sum().alias("_net"))
    parts = billed.invoices.filter(pl.col("billing_account_id").is_in(payers)).join(
        sums, on="invoice_id", how="inner", validate="1:1"
    )
    amounts = [name for name in INVOICES.names if name.endswith("_amount") or name == "rounding"]
    nothing = [pl.lit(ZERO).cast(INVOICES[name].dtype).alias(name) for name in amounts]
    same = [pl.col("_net").alias(name) for name in ("untaxed_amount", "total_amount", "due_amount")]
    parts = parts.with_columns(nothing).with_columns(same)
    whole = billed.invoices.filter(~pl.col("billing_account_id").is_in(payers))
    return pl.concat([whole, parts.pipe(INVOICES.conform)])


# ---------------------------------------------------------------------------------------------------------- workbook

_TAKEN_OFF = (
    Field("invoice_id", "Invoice", width=26),
    Field("line_number", "Line", Kind.COUNT, 7),
    Field("deduction_number", "Order", Kind.COUNT, 7),
    Field("kind", "Kind", width=12),
    Field("source_id", "Source", width=20),
    Field("description", "Description", width=34),
    Field("percent", "Percent", Kind.PERCENT, 9),
    Field("currency", "Currency", width=9),
    Field("amount", "Amount", Kind.AMOUNT),
)
_SUMS = (
    Field("period", "Month", width=10),
    Field("account_id", "Account", width=20),
    Field("account_name", "Account name", width=26),
    Field("project_id", "Project", width=20),
    Field("project_name", "Project name", width=26),
    Field("currency", "Currency", width=9),
    Field("lines", "Lines", Kind.COUNT, 8),
    Field("amount", "Before deductions", Kind.AMOUNT),
    Field("deductions", "Discounts and credits", Kind.AMOUNT),
    Field("net_amount", "Before tax", Kind.AMOUNT),
)


def member_workbook(
    *,
    seller: str,
    principal: str,
    first: date,
    last: date,
    invoices: pl.DataFrame,
    lines: pl.DataFrame,
    deductions: pl.DataFrame,
    whole: Sequence[str],
    names: Mapping[str, str],
) -> bytes:
    """The member's months as one workbook: Summary, Invoices of whole organizations, Lines, Deductions.

    Args:
        seller: who bills.
        principal: for whom it is made.
        first: first day of the first month.
        last: last day of the last month.
        invoices: invoices of the lines, of which no sum is shown unless the payer is one of ``whole``.
        lines: rows of INVOICE_LINES that the member sees.
        deductions: rows of INVOICE_DEDUCTIONS that the member sees.
        whole: payers that are seen as a whole.
        names: account_id → name.
    """
    about = invoices.select("invoice_id", "period", "billing_account_id", "currency", "origin")
    joined = lines.join(about, on="invoice_id", how="left", validate="m:1", maintain_order="left")
    taken = deductions.join(about, on="invoice_id", how="left", validate="m:1", maintain_order="left")
    span = format_month(first) if (first.year, first.month) == (last.year, last.month) else (
        f"{format_month(first)} to {format_month(last)}"
    )  # fmt: skip
    title = f"{seller}, {span}"
    sheets = Sheets(title=title, author=seller, created=last, footer=f"{seller} · {span} · for {principal}")
    sums = _sums(joined)
    sheets.table(sheets.sheet("Summary"), "Summary", _SUMS, sums)
    own = invoices.filter(pl.col("billing_account_id").is_in(list(whole)))
    if own.height:
        called = own.with_columns(
            customer=pl.col("billing_account_id").replace_strict(names, default=None, return_dtype=pl.String)
        )
        sheets.table(sheets.sheet("Invoices"), "Invoices", invoice_fields(), called)
    for name, fields, rows in (("Lines", line_fields(), joined), ("Deductions", _TAKEN_OFF, taken)):
        if rows.height > MOST_ROWS:
            sheet = sheets.sheet(name, title=name)
            sheets.text(
                sheet, 2, 0, f"{rows.height:,} rows, more than a sheet is good for: they are in csv and parquet."
            )
        else:
            sheets.table(sheets.sheet(name), name, fields, rows)
    return sheets.finish()


def _sums(lines: pl.DataFrame) -> pl.DataFrame:
    """Lines by month, account and project."""
    key = ["period", "account_id", "project_id", "currency"]
    taken = pl.col("discount_amount") + pl.col("commitment_amount") + pl.col("credit_amount")
    summed = (
        lines.lazy()
        .with_columns(deductions=taken)
        .group_by(key)
        .agg(
            pl.col("account_name", "project_name").sort_by("line_number").last(),
            pl.len().cast(pl.Int64).alias("lines"),
            pl.col("amount", "deductions", "net_amount").sum(),
        )
    )
    return collect(summed.sort("period", "currency", "account_id", "project_id", nulls_last=True))
