"""publish: ``published/billing.duckdb`` and Parquet, for every period that has a current run."""

from __future__ import annotations

import json
import shutil
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.findings import Finding, Severity
from ratemill.insight.focus import FocusDatasets
from ratemill.io.atomic import StagedFolder
from ratemill.io.charge_store import ChargeStore
from ratemill.io.publish import PublishedDatabase
from ratemill.io.report_queries import broken_report, find_report_queries, read_report_query, report_hashes
from ratemill.period import BillingPeriod
from ratemill.resources import sql
from ratemill.steps.export import TooLargeForFocusError, focus_ledger, refused_when_too_large
from ratemill.tables.book import BOOK_TABLES
from ratemill.tables.charges import CHARGES, UNPRICED_USAGE
from ratemill.tables.focus import COST_AND_USAGE, FOCUS_VERSIONS
from ratemill.tables.invoices import BILLING_TABLES, INVOICES
from ratemill.tables.runs import CHECKLIST, CLOSED_PERIODS, DOCUMENTS, EVENTS, FINDINGS, REPORT_QUERIES, RUNS
from ratemill.tables.usage import REJECTED_ROWS, USAGE, USAGE_FILES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ratemill.io.report_queries import ReportQuery
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
    with context.step("publish") as step, StagedFolder(workspace.published) as folder:
        current = [(row["period"], row["run_id"]) for row in runs.iter_rows(named=True)]
        files = [file for period, run_id in current for file in store.charge_files(period, run_id)]
        with PublishedDatabase(folder / workspace.published_database.name, context.budget.beside) as database:
            database.add_files(CHARGES, files)
            for table in BILLING_TABLES:
                database.add_frame(table, warehouse.table("billing", table).sort(*table.key))
                database.write_parquet(table.name, folder / "parquet" / f"{table.name}.parquet")
            latest = runs.tail(1)
            for table in BOOK_TABLES:
                rows = warehouse.book_table(table, latest["book_sha256"][0]) if latest.height else table.empty()
                database.add_frame(table.with_open_columns(rows.columns), rows)
            # Done when this is swapped in.
            database.add_frame(RUNS, runs.with_columns(pl.col("status").replace("reported", "done")))
            database.add_frame(
                FINDINGS, warehouse.table("ops", FINDINGS).filter(pl.col("run_id").is_in(runs["run_id"].to_list()))
            )
            for table in LEDGER_TABLES:
                database.add_frame(table, warehouse.table("ops", table).sort(*table.key))
            database.add_frame(USAGE_FILES, warehouse.usage.files())
            database.add_frame(REJECTED_ROWS, warehouse.usage.rejected_rows())
            database.add_frames(UNPRICED_USAGE, _unpriced(store, current))
            _add_usage(context, database, current)
            left_out = _add_focus(context, database, store, current)
            reports = _add_report_queries(context, database)
        for period, run_id in current:
            target = folder / "parquet" / "charges" / f"period={period}"
            target.mkdir(parents=True, mode=0o700)
            for file in store.charge_files(period, run_id):
                shutil.copy(file, target / file.name)
        manifest = {
            "runs": dict(current),
            "issued": issued_counts(warehouse),
            "reports": reports,
            "focus": context.config.output.publish_focus,
            "left_out": [finding.as_dict() for finding in left_out],
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        shutil.rmtree(folder / ".spill", ignore_errors=True)
        step.done(f"{workspace.relative(workspace.published_database)}, {len(current)} periods")
    # Only now: a run is done when analysts see it; one that is killed right here is published again.
    warehouse.finish_runs(context.now)


def is_published(context: Context, run_id: str) -> bool:
    """Whether analysts see this very run, everything that was issued, and the report queries as they are."""
    return not why_unpublished(context, run_id)


def why_unpublished(context: Context, run_id: str) -> str:
    """Why analysts do not see what :func:`is_published` asks for; empty: they do."""
    manifest = _manifest(context)
    if not context.workspace.published_database.is_file():
        return f"there is no {context.workspace.relative(context.workspace.published_database)}"
    if manifest.get("reports", {}).get("files") != report_hashes(context.workspace):
        return "the report queries are not those that were published"
    if manifest.get("focus") != context.config.output.publish_focus:
        return "[output] publish_focus is not what it was"
    if run_id not in manifest.get("runs", {}).values() or manifest.get("issued") != issued_counts(context.warehouse):
        return "another run was published, or not all that was issued"
    return ""


def published_issues(context: Context) -> dict[str, int]:
    """Closed period → how many issued documents analysts see."""
    return dict(_manifest(context).get("issued", {}))


def published_runs(context: Context) -> dict[str, str]:
    """Period → the run that analysts see of it."""
    return dict(_manifest(context).get("runs", {}))


def report_findings(context: Context) -> tuple[Finding, ...]:
    """What is not in the database: report queries of the workspace with a mistake, and months too large for FOCUS."""
    manifest = _manifest(context)
    told = [*manifest.get("reports", {}).get("findings", []), *manifest.get("left_out", [])]
    return tuple(Finding(**finding | {"severity": Severity(finding["severity"])}) for finding in told)


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


def _add_focus(
    context: Context, database: PublishedDatabase, store: ChargeStore, current: list[tuple[str, str]]
) -> list[Finding]:
    """FOCUS, Cost and Usage, of every period; see :func:`ratemill.steps.export.export_focus`.

    A period with an amount that is too large for it is left out, and told of: it is billed all the same, and everything
    else of it is published.
    """
    if not context.config.output.publish_focus:
        return []
    table = COST_AND_USAGE[FOCUS_VERSIONS[0]]
    database.add_frames(table, [])
    left_out = []
    for period, run_id in current:
        datasets = FocusDatasets(focus_ledger(context, BillingPeriod.parse(period)))
        charges = store.usage_parts(period, run_id)
        try:
            with refused_when_too_large(charges), database.transaction():
                database.insert(table, datasets.cost_and_usage(charges))
        except TooLargeForFocusError as error:
            left_out.append(
                Finding(
                    Severity.WARNING,
                    "focus.too_large",
                    f"{period} is not in the table {table.name}: {error.what}",
                    "read charges and invoice_lines, which have it; or bill in a larger unit of the currency",
                )
            )
    return left_out


def _add_usage(context: Context, database: PublishedDatabase, current: list[tuple[str, str]]) -> None:
    """``usage``: hour by hour where [output] publish_usage says so, else as the charges have it."""
    if context.config.output.publish_usage == "day":
        query = sql("core/usage_from_charges")
        view = read_report_query(query.encode(), name="usage", origin="shipped", file="core/usage_from_charges.sql")
        database.add_view(view.name, query, view.purpose)
        return
    periods = [BillingPeriod.parse(period) for period, _ in current]
    database.add_frames(USAGE, _usage_records(context.warehouse, periods))


def _usage_records(warehouse: Warehouse, periods: list[BillingPeriod]) -> Iterator[pl.DataFrame]:
    """What was used in ``periods``, in some time zone; where two of them overlap, once."""
    since: datetime | None = None
    for period in periods:
        since = period.widest_start if since is None else max(since, period.widest_start)
        with warehouse.meter.usage_of_period(period):
            yield from warehouse.frames(sql("core/published_usage"), {"since": since})
        since = period.widest_end


def _unpriced(store: ChargeStore, current: list[tuple[str, str]]) -> Iterator[pl.DataFrame]:
    for period, run_id in current:
        yield store.unpriced(period, run_id).select(pl.lit(period).alias("period"), pl.all())


def _add_report_queries(context: Context, database: PublishedDatabase) -> dict[str, Any]:
    """Make views of the report queries that have no parameters, and note origin and hash of every file.

    The workspace's own come last, without access to files, and none of them stops the publishing. What is returned is
    for the manifest.
    """
    hashes = report_hashes(context.workspace)
    queries, findings = find_report_queries(context.workspace)
    for query in queries:
        if query.origin == "shipped" and query.is_view:
            database.add_view(query.name, query.text, query.purpose)
    database.forbid_files()
    broken = _add_own_views(database, [query for query in queries if query.origin != "shipped"])
    findings += [broken_report(query.file, problem, _CURE) for query, problem in broken]
    problems = {finding.file: finding.message for finding in findings}
    rows = [
        {
            "name": query.name,
            "origin": query.origin,
            "file": query.file,
            "sha256": query.sha256,
            "purpose": query.purpose,
            "grain": query.grain,
            "parameters": " ".join(parameter.name for parameter in query.parameters),
            "is_view": query.is_view and query.file not in problems,
            "problem": problems.get(query.file),
        }
        for query in queries
    ]
    known = {row["file"] for row in rows}
    rows += [
        {
            "name": PurePosixPath(file).stem,
            "origin": "workspace",
            "file": file,
            "sha256": hashes.get(file, ""),
            "purpose": "",
            "grain": "",
            "parameters": "",
            "is_view": False,
            "problem": problem,
        }
        for file, problem in problems.items()
        if file is not None and file not in known
    ]
    database.add_frame(REPORT_QUERIES, pl.DataFrame(rows, schema=REPORT_QUERIES.polars_schema).sort("file"))
    return {"files": hashes, "findings": [finding.as_dict() for finding in findings]}


_CURE = "mend the file, try it with: ratemill sql --file, then run: ratemill publish"


def _add_own_views(database: PublishedDatabase, queries: list[ReportQuery]) -> list[tuple[ReportQuery, str]]:
    """Make views of those without parameters, in an order in which each finds the others that it reads.

    Returns those that can't be used, with the reason.
    """
    waiting = queries
    while True:
        tried = [
            (query, database.try_view(query.name if query.is_view else None, query.text, query.purpose))
            for query in waiting
        ]
        broken = [(query, problem) for query, problem in tried if problem is not None]
        if len(broken) in (0, len(waiting)):
            return broken
        waiting = [query for query, _ in broken]
