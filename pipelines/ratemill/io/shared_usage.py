"""Usage in files that many machines reach, in place of rows in the warehouse.

Each usage file comes to a folder of its own, a *delivery*: accepted rows, series, rejects, and a manifest that says how
many there are. Rows are sorted by bucket, a number from the hash of what they are records of, so that a task reads only
its own part of each file, and finds every copy of a record in it. A delivery is written aside and renamed: a task that
is run twice, or killed, leaves a whole one or none.
"""

from __future__ import annotations

import json
import secrets
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.io.atomic import make_private_folder, translate_os_errors
from ratemill.resources import sql
from ratemill.tables.usage import IDENTITY_COLUMNS, ROW_COLUMNS, SERIES_COLUMNS
from ratemill.usage.intake import REJECT_SCHEMA, Intake, Tally

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import duckdb

BUCKETS = 1 << 16
"""Buckets are numbered from 0; a task takes a range of them, so their number says nothing about that of tasks."""
_MANIFEST = "manifest.json"
_GROUPS = 64
_LEAST_ROWS_OF_GROUP, _MOST_ROWS_OF_GROUP = 5_000, 100_000
"""A task reads whole groups of every file: there are as many in one of an hour as in one of a day, so that thousands of
small files are not read whole by every task."""


@dataclass(frozen=True)
class Delivery:
    """What a usage file came to, whole."""

    folder: Path

    @property
    def rows(self) -> Path:
        """Accepted rows, by bucket."""
        return self.folder / "rows.parquet"

    @property
    def series(self) -> Path:
        """The series of its rows, with their keys."""
        return self.folder / "series.parquet"

    @property
    def rejects(self) -> Path:
        """Rows that break a rule, with the reasons."""
        return self.folder / "rejects.parquet"

    def is_whole(self) -> bool:
        """Whether it is there."""
        return (self.folder / _MANIFEST).is_file()

    def tally(self) -> Tally:
        """How many rows there were."""
        counted = self._manifest()["rows"]
        for name in ("first_usage_start", "last_usage_start"):
            counted[name] = counted[name] and datetime.fromisoformat(counted[name])
        return Tally(**counted)

    def has_ids(self) -> bool:
        """Whether any record has an id of its own, so that its copies may be anywhere."""
        return bool(self._manifest()["has_ids"])

    def fetched(self) -> dict[str, Any] | None:
        """Of an object of a store: which version it was, and the hash of its content."""
        found: dict[str, Any] | None = self._manifest()["fetched"]
        return found

    def _manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads((self.folder / _MANIFEST).read_text(encoding="utf-8"))
        return manifest


@dataclass(frozen=True)
class SharedFolder:
    """The folder that ``[engine] shared`` names."""

    root: Path

    def delivery(self, name: str) -> Delivery:
        """The delivery of a name."""
        return Delivery(self.root / "usage" / name)

    def keep_only(self, names: set[str]) -> None:
        """Remove the deliveries of files that came anew, and what killed tasks left."""
        folder = self.root / "usage"
        for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
            if entry.name not in names:
                shutil.rmtree(entry, ignore_errors=True)

    @contextmanager
    def job(self) -> Iterator[Path]:
        """A folder for what driver and tasks hand each other, gone when the block ends; those of killed runs go too."""
        jobs = self.root / "jobs"
        shutil.rmtree(jobs, ignore_errors=True)
        folder = jobs / secrets.token_hex(8)
        with translate_os_errors(f"writing {folder}"):
            make_private_folder(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def writing_delivery(
    delivery: Delivery, connection: duckdb.DuckDBPyConnection, file_id: int, *, fetched: dict[str, Any] | None = None
) -> Iterator[DeliveryWriter]:
    """Build a delivery in temporary tables of ``connection``; it appears when the block ends well."""
    staged = delivery.folder.with_name(f".{delivery.folder.name}.{secrets.token_hex(4)}.tmp")
    with translate_os_errors(f"writing {delivery.folder}"):
        make_private_folder(staged)
        try:
            writer = DeliveryWriter(connection, Delivery(staged), file_id, fetched)
            yield writer
            writer.finish()
            with suppress(OSError):  # another attempt at the same task was faster, and wrote the same
                staged.rename(delivery.folder)
        finally:
            shutil.rmtree(staged, ignore_errors=True)


class DeliveryWriter:
    """Takes the slices of a file."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        delivery: Delivery,
        file_id: int,
        fetched: dict[str, Any] | None,
    ) -> None:
        self._connection = connection
        self._delivery = delivery
        self._rows = sql("shared/rows_in_buckets").replace("$file_id", str(file_id))
        self._rejects = [pl.DataFrame(schema=REJECT_SCHEMA)]
        self._fetched = fetched
        self._has_ids = False
        self._tally = Tally()
        self.add(_NOTHING)

    def add(self, intake: Intake) -> None:
        """Take the next slice."""
        self._tally.add(intake)
        self._rejects.append(intake.rejects)
        self._has_ids |= intake.rows["record_id"].null_count() < intake.rows.height
        series = intake.series.select("series", content=pl.struct(_SERIES_NAMES), identity=pl.struct(IDENTITY_COLUMNS))
        self._connection.register("incoming_series", series.to_arrow())
        self._connection.register("incoming_rows", intake.rows.to_arrow())
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE keyed_series AS {sql('shared/keyed_series')}")
        for table, query in (("rows", self._rows), ("series", _KEYED_SERIES)):
            self._connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS {table} AS SELECT * FROM ({query}) LIMIT 0")  # noqa: S608 - ours
            self._connection.execute(f"INSERT INTO {table} {query}")
        self._connection.unregister("incoming_series")
        self._connection.unregister("incoming_rows")

    def finish(self) -> None:
        """Write the files."""
        group = min(max(self._tally.rows_accepted // _GROUPS, _LEAST_ROWS_OF_GROUP), _MOST_ROWS_OF_GROUP)
        for query, path in (
            ("SELECT * FROM rows ORDER BY bucket, series_key, usage_start, row_number", self._delivery.rows),
            ("SELECT DISTINCT * FROM series", self._delivery.series),
        ):
            self._connection.sql(query).write_parquet(str(path), compression="zstd", row_group_size=group)
        pl.concat(self._rejects).write_parquet(self._delivery.rejects)
        manifest = {"rows": vars(self._tally), "has_ids": self._has_ids, "fetched": self._fetched}
        (self._delivery.folder / _MANIFEST).write_text(json.dumps(manifest, default=str), encoding="utf-8")


_SERIES_NAMES = [column.name for column in SERIES_COLUMNS]
_KEYED_SERIES = "SELECT * EXCLUDE (series, bucket) FROM keyed_series"
_NOTHING = Intake(
    rows=pl.DataFrame(schema={"row_number": pl.Int64, "series": pl.UInt32, **{c.name: c.dtype for c in ROW_COLUMNS}}),
    series=pl.DataFrame(schema={"series": pl.UInt32, **{c.name: c.dtype for c in SERIES_COLUMNS}}),
    rejects=pl.DataFrame(schema=REJECT_SCHEMA),
    rows_in=0,
    rows_filtered=0,
    rows_rejected=0,
)
