"""The DuckDB file that only the job opens. Every change is one transaction: killed anywhere, it is old or new."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from glob import escape as glob_escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from ratemill.audit import FIRST, Act, chained, totals_by_currency
from ratemill.errors import InvariantError, LockedError, TemporaryError, UsageError
from ratemill.findings import Finding, Severity
from ratemill.io.atomic import make_private_folder, names_full_disk, staged_file, translate_os_errors
from ratemill.io.machine import budget_of
from ratemill.io.migrations import copy_aside, migrations_between
from ratemill.io.shared_usage import SharedFolder, writing_delivery
from ratemill.io.transactions import transaction
from ratemill.resources import shipped, sql
from ratemill.tables.book import BOOK_TABLES
from ratemill.tables.columns import INSTANT, TEXT, Column, Table
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
from ratemill.tables.usage import (
    BOOK_REJECTS,
    IDENTITY_COLUMNS,
    REJECTED_ROWS,
    ROW_COLUMNS,
    SERIES_COLUMNS,
    USAGE_DUPLICATES,
    USAGE_FILES,
    USAGE_REJECTS,
)
from ratemill.usage.duplicates import settle_duplicates
from ratemill.usage.intake import Intake, Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from ratemill.book.model import Book
    from ratemill.config import Engine
    from ratemill.invoicing.assembly import Invoices
    from ratemill.io.shared_usage import Delivery, DeliveryWriter
    from ratemill.io.usage_files import UsageFile
    from ratemill.memory import Budget
    from ratemill.period import BillingPeriod

_logger = logging.getLogger(__name__)

FORMAT = 4
"""Layout of the warehouse. A former one is migrated by the files in sql/migrations, a later one refused."""

_SERIES = Table(
    "series",
    "one combination of everything that repeats from hour to hour",
    (
        Column("series_id", pl.Int32, "Number of the series within the warehouse"),
        Column("identity_id", pl.Int32, "Smallest series_id that is the same but for labels and units"),
        *SERIES_COLUMNS,
    ),
)
_STORED_USAGE = Table(
    "usage",
    "one accepted usage record",
    (
        Column("file_id", pl.Int32, "File it came from"),
        Column("row_number", pl.Int64, "Row of the file, from 1"),
        Column("series_id", pl.Int32, "Its series"),
        *ROW_COLUMNS,
    ),
)
_PENDING = Table(
    "pending_duplicates",
    "a stretch of time whose duplicates must be searched again",
    (Column("first_start", INSTANT, "First instant"), Column("last_start", INSTANT, "Last instant (inclusive)")),
)
_TABLES: dict[str, tuple[Table, ...]] = {
    "raw": (USAGE_FILES, _SERIES, _STORED_USAGE, USAGE_REJECTS, BOOK_REJECTS, USAGE_DUPLICATES, _PENDING),
    "billing": BILLING_TABLES,
    "ops": (RUNS, FINDINGS, CLOSED_PERIODS, CHECKLIST, NUMBER_SERIES, DOCUMENTS, EVENTS, NOTIFICATIONS),
}
_SHARED_USAGE = Table(
    "shared_usage",
    "one usage file whose rows lie in shared files, see io/shared_usage.py",
    (
        Column("file_id", pl.Int32, "Number of the file"),
        Column("delivery", TEXT, "Name of what it came to"),
        Column("has_ids", pl.Boolean, "Whether any of its records has an id of its own"),
    ),
    key=("file_id",),
)
_NO_DELIVERY = "none"
"""A delivery without rows, that all usage begins with."""
_SLICE_ROWS = 1_000_000
_ROWS_OF_GROUP = 100_000
_ROWS_AT_A_TIME = 250_000
"""Rows that may be many are worked on so many at a time."""
_OF_SHARD = "WHERE series_id IN (SELECT series_id FROM rating_series WHERE shard = $shard)"


class Warehouse:
    """An open warehouse. Hold the workspace's lock while one lives."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, shared: SharedFolder | None = None) -> None:
        self._connection = connection
        self._shared = shared

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
        config = _settings(budget, spill)
        if not path.exists():
            # Made aside: DuckDB writes a new file's headers in several steps, and can't open one killed between them.
            with staged_file(path) as staged, _connected(staged, config) as connection:
                fresh = cls(connection)
                fresh._create_tables()
                connection.execute("CHECKPOINT")  # closing would do it too, and be silent where the disk is full
        with _connected(path, config, read_only=read_only) as connection:
            warehouse = cls(connection, SharedFolder(path.parent.parent / (engine.shared or path.parent / "shared")))
            warehouse._settle_format(path, read_only=read_only, actor=actor)
            if not read_only:
                warehouse._create_tables()
            if warehouse.is_shared():
                warehouse._list_shared_files()
            yield warehouse

    @classmethod
    @contextmanager
    def in_memory(cls, engine: Engine, spill: Path) -> Iterator[Warehouse]:
        """One for a part of the usage, gone when the block ends; what does not fit goes to ``spill``."""
        with _connected(Path(":memory:"), _settings(budget_of(engine), spill)) as connection:
            connection.execute("CREATE SCHEMA raw")
            for table in _TABLES["raw"]:
                connection.execute(f"CREATE TABLE raw.{table.name} ({table.duckdb_columns()})")
            yield cls(connection)

    def _create_tables(self) -> None:
        with self.transaction():
            self._connection.execute("CREATE SCHEMA IF NOT EXISTS book")
            for schema, tables in _TABLES.items():
                self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
                for table in tables:
                    self._connection.execute(
                        f"CREATE TABLE IF NOT EXISTS {schema}.{table.name} ({table.duckdb_columns()})"
                    )
            self._connection.execute(f"CREATE VIEW IF NOT EXISTS raw.rejected_rows AS {sql('raw/rejected_rows')}")
            self._connection.execute("CREATE TABLE IF NOT EXISTS ops.format (version INTEGER NOT NULL)")
            if self._format() is None:
                self._connection.execute("INSERT INTO ops.format VALUES (?)", [FORMAT])

    def _format(self) -> int | None:
        """The layout that the file says it has."""
        if self._row("SELECT 1 FROM duckdb_tables() WHERE schema_name = 'ops' AND table_name = 'format'") is None:
            return None
        row = self._row("SELECT max(version) FROM ops.format")
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
            self._connection.execute("UPDATE ops.format SET version = ?", [FORMAT])
            details = {"from": version, "to": FORMAT, "files": {step.name: step.sha256 for step in steps}}
            self.record(Act("migrated", actor, datetime.now(UTC), details=details))

    def write_out(self) -> None:
        """Put all that happened into the file itself, so that a copy of the file has it."""
        self._connection.execute("CHECKPOINT")

    def transaction(self) -> AbstractContextManager[None]:
        """Everything inside happens, or nothing."""
        return transaction(self._connection)

    # ---------------------------------------------------------------- reading

    def frame(self, query: str, parameters: dict[str, Any] | None = None) -> pl.DataFrame:
        """Result of a query as a Polars frame, decimals exact, instants UTC."""
        return pl.DataFrame(pl.from_arrow(self._connection.sql(query, params=parameters or {}).to_arrow_table()))

    def frames(self, query: str, parameters: dict[str, Any]) -> Iterator[pl.DataFrame]:
        """The same some rows at a time; no other query may be asked meanwhile."""
        for batch in self._connection.sql(query, params=parameters).to_arrow_reader(_ROWS_AT_A_TIME):
            yield pl.DataFrame(pl.from_arrow(batch))

    def table(self, schema: str, table: Table, where: str = "true", parameters: dict[str, Any] | None = None
              ) -> pl.DataFrame:  # fmt: skip
        """Rows of one of our tables, columns and types as defined."""
        frame = self.frame(f"SELECT {_quoted(table)} FROM {schema}.{table.name} WHERE {where}", parameters)
        return frame.cast(table.polars_schema)

    def _row(self, query: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """First row of a query; all are fetched, since an open result blocks the connection."""
        rows: list[tuple[Any, ...]] = self._connection.execute(query, list(parameters)).fetchall()
        return rows[0] if rows else None

    # ---------------------------------------------------------------- usage

    def usage_files(self) -> pl.DataFrame:
        """Every usage file known, by name."""
        return self.table("raw", USAGE_FILES).sort("file")

    def store_usage_file(self, file: UsageFile, intakes: Iterator[Intake], *, settings_sha256: str) -> dict[str, Any]:
        """Replace what is known of ``file`` by its slices, in one transaction; the row of USAGE_FILES.

        Exceptions from ``intakes`` roll everything back: the file's former rows stay.
        """
        with self.transaction():
            file_id = self._forget_rows(file.name)
            tally = Tally()
            for intake in intakes:
                self._insert_intake(file_id, intake)
                tally.add(intake)
            return self._record_loaded(file_id, file, tally, settings_sha256)

    def _record_loaded(self, file_id: int, file: UsageFile, tally: Tally, settings_sha256: str) -> dict[str, Any]:
        record = {
            "file_id": file_id,
            "file": file.name,
            "sha256": file.sha256,
            "settings_sha256": settings_sha256,
            "status": "loaded",
            "reason": None,
            **vars(tally),
        }
        self._record_file(record)
        return record

    def refuse_usage_file(self, name: str, sha256: str, reason: str) -> None:
        """Record that a file could not be billed from; rows of a former delivery under that name stay."""
        with self.transaction():
            known = self._row("SELECT file_id FROM raw.usage_files WHERE file = ?", [name])
            if known is None:
                nothing = dict.fromkeys(("rows_in", "rows_filtered", "rows_accepted", "rows_rejected"), 0)
                record = {"file": name, "sha256": sha256, "settings_sha256": "", "status": "refused", "reason": reason}
                file_id = self._next("file_id", "raw.usage_files")
                self._record_file(dict.fromkeys(USAGE_FILES.names) | nothing | record | {"file_id": file_id})
            else:
                self._connection.execute(
                    "UPDATE raw.usage_files SET status = 'refused', reason = ? WHERE file_id = ?", [reason, known[0]]
                )

    def _forget_rows(self, name: str) -> int:
        """Delete the rows of a former delivery and return the file's number."""
        known = self._row(
            "SELECT file_id, first_usage_start, last_usage_start FROM raw.usage_files WHERE file = ?", [name]
        )
        if known is None:
            return self._next("file_id", "raw.usage_files")
        file_id, first, last = known
        shared = ("shared_usage",) if self.is_shared() else ()
        for table in (self._stored_usage().name, *shared, "usage_rejects", "usage_duplicates", "usage_files"):
            self._connection.execute(f"DELETE FROM raw.{table} WHERE file_id = ?", [file_id])
        if first is not None:
            self._connection.execute("INSERT INTO raw.pending_duplicates VALUES (?, ?)", [first, last])
        return int(file_id)

    def _next(self, column: str, table: str) -> int:
        row = self._row(f"SELECT coalesce(max({column}), 0) + 1 FROM {table}")
        return int(row[0]) if row else 1

    def _record_file(self, record: dict[str, Any]) -> None:
        marks = ", ".join("?" for _ in USAGE_FILES.names)
        self._connection.execute(
            f"INSERT INTO raw.usage_files ({_quoted(USAGE_FILES)}) VALUES ({marks})",
            [record[name] for name in USAGE_FILES.names],
        )
        if record["first_usage_start"] is not None:
            self._connection.execute(
                "INSERT INTO raw.pending_duplicates VALUES (?, ?)",
                [record["first_usage_start"], record["last_usage_start"]],
            )

    def _stored_usage(self) -> Table:
        return replace(_STORED_USAGE, name="stored_usage") if self.is_shared() else _STORED_USAGE

    def _insert_intake(self, file_id: int, intake: Intake) -> None:
        numbers = self._series_numbers(intake.series)
        rows = intake.rows.join(numbers, on="series", how="left", maintain_order="left", validate="m:1").select(
            pl.lit(file_id, dtype=pl.Int32).alias("file_id"),
            "row_number",
            "series_id",
            *(column.name for column in ROW_COLUMNS),
        )
        self.insert("raw", self._stored_usage(), rows)
        if intake.rejects.height:
            self.insert("raw", USAGE_REJECTS, intake.rejects.with_columns(file_id=pl.lit(file_id, dtype=pl.Int32)))

    def _series_numbers(self, series: pl.DataFrame) -> pl.DataFrame:
        """``series`` → series_id, giving new series the next numbers (by content, so that order plays no part)."""
        with self._lent(incoming=series):
            known = self.frame(
                "SELECT incoming.series, known.series_id FROM incoming LEFT JOIN raw.series AS known ON "
                + " AND ".join(f"incoming.{c.name} IS NOT DISTINCT FROM known.{c.name}" for c in SERIES_COLUMNS)
            ).with_columns(pl.col("series").cast(pl.UInt32), pl.col("series_id").cast(pl.Int32))
        fresh = series.join(known.filter(pl.col("series_id").is_null()).select("series"), on="series", how="semi")
        if not fresh.height:
            return known
        next_id = self._next("series_id", "raw.series")
        fresh = fresh.sort([c.name for c in SERIES_COLUMNS]).with_columns(
            series_id=pl.int_range(next_id, next_id + pl.len(), dtype=pl.Int32)
        )
        self._insert_series(fresh)
        return pl.concat([known.drop_nulls(), fresh.select("series", "series_id")])

    def _insert_series(self, fresh: pl.DataFrame) -> None:
        with self._registered(incoming=fresh.select("series_id", *IDENTITY_COLUMNS)):
            same = " AND ".join(f"incoming.{name} IS NOT DISTINCT FROM known.{name}" for name in IDENTITY_COLUMNS)
            older = self.frame(
                "SELECT incoming.series_id, min(known.identity_id) AS older_id"
                f" FROM incoming INNER JOIN raw.series AS known ON {same} GROUP BY incoming.series_id"
            ).cast({"series_id": pl.Int32, "older_id": pl.Int32})
        rows = (
            fresh.with_columns(first_id=pl.col("series_id").min().over(IDENTITY_COLUMNS))
            .join(older, on="series_id", how="left", validate="1:1")
            .with_columns(identity_id=pl.coalesce("older_id", "first_id"))
        )
        self.insert("raw", _SERIES, rows)

    def is_settled(self) -> bool:
        """Whether duplicates were searched since rows last came or went: no load was stopped before its end."""
        return self._row("SELECT 1 FROM raw.pending_duplicates LIMIT 1") is None

    def settle_duplicates(self) -> None:
        """Search duplicates wherever rows came or went since the last time; one transaction."""
        pending = self.table("raw", _PENDING)
        if not pending.height:
            return
        with self.transaction():
            self._forget_duplicates(pending)
            for first, last in _days(pending):
                # DuckDB takes no parameters where it makes a table; these are instants of our own making.
                query = sql("raw/duplicate_records").replace("$first", _literal(first)).replace("$last", _literal(last))
                self._insert_duplicates(query)
            self._insert_duplicates(sql("raw/duplicate_record_ids"))

    def _forget_duplicates(self, pending: pl.DataFrame) -> None:
        """Forget what is searched anew, inside the transaction that does: record ids over all months each time."""
        self._connection.execute("DELETE FROM raw.usage_duplicates WHERE has_record_id")
        for first, last in pending.iter_rows():
            self._connection.execute(
                "DELETE FROM raw.usage_duplicates WHERE usage_start BETWEEN ? AND ?", [first, last]
            )
        self._connection.execute("DELETE FROM raw.pending_duplicates")

    def _insert_duplicates(self, query: str) -> None:
        """Settle the records that a query finds, some at a time: a file that came twice is all duplicates."""
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE repeated_records AS {query}")
        try:
            counted = self._row("SELECT count(*) FROM repeated_records")
            parts = -(-counted[0] // _ROWS_AT_A_TIME) if counted else 0
            for part in range(parts):  # those of one identity together
                found = self.frame(
                    "SELECT * FROM repeated_records WHERE hash(identity) % $parts = $part",
                    {"parts": parts, "part": part},
                )
                if found.height:
                    self.insert("raw", USAGE_DUPLICATES, settle_duplicates(found))
        finally:
            self._connection.execute("DROP TABLE IF EXISTS temp.repeated_records")

    # ---------------------------------------------------------------- usage in shared files

    def is_shared(self) -> bool:
        """Whether usage may lie in shared files: once it did, ``raw.usage`` is a view of them and of stored rows."""
        return self._row("SELECT 1 FROM duckdb_tables() WHERE table_name = 'shared_usage'") is not None

    def share_usage(self) -> SharedFolder:
        """The folder of shared files; from now on ``raw.usage`` has their rows, and those that are stored here."""
        if self._shared is None:
            raise AssertionError("a warehouse in memory shares nothing")
        if not self.is_shared():
            with self.writing(self._shared.delivery(_NO_DELIVERY), 0):
                pass  # a list of files can't be empty
            with self.transaction():
                self._connection.execute("ALTER TABLE raw.usage RENAME TO stored_usage")
                self._connection.execute(f"CREATE TABLE raw.shared_usage ({_SHARED_USAGE.duckdb_columns()})")
                self._connection.execute("CREATE TABLE raw.series_keys (series_key UUID NOT NULL, series_id INTEGER)")
                self._list_shared_files()
                self._connection.execute(f"CREATE VIEW raw.usage AS {sql('shared/usage')}")
        return self._shared

    @contextmanager
    def writing(
        self, delivery: Delivery, file_id: int, *, fetched: dict[str, Any] | None = None
    ) -> Iterator[DeliveryWriter]:
        """Build a delivery in temporary tables, which may spill to disk; it appears when the block ends well."""
        connection = self._connection.cursor()
        try:
            with writing_delivery(delivery, connection, file_id, fetched=fetched) as writer:
                yield writer
        finally:
            connection.close()

    def shared_files(self, file_ids: Sequence[int]) -> list[str]:
        """Shared files that hold the rows of some usage files, as DuckDB takes them: at least one."""
        found = self.table("raw", _SHARED_USAGE, "file_id IN (SELECT unnest($files))", {"files": list(file_ids)})
        return [self._rows_of(name) for name in (_NO_DELIVERY, *found.sort("file_id")["delivery"])]

    def _rows_of(self, delivery: str) -> str:
        if self._shared is None:
            raise AssertionError("a warehouse in memory shares nothing")
        return glob_escape(str(self._shared.delivery(delivery).rows))

    def _list_shared_files(self) -> None:
        """Let ``raw.usage`` know which shared files count."""
        if self._shared is not None and not self._shared.root.is_dir():
            raise TemporaryError(f"the folder of shared usage, {self._shared.root}, is not there → mount it")
        names = [_NO_DELIVERY, *self.table("raw", _SHARED_USAGE)["delivery"]]
        self._connection.execute("SET VARIABLE shared_rows = ?", [list(map(self._rows_of, names))])

    def store_shared_file(self, file: UsageFile, delivery: str, *, settings_sha256: str) -> dict[str, Any]:
        """Replace what is known of ``file`` by a delivery, see :meth:`store_usage_file`."""
        shared = self.share_usage().delivery(delivery)
        with self.transaction():
            file_id = self._forget_rows(file.name)
            if int(delivery.partition("-")[0]) != file_id:
                raise InvariantError(f"{file.name} was read as {delivery}, and is file {file_id}; nothing was written")
            self._keep_delivery(file_id, delivery, shared)
            self.insert_from(
                "raw", USAGE_REJECTS, "SELECT $file_id AS file_id, * FROM read_parquet($rejects)",
                {"file_id": file_id, "rejects": glob_escape(str(shared.rejects))},
            )  # fmt: skip
            record = self._record_loaded(file_id, file, shared.tally(), settings_sha256)
        self._list_shared_files()
        return record

    def _keep_delivery(self, file_id: int, name: str, shared: Delivery) -> None:
        fresh = self.frame(sql("shared/unknown_series"), {"series": glob_escape(str(shared.series))})
        if not fresh["series_key"].is_unique().all():
            raise InvariantError("two series have the same key; nothing was written")
        if fresh.height:
            fresh = fresh.with_row_index("series")
            numbers = self._series_numbers(fresh.drop("series_key"))
            with self._registered(incoming=fresh.select("series", "series_key").join(numbers, on="series")):
                self._connection.execute("INSERT INTO raw.series_keys SELECT series_key::UUID, series_id FROM incoming")
        self._connection.execute("INSERT INTO raw.shared_usage VALUES (?, ?, ?)", [file_id, name, shared.has_ids()])

    def numbers_of_files(self, names: Sequence[str]) -> dict[str, int]:
        """The number of each file: new ones get the next, in the order in which they must be stored then."""
        known = dict(self.usage_files().select("file", "file_id").iter_rows())
        first_free = self._next("file_id", "raw.usage_files")
        fresh = {name: first_free + place for place, name in enumerate(name for name in names if name not in known)}
        return {name: known.get(name) or fresh[name] for name in names}

    def take_buckets(self, part: dict[str, Any]) -> None:
        """Take the rows of a part of shared usage; ``part``: parameters of sql/shared/usage_of_buckets.sql."""
        self.insert_from("raw", _STORED_USAGE, sql("shared/usage_of_buckets"), part)

    def take_duplicates(self, path: Path) -> None:
        """Take what is known of duplicates among the rows that are here from a file."""
        self._take(USAGE_DUPLICATES, path, "SEMI JOIN raw.usage USING (file_id, row_number)")

    def take_files(self, *, series: Path, files: Path, pending: Path) -> None:
        """Take what a search for duplicates among the rows that are here needs besides them."""
        self._take(_SERIES, series, "SEMI JOIN raw.usage USING (series_id)")
        self._take(USAGE_FILES, files)
        self._take(_PENDING, pending)

    def _take(self, table: Table, path: Path, of_what: str = "") -> None:
        query = f"SELECT * FROM read_parquet($path) AS taken {of_what}"
        self.insert_from("raw", table, query, {"path": glob_escape(str(path))})

    def stored_files(self) -> pl.DataFrame:
        """file_id, rows, sha256, settings_sha256: files whose rows lie in this warehouse although usage is shared."""
        return self.frame(sql("shared/stored_files"))

    def stored_slices(self, file_id: int, rows: int) -> Iterator[Intake]:
        """Such a file's rows, as they once came; rejects stay where they are."""
        for first in range(0, rows, _SLICE_ROWS):
            where = f"file_id = {file_id} AND row_number > {first} AND row_number <= {first + _SLICE_ROWS}"
            taken = self.frame(f"SELECT * EXCLUDE file_id FROM raw.stored_usage WHERE {where}")
            series = self.table("raw", _SERIES, f"series_id IN (SELECT series_id FROM raw.stored_usage WHERE {where})")
            yield Intake(
                rows=taken.rename({"series_id": "series"}),
                series=series.drop("identity_id").rename({"series_id": "series"}),
                rejects=USAGE_REJECTS.empty().drop("file_id"),
                rows_in=taken.height,
                rows_filtered=0,
                rows_rejected=0,
            )

    def move_to_shared(self, file_id: int, delivery: str) -> None:
        """Take a delivery in place of stored rows that are the same."""
        with self.transaction():
            self._connection.execute("DELETE FROM raw.stored_usage WHERE file_id = ?", [file_id])
            self._keep_delivery(file_id, delivery, self.share_usage().delivery(delivery))
        self._list_shared_files()

    def drop_unused_deliveries(self) -> None:
        """Remove from the shared folder what no usage file comes from any more."""
        self.share_usage().keep_only({_NO_DELIVERY, *self.table("raw", _SHARED_USAGE)["delivery"]})

    def pending_duplicates(self) -> pl.DataFrame:
        """first_start, last_start: stretches of time whose duplicates must be searched again."""
        return self.table("raw", _PENDING)

    def files_to_search(self) -> pl.DataFrame:
        """Rows of USAGE_FILES that duplicates may be in: around the pending stretches, and all with ids of records."""
        pending = self.pending_duplicates()
        ids = self.table("raw", _SHARED_USAGE, "has_ids")["file_id"].to_list()
        around = (pl.col("first_usage_start") <= pending["last_start"].max()) & (
            pl.col("last_usage_start") >= pending["first_start"].min()
        )
        return self.usage_files().filter(around | pl.col("file_id").is_in(ids))

    def adopt_duplicates(self, files: list[str]) -> None:
        """Take what others found in the pending stretches of time, in place of what was known."""
        with self.transaction():
            self._forget_duplicates(self.pending_duplicates())
            self.insert_from("raw", USAGE_DUPLICATES, "SELECT * FROM read_parquet($files)", {"files": files})

    # ---------------------------------------------------------------- rating

    @contextmanager
    def usage_of_period(self, period: BillingPeriod) -> Iterator[None]:
        """Inside, the view ``usage_of_period`` holds what may belong to ``period`` in some time zone."""
        text = sql("raw/usage_of_period")
        # DuckDB refuses parameters in views; these are instants of our own making.
        text = text.replace("$widest_start", _literal(period.widest_start))
        text = text.replace("$widest_end", _literal(period.widest_end))
        self._connection.execute(f"CREATE OR REPLACE TEMP VIEW usage_of_period AS {text}")
        try:
            yield
        finally:
            self._connection.execute("DROP VIEW IF EXISTS temp.usage_of_period")

    @contextmanager
    def metered_usage(self, series: pl.DataFrame, cells: pl.DataFrame) -> Iterator[Sequence[tuple[int, int]]]:
        """Add usage up per series and cell into temporary tables (spilling to disk).

        Yields the shards in them: number, and how many rows :meth:`metered_shard` has.

        ``series``: series_id, calendar_id, shard, record_increment, by_the_hour (whether hours are needed one by one).
        ``cells``: calendar_id, usage_start, cell, hour.
        """
        with self._registered(rating_series=series, rating_cells=cells):
            try:
                for name in ("metered_usage", "billable_usage"):
                    self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {sql(f'core/{name}')}")
                counted = self.frame(sql("core/shards"))
                yield list(counted.iter_rows())
            finally:
                for name in ("metered_usage", "billable_usage"):
                    self._connection.execute(f"DROP TABLE IF EXISTS temp.{name}")

    def metered_shard(self, shard: int) -> pl.DataFrame:
        """One shard: series_id, cell, quantity, records, charge_start, charge_end, last_usage_start."""
        return self.frame(f"SELECT * FROM metered_usage {_OF_SHARD}", {"shard": shard})

    def billable_shard(self, shard: int) -> pl.DataFrame:
        """What a shard's series with increments, or hour by hour, bill: series_id, cell, hour (or empty), billable."""
        return self.frame(f"SELECT * FROM billable_usage {_OF_SHARD}", {"shard": shard})

    def frame_over(self, query: str, parameters: dict[str, Any], **frames: pl.DataFrame) -> pl.DataFrame:
        """Result of a query that also reads ``frames``, by their names; see :meth:`frame`."""
        with self._registered(**frames):
            return self.frame(query, parameters)

    @contextmanager
    def expecting(
        self, period: BillingPeriod, before: datetime, expected: Iterable[pl.DataFrame]
    ) -> Iterator[pl.DataFrame]:
        """Inside, ``raw.usage`` is what ``period`` used before an instant, and what is ``expected`` after it.

        It lies in a database in memory of its own, which also is all that the names of tables reach, so that nothing
        can be written to the ledger meanwhile. ``expected``: frames of series_id, usage_start, quantity. Yields the one
        row of USAGE_FILES that all of it counts as coming from.
        """
        row = self._row("SELECT current_catalog()")
        ledger = f'"{row[0] if row else ""}"'
        view = sql("raw/usage_with_expected").replace("FROM warehouse.", f"FROM {ledger}.")
        view = view.replace("JOIN warehouse.", f"JOIN {ledger}.")
        view = view.replace("$widest_start", _literal(period.widest_start))
        view = view.replace("$before", _literal(min(before, period.widest_end)))
        self._connection.execute("ATTACH ':memory:' AS imagined (READ_WRITE)")
        try:
            self._connection.execute("USE imagined")
            self._connection.execute("CREATE SCHEMA raw")
            columns = "series_id INTEGER NOT NULL, usage_start TIMESTAMPTZ NOT NULL, quantity DECIMAL(38,12) NOT NULL"
            self._connection.execute(f"CREATE TABLE expected_usage ({columns})")
            for frame in expected:
                with self._registered(incoming=frame):
                    self._connection.execute(
                        "INSERT INTO expected_usage SELECT series_id, usage_start, quantity FROM incoming"
                    )
            self._connection.execute(f"CREATE VIEW raw.usage AS {view}")
            self._connection.execute(f"CREATE VIEW raw.series AS SELECT * FROM {ledger}.raw.series")
            self._connection.execute(f"CREATE TABLE raw.usage_duplicates ({USAGE_DUPLICATES.duckdb_columns()})")
            counted = self._row("SELECT count(*) FROM raw.usage")
            rows = counted[0] if counted else 0
            file = {
                **dict.fromkeys(USAGE_FILES.names),
                "file_id": 0, "rows_in": rows, "rows_filtered": 0, "rows_accepted": rows, "rows_rejected": 0,
            }  # fmt: skip
            yield pl.DataFrame([file], schema=USAGE_FILES.polars_schema)
        finally:
            self._connection.execute(f"USE {ledger}")
            self._connection.execute("DETACH imagined")

    def replace_book_rejects(self, unknown: pl.DataFrame, period: BillingPeriod) -> None:
        """Keep the rows of ``usage_of_period`` whose series the book does not know, in place of the former ones.

        ``unknown``: see :func:`ratemill.rating.series.split_by_book`.
        """
        with self.transaction(), self._registered(unknown=unknown):
            self._connection.execute("DELETE FROM raw.book_rejects WHERE period = ?", [str(period)])
            if unknown.height:
                self._connection.execute(
                    f"INSERT INTO raw.book_rejects ({_quoted(BOOK_REJECTS)}) {sql('core/book_rejects')}",
                    {"period": str(period)},
                )

    def rejected_rows(self) -> pl.DataFrame:
        """Every row that is not billed because it breaks a rule (columns of REJECTED_ROWS)."""
        rows = self.frame(f"SELECT {_quoted(REJECTED_ROWS)} FROM raw.rejected_rows")
        return rows.pipe(REJECTED_ROWS.conform).sort("file_id", "row_number", "column", "rule", "period")

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
            self._connection.execute(
                "UPDATE ops.runs SET status = ?, finished_at = ?, summary = ? WHERE run_id = ?",
                [status, finished_at, summary, run_id],
            )

    def finish_runs(self, finished_at: datetime) -> None:
        """Note that analysts see every current run that has its documents."""
        with self.transaction():
            self._connection.execute(
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
            self._connection.execute("UPDATE ops.runs SET is_current = false WHERE period = $period", period)
            for table in (RUNS, FINDINGS):
                self._connection.execute(f"DELETE FROM ops.{table.name} WHERE run_id = ?", [run["run_id"]])
            self.insert("ops", RUNS, pl.DataFrame([run], schema=RUNS.polars_schema))
            found = [finding.as_dict() | {"run_id": run["run_id"]} for finding in findings]
            self.insert("ops", FINDINGS, pl.DataFrame(found, schema=FINDINGS.polars_schema))
            self._store_book(book)
            if drafted.details["replaces"] != run["run_id"]:
                self.record(drafted)

    def _drafted(self, invoices: Invoices, run: dict[str, Any], actor: str) -> Act:
        """The act of replacing a period's drafts."""
        former = self._row("SELECT run_id FROM ops.runs WHERE period = ? AND is_current", [run["period"]])
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
            self._connection.execute(f"CREATE TABLE IF NOT EXISTS book.{kept.name} ({kept.duckdb_columns()})")
            known = self._row(f"SELECT count(*) FROM book.{kept.name} WHERE book_sha256 = ?", [book.sha256])
            if known is not None and not known[0]:
                rows = book.frame(table.name).with_columns(book_sha256=pl.lit(book.sha256))
                self.insert("book", kept, _with_extras_packed(rows, table) if table.open_prefix else rows)

    def book_table(self, table: Table, book_sha256: str) -> pl.DataFrame:
        """A table of the book as it was in one version; columns that users added (``attr.*``) behind its own."""
        rows = self.table("book", _versioned(table), "book_sha256 = $version", {"version": book_sha256})
        return _with_extras_unpacked(rows) if table.open_prefix else rows

    # ---------------------------------------------------------------- writing

    def record(self, act: Act) -> str:
        """Append to the audit log, inside the transaction of the act itself; its hash."""
        last = self._row("SELECT sequence, sha256 FROM ops.events ORDER BY sequence DESC LIMIT 1") or (0, FIRST)
        row = chained(act, sequence=last[0] + 1, previous_sha256=last[1])
        self.insert("ops", EVENTS, pl.DataFrame([row], schema=EVENTS.polars_schema))
        return str(row["sha256"])

    def delete(self, schema: str, table: Table, where: str, parameters: dict[str, Any]) -> None:
        """Delete rows of one of our tables, inside a transaction."""
        self._connection.execute(f"DELETE FROM {schema}.{table.name} WHERE {where}", parameters)

    def insert(self, schema: str, table: Table, rows: pl.DataFrame) -> None:
        """Append rows; columns and types as the table defines them."""
        ordered = rows.pipe(table.conform)
        with self._lent(incoming=ordered):
            self._connection.execute(
                f"INSERT INTO {schema}.{table.name} ({_quoted(table)}) SELECT {_quoted(table)} FROM incoming"
            )

    def insert_from(self, schema: str, table: Table, query: str, parameters: dict[str, Any] | None = None) -> None:
        """Append what a query finds; columns as the table defines them."""
        self._connection.execute(
            f"INSERT INTO {schema}.{table.name} ({_quoted(table)}) SELECT {_quoted(table)} FROM ({query})",
            parameters or {},
        )

    def write_parquet(self, query: str, path: Path, *, rows_of_group: int = _ROWS_OF_GROUP) -> None:
        """Write what a query without parameters finds to a file, however much it is."""
        with translate_os_errors(f"writing {path}"):
            self._connection.sql(query).write_parquet(str(path), compression="zstd", row_group_size=rows_of_group)

    @contextmanager
    def _lent(self, **frames: pl.DataFrame) -> Iterator[None]:
        """``frames`` as tables for the block, within a transaction.

        The transaction remembers until its end what was registered meanwhile, and would keep all rows of a file.
        """
        lent = {name: _Lent(frame) for name, frame in frames.items()}
        for name, frame in lent.items():
            self._connection.register(name, frame)
        try:
            yield
        finally:
            for name, frame in lent.items():
                self._connection.unregister(name)
                frame.give_back()

    @contextmanager
    def _registered(self, **frames: pl.DataFrame) -> Iterator[None]:
        for name, frame in frames.items():
            self._connection.register(name, frame.to_arrow())
        try:
            yield
        finally:
            for name in frames:
                self._connection.unregister(name)


class _Lent:
    """A frame that DuckDB reads as an Arrow stream, as often as it likes, until it is given back."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame: pl.DataFrame | None = frame

    def give_back(self) -> None:
        """Forget the rows, whoever still has this object."""
        self._frame = None

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        if self._frame is None:
            raise ValueError("this frame was given back")
        return self._frame.__arrow_c_stream__(requested_schema)


def _closed_before(period: str) -> str:
    """Periods that were closed before the one that this parameter names; all, where it is open or null.

    By the audit log: a month that had no usage at first may be closed after a later one, at the same time of the clock.
    """
    return (
        "SELECT period FROM ops.events WHERE act = 'closed' AND sequence <"
        f" ALL (SELECT sequence FROM ops.events WHERE act = 'closed' AND period = {period})"
    )


def _settings(budget: Budget, spill: Path) -> dict[str, Any]:
    return {
        "memory_limit": f"{budget.database}B",
        "threads": budget.database_threads,
        "temp_directory": str(spill),
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "python_enable_replacements": False,
    }


@contextmanager
def _connected(path: Path, config: dict[str, Any], *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    try:
        connection = duckdb.connect(str(path), read_only=read_only, config=config)
    except duckdb.IOException as error:
        if names_full_disk(str(error)):
            raise TemporaryError(
                f"disk full while opening {path}: free space and run again; nothing was changed"
            ) from None
        if "lock" in str(error).lower():
            raise TemporaryError(f"another program has {path.name} open: {_first_line(error)}") from None
        raise UsageError(
            f"{path} is no warehouse that this version can read: {_first_line(error)}"
            " → bring state back from a backup (ratemill restore); before the first month is closed, it is enough to"
            " move the state folder away and run again, which rebuilds everything from the usage files"
        ) from None
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    finally:
        connection.close()


def _days(pending: pl.DataFrame) -> list[tuple[datetime, datetime]]:
    """The pending stretches joined where they overlap and cut at UTC days, so that each search is small."""
    merged: list[tuple[datetime, datetime]] = []
    for first, last in sorted(pending.rows()):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    pieces: list[tuple[datetime, datetime]] = []
    for first, last in merged:
        start = first
        while start <= last:
            midnight = start.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
            pieces.append((start, min(last, midnight - timedelta(microseconds=1))))
            start = midnight
    return pieces


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


def _quoted(table: Table) -> str:
    return ", ".join(f'"{name}"' for name in table.names)


def _literal(instant: datetime) -> str:
    return f"TIMESTAMPTZ '{instant.isoformat(sep=' ')}'"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
