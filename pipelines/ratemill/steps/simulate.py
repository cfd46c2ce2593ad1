"""simulate: what invoices would have been with other prices, discounts, commitments or taxes; nothing is kept of it.

Each month is taken as it was drafted or issued: with the book of its run, and the charges that stand, which are one
side. The other is the same with the tables asked for. Where these decide what usage costs, the month is rated once
more, into a folder that goes when the simulation ends, or with the next command if it is killed.

Months follow each other on both sides: what a simulated month draws on a credit is not there for the next. The ledger
of before the first month is where both begin. Corrections of closed months are billed on neither side.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from ratemill.book.checks import check_book
from ratemill.book.of_period import book_of_period
from ratemill.book.what_if import Raise, changed_book, names_to_raise, raise_factors, with_sources
from ratemill.errors import DataRefusedError, UsageError
from ratemill.findings import Finding, Severity, capped, errors
from ratemill.insight.diff import changed_rows
from ratemill.insight.simulate import Effects, Month, carried_draws, effects_of, has_corrections, lines_that_differ
from ratemill.invoicing.assembly import Invoices, assemble_invoices
from ratemill.invoicing.invariants import assert_invoices_add_up
from ratemill.io.book_files import read_book, read_book_table
from ratemill.io.charge_store import ChargeStore
from ratemill.proof import different_values
from ratemill.steps.check import Checked
from ratemill.steps.diff import book_of_run
from ratemill.steps.inputs import changed_rating_inputs, files_of, rating_inputs
from ratemill.steps.overflow import largest_charge, overflow_refused
from ratemill.steps.rate import rate_into, refuse_rejects, unpriced_findings
from ratemill.tables.book import BOOK_TABLES
from ratemill.tables.invoices import CORRECTIONS, Billed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import polars as pl

    from ratemill.book.model import Book
    from ratemill.period import BillingPeriod
    from ratemill.steps.context import Context

RATING_TABLES = ("accounts", "projects", "skus", "prices", "windows", "fx_rates")
"""Tables of the book that decide what usage costs; the others only decide how it is invoiced."""

SIMULATED = "simulated"
AS_BILLED = "as-billed"
_MOST_ROWS_TOLD = 5
_TABLES = {table.name: table for table in BOOK_TABLES}


@dataclass(frozen=True)
class Question:
    """What is to be different."""

    tables: Mapping[str, Path] = field(default_factory=dict)
    """Table of the book → file that takes its place."""
    book: Path | None = None
    """Folder that takes the place of the whole book."""
    merge: bool = False
    """Put the rows of ``tables`` over those of the book."""
    raises: tuple[Raise, ...] = ()
    price_lists: tuple[str, ...] = ()
    """Price lists that ``raises`` are for; none: all."""


@dataclass(frozen=True)
class Simulated:
    """What came of it."""

    periods: tuple[str, ...]
    changes: tuple[str, ...]
    """What is different, in words: files, raises, rows."""
    notes: tuple[str, ...]
    """What a reader must know of the figures."""
    findings: tuple[Finding, ...]
    """Warnings about the tables given."""
    effects: Effects
    months: tuple[Month, ...]


def simulate(
    context: Context, periods: Sequence[BillingPeriod], question: Question, *, always_rate: bool = False
) -> Simulated:
    """Invoices of ``periods`` as they are, and as they would have been.

    Args:
        context: an open workspace; read-only is enough.
        periods: months that follow each other, each with a run.
        question: what is to be different.
        always_rate: rate the other side even where it can't differ.

    Raises:
        UsageError: a month has no run, loading did not come to its end, or the question is about nothing.
        DataRefusedError: the other book has mistakes, leaves usage without a price or payers without a tax, or what
            stands of a month no longer leads to what was billed.
    """
    if not context.warehouse.usage.is_settled():
        raise UsageError(
            "loading was stopped before its end, so files may be missing and duplicates are not settled"
            " → run: ratemill load"
        )
    with context.progress.step("check") as step:
        given = _given(context, question)
        stood = [_stood(context, period) for period in periods]
        changed, findings = _changed(context, given, stood)
        step.done(f"{len(changed):,} month{'' if len(changed) == 1 else 's'} with another book")
    with _scratch(context) as scratch:
        teller = _Simulation(context, scratch, always_rate=always_rate)
        for one, book in zip(stood, changed, strict=True):
            with context.progress.step(f"simulate {one.period}") as step:
                step.done(teller.simulate(one, book))
        names = {name: text for book in (*(one.book for one in stood), *changed)
                 for name, text in book.accounts.select("account_id", "name").iter_rows()}  # fmt: skip
        return Simulated(
            periods=tuple(str(period) for period in periods),
            changes=_told(question, given, stood, changed),
            notes=tuple(dict.fromkeys(teller.notes)),
            findings=findings,
            effects=effects_of(teller.months, names),
            months=tuple(teller.months),
        )


# ------------------------------------------------------------------------------------------------------ the other book


@dataclass(frozen=True)
class _Given:
    """What the question's files say."""

    question: Question
    book: Book | None
    tables: Mapping[str, pl.DataFrame]

    def over(self, book: Book) -> Book:
        """``book`` as the question wants it."""
        return changed_book(
            self.book or book,
            self.tables,
            merge=self.question.merge,
            raises=self.question.raises,
            price_lists=self.question.price_lists,
        )


def _given(context: Context, question: Question) -> _Given:
    zone = context.config.period.time_zone
    findings: list[Finding] = []
    book = None
    for option, path in (("--book", question.book), *((f"--{name}", path) for name, path in question.tables.items())):
        if path is not None and not (path.is_dir() if option == "--book" else path.is_file()):
            raise UsageError(f"{option}: there is no {'folder' if option == '--book' else 'file'} {path}")
    if question.book is not None:
        book, findings = read_book(question.book.resolve(), time_zone=zone)
    tables: dict[str, pl.DataFrame] = {}
    for name, path in question.tables.items():
        rows, found = read_book_table(path, _TABLES[name], time_zone=zone)
        findings += found
        if rows is not None:
            tables[name] = rows
    _refuse(findings)
    return _Given(question, book, tables)


def _changed(context: Context, given: _Given, stood: Sequence[_Stood]) -> tuple[list[Book], tuple[Finding, ...]]:
    """Each month's other book, checked as a run checks it, and warnings about what was given."""
    by_base: dict[str, Book] = {}
    found: dict[Finding, None] = {}
    for one in stood:
        if one.book.sha256 in by_base:
            continue
        _refuse_names(given, one)
        book = given.over(with_sources(one.book, f"run {one.run_id}"))
        by_base[one.book.sha256] = book
        found |= dict.fromkeys(check_book(book, time_zone=context.config.period.time_zone))
    _refuse(list(found))
    files = {str(path) for path in given.question.tables.values()}
    folder = None if given.question.book is None else f"{given.question.book.resolve().name}/"
    warnings = [
        finding for finding in found
        if finding.file is not None and (finding.file in files or (folder and finding.file.startswith(folder)))
    ]  # fmt: skip
    return [by_base[one.book.sha256] for one in stood], tuple(capped(warnings))


def _refuse(findings: Sequence[Finding]) -> None:
    wrong = errors(findings)
    if wrong:
        count = f"{len(wrong):,} mistake{'s' if len(wrong) != 1 else ''}"
        raise DataRefusedError(f"the book to simulate with has {count}; nothing was simulated", findings=wrong)


def _refuse_names(given: _Given, one: _Stood) -> None:
    """Refuse raises that are for nothing: a misspelt name would say that a rise changes nothing."""
    book = given.over(one.book)
    for each in given.question.raises:
        if not raise_factors(book.skus, [each]):
            known = ", ".join(names_to_raise(book.skus)[:40])
            raise UsageError(f"--raise: the book of {one.period} has no SKU, service or category {each.name!r};"
                             f" it has {known}")  # fmt: skip
    unknown = sorted({*given.question.price_lists} - {*book.prices["price_list"]})
    if unknown:
        raise UsageError(f"--price-list: the book of {one.period} has no price list {unknown[0]!r};"
                         f" it has {', '.join(sorted({*book.prices['price_list']}))}")  # fmt: skip


def _told(question: Question, given: _Given, stood: Sequence[_Stood], changed: Sequence[Book]) -> tuple[str, ...]:
    """What is different, in words; of rows, by the last month's book."""
    told = []
    if question.book is not None:
        told.append(f"the whole book: {question.book}")
    how = "over the book's" if question.merge else "in place of the book's"
    told += [f"{name}: {path}, {given.tables[name].height:,} rows {how}" for name, path in question.tables.items()]
    lists = f", on the price list{'s' if len(question.price_lists) > 1 else ''} {', '.join(question.price_lists)}"
    told += [f"prices: {each}{lists if question.price_lists else ''}" for each in question.raises]
    before, after = stood[-1].book, changed[-1]
    for name in _TABLES:
        if before.table_sha256(name) == after.table_sha256(name):
            continue
        rows = [f"{row}: {what}" for row, what in changed_rows(name, before.frame(name), after.frame(name)).items()]
        told += [f"{name}: {row}" for row in rows[:_MOST_ROWS_TOLD]]
        if len(rows) > _MOST_ROWS_TOLD:
            told.append(f"{name}: … and {len(rows) - _MOST_ROWS_TOLD:,} more rows that differ")
    return tuple(told)


# ------------------------------------------------------------------------------------------------------ what stands


@dataclass(frozen=True)
class _Stood:
    """A month as it was drafted or issued."""

    period: BillingPeriod
    run: Mapping[str, Any]
    book: Book
    files: pl.DataFrame
    changed: tuple[str, ...]
    """Why its charges are not those of now, in words; none: they are."""

    @property
    def run_id(self) -> str:
        return str(self.run["run_id"])

    @property
    def inputs(self) -> dict[str, Any]:
        inputs: dict[str, Any] = json.loads(self.run["inputs"])
        return inputs


def _stood(context: Context, period: BillingPeriod) -> _Stood:
    warehouse = context.warehouse
    run = warehouse.current_run(period)
    if run is None:
        raise UsageError(f"{period} has no run yet, so there is nothing to compare with"
                         f" → run: ratemill run --period {period}")  # fmt: skip
    book = book_of_run(warehouse, run["book_sha256"])
    files = files_of(warehouse.usage.files(), period)
    changed = changed_rating_inputs(json.loads(run["inputs"]), rating_inputs(context, book, files, period), period)
    store = ChargeStore(context.workspace.charges)
    if not all(file.is_file() for file in store.charge_files(period, run["run_id"])):
        changed.append("its charges are no longer kept")
    return _Stood(period, run, book, files, tuple(changed))


@dataclass(frozen=True)
class _Trial(Checked):
    """A month that is rated for its charges alone."""

    name: str = SIMULATED

    @property
    def run_id(self) -> str:
        """What its charges are kept under, in the scratch folder."""
        return f"{self.period}-{self.name}"


@dataclass(frozen=True)
class _Charges:
    """What rating made of a month."""

    store: ChargeStore
    run_id: str


class _Simulation:
    """Months one after the other, on both sides."""

    def __init__(self, context: Context, scratch: ChargeStore, *, always_rate: bool) -> None:
        self.context = context
        self.scratch = scratch
        self.always_rate = always_rate
        self.months: list[Month] = []
        self.notes: list[str] = []
        self._ledger: list[Billed] = []
        """The months so far as the ledger has them."""
        self._exact = True
        """Whether what was billed can be assembled again to the last digit; not behind a month with corrections."""

    def simulate(self, one: _Stood, book: Book) -> str:
        """Add a month; what was done, in words."""
        before = self._charges_before(one)
        rates = self.always_rate or _differs(one, book)
        after = self._rated(one, book, SIMULATED) if rates else before
        billed = self.context.warehouse.billed(one.period)
        was, would_be = (
            self._invoiced(one, charges, which, [getattr(month, side) for month in self.months])
            for charges, which, side in ((before, one.book, "before"), (after, book, "after"))
        )
        if has_corrections(billed):
            self._exact = False
            self.notes.append(f"{one.period} bills corrections of earlier months; they are left out on both sides")
        if not one.changed:
            self._assert_as_billed(one, was, billed)
        self.months.append(Month(str(one.period), was, would_be))
        self._ledger.append(billed)
        return f"{would_be.invoices.height:,} invoices, {'rated once more' if rates else 'charges as they stand'}"

    def _charges_before(self, one: _Stood) -> _Charges:
        if not one.changed:
            return _Charges(ChargeStore(self.context.workspace.charges), one.run_id)
        self.notes.append(
            f"{one.period} is compared with what its run would bill of the usage and settings of now, not with what it"
            f" billed: {'; '.join(one.changed)}"
        )
        self._exact = False
        return self._rated(one, one.book, AS_BILLED)

    def _rated(self, one: _Stood, book: Book, name: str) -> _Charges:
        trial = _Trial(one.period, book, one.files, one.inputs, (), name)
        with self.scratch.writing(one.period, trial.run_id) as writer:
            writer.facts = rate_into(self.context, trial, writer, keep_rejects=False)
        charges = _Charges(self.scratch, trial.run_id)
        refuse_rejects(self.context, trial, writer.facts)
        self._tell_of_lost(one, charges)
        return charges

    def _tell_of_lost(self, one: _Stood, charges: _Charges) -> None:
        """Usage that the other book does not know, or has no price for, must not pass for a saving."""
        facts = self.scratch.facts(one.period, charges.run_id)
        unpriced = self.scratch.unpriced(one.period, charges.run_id)
        store = ChargeStore(self.context.workspace.charges)
        known = store.facts(one.period, one.run_id) if store.folder(one.period, one.run_id).is_dir() else facts
        if not one.changed and facts["rows_rejected"] != known["rows_rejected"]:
            self.notes.append(
                f"{one.period}: {facts['rows_rejected']:,} usage rows are rejected, {known['rows_rejected']:,} with the"
                " book of its run: other accounts, SKUs or units"
            )
        if not unpriced.height:
            return
        records = f"{unpriced['records'].sum():,} usage records of {one.period} have no price"
        if self.context.config.policy.unpriced == "block":
            raise DataRefusedError(
                f'{records}; nothing was simulated. Leave them out by [policy] unpriced = "warn"',
                findings=unpriced_findings(unpriced, severity=Severity.ERROR),
            )
        self.notes.append(f"{records} and are left out: {unpriced['reason'][0]}")

    def _invoiced(self, one: _Stood, charges: _Charges, book: Book, earlier: list[Billed]) -> Invoices:
        """A month's invoices without corrections, after ``earlier`` months; every law of them holds."""
        usage = charges.store.usage_charges(one.period, charges.run_id)
        with overflow_refused("the sum of an invoice's charges", partial(largest_charge, usage)):
            invoices = assemble_invoices(
                usage,
                book=book,
                period=one.period,
                time_zone=self.context.config.period.time_zone,
                run_id=charges.run_id,
                credits_drawn=carried_draws(self.context.warehouse.credits_drawn(one.period), self._ledger, earlier),
                corrections=CORRECTIONS.empty(),
            )
        if invoices.findings:
            raise DataRefusedError(
                f"the book to simulate with lacks taxes for {one.period}; nothing was simulated",
                findings=invoices.findings,
            )
        if invoices.lines.height or charges.store.facts(one.period, charges.run_id)["charges"]:
            assert_invoices_add_up(usage, invoices)
        return invoices

    def _assert_as_billed(self, one: _Stood, assembled: Invoices, billed: Billed) -> None:
        """What stands must lead to what was billed, else the difference would be of something else."""
        ledger = self.context.warehouse.ledger_fingerprint(one.period)
        if self._exact and one.inputs["ledger"] == ledger:
            different = [str(finding.message) for finding in different_values(assembled, billed, {})]
        else:  # corrections draw on credits as well, and drafts of earlier months may have changed
            different = [
                f"a line of {row['account_id']} for {row['sku_id'] or row['source_id'] or row['line_kind']}"
                for row in lines_that_differ(assembled, billed).iter_rows(named=True)
            ]
        if different:
            raise DataRefusedError(
                f"what stands of {one.period} no longer leads to what its run {one.run_id} billed: {different[0]}"
                f"{f' and {len(different) - 1:,} more' if different[1:] else ''}; nothing was simulated"
                f" → run: ratemill verify --period {one.period}"
            )
        if one.inputs["ledger"] != ledger and self.context.warehouse.closed_period(one.period) is None:
            self.notes.append(
                f"{one.period} was drafted before earlier months changed; credits are as if it were drafted now"
            )


def _differs(one: _Stood, book: Book) -> bool:
    """Whether the month's usage may cost something else."""
    now, then = (book_of_period(each, one.period) for each in (book, one.book))
    return any(now.table_sha256(name) != then.table_sha256(name) for name in RATING_TABLES)


@contextmanager
def _scratch(context: Context) -> Iterator[ChargeStore]:
    """A place that goes when the block ends, or with the next command that opens the workspace."""
    folder = context.workspace.state / f".simulate.{os.getpid()}.tmp"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield ChargeStore(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
