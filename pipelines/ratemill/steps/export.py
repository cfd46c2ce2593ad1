"""export: files for other systems, from the ledger as it stands."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill import __version__
from ratemill.book.model import Book
from ratemill.errors import DataRefusedError, UsageError
from ratemill.insight.focus import FocusDatasets, FocusLedger
from ratemill.io.atomic import StagedFolder
from ratemill.io.charge_store import ChargeStore
from ratemill.io.focus_files import FocusSchema, dataset_writer, is_export, write_manifest, write_metadata
from ratemill.steps.inputs import seller_of
from ratemill.steps.overflow import largest_charge
from ratemill.steps.report import corrected_invoices
from ratemill.tables.book import BOOK_TABLES
from ratemill.tables.charges import CHARGES
from ratemill.tables.focus import DATASETS
from ratemill.tables.runs import EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from ratemill.io.focus_files import FileFormat
    from ratemill.period import BillingPeriod
    from ratemill.steps.context import Context
    from ratemill.tables.invoices import Billed


@dataclass(frozen=True)
class Exported:
    """An export as it lies on disk."""

    folder: Path
    manifest: dict[str, Any]


def export_focus(
    context: Context, period: BillingPeriod, *, version: str, file_format: FileFormat, to: Path | None
) -> Exported:
    """Write the FOCUS datasets of a period into a folder of their own; a former export there is replaced as a whole.

    Args:
        context: the workspace.
        period: a period that has invoices, drafts or issued.
        version: one of FOCUS_VERSIONS.
        file_format: of the datasets.
        to: folder to make the export's folder in; else ``exports`` in the workspace.

    Raises:
        UsageError: the period has no invoices, or something else is where the export goes.
        DataRefusedError: an amount is too large for the export.
        InvariantError: the export does not add up to the ledger; nothing was written.
    """
    ledger = focus_ledger(context, period)
    target = (to or context.workspace.root / "exports") / f"focus-{version}" / str(period)
    if target.exists() and not is_export(target):
        raise UsageError(f"{target} is there, and is no FOCUS export → move it away, or name another folder with --to")
    charges = ChargeStore(context.workspace.charges).usage_parts(period, ledger.run_id)
    schemas = [FocusSchema(version, dataset) for dataset in DATASETS[version]]
    with context.progress.step("export") as step, StagedFolder(target) as folder:
        rows: dict[str, int] = {}
        datasets = FocusDatasets(ledger)
        with dataset_writer(folder, schemas[0], file_format) as writer, refused_when_too_large(charges):
            for part in datasets.cost_and_usage(charges):
                writer.write(part)
        rows[f"{schemas[0].dataset.file}.{file_format}"] = writer.rows
        others = datasets.others()
        for schema in schemas[1:]:
            with dataset_writer(folder, schema, file_format) as writer:
                writer.write(others[schema.dataset.file])
            rows[f"{schema.dataset.file}.{file_format}"] = writer.rows
        write_metadata(folder, schemas, generator=ledger.provider)
        manifest = write_manifest(folder, _facts(ledger, version), rows)
        step.done(f"{sum(rows.values()):,} rows")
    return Exported(target, manifest)


def focus_ledger(context: Context, period: BillingPeriod) -> FocusLedger:
    """What the datasets of a period are made from.

    Credit notes by hand go with the month in which they were issued: the month of their original is closed, and stays
    as it was exported.

    Raises:
        UsageError: the period has no invoices.
    """
    warehouse = context.warehouse
    run = warehouse.current_run(period)
    if run is None:
        raise UsageError(f"{period} has no invoices to export → run: ratemill run --period {period}")
    billed = billed_with_credit_notes(context, period)
    closed = warehouse.closed_period(period)
    drafted = warehouse.table("ops", EVENTS, "act = 'drafted' AND period = $period", {"period": str(period)})
    recorded: datetime = closed["closed_at"] if closed is not None else run["finished_at"]
    seller = seller_of(run, context.config.seller)
    return FocusLedger(
        billed=billed,
        run_id=run["run_id"],
        book=Book.of(**{table.name: warehouse.book_table(table, run["book_sha256"]) for table in BOOK_TABLES}),
        period=period,
        time_zone=context.config.period.time_zone,
        provider=seller.name,
        payment_terms_days=seller.payment_terms_days,
        opened_at=min([recorded, *drafted["at"].to_list()]),
        recorded_at=recorded,
        closed=closed is not None,
        numbers={
            invoice_id: row["number"] or invoice_id for invoice_id, row in corrected_invoices(warehouse, billed).items()
        },
    )


def billed_with_credit_notes(context: Context, period: BillingPeriod) -> Billed:
    """What the period's run billed, and the credit notes by hand that were issued in the calendar month."""
    warehouse = context.warehouse
    return warehouse.billed(period).together_with(warehouse.credit_notes_by_hand(period))


def _facts(ledger: FocusLedger, version: str) -> dict[str, Any]:
    totals = ledger.billed.invoices.group_by("currency").agg(pl.len(), pl.col("due_amount").sum()).sort("currency")
    return {
        "focus_version": version,
        "period": str(ledger.period),
        "status": "issued" if ledger.closed else "draft",
        "run_id": ledger.run_id,
        "ratemill": __version__,
        "billed": [
            {"currency": currency, "documents": documents, "amount": str(amount)}
            for currency, documents, amount in totals.iter_rows()
        ],
    }


class TooLargeForFocusError(DataRefusedError):
    """An amount does not fit into the columns of FOCUS."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; nothing was exported → bill in a larger unit of the currency")
        self.what = what
        """What does not fit, and where to look for it."""


@contextmanager
def refused_when_too_large(charges: list[pl.LazyFrame]) -> Iterator[None]:
    """Tell an overflow as what it is.

    Raises:
        TooLargeForFocusError: in place of the overflow.
    """
    try:
        yield
    except (pl.exceptions.ComputeError, pl.exceptions.InvalidOperationError) as error:
        if "decimal" not in str(error).lower():
            raise
        where = largest_charge(pl.concat([CHARGES.empty().lazy(), *charges]))
        raise TooLargeForFocusError(
            f"an amount does not fit into DECIMAL(38,24), which ends at 10^14. {where}"
        ) from None
