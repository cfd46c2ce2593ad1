"""export member: what one member may see, as a folder: database, Parquet, CSV, reports, workbook, documents.

Everything is made anew from frames that were filtered first (:mod:`ratemill.insight.access`): no file that holds other
customers' data is copied or shortened.
"""

from __future__ import annotations

import difflib
import shutil
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import dropwhile
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill import __version__
from ratemill.book.model import Book
from ratemill.documents.filenames import safe_name
from ratemill.documents.invoice_files import invoice_stem
from ratemill.documents.member import (
    WORKBOOK_FILE,
    MemberMonth,
    MemberPage,
    MemberPrinter,
    MemberReport,
    Names,
    member_reports,
    member_workbook,
)
from ratemill.documents.report_model import (
    Bill,
    Document,
    MemberCover,
    MemberFile,
    MemberGrant,
    MemberSection,
)
from ratemill.errors import NothingToBillError, UsageError
from ratemill.frames import collect
from ratemill.insight.access import (
    OF_MANAGERS,
    RULES,
    Grant,
    Ledger,
    Level,
    Scope,
    Seen,
    as_facts,
    scope_of,
    tables_of,
    visible,
)
from ratemill.insight.focus import FocusDatasets
from ratemill.io.atomic import StagedFolder
from ratemill.io.charge_store import ChargeStore
from ratemill.io.member_files import DATABASE, MemberTables, finish_export, is_export_of, write_documents
from ratemill.io.publish import PublishedDatabase
from ratemill.io.published import PublishedTables
from ratemill.io.report_queries import shipped_report_queries
from ratemill.resources import sql
from ratemill.steps.check import checked_book
from ratemill.steps.documents import made
from ratemill.steps.export import focus_ledger, refused_when_too_large
from ratemill.steps.publish import is_published
from ratemill.steps.report import corrected_invoices, invoice_files, issued_document
from ratemill.tables.book import BOOK_TABLES, BUDGETS, SUBSCRIPTIONS
from ratemill.tables.charges import CHARGES
from ratemill.tables.focus import COST_AND_USAGE, FOCUS_VERSIONS
from ratemill.tables.invoices import BILLING_TABLES, INVOICE_DEDUCTIONS, INVOICE_LINES, INVOICES, Billed
from ratemill.tables.runs import DOCUMENTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ratemill.period import BillingPeriod
    from ratemill.steps.context import Context
    from ratemill.tables.columns import Table

FOCUS = COST_AND_USAGE[FOCUS_VERSIONS[0]]
TABLES: dict[str, Table] = {
    table.name: table for table in (CHARGES, FOCUS, *BILLING_TABLES, DOCUMENTS, *BOOK_TABLES, BUDGETS, SUBSCRIPTIONS)
}
"""Definitions of the tables that have a rule."""
_SECONDS_PER_REPORT = 0.06


@dataclass(frozen=True)
class MemberExport:
    """An export as it lies on disk."""

    folder: Path
    scope: Scope
    manifest: dict[str, Any]


def export_member(
    context: Context, principal: str, periods: Sequence[BillingPeriod], *, to: Path | None
) -> MemberExport:
    """Write what a member may see of some periods; a former export for the same member there is replaced as a whole.

    Who may see what is read from the book as it is now, at the context's clock; what is shown, from what was published.

    Args:
        context: the workspace.
        principal: an e-mail address or key name of book/members.csv.
        periods: periods in order; each has invoices, drafts or issued.
        to: folder to make the export's folder in; else ``exports/members`` in the workspace.

    Raises:
        UsageError: the member is unknown or sees nothing at this time; a period was not published; or something else
            is where the export goes.
        DataRefusedError: the book has mistakes.
        NothingToBillError: nothing was billed in these periods to what the member may see.
    """
    book, _ = checked_book(context.workspace)
    scope = _known(scope_of(principal, book=book, at=context.now), book)
    _refuse_unpublished(context, periods)
    span = str(periods[0]) if len(periods) == 1 else f"{periods[0]}..{periods[-1]}"
    target = (to or context.workspace.root / "exports" / "members") / safe_name(principal) / span
    if target.exists() and not is_export_of(target, principal):
        raise UsageError(
            f"{target} is there, and is no export for {principal} → move it away, or name another folder with --to"
        )
    with ExitStack() as stack:
        step = stack.enter_context(context.progress.step("export", unit="files"))
        published = stack.enter_context(
            PublishedTables.open(context.workspace.published_database, memory=context.budget.beside // 2)
        )
        export = _Export(context, scope, book, published, periods)
        if export.seen.lines.is_empty():
            raise NothingToBillError(f"nothing was billed in {span} to what {principal} may see: {_words(scope)}")
        folder = stack.enter_context(StagedFolder(target))
        rows = export.write(folder)
        facts = {
            "member": principal,
            "as_of": context.now.isoformat().replace("+00:00", "Z"),
            "scope": as_facts(scope),
            "periods": [str(period) for period in periods],
            "ratemill": __version__,
        }
        manifest = finish_export(folder, facts, rows)
        step.done(f"{len(manifest['files']):,} files")
    return MemberExport(target, scope, manifest)


def _known(scope: Scope, book: Book) -> Scope:
    """The scope itself.

    Raises:
        UsageError: there is no such member, or it sees nothing at this time.
    """
    if scope.grants:
        return scope
    names = book.members["principal"].unique().sort().to_list()
    if scope.principal in names:
        raise UsageError(
            f"no row of {scope.principal!r} in book/members.csv holds at this time"
            " → mend its valid_from or valid_to, or name another time with --as-of"
        )
    near = difflib.get_close_matches(scope.principal, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"{scope.principal!r} is no member{hint} → add a row to book/members.csv")


def _refuse_unpublished(context: Context, periods: Sequence[BillingPeriod]) -> None:
    for period in periods:
        run = context.warehouse.current_run(period)
        if run is None:
            raise UsageError(f"{period} has no invoices to export → run: ratemill run --period {period}")
        if not is_published(context, run["run_id"]):
            raise UsageError(f"{period} is not published as it was billed → run: ratemill publish")


def _words(scope: Scope) -> str:
    return "; ".join(map(str, scope.grants))


class _Export:
    """One export in the making."""

    def __init__(
        self,
        context: Context,
        scope: Scope,
        book: Book,
        published: PublishedTables,
        periods: Sequence[BillingPeriod],
    ) -> None:
        self.context, self.scope, self.current_book, self.published = context, scope, book, published
        self.periods = periods
        self.invoices = published.frame(INVOICES)
        self.chosen = self.invoices.filter(_of_periods(periods))
        lines = published.frame(INVOICE_LINES, *self._candidates_on_invoices())
        tables = {table.name: published.frame(table) for table in BOOK_TABLES}
        self.seen = Seen(scope, Ledger(self.invoices, lines, Book.of(**tables)))

    def write(self, folder: Path) -> dict[str, int]:
        """Write everything but the manifest; table → rows."""
        with PublishedDatabase(folder / DATABASE, self.context.budget.beside // 2) as database:
            tables = MemberTables(folder, database)
            for name in self._names():
                tables.add(self._definition(name), self._parts(name))
            self._add_views(database)
        shutil.rmtree(folder / ".spill", ignore_errors=True)
        sections = [self._write_month(folder, tables, period) for period in self.periods]
        write_documents(folder, [(WORKBOOK_FILE, self._workbook(tables))])
        write_documents(folder, self._made([MemberPage(self._cover(tables, sections))]))
        return tables.rows

    # ------------------------------------------------------------------------------------------------------ tables

    def _names(self) -> list[str]:
        """Tables that the member sees anything of. FOCUS need not be published, and what is for managers never is."""
        there = {*self.published.names(), FOCUS.name, *OF_MANAGERS}
        return [name for name in tables_of(self.scope) if name in there]

    @staticmethod
    def _definition(name: str) -> Table:
        table, hidden = TABLES[name], RULES[name].hides
        columns = tuple(column.optional() if column.name in hidden else column for column in table.columns)
        return replace(table, columns=columns)

    def _parts(self, name: str) -> Iterator[pl.DataFrame]:
        if name in OF_MANAGERS:
            yield visible(name, self.current_book.frame(name).select(TABLES[name].names), self.seen)
            return
        if name == FOCUS.name:
            yield from self._focus_rows()
            return
        for part in self.published.parts(TABLES[name], *self._candidates(name)):
            yield visible(name, part, self.seen)

    def _candidates(self, name: str) -> tuple[str, dict[str, Any]]:
        """Which rows can be seen at all: what the database leaves out need not be looked at. Never fewer."""
        if name == CHARGES.name:
            return self._charges_of(self.periods)
        if name == INVOICE_LINES.name:
            return self._candidates_on_invoices()
        if "invoice_id" in TABLES[name].names:
            return "list_contains($ids, invoice_id)", {"ids": self._chosen_ids}
        if name == "adjustments":
            return "list_contains($periods, period)", {"periods": [str(period) for period in self.periods]}
        return "true", {}

    def _candidates_on_invoices(self) -> tuple[str, dict[str, Any]]:
        of_organizations = self.chosen.filter(self.scope.whole())["invoice_id"].to_list()
        where, values = self._owned("NULL", "account_id", "project_id")
        return (
            f"list_contains($ids, invoice_id) AND (list_contains($whole, invoice_id) OR {where})",
            {**values, "ids": self._chosen_ids, "whole": of_organizations},
        )

    def _charges_of(self, periods: Iterable[BillingPeriod]) -> tuple[str, dict[str, Any]]:
        where, values = self._owned("billing_account_id", "account_id", "project_id")
        return f"list_contains($periods, period) AND {where}", {**values, "periods": [str(one) for one in periods]}

    def _owned(self, payer: str, account: str, project: str) -> tuple[str, dict[str, Any]]:
        granted = {
            "payers": (payer, self.scope.organizations),
            "accounts": (account, self.scope.accounts),
            "projects": (project, self.scope.projects),
        }
        any_of = " OR ".join(f"list_contains(${name}, {column})" for name, (column, _) in granted.items())
        return f"({any_of})", {name: sorted(values) for name, (_, values) in granted.items()}

    @property
    def _chosen_ids(self) -> list[str]:
        return self.chosen["invoice_id"].to_list()

    def _focus_rows(self) -> Iterator[pl.DataFrame]:
        """FOCUS rows of the payers of what is seen, made from the ledger as it was published, then filtered."""
        store = ChargeStore(self.context.workspace.charges)
        payers = self.seen.lines["billing_account_id"].unique().implode()
        for period in self.periods:
            ledger = focus_ledger(self.context, period)
            own = ledger.billed.invoices.filter(pl.col("billing_account_id").is_in(payers))["invoice_id"].implode()
            billed = Billed.of(rows.filter(pl.col("invoice_id").is_in(own)) for _, rows in ledger.billed.frames())
            charges = [
                part.filter(pl.col("billing_account_id").is_in(payers))
                for part in store.usage_parts(period, ledger.run_id)
            ]
            with refused_when_too_large(charges):
                for rows in FocusDatasets(replace(ledger, billed=billed)).cost_and_usage(charges):
                    yield visible(FOCUS.name, FOCUS.conform(rows), self.seen)

    @staticmethod
    def _add_views(database: PublishedDatabase) -> None:
        """Usage as charges have it, and the shipped report queries that find all that they read in this database."""
        database.add_view("usage", sql("core/usage_from_charges"), "usage as it was billed, by resource and day")
        database.forbid_files()
        waiting = [query for query in shipped_report_queries() if query.is_view]
        while waiting:
            left = [query for query in waiting if database.try_view(query.name, _code(query.text), query.purpose)]
            if len(left) == len(waiting):
                break
            waiting = left

    # --------------------------------------------------------------------------------------------- months, documents

    def _write_month(self, folder: Path, tables: MemberTables, period: BillingPeriod) -> MemberSection:
        """Write the reports and documents of a month into a folder of its own, and say what is there."""
        reports = list(self._reports(tables, period))
        seconds = len(reports) * _SECONDS_PER_REPORT
        write_documents(folder, self._made(reports, seconds=seconds))
        written = write_documents(folder, self._documents(period))
        drafts = self._of_month(period).filter(status="draft")["invoice_id"]
        shown = self.seen.lines.filter(pl.col("invoice_id").is_in(drafts.implode()))
        return MemberSection(
            period=period.first_day,
            is_draft=shown.height > 0,
            reports=tuple(Document(report.title, report.name) for report in reports),
            bills=tuple(self._bills(period, written)),
        )

    def _of_month(self, period: BillingPeriod) -> pl.DataFrame:
        return self.chosen.filter(_of_periods([period]))

    def _reports(self, tables: MemberTables, period: BillingPeriod) -> Iterator[MemberReport]:
        charges = tables.scan(CHARGES).filter(pl.col("period") == str(period))
        before = visible(
            CHARGES.name, self.published.frame(CHARGES, *self._charges_of([period.shift(-1)])), self.seen
        ).lazy()
        # Credit notes by hand have no charges: they are documents, and no cost of the month.
        invoices = self._of_month(period).filter(origin="run")
        lines = self.seen.lines.select(INVOICE_LINES.names)
        seen = invoices.filter(self.scope.whole() | pl.col("invoice_id").is_in(lines["invoice_id"].unique().implode()))
        billed = self._billed(seen)
        month = MemberMonth(period, charges, before, billed, corrected_invoices(self.context.warehouse, billed))
        payers = set(seen["billing_account_id"]) - self.scope.organizations
        output = self.context.config.output
        yield from member_reports(
            month,
            parts={payer: self._part_of(payer) for payer in sorted(payers)},
            names=Names(self._named_accounts(), self._shown("projects"), self._shown("skus")),
            seller=self.context.config.seller,
            default_zone=self.context.config.period.time_zone,
            invoice_formats=[
                kind
                for kind, wanted in (("html", output.html), ("pdf", output.pdf), ("json", True), ("csv", True))
                if wanted
            ],
        )

    def _billed(self, invoices: pl.DataFrame) -> Billed:
        """Documents with what is seen of them."""
        ids = {"ids": invoices["invoice_id"].to_list()}
        frames = [
            visible(table.name, self.published.frame(table, "list_contains($ids, invoice_id)", ids), self.seen)
            for table in BILLING_TABLES[1:]
        ]
        return Billed.of([invoices, *frames])

    def _shown(self, name: str) -> pl.DataFrame:
        return visible(name, self.seen.ledger.book.frame(name).select(TABLES[name].names), self.seen)

    def _named_accounts(self) -> pl.DataFrame:
        """Accounts that pages name: those that are seen, and who pays for what is, whose time zone decides the days."""
        named = {*self.seen.accounts, *self.seen.lines["billing_account_id"]}
        return self.seen.ledger.book.accounts.filter(pl.col("account_id").is_in(sorted(named)))

    def _part_of(self, payer: str) -> str:
        """Which part of an organization is seen, in words."""
        lines = self.seen.lines.filter(pl.col("billing_account_id") == payer)
        shown = []
        for grant in self.scope.grants:
            if not lines.filter(Scope(self.scope.principal, (grant,)).part()).is_empty():
                level, name, _ = self._called(grant)
                shown.append(f"{level.capitalize()} {name}")
        return ", ".join(dict.fromkeys(shown))

    def _documents(self, period: BillingPeriod) -> Iterator[tuple[str, bytes]]:
        """Invoices and credit notes of whole organizations: as issued, or drafts as they would be."""
        own = self._of_month(period).filter(self.scope.whole())
        issued = own.filter(status="issued")["invoice_id"].to_list()
        files = self.context.warehouse.table("ops", DOCUMENTS, "list_contains($ids, invoice_id)", {"ids": issued})
        for row in files.sort("file").iter_rows(named=True):
            _, _, name = row["file"].partition("/")
            yield f"{period}/{name}", issued_document(self.context, row["file"], row["sha256"])
        drafts = own.filter(status="draft")
        if drafts.height:
            billed = self._billed(drafts)
            book = self._book_of(period)
            with closing(invoice_files(self.context, billed, book=book, period=period)) as made_files:
                for _, name, data in made_files:
                    yield f"{period}/{name}", data

    def _book_of(self, period: BillingPeriod) -> Book:
        run = self.context.warehouse.current_run(period)
        version = run["book_sha256"] if run is not None else ""
        return Book.of(**{table.name: self.context.warehouse.book_table(table, version) for table in BOOK_TABLES})

    def _bills(self, period: BillingPeriod, written: Sequence[str]) -> Iterator[Bill]:
        numbers = dict(self.invoices.select("invoice_id", pl.coalesce("number", "invoice_id")).iter_rows())
        own = visible(INVOICES.name, self._of_month(period), self.seen).sort("invoice_id")
        for invoice in own.iter_rows(named=True):
            named = {name: invoice[name] for name in ("period", "billing_account_id", "currency")}
            stem = f"{period}/{invoice_stem(invoice['invoice_id'], **named)}"
            yield Bill(
                kind="Credit note" if invoice["document"] == "credit_note" else "Invoice",
                name=numbers[invoice["invoice_id"]],
                status=invoice["status"],
                corrects=numbers.get(invoice["corrects_invoice_id"] or "", ""),
                total=invoice["total_amount"],
                documents=tuple(
                    Document(ending.upper(), f"{stem}.{ending}")
                    for ending in ("html", "pdf", "xml", "json", "csv")
                    if f"{stem}.{ending}" in written
                ),
            )

    # -------------------------------------------------------------------------------------------- workbook and cover

    def _workbook(self, tables: MemberTables) -> bytes:
        lines = self._collected(tables, INVOICE_LINES)
        return member_workbook(
            seller=self.context.config.seller.name,
            principal=self.scope.principal,
            first=self.periods[0].first_day,
            last=self.periods[-1].last_day,
            invoices=self.chosen.filter(pl.col("invoice_id").is_in(lines["invoice_id"].unique().implode())),
            lines=lines,
            deductions=self._collected(tables, INVOICE_DEDUCTIONS),
            whole=sorted(self.scope.organizations),
            names=dict(self._shown("accounts").select("account_id", "name").iter_rows()),
        )

    @staticmethod
    def _collected(tables: MemberTables, table: Table) -> pl.DataFrame:
        return collect(tables.scan(table).sort(*table.key))

    def _cover(self, tables: MemberTables, sections: Sequence[MemberSection]) -> MemberCover:
        grants = []
        for grant in self.scope.grants:
            level, name, named = self._called(grant)
            within = [grant.organization_id if grant.level is not Level.ORGANIZATION else ""]
            within.append(grant.account_id if grant.level is Level.PROJECT else "")
            role = grant.role.replace("_", " ").capitalize()
            grants.append(MemberGrant(role, level, name, named, ", ".join(filter(None, within))))
        return MemberCover(
            seller=self.context.config.seller.name,
            principal=self.scope.principal,
            as_of=self.context.now.date(),
            grants=tuple(grants),
            sections=tuple(sections),
            files=tuple(
                MemberFile(name, TABLES[name].grain, rows, f"parquet/{name}.parquet", f"csv/{name}.csv")
                for name, rows in tables.rows.items()
            ),
            database_href=DATABASE,
            workbook_href=WORKBOOK_FILE,
            is_part=any(grant.level is not Level.ORGANIZATION for grant in self.scope.grants),
        )

    def _called(self, grant: Grant) -> tuple[str, str, str]:
        """Level, name and id of what a grant is of."""
        book = self.seen.ledger.book
        if grant.level is Level.PROJECT:
            names = dict(
                self.seen.projects.sort("valid_from", nulls_last=False).select("project_id", "name").iter_rows()
            )
            return grant.level.value, names.get(grant.project_id, grant.project_id), grant.project_id
        named = grant.account_id if grant.level is Level.ACCOUNT else grant.organization_id
        accounts = dict(book.accounts.select("account_id", "name").iter_rows())
        return grant.level.value, accounts.get(named, named), named

    def _made(self, jobs: Sequence[MemberReport | MemberPage], *, seconds: float = 0) -> Iterator[tuple[str, bytes]]:
        printer = MemberPrinter(self.context.workspace.templates)
        with closing(made(self.context, printer, jobs, seconds=seconds)) as files:
            for _, name, data in files:
                yield name, data


def _code(query: str) -> str:
    """A query without its header, whose example names invoices: who finds them can't know that they are made up."""
    return "\n".join(dropwhile(lambda line: line.startswith("--"), query.splitlines()))


def _of_periods(periods: Iterable[BillingPeriod]) -> pl.Expr:
    """What a run billed in these periods, and credit notes by hand of these calendar months (rows of INVOICES)."""
    chosen = list(periods)
    by_hand = pl.any_horizontal(pl.col("issue_date").is_between(one.first_day, one.last_day) for one in chosen)
    of_run = pl.col("period").is_in([str(one) for one in chosen])
    return pl.when(pl.col("origin") == "hand").then(by_hand).otherwise(of_run)
