"""export workbook: a period's workbook, made from the ledger as it stands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.book.model import Book
from ratemill.documents.workbook import build_workbook
from ratemill.errors import UsageError
from ratemill.io.atomic import write_file
from ratemill.io.charge_store import ChargeStore
from ratemill.steps.export import billed_with_credit_notes
from ratemill.steps.report import rejects_of_period
from ratemill.steps.workbook import workbook_source
from ratemill.tables.book import BOOK_TABLES

if TYPE_CHECKING:
    from pathlib import Path

    from ratemill.period import BillingPeriod
    from ratemill.steps.context import Context


def export_workbook(context: Context, period: BillingPeriod, *, to: Path | None) -> list[Path]:
    """Write the workbook of a period, and Parquet files of tables that are too long for a sheet, beside it.

    It has the credit notes that were issued by hand in the calendar month, too, as ``out/<period>/workbook.xlsx`` has
    those that were issued before it was made. The files, the workbook first.

    Args:
        context: the workspace.
        period: a period that has invoices, drafts or issued.
        to: the file; else ``exports/workbook-<period>.xlsx`` in the workspace.

    Raises:
        UsageError: the period has no invoices, or ``to`` is no name of a workbook.
    """
    target = to or context.workspace.root / "exports" / f"workbook-{period}.xlsx"
    if target.suffix != ".xlsx" or target.is_dir():
        raise UsageError(f"--to: {target} is no name of a workbook → name a file that ends in .xlsx")
    run = context.warehouse.current_run(period)
    if run is None or not ChargeStore(context.workspace.charges).folder(period, run["run_id"]).is_dir():
        raise UsageError(f"{period} has no invoices to export → run: ratemill run --period {period}")
    book = Book.of(**{table.name: context.warehouse.book_table(table, run["book_sha256"]) for table in BOOK_TABLES})
    with context.progress.step("export") as step:
        files = context.warehouse.usage.files().filter(pl.col("file").is_in(list(_usage_of(run))))
        source = workbook_source(
            context,
            period,
            run,
            book=book,
            billed=billed_with_credit_notes(context, period),
            rejects=rejects_of_period(context, period, files),
        )
        workbook = build_workbook(source)
        written = {target: workbook.data}
        written |= {target.with_name(f"{target.stem}-{name}"): data for name, data in workbook.beside.items()}
        for path, data in written.items():
            write_file(path, data)
        step.done(f"{source.billed.lines.height:,} lines")
    return list(written)


def _usage_of(run: dict[str, Any]) -> dict[str, str]:
    """File → SHA-256 of the usage of a run."""
    usage: dict[str, str] = json.loads(run["inputs"])["usage"]
    return usage
