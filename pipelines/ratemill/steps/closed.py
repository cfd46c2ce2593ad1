"""Closed periods: what a run does with them. Nothing is billed again; files that are not there yet are made."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import polars as pl

from ratemill.book.model import Book
from ratemill.errors import DataRefusedError, InvariantError, LockedError, TemporaryError
from ratemill.findings import Finding, Severity
from ratemill.io.atomic import names_full_disk
from ratemill.io.charge_store import ChargeStore
from ratemill.period import BillingPeriod
from ratemill.steps.check import Checked, checked_book
from ratemill.steps.inputs import changed_rating_key, settled_periods
from ratemill.steps.publish import is_published, issued_counts, publish, published_issues
from ratemill.steps.rate import Rated
from ratemill.steps.report import is_reported, report
from ratemill.tables.book import BOOK_TABLES
from ratemill.tables.runs import FINDINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ratemill.steps.context import Context


def refuse_lost_ledger(context: Context) -> None:
    """Refuse to go on with a warehouse that does not know what was issued: its numbers would be given again.

    Raises:
        DataRefusedError: ``published/`` holds documents that the warehouse does not know.
    """
    known = issued_counts(context.warehouse)
    for period, count in sorted(published_issues(context).items()):
        if count > known.get(period, 0):
            raise DataRefusedError(
                f"{context.workspace.relative(context.workspace.published)} holds {count:,} documents that were issued"
                f" for {period}, and {context.workspace.relative(context.workspace.warehouse)} knows"
                f" {known.get(period, 0):,} of them: the state folder was lost, or is an old one → bring it back from"
                " the latest backup; if nothing of it shall count, remove published, state and out"
            )


def issued_run(context: Context, period: BillingPeriod) -> tuple[Checked, Rated]:
    """The run whose invoices a period's close issued, with the book of then.

    Raises:
        InvariantError: the warehouse does not hold what the run was made of.
    """
    warehouse = context.warehouse
    run = warehouse.current_run(period)
    closed = warehouse.closed_period(period)
    if run is None or closed is None or run["run_id"] != closed["run_id"]:
        raise InvariantError(f"{period} is closed, but its run is not the current one")
    book = Book.of(**{table.name: warehouse.book_table(table, run["book_sha256"]) for table in BOOK_TABLES})
    inputs = json.loads(run["inputs"])
    files = warehouse.usage.files().filter(pl.col("file").is_in(list(inputs["usage"]))).sort("sha256", "file")
    found = warehouse.table("ops", FINDINGS, "run_id = $run_id", {"run_id": run["run_id"]})
    findings = tuple(
        Finding(**{k: v for k, v in row.items() if k != "run_id"} | {"severity": Severity(row["severity"])})
        for row in found.sort("severity", "rule", "file", "row").iter_rows(named=True)
    )
    facts = ChargeStore(context.workspace.charges).facts(period, run["run_id"])
    return Checked(period, book, files, inputs, findings), Rated(run["run_id"], facts, ())


def finish_closed(context: Context, period: BillingPeriod) -> tuple[Checked, Rated, bool]:
    """See that ``out/<period>`` and ``published/`` hold what was issued, and nothing else.

    They do not right after a close, after one that was killed there, and when somebody deleted them. The third value
    tells whether nothing was missing.

    Raises:
        DataRefusedError: a document that was issued is not there any more, or not as it was.
    """
    checked, rated = issued_run(context, period)
    whole = is_reported(context, checked)
    if not whole:
        report(context, checked, rated)
    run = context.warehouse.current_run(period)
    if run is None or run["status"] != "done" or not is_published(context, checked.run_id):
        publish(context)
        whole = False
    return checked, rated, whole


@contextmanager
def after_issue(what: str) -> Iterator[None]:
    """Say of trouble that may pass that ``what`` was issued all the same: the block only makes files that show it.

    Raises:
        TemporaryError: the disk is full, or the like.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, TemporaryError) and not names_full_disk(str(error)):
            raise
        reason = str(error).partition(":")[0] if isinstance(error, TemporaryError) else "disk full"
        raise TemporaryError(
            f"{what}, but out and published do not show it yet: {reason} → free space and give the same command again"
        ) from error


def refuse_changed(context: Context, periods: Iterable[BillingPeriod]) -> None:
    """Say so where only closed periods were asked for, and one of them would be billed otherwise today.

    Raises:
        LockedError: naming the period that bills the difference.
    """
    asked = list(periods)
    settled = settled_periods(context.warehouse)
    if any(str(period) not in settled for period in asked):
        return  # that one is later, and bills what is different
    book, _ = checked_book(context.workspace)
    changed = [
        str(period) for period in asked if changed_rating_key(context, book, period, settled[str(period)]) is not None
    ]
    if changed:
        coming = BillingPeriod.parse(max(settled)).shift(1)
        raise LockedError(
            f"{', '.join(changed)} {'is' if len(changed) == 1 else 'are'} closed, and usage, book or configuration have"
            f" changed since: invoices that were issued stay as they are → run: ratemill run --period {coming}, which"
            " bills the difference"
        )
