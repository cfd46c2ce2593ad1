"""Usage in the warehouse: files and their rows, the series they belong to, and which of them are duplicates.

Rows lie in the warehouse itself, or in shared files where several machines work on them (io/shared_usage.py).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from glob import escape as glob_escape
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.errors import InvariantError, TemporaryError
from ratemill.io.database import ROWS_AT_A_TIME, literal, quoted
from ratemill.io.shared_usage import SharedFolder, writing_delivery
from ratemill.resources import sql
from ratemill.tables.columns import INSTANT, TEXT, Column, Table
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
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ratemill.io.database import Database
    from ratemill.io.shared_usage import Delivery, DeliveryWriter
    from ratemill.io.usage_files import UsageFile

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
USAGE_TABLES = (USAGE_FILES, _SERIES, _STORED_USAGE, USAGE_REJECTS, BOOK_REJECTS, USAGE_DUPLICATES, _PENDING)
"""What the schema ``raw`` has."""
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


class StoredUsage:
    """The usage of a warehouse."""

    def __init__(self, database: Database, shared: SharedFolder | None) -> None:
        self._database = database
        self._shared = shared

    # ---------------------------------------------------------------- files and their rows

    def files(self) -> pl.DataFrame:
        """Every usage file known, by name."""
        return self._database.table("raw", USAGE_FILES).sort("file")

    def store_file(self, file: UsageFile, intakes: Iterator[Intake], *, settings_sha256: str) -> dict[str, Any]:
        """Replace what is known of ``file`` by its slices, in one transaction; the row of USAGE_FILES.

        Exceptions from ``intakes`` roll everything back: the file's former rows stay.
        """
        with self._database.transaction():
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

    def refuse_file(self, name: str, sha256: str, reason: str) -> None:
        """Record that a file could not be billed from; rows of a former delivery under that name stay."""
        with self._database.transaction():
            known = self._database.row("SELECT file_id FROM raw.usage_files WHERE file = ?", [name])
            if known is None:
                nothing = dict.fromkeys(("rows_in", "rows_filtered", "rows_accepted", "rows_rejected"), 0)
                record = {"file": name, "sha256": sha256, "settings_sha256": "", "status": "refused", "reason": reason}
                file_id = self._database.next_number("file_id", "raw.usage_files")
                self._record_file(dict.fromkeys(USAGE_FILES.names) | nothing | record | {"file_id": file_id})
            else:
                self._database.execute(
                    "UPDATE raw.usage_files SET status = 'refused', reason = ? WHERE file_id = ?", [reason, known[0]]
                )

    def _forget_rows(self, name: str) -> int:
        """Delete the rows of a former delivery and return the file's number."""
        known = self._database.row(
            "SELECT file_id, first_usage_start, last_usage_start FROM raw.usage_files WHERE file = ?", [name]
        )
        if known is None:
            return self._database.next_number("file_id", "raw.usage_files")
        file_id, first, last = known
        shared = ("shared_usage",) if self.is_shared() else ()
        for table in (self._stored_usage().name, *shared, "usage_rejects", "usage_duplicates", "usage_files"):
            self._database.execute(f"DELETE FROM raw.{table} WHERE file_id = ?", [file_id])
        if first is not None:
            self._database.execute("INSERT INTO raw.pending_duplicates VALUES (?, ?)", [first, last])
        return int(file_id)

    def _record_file(self, record: dict[str, Any]) -> None:
        marks = ", ".join("?" for _ in USAGE_FILES.names)
        self._database.execute(
            f"INSERT INTO raw.usage_files ({quoted(USAGE_FILES)}) VALUES ({marks})",
            [record[name] for name in USAGE_FILES.names],
        )
        if record["first_usage_start"] is not None:
            self._database.execute(
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
        self._database.insert("raw", self._stored_usage(), rows)
        if intake.rejects.height:
            self._database.insert(
                "raw", USAGE_REJECTS, intake.rejects.with_columns(file_id=pl.lit(file_id, dtype=pl.Int32))
            )

    def _series_numbers(self, series: pl.DataFrame) -> pl.DataFrame:
        """``series`` → series_id, giving new series the next numbers (by content, so that order plays no part)."""
        with self._database.lent(incoming=series):
            known = self._database.frame(
                "SELECT incoming.series, known.series_id FROM incoming LEFT JOIN raw.series AS known ON "
                + " AND ".join(f"incoming.{c.name} IS NOT DISTINCT FROM known.{c.name}" for c in SERIES_COLUMNS)
            ).with_columns(pl.col("series").cast(pl.UInt32), pl.col("series_id").cast(pl.Int32))
        fresh = series.join(known.filter(pl.col("series_id").is_null()).select("series"), on="series", how="semi")
        if not fresh.height:
            return known
        next_id = self._database.next_number("series_id", "raw.series")
        fresh = fresh.sort([c.name for c in SERIES_COLUMNS]).with_columns(
            series_id=pl.int_range(next_id, next_id + pl.len(), dtype=pl.Int32)
        )
        self._insert_series(fresh)
        return pl.concat([known.drop_nulls(), fresh.select("series", "series_id")])

    def _insert_series(self, fresh: pl.DataFrame) -> None:
        with self._database.registered(incoming=fresh.select("series_id", *IDENTITY_COLUMNS)):
            same = " AND ".join(f"incoming.{name} IS NOT DISTINCT FROM known.{name}" for name in IDENTITY_COLUMNS)
            older = self._database.frame(
                "SELECT incoming.series_id, min(known.identity_id) AS older_id"
                f" FROM incoming INNER JOIN raw.series AS known ON {same} GROUP BY incoming.series_id"
            ).cast({"series_id": pl.Int32, "older_id": pl.Int32})
        rows = (
            fresh.with_columns(first_id=pl.col("series_id").min().over(IDENTITY_COLUMNS))
            .join(older, on="series_id", how="left", validate="1:1")
            .with_columns(identity_id=pl.coalesce("older_id", "first_id"))
        )
        self._database.insert("raw", _SERIES, rows)

    def rejected_rows(self) -> pl.DataFrame:
        """Every row that is not billed because it breaks a rule (columns of REJECTED_ROWS)."""
        rows = self._database.frame(f"SELECT {quoted(REJECTED_ROWS)} FROM raw.rejected_rows")
        return rows.pipe(REJECTED_ROWS.conform).sort("file_id", "row_number", "column", "rule", "period")

    # ---------------------------------------------------------------- duplicates

    def is_settled(self) -> bool:
        """Whether duplicates were searched since rows last came or went: no load was stopped before its end."""
        return self._database.row("SELECT 1 FROM raw.pending_duplicates LIMIT 1") is None

    def settle_duplicates(self) -> None:
        """Search duplicates wherever rows came or went since the last time; one transaction."""
        pending = self._database.table("raw", _PENDING)
        if not pending.height:
            return
        with self._database.transaction():
            self._forget_duplicates(pending)
            for first, last in _days(pending):
                # DuckDB takes no parameters where it makes a table; these are instants of our own making.
                query = sql("raw/duplicate_records").replace("$first", literal(first)).replace("$last", literal(last))
                self._insert_duplicates(query)
            self._insert_duplicates(sql("raw/duplicate_record_ids"))

    def _forget_duplicates(self, pending: pl.DataFrame) -> None:
        """Forget what is searched anew, inside the transaction that does: record ids over all months each time."""
        self._database.execute("DELETE FROM raw.usage_duplicates WHERE has_record_id")
        for first, last in pending.iter_rows():
            self._database.execute("DELETE FROM raw.usage_duplicates WHERE usage_start BETWEEN ? AND ?", [first, last])
        self._database.execute("DELETE FROM raw.pending_duplicates")

    def _insert_duplicates(self, query: str) -> None:
        """Settle the records that a query finds, some at a time: a file that came twice is all duplicates."""
        self._database.execute(f"CREATE OR REPLACE TEMP TABLE repeated_records AS {query}")
        try:
            counted = self._database.row("SELECT count(*) FROM repeated_records")
            parts = -(-counted[0] // ROWS_AT_A_TIME) if counted else 0
            for part in range(parts):  # those of one identity together
                found = self._database.frame(
                    "SELECT * FROM repeated_records WHERE hash(identity) % $parts = $part",
                    {"parts": parts, "part": part},
                )
                if found.height:
                    self._database.insert("raw", USAGE_DUPLICATES, settle_duplicates(found))
        finally:
            self._database.execute("DROP TABLE IF EXISTS temp.repeated_records")

    def pending_duplicates(self) -> pl.DataFrame:
        """first_start, last_start: stretches of time whose duplicates must be searched again."""
        return self._database.table("raw", _PENDING)

    def files_to_search(self) -> pl.DataFrame:
        """Rows of USAGE_FILES that duplicates may be in: around the pending stretches, and all with ids of records."""
        pending = self.pending_duplicates()
        ids = self._database.table("raw", _SHARED_USAGE, "has_ids")["file_id"].to_list()
        around = (pl.col("first_usage_start") <= pending["last_start"].max()) & (
            pl.col("last_usage_start") >= pending["first_start"].min()
        )
        return self.files().filter(around | pl.col("file_id").is_in(ids))

    def adopt_duplicates(self, files: list[str]) -> None:
        """Take what others found in the pending stretches of time, in place of what was known."""
        with self._database.transaction():
            self._forget_duplicates(self.pending_duplicates())
            self._database.insert_from("raw", USAGE_DUPLICATES, "SELECT * FROM read_parquet($files)", {"files": files})

    # ---------------------------------------------------------------- shared files

    def is_shared(self) -> bool:
        """Whether usage may lie in shared files: once it did, ``raw.usage`` is a view of them and of stored rows."""
        return self._database.row("SELECT 1 FROM duckdb_tables() WHERE table_name = 'shared_usage'") is not None

    def share_usage(self) -> SharedFolder:
        """The folder of shared files; from now on ``raw.usage`` has their rows, and those that are stored here."""
        if self._shared is None:
            raise AssertionError("a warehouse in memory shares nothing")
        if not self.is_shared():
            with self.writing(self._shared.delivery(_NO_DELIVERY), 0):
                pass  # a list of files can't be empty
            with self._database.transaction():
                self._database.execute("ALTER TABLE raw.usage RENAME TO stored_usage")
                self._database.execute(f"CREATE TABLE raw.shared_usage ({_SHARED_USAGE.duckdb_columns()})")
                self._database.execute("CREATE TABLE raw.series_keys (series_key UUID NOT NULL, series_id INTEGER)")
                self.list_shared_files()
                self._database.execute(f"CREATE VIEW raw.usage AS {sql('shared/usage')}")
        return self._shared

    @contextmanager
    def writing(
        self, delivery: Delivery, file_id: int, *, fetched: dict[str, Any] | None = None
    ) -> Iterator[DeliveryWriter]:
        """Build a delivery in temporary tables, which may spill to disk; it appears when the block ends well."""
        with (
            self._database.cursor() as connection,
            writing_delivery(delivery, connection, file_id, fetched=fetched) as writer,
        ):
            yield writer

    def shared_files(self, file_ids: Sequence[int]) -> list[str]:
        """Shared files that hold the rows of some usage files, as DuckDB takes them: at least one."""
        found = self._database.table(
            "raw", _SHARED_USAGE, "file_id IN (SELECT unnest($files))", {"files": list(file_ids)}
        )
        return [self._rows_of(name) for name in (_NO_DELIVERY, *found.sort("file_id")["delivery"])]

    def _rows_of(self, delivery: str) -> str:
        if self._shared is None:
            raise AssertionError("a warehouse in memory shares nothing")
        return glob_escape(str(self._shared.delivery(delivery).rows))

    def list_shared_files(self) -> None:
        """Let ``raw.usage`` know which shared files count."""
        if self._shared is not None and not self._shared.root.is_dir():
            raise TemporaryError(f"the folder of shared usage, {self._shared.root}, is not there → mount it")
        names = [_NO_DELIVERY, *self._database.table("raw", _SHARED_USAGE)["delivery"]]
        self._database.execute("SET VARIABLE shared_rows = ?", [list(map(self._rows_of, names))])

    def store_shared_file(self, file: UsageFile, delivery: str, *, settings_sha256: str) -> dict[str, Any]:
        """Replace what is known of ``file`` by a delivery, see :meth:`store_file`."""
        shared = self.share_usage().delivery(delivery)
        with self._database.transaction():
            file_id = self._forget_rows(file.name)
            if int(delivery.partition("-")[0]) != file_id:
                raise InvariantError(f"{file.name} was read as {delivery}, and is file {file_id}; nothing was written")
            self._keep_delivery(file_id, delivery, shared)
            self._database.insert_from(
                "raw", USAGE_REJECTS, "SELECT $file_id AS file_id, * FROM read_parquet($rejects)",
                {"file_id": file_id, "rejects": glob_escape(str(shared.rejects))},
            )  # fmt: skip
            record = self._record_loaded(file_id, file, shared.tally(), settings_sha256)
        self.list_shared_files()
        return record

    def _keep_delivery(self, file_id: int, name: str, shared: Delivery) -> None:
        fresh = self._database.frame(sql("shared/unknown_series"), {"series": glob_escape(str(shared.series))})
        if not fresh["series_key"].is_unique().all():
            raise InvariantError("two series have the same key; nothing was written")
        if fresh.height:
            fresh = fresh.with_row_index("series")
            numbers = self._series_numbers(fresh.drop("series_key"))
            with self._database.registered(incoming=fresh.select("series", "series_key").join(numbers, on="series")):
                self._database.execute("INSERT INTO raw.series_keys SELECT series_key::UUID, series_id FROM incoming")
        self._database.execute("INSERT INTO raw.shared_usage VALUES (?, ?, ?)", [file_id, name, shared.has_ids()])

    def numbers_of_files(self, names: Sequence[str]) -> dict[str, int]:
        """The number of each file: new ones get the next, in the order in which they must be stored then."""
        known = dict(self.files().select("file", "file_id").iter_rows())
        first_free = self._database.next_number("file_id", "raw.usage_files")
        fresh = {name: first_free + place for place, name in enumerate(name for name in names if name not in known)}
        return {name: known.get(name) or fresh[name] for name in names}

    def take_buckets(self, part: dict[str, Any]) -> None:
        """Take the rows of a part of shared usage; ``part``: parameters of sql/shared/usage_of_buckets.sql."""
        self._database.insert_from("raw", _STORED_USAGE, sql("shared/usage_of_buckets"), part)

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
        self._database.insert_from("raw", table, query, {"path": glob_escape(str(path))})

    def stored_files(self) -> pl.DataFrame:
        """file_id, rows, sha256, settings_sha256: files whose rows lie in this warehouse although usage is shared."""
        return self._database.frame(sql("shared/stored_files"))

    def stored_slices(self, file_id: int, rows: int) -> Iterator[Intake]:
        """Such a file's rows, as they once came; rejects stay where they are."""
        for first in range(0, rows, _SLICE_ROWS):
            where = f"file_id = {file_id} AND row_number > {first} AND row_number <= {first + _SLICE_ROWS}"
            taken = self._database.frame(f"SELECT * EXCLUDE file_id FROM raw.stored_usage WHERE {where}")
            series = self._database.table(
                "raw", _SERIES, f"series_id IN (SELECT series_id FROM raw.stored_usage WHERE {where})"
            )
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
        with self._database.transaction():
            self._database.execute("DELETE FROM raw.stored_usage WHERE file_id = ?", [file_id])
            self._keep_delivery(file_id, delivery, self.share_usage().delivery(delivery))
        self.list_shared_files()

    def drop_unused_deliveries(self) -> None:
        """Remove from the shared folder what no usage file comes from any more."""
        self.share_usage().keep_only({_NO_DELIVERY, *self._database.table("raw", _SHARED_USAGE)["delivery"]})


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
