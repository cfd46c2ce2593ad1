"""diff: choose two runs of a period, and compare them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.book.model import Book
from ratemill.errors import DataRefusedError, UsageError
from ratemill.insight.diff import Run, RunDiff, compare_runs
from ratemill.io.charge_store import ChargeStore
from ratemill.tables.book import BOOK_TABLES
from ratemill.tables.runs import EVENTS, RUNS

if TYPE_CHECKING:
    from ratemill.io.warehouse import Warehouse
    from ratemill.period import BillingPeriod
    from ratemill.steps.context import Context


@dataclass(frozen=True)
class Compared:
    """Two runs and their differences."""

    before: str
    after: str
    diff: RunDiff


def diff(context: Context, period: BillingPeriod, *, before: str | None = None, after: str | None = None) -> Compared:
    """Compare two runs of ``period``, by default the one before the current one with the current one.

    Args:
        context: an open workspace.
        period: the period of both.
        before: run id, or the start of one or of its hash.
        after: the same.

    Raises:
        UsageError: there are no two runs, a run is not known, or its charges are no longer kept.
        DataRefusedError: the charges of a run do not add up to what was drafted with them; somebody changed a file.
    """
    runs = context.warehouse.table("ops", RUNS, "period = $period", {"period": str(period)})
    if not runs.height:
        raise UsageError(f"{period} has no run yet → run: ratemill run --period {period}")
    drafted = _drafted(context.warehouse, period)
    newer = _named(runs, after, period) if after else runs.filter("is_current").row(0, named=True)
    older = _named(runs, before, period) if before else _before(runs, drafted, newer["run_id"], period)
    old, new = (_run(context, row, period) for row in (older, newer))
    found = compare_runs(old, new, default_zone=context.config.period.time_zone)
    for side, run_id in (("before", older["run_id"]), ("after", newer["run_id"])):
        _prove_total(found, side, run_id, drafted)
    return Compared(older["run_id"], newer["run_id"], found)


def _drafted(warehouse: Warehouse, period: BillingPeriod) -> dict[str, dict[str, Any]]:
    """Run → details of the act that made it current the last time."""
    acts = warehouse.table("ops", EVENTS, "act = 'drafted' AND period = $period", {"period": str(period)})
    return {run: json.loads(details) for run, details in acts.sort("sequence").select("subject", "details").iter_rows()}


def _named(runs: pl.DataFrame, name: str, period: BillingPeriod) -> dict[str, Any]:
    found = runs.filter(pl.col("run_id").str.starts_with(name) | pl.col("run_id").str.starts_with(f"{period}-{name}"))
    if found.height != 1:
        known = ", ".join(runs["run_id"].sort())
        what = f"fits {found.height} runs" if found.height else "is no run"
        raise UsageError(f"{name!r} {what} of {period}; its runs are {known}")
    return found.row(0, named=True)


def _before(runs: pl.DataFrame, drafted: dict[str, dict[str, Any]], run_id: str, period: BillingPeriod
            ) -> dict[str, Any]:  # fmt: skip
    replaced = drafted.get(run_id, {}).get("replaces")
    if replaced is None:
        raise UsageError(f"run {run_id} of {period} replaced no other, so there is nothing to compare it with"
                         " → name another with --from")  # fmt: skip
    return _named(runs, replaced, period)


def _run(context: Context, row: dict[str, Any], period: BillingPeriod) -> Run:
    store = ChargeStore(context.workspace.charges)
    if not all(file.is_file() for file in store.charge_files(period, row["run_id"])):
        kept = ", ".join(run.run_id for run in store.stored() if run.period == str(period))
        raise UsageError(
            f"the charges of run {row['run_id']} are no longer kept; those of {kept or 'no run'} are"
            " → [policy] keep_drafts keeps more of them"
        )
    return Run(
        store.all_charges(period, row["run_id"]),
        json.loads(row["inputs"]),
        book_of_run(context.warehouse, row["book_sha256"]),
    )


def book_of_run(warehouse: Warehouse, book_sha256: str) -> Book:
    """The book as it was kept when a run drafted its invoices."""
    return Book.of(
        **{table.name: warehouse.book_table(table, book_sha256).drop("book_sha256") for table in BOOK_TABLES}
    )


def _prove_total(found: RunDiff, side: str, run_id: str, drafted: dict[str, dict[str, Any]]) -> None:
    if run_id not in drafted:
        return
    noted = {currency: Decimal(sums["untaxed"]) for currency, sums in drafted[run_id]["after"].items()}
    for currency, total in found.totals.select("currency", side).iter_rows():
        if total != noted.get(currency, 0):
            raise DataRefusedError(
                f"the charges of run {run_id} add up to {total.normalize():f} {currency}, and"
                f" {noted.get(currency, Decimal()).normalize():f} was drafted with them: a file was changed"
                " → run: ratemill verify"
            )
