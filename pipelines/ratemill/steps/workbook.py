"""What a period's workbook is made of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.documents.workbook_tables import WorkbookSource
from ratemill.findings import Severity
from ratemill.frames import collect
from ratemill.insight.journal import journal
from ratemill.io.charge_store import ChargeStore
from ratemill.steps.inputs import seller_of

if TYPE_CHECKING:
    from ratemill.book.model import Book
    from ratemill.period import BillingPeriod
    from ratemill.steps.context import Context
    from ratemill.tables.invoices import Billed


def workbook_source(
    context: Context,
    period: BillingPeriod,
    run: dict[str, Any],
    *,
    book: Book,
    billed: Billed,
    rejects: pl.DataFrame,
) -> WorkbookSource:
    """Everything that the workbook of a period's current run shows.

    Args:
        context: the workspace.
        period: the month.
        run: its row of RUNS.
        book: the book of the run.
        billed: the documents to show.
        rejects: rows of usage that are on no invoice because they break a rule.
    """
    warehouse, store = context.warehouse, ChargeStore(context.workspace.charges)
    inputs = json.loads(run["inputs"])
    charges = store.all_charges(period, run["run_id"]).group_by("currency").agg(pl.len(), pl.col("cost").sum())
    return WorkbookSource(
        seller=seller_of(run, context.config.seller).name,
        period=period,
        run_id=run["run_id"],
        closed=warehouse.closed_period(period) is not None,
        hashes={
            "Inputs": run["input_key"],
            "Book": run["book_sha256"],
            "Configuration": inputs["configuration"],
            "Usage": f"{len(inputs['usage']):,} files",
            "Program": f"ratemill {run['code_version']}",
        },
        billed=billed,
        previous_invoices=warehouse.billed(period.shift(-1)).invoices,
        charges=collect(charges).rename({"len": "charges"}),
        journal=journal(billed, last_day=period.last_day),
        names=dict(book.accounts.select("account_id", "name").iter_rows()),
        facts=store.facts(period, run["run_id"]),
        findings=[found for found in warehouse.findings(run["run_id"]) if found.severity is not Severity.INFO],
        rejects=rejects,
        unpriced=store.unpriced(period, run["run_id"]),
    )
