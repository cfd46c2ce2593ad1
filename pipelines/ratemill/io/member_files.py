"""Files of a member's export: each table in a database, as Parquet and as CSV, made anew from the rows that are given.

Nothing is copied from a file that holds more: a database or Parquet file that rows were deleted from still has them in
free blocks, statistics and dictionaries.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.documents.spreadsheet import spreadsheet_csv
from ratemill.io.atomic import PRIVATE_FILE, PRIVATE_FOLDER, make_private_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from ratemill.io.publish import PublishedDatabase
    from ratemill.tables.columns import Table

MANIFEST = "manifest.json"
DATABASE = "billing.duckdb"


@dataclass
class MemberTables:
    """Writes tables into a folder: into ``database``, ``parquet/<table>.parquet`` and ``csv/<table>.csv``."""

    folder: Path
    database: PublishedDatabase
    rows: dict[str, int] = field(default_factory=dict)
    """Table → its rows, of those that are written."""

    def add(self, table: Table, parts: Iterable[pl.DataFrame]) -> None:
        """Write one table from its rows, part by part."""
        self.rows[table.name] = 0
        make_private_folder(self.folder / "csv")
        with (self.folder / "csv" / f"{table.name}.csv").open("wb") as stream:
            stream.write(_csv(table, table.empty()))

            def passing() -> Iterator[pl.DataFrame]:
                for part in parts:
                    _, _, body = _csv(table, part).partition(b"\r\n")
                    stream.write(body)
                    self.rows[table.name] += part.height
                    yield part

            self.database.add_frames(table, passing())
        self.database.write_parquet(table.name, self.parquet(table))

    def parquet(self, table: Table) -> Path:
        """The Parquet file of a table."""
        return self.folder / "parquet" / f"{table.name}.parquet"

    def scan(self, table: Table) -> pl.LazyFrame:
        """The rows of a table that was written."""
        return pl.scan_parquet(self.parquet(table), glob=False, hive_partitioning=False).cast(
            dict(table.polars_schema)  # type: ignore[arg-type]
        )


def _csv(table: Table, rows: pl.DataFrame) -> bytes:
    """For spreadsheets, with instants as ISO 8601 in UTC."""
    instants = pl.selectors.datetime().dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return spreadsheet_csv(rows.pipe(table.conform).with_columns(instants))


def write_documents(folder: Path, files: Iterable[tuple[str, bytes]]) -> list[str]:
    """Write files by their path below ``folder``; the paths."""
    written = []
    for name, data in files:
        path = folder / name
        make_private_folder(path.parent)
        path.write_bytes(data)
        written.append(name)
    return written


def finish_export(folder: Path, facts: Mapping[str, Any], rows: Mapping[str, int]) -> dict[str, Any]:
    """Make every file private, then write ``manifest.json``: ``facts``, and size, hash and rows of every file."""
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        path.chmod(PRIVATE_FOLDER if path.is_dir() else PRIVATE_FILE)
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            counted = {"rows": rows[path.stem]} if path.parent.name in ("csv", "parquet") else {}
            with path.open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            files[name] = {"bytes": path.stat().st_size, **counted, "sha256": sha256}
    manifest = {**facts, "files": files}
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    (folder / MANIFEST).chmod(PRIVATE_FILE)
    return manifest


def is_export_of(folder: Path, principal: str) -> bool:
    """Whether ``folder`` is a former export for the same member, which a new one may replace."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("member") == principal
