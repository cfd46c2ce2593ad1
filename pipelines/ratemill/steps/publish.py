"""publish: ``published/billing.duckdb`` and Parquet, for every period that has a current run."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.insight.focus import FocusDatasets
from ratemill.io.atomic import StagedFolder
from ratemill.io.charge_store import ChargeStore
from ratemill.io.publish import PublishedDatabase, query_comment
from ratemill.period import BillingPeriod
from ratemill.resources import shipped, sql
from ratemill.steps.export import focus_ledger, refused_when_too_large
from ratemill.tables.book import BOOK_TABLES
from ratemill.tables.charges import CHARGES
from ratemill.tables.focus import COST_AND_USAGE, FOCUS_VERSIONS
from ratemill.tables.invoices import BILLING_TABLES, INVOICES
from ratemill.tables.runs import CHECKLIST, CLOSED_PERIODS, DOCUMENTS, EVENTS, FINDINGS, RUNS
from ratemill.tables.usage import REJECTED_ROWS, USAGE, USAGE_FILES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratemill.io.warehouse import Warehouse
    from ratemill.steps.context import Context

MANIFEST = "manifest.json"
LEDGER_TABLES = (CLOSED_PERIODS, CHECKLIST, DOCUMENTS, EVENTS)
"""What the job remembers of closing, as it is."""


def publish(context: Context) -> None:
    """Rebuild what analysts read, swap it in, and note reported runs as done; readers keep what they have open."""
    warehouse, workspace = context.warehouse, context.workspace
    store = ChargeStore(workspace.charges)
    runs = warehouse.runs().filter("is_current").sort("period")
    with context.progress.step("publish") as step, StagedFolder(workspace.published) as folder:
        current = [(row["period"], row["run_id"]) for row in runs.iter_rows(named=True)]
        files = [file for period, run_id in current for file in store.charge_files(period, run_id)]
        with PublishedDatabase(folder / workspace.published_database.name, context.config.engine.memory) as database:
            database.add_files(CHARGES, files)
            for table in BILLING_TABLES:
                database.add_frame(table, warehouse.table("billing", table).sort(*table.key))
                database.write_parquet(table.name, folder / "parquet" / f"{table.name}.parquet")
            latest = runs.tail(1)
            for table in BOOK_TABLES:
                rows = warehouse.book_table(table, latest["book_sha256"][0]) if latest.height else table.empty()
                database.add_frame(table, rows)
            # Done when this is swapped in.
            database.add_frame(RUNS, runs.with_columns(pl.col("status").replace("reported", "done")))
            database.add_frame(
                FINDINGS, warehouse.table("ops", FINDINGS).filter(pl.col("run_id").is_in(runs["run_id"].to_list()))
            )
            for table in LEDGER_TABLES:
                database.add_frame(table, warehouse.table("ops", table).sort(*table.key))
            database.add_frame(USAGE_FILES, warehouse.usage_files())
            database.add_frame(REJECTED_ROWS, warehouse.rejected_rows())
            _add_usage(context, database, current)
            database.add_frames(COST_AND_USAGE[FOCUS_VERSIONS[0]], _focus_rows(context, store, current))
            for path in sorted((shipped("sql") / "reports").glob("*.sql")):
                query = path.read_text(encoding="utf-8")
                database.add_view(path.stem, query, query_comment(query)["purpose"])
        for period, run_id in current:
            target = folder / "parquet" / "charges" / f"period={period}"
            target.mkdir(parents=True, mode=0o700)
            for file in store.charge_files(period, run_id):
                shutil.copy(file, target / file.name)
        manifest = {"runs": dict(current), "issued": issued_counts(warehouse)}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        shutil.rmtree(folder / ".spill", ignore_errors=True)
        step.done(f"{workspace.relative(workspace.published_database)}, {len(current)} periods")
    # Only now: a run is done when analysts see it; one that is killed right here is published again.
    warehouse.finish_runs(context.now)


def is_published(context: Context, run_id: str) -> bool:
    """Whether analysts see this very run, and everything that was issued."""
    manifest = _manifest(context)
    if run_id not in manifest.get("runs", {}).values() or manifest.get("issued") != issued_counts(context.warehouse):
        return False
    return context.workspace.published_database.is_file()


def published_issues(context: Context) -> dict[str, int]:
    """Closed period → how many issued documents analysts see."""
    return dict(_manifest(context).get("issued", {}))


def issued_counts(warehouse: Warehouse) -> dict[str, int]:
    """Closed period → how many documents were issued for it; it only grows, so equal means the same."""
    issued = warehouse.table("billing", INVOICES, "status = 'issued'").group_by("period").len()
    counts = dict(issued.iter_rows())
    return {period: counts.get(period, 0) for period in warehouse.closed_periods()["period"]}


def _manifest(context: Context) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((context.workspace.published / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest


def _focus_rows(context: Context, store: ChargeStore, current: list[tuple[str, str]]) -> Iterator[pl.DataFrame]:
    """FOCUS, Cost and Usage, of every period; see :func:`ratemill.steps.export.export_focus`."""
    for period, run_id in current:
        datasets = FocusDatasets(focus_ledger(context, BillingPeriod.parse(period)))
        with refused_when_too_large(store.usage_parts(period, run_id)):
            yield from datasets.cost_and_usage(store.usage_parts(period, run_id))


def _add_usage(context: Context, database: PublishedDatabase, current: list[tuple[str, str]]) -> None:
    """``usage``: hour by hour where [output] publish_usage says so, else as the charges have it."""
    if context.config.output.publish_usage == "day":
        query = sql("core/usage_from_charges")
        database.add_view("usage", query, query_comment(query)["purpose"])
        return
    frames = []
    for period, _ in current:
        with context.warehouse.usage_of_period(BillingPeriod.parse(period)):
            frames.append(context.warehouse.frame(sql("core/published_usage")))
    database.add_frame(USAGE, pl.concat(frames).unique() if frames else USAGE.empty())
