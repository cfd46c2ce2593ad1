"""The DuckDB file that only the job opens. Every change is one transaction: killed anywhere, it is old or new."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.audit import FIRST, Act, chained, totals_by_currency
from ratemill.errors import LockedError, UsageError
from ratemill.findings import Finding, Severity
from ratemill.io.atomic import make_private_folder, staged_file
from ratemill.io.database import Database, connected, settings_of
from ratemill.io.machine import budget_of
from ratemill.io.migrations import copy_aside, migrations_between
from ratemill.io.shared_usage import SharedFolder
from ratemill.io.stored_usage import USAGE_TABLES, StoredUsage
from ratemill.io.usage_meter import UsageMeter
from ratemill.resources import shipped, sql
from ratemill.tables.book import BOOK_TABLES
from ratemill.tables.columns import TEXT, Column, Table
from ratemill.tables.invoices import BILLING_TABLES, CREDIT_LEDGER, Billed
from ratemill.tables.runs import (
    CHECKLIST,
    CLOSED_PERIODS,
    DOCUMENTS,
    EVENTS,
    FINDINGS,
    NOTIFICATIONS,
    NUMBER_SERIES,
    RUNS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb

    from ratemill.book.model import Book
    from ratemill.config import Engine
    from ratemill.invoicing.assembly import Invoices
    from ratemill.period import BillingPeriod

_logger = logging.getLogger(__name__)

FORMAT = 4
"""Layout of the warehouse. A former one is migrated by the files in sql/migrations, a later one refused."""

_TABLES: dict[str, tuple[Table, ...]] = {
    "raw": USAGE_TABLES,
    "billing": BILLING_TABLES,
    "ops": (RUNS, FINDINGS, CLOSED_PERIODS, CHECKLIST, NUMBER_SERIES, DOCUMENTS, EVENTS, NOTIFICATIONS),
}


class Warehouse(Database):
    """An open warehouse. Hold the workspace's lock while one lives."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, shared: SharedFolder | None = None) -> None:
        super().__init__(connection)
        self.usage = StoredUsage(self, shared)
        self.meter = UsageMeter(self)

    @classmethod
    @contextmanager
    def open(
        cls, path: Path, engine: Engine, *, read_only: bool = False, actor: str = "ratemill"
    ) -> Iterator[Warehouse]:
        """Open, or create with its tables; a former layout is migrated, and the audit log says that ``actor`` did it.

        ``read_only``: the file stays as it is to the last byte; temporary tables are made all the same.

        Raises:
            UsageError: when the file is no warehouse of this version, or is to be read only and not there; or the
                system leaves less memory than a run needs.
            TemporaryError: when the disk is full or another process has it open.
        """
        if read_only and not path.exists():
            raise UsageError(f"{path} is not there: nothing was billed yet → run: ratemill run --period YYYY-MM")
        budget = budget_of(engine)
        make_private_folder(path.parent)
        spill = path.parent / "spill"
        shutil.rmtree(spill, ignore_errors=True)  # a killed run leaves its spilled data, and nobody reads it again
        config = settings_of(budget, spill)
        if not path.exists():
            # Made aside: DuckDB writes a new file's headers in several steps, and can't open one killed between them.
            with staged_file(path) as staged, connected(staged, config) as connection:
                fresh = cls(connection)
                fresh._create_tables()
                connection.execute("CHECKPOINT")  # closing would do it too, and be silent where the disk is full
        with connected(path, config, read_only=read_only) as connection:
            warehouse = cls(connection, SharedFolder(path.parent.parent / (engine.shared or path.parent / "shared")))
            warehouse._settle_format(path, read_only=read_only, actor=actor)
            if not read_only:
                warehouse._create_tables()
            if warehouse.usage.is_shared():
                warehouse.usage.list_shared_files()
            yield warehouse

    @classmethod
    @contextmanager
    def in_memory(cls, engine: Engine, spill: Path) -> Iterator[Warehouse]:
        """One for a part of the usage, gone when the block ends; what does not fit goes to ``spill``."""
        with connected(Path(":memory:"), settings_of(budget_of(engine), spill)) as connection:
            connection.execute("CREATE SCHEMA raw")
            for table in USAGE_TABLES:
                connection.execute(f"CREATE TABLE raw.{table.name} ({table.duckdb_columns()})")
            yield cls(connection)

    def _create_tables(self) -> None:
        with self.transaction():
            self.execute("CREATE SCHEMA IF NOT EXISTS book")
            for schema, tables in _TABLES.items():
                self.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
                for table in tables:
                    self.execute(f"CREATE TABLE IF NOT EXISTS {schema}.{table.name} ({table.duckdb_columns()})")
            self.execute(f"CREATE VIEW IF NOT EXISTS raw.rejected_rows AS {sql('raw/rejected_rows')}")
            self.execute("CREATE TABLE IF NOT EXISTS ops.format (version INTEGER NOT NULL)")
            if self._format() is None:
                self.execute("INSERT INTO ops.format VALUES (?)", [FORMAT])

    def _format(self) -> int | None:
        """The layout that the file says it has."""
        if self.row("SELECT 1 FROM duckdb_tables() WHERE schema_name = 'ops' AND table_name = 'format'") is None:
            return None
        row = self.row("SELECT max(version) FROM ops.format")
        return row[0] if row else None

    def _settle_format(self, path: Path, *, read_only: bool, actor: str) -> None:
        """Migrate a former layout, refuse a later one, and what is no warehouse at all.

        Raises:
            UsageError: it can't be used.
            TemporaryError: the disk is too full for a copy of it.
        """
        version = self._format()
        if version == FORMAT:
            return
        if version is None:
            raise UsageError(f"{path} is no warehouse of ratemill: it has no layout → move it away and run again")
        if version > FORMAT:
            raise UsageError(
                f"{path} has layout {version}, and this version of ratemill knows layouts up to {FORMAT}: a later"
                " version wrote it → install that version, or restore the backup from before it"
            )
        steps = migrations_between(shipped("sql") / "migrations", version, FORMAT)
        if read_only:
            raise UsageError(
                f"{path} has layout {version}, this version of ratemill needs {FORMAT} → run: ratemill load, which"
                " migrates it"
            )
        self.write_out()
        kept = copy_aside(path, version)
        _logger.warning("migrating %s from layout %s to %s; as it was: %s", path.name, version, FORMAT, kept.name)
        with self.transaction():
            for step in steps:
                step.apply(self._connection)
            self.execute("UPDATE ops.format SET version = ?", [FORMAT])
            details = {"from": version, "to": FORMAT, "files": {step.name: step.sha256 for step in steps}}
            self.record(Act("migrated", actor, datetime.now(UTC), details=details))

    # ---------------------------------------------------------------- runs and invoices

    def runs(self) -> pl.DataFrame:
        """Every run that is remembered, newest last."""
        return self.table("ops", RUNS).sort("finished_at", "run_id")

    def current_run(self, period: BillingPeriod) -> dict[str, Any] | None:
        """The run that counts for ``period``, if there is one."""
        rows = self.table("ops", RUNS, "period = $period AND is_current", {"period": str(period)})
        return rows.row(0, named=True) if rows.height else None

    def billed(self, period: BillingPeriod | str) -> Billed:
        """What the period's run billed, draft or issued; credit notes made by hand are left out."""
        on_invoice = "invoice_id IN (SELECT invoice_id FROM billing.invoices WHERE period = $period AND origin = 'run')"
        return Billed.of(self.table("billing", table, on_invoice, {"period": str(period)}) for table in BILLING_TABLES)

    def credit_notes_by_hand(self, period: BillingPeriod) -> Billed:
        """Credit notes made by hand that were issued in the calendar month, whichever month they are about."""
        issued = (
            "invoice_id IN (SELECT invoice_id FROM billing.invoices WHERE origin = 'hand'"
            " AND issue_date BETWEEN $first AND $last)"
        )
        days = {"first": period.first_day, "last": period.last_day}
        return Billed.of(self.table("billing", table, issued, days) for table in BILLING_TABLES)

    def issued_for(self, period: BillingPeriod | str, *, before: BillingPeriod | None = None) -> Billed:
        """Every issued document of a run that bills ``period`` or corrects it; credit notes by hand are left out.

        ``before``: only documents that were issued before those of this period; all, while it is open.
        """
        where = (
            "invoice_id IN (SELECT invoice_id FROM billing.invoices WHERE origin = 'run' AND status = 'issued'"
            f" AND period IN ({_closed_before('$before')}) AND (period = $period OR invoice_id IN"
            " (SELECT invoice_id FROM billing.invoice_lines WHERE corrects_period = $period)))"
        )
        values = {"period": str(period), "before": None if before is None else str(before)}
        return Billed.of(self.table("billing", table, where, values) for table in BILLING_TABLES)

    def documents_about(self, invoice_id: str) -> Billed:
        """Every issued document that credits or corrects an invoice, whole."""
        where = (
            "invoice_id <> $original AND invoice_id IN (SELECT invoice_id FROM billing.invoices WHERE status = 'issued'"
            " AND (corrects_invoice_id = $original OR invoice_id IN"
            " (SELECT invoice_id FROM billing.invoice_lines WHERE corrects_invoice_id = $original)))"
        )
        return Billed.of(self.table("billing", table, where, {"original": invoice_id}) for table in BILLING_TABLES)

    def ledger_fingerprint(self, period: BillingPeriod) -> str:
        """SHA-256 of what earlier periods leave to ``period``: which are closed, and what they drew on credits."""
        closed = self.table("ops", CLOSED_PERIODS, "period < $period", {"period": str(period)})
        drawn = self.credits_drawn(period)
        text = closed.select("period", "run_id").sort("period").write_csv() + drawn.write_csv()
        return hashlib.sha256(text.encode()).hexdigest()

    def credits_drawn(self, before: BillingPeriod, *, and_by_it: bool = False) -> pl.DataFrame:
        """credit_id, amount: what was used of each credit before the invoices of a period were made.

        By the periods that were closed before it, earlier or later ones; while it is open, by earlier drafts as well.
        ``and_by_it``: with what its own invoices use.
        """
        drawn = self.table(
            "billing",
            CREDIT_LEDGER,
            f"invoice_id IN (SELECT invoice_id FROM billing.invoices WHERE period IN ({_closed_before('$period')})"
            " OR (period < $period AND NOT EXISTS (FROM ops.closed_periods WHERE period = $period))"
            " OR ($and_by_it AND period = $period))",
            {"period": str(before), "and_by_it": and_by_it},
        )
        return drawn.group_by("credit_id").agg(pl.col("amount").sum()).sort("credit_id")

    def closed_period(self, period: BillingPeriod | str) -> dict[str, Any] | None:
        """How ``period`` was closed, if it was (a row of CLOSED_PERIODS)."""
        rows = self.table("ops", CLOSED_PERIODS, "period = $period", {"period": str(period)})
        return rows.row(0, named=True) if rows.height else None

    def findings(self, run_id: str) -> tuple[Finding, ...]:
        """What a run found, by severity, rule and place."""
        rows = self.table("ops", FINDINGS, "run_id = $run_id", {"run_id": run_id}).drop("run_id")
        return tuple(
            Finding(**row | {"severity": Severity(row["severity"])})
            for row in rows.sort("severity", "rule", "file", "row").iter_rows(named=True)
        )

    def closed_periods(self) -> pl.DataFrame:
        """Every closed period, oldest first (rows of CLOSED_PERIODS)."""
        return self.table("ops", CLOSED_PERIODS).sort("period")

    def order_of_closing(self) -> list[str]:
        """Every closed period, in the order in which they were closed: usage may arrive for a month that had none."""
        acts = self.table("ops", EVENTS, "act = 'closed'").sort("sequence")
        return acts["period"].to_list()

    def advance_run(self, run_id: str, status: str, finished_at: datetime, summary: str) -> None:
        """Note how far a run came."""
        with self.transaction():
            self.execute(
                "UPDATE ops.runs SET status = ?, finished_at = ?, summary = ? WHERE run_id = ?",
                [status, finished_at, summary, run_id],
            )

    def finish_runs(self, finished_at: datetime) -> None:
        """Note that analysts see every current run that has its documents."""
        with self.transaction():
            self.execute(
                "UPDATE ops.runs SET status = 'done', finished_at = ? WHERE is_current AND status = 'reported'",
                [finished_at],
            )

    def store_invoices(
        self, invoices: Invoices, book: Book, run: dict[str, Any], findings: Sequence[Finding], *, actor: str
    ) -> None:
        """Replace a period's drafts and make ``run`` (columns of RUNS) its current one, in one transaction.

        Logged as an act where another run was the current one: the same again is no news.

        Raises:
            LockedError: the period is closed; its invoices stay.
        """
        period = {"period": run["period"]}
        if self.closed_period(run["period"]) is not None:
            raise LockedError(f"{run['period']} is closed: its invoices are issued and stay as they are")
        drafted = self._drafted(invoices, run, actor)
        drafts = "invoice_id IN (SELECT invoice_id FROM billing.invoices WHERE period = $period)"
        with self.transaction():
            for table in reversed(BILLING_TABLES):
                self.delete("billing", table, drafts, period)
            for billing_table, rows in invoices.frames():
                self.insert("billing", billing_table, rows)
            self.execute("UPDATE ops.runs SET is_current = false WHERE period = $period", period)
            for table in (RUNS, FINDINGS):
                self.execute(f"DELETE FROM ops.{table.name} WHERE run_id = ?", [run["run_id"]])
            self.insert("ops", RUNS, pl.DataFrame([run], schema=RUNS.polars_schema))
            found = [finding.as_dict() | {"run_id": run["run_id"]} for finding in findings]
            self.insert("ops", FINDINGS, pl.DataFrame(found, schema=FINDINGS.polars_schema))
            self._store_book(book)
            if drafted.details["replaces"] != run["run_id"]:
                self.record(drafted)

    def _drafted(self, invoices: Invoices, run: dict[str, Any], actor: str) -> Act:
        """The act of replacing a period's drafts."""
        former = self.row("SELECT run_id FROM ops.runs WHERE period = ? AND is_current", [run["period"]])
        details = {
            "input_key": run["input_key"],
            "book_sha256": run["book_sha256"],
            "replaces": former[0] if former else None,
            "before": totals_by_currency(self.billed(run["period"]).invoices),
            "after": totals_by_currency(invoices.invoices),
        }
        return Act("drafted", actor, run["finished_at"], run["period"], run["run_id"], details)

    def _store_book(self, book: Book) -> None:
        """Keep every version of the book that invoices were drafted with."""
        for table in BOOK_TABLES:
            kept = _versioned(table)
            self.execute(f"CREATE TABLE IF NOT EXISTS book.{kept.name} ({kept.duckdb_columns()})")
            known = self.row(f"SELECT count(*) FROM book.{kept.name} WHERE book_sha256 = ?", [book.sha256])
            if known is not None and not known[0]:
                rows = book.frame(table.name).with_columns(book_sha256=pl.lit(book.sha256))
                self.insert("book", kept, _with_extras_packed(rows, table) if table.open_prefix else rows)

    def book_table(self, table: Table, book_sha256: str) -> pl.DataFrame:
        """A table of the book as it was in one version; columns that users added (``attr.*``) behind its own."""
        rows = self.table("book", _versioned(table), "book_sha256 = $version", {"version": book_sha256})
        return _with_extras_unpacked(rows) if table.open_prefix else rows

    # ---------------------------------------------------------------- audit log

    def record(self, act: Act) -> str:
        """Append to the audit log, inside the transaction of the act itself; its hash."""
        last = self.row("SELECT sequence, sha256 FROM ops.events ORDER BY sequence DESC LIMIT 1") or (0, FIRST)
        row = chained(act, sequence=last[0] + 1, previous_sha256=last[1])
        self.insert("ops", EVENTS, pl.DataFrame([row], schema=EVENTS.polars_schema))
        return str(row["sha256"])


def _closed_before(period: str) -> str:
    """Periods that were closed before the one that this parameter names; all, where it is open or null.

    By the audit log: a month that had no usage at first may be closed after a later one, at the same time of the clock.
    """
    return (
        "SELECT period FROM ops.events WHERE act = 'closed' AND sequence <"
        f" ALL (SELECT sequence FROM ops.events WHERE act = 'closed' AND period = {period})"
    )


_EXTRAS = "added_columns"


def _versioned(table: Table) -> Table:
    version = Column("book_sha256", TEXT, "Version of the book")
    extras = Column(_EXTRAS, TEXT, "Values of the columns that users added, as a JSON object")
    return Table(table.name, table.grain, (version, *table.columns, *((extras,) if table.open_prefix else ())))


def _with_extras_packed(rows: pl.DataFrame, table: Table) -> pl.DataFrame:
    names = [name for name in rows.columns if name.startswith(str(table.open_prefix))]
    packed = [
        json.dumps({name: value for name, value in zip(names, values, strict=True) if value is not None})
        for values in rows.select(names).iter_rows()
    ] if names else ["{}"] * rows.height  # fmt: skip
    return rows.with_columns(pl.Series(_EXTRAS, packed, dtype=TEXT))


def _with_extras_unpacked(rows: pl.DataFrame) -> pl.DataFrame:
    unpacked = [json.loads(text) for text in rows[_EXTRAS]]
    names = sorted({name for values in unpacked for name in values})
    added = [pl.Series(name, [values.get(name) for values in unpacked], dtype=TEXT) for name in names]
    return rows.drop(_EXTRAS).with_columns(added)
