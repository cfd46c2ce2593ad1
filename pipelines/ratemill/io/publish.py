"""Building the database that analysts open: aside, then swapped in, so that readers and runs never block each other."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from glob import escape
from typing import TYPE_CHECKING, Any, Self

import duckdb

from ratemill.io.transactions import transaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import polars as pl

    from ratemill.tables.columns import Column, Table

STORAGE_VERSION = "v1.2.0"
"""Readable by DuckDB 1.2 and later, whatever version writes it."""


_ORDERED_BYTES = 10_000_000
"""Few charges give the same bytes each time, so that no mirror takes them for news. Of a million, keeping the order
takes twice as long and a third more room, and the bytes differ all the same."""

_ENDED = re.compile(r";(?:\s|--[^\n]*)*\Z")
"""The semicolon that a statement ends with, and comments after it."""


@dataclass
class PublishedDatabase:
    """A database under construction. Use as a context manager; it is closed and complete when the block ends."""

    path: Path
    memory: int
    """Bytes that it may use before it goes to disk."""
    _connection: duckdb.DuckDBPyConnection = field(init=False)

    def __enter__(self) -> Self:
        self._connection = duckdb.connect(
            config={
                "memory_limit": f"{self.memory}B",
                "temp_directory": str(self.path.parent / ".spill"),
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "python_enable_replacements": False,
            }
        )
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute(f"ATTACH {_text(str(self.path))} AS published (STORAGE_VERSION '{STORAGE_VERSION}')")
        self._connection.execute("USE published")
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.execute("USE memory")
        self._connection.execute("DETACH published")
        self._connection.close()

    def add_frame(self, table: Table, rows: pl.DataFrame) -> None:
        """A table from a frame, columns and comments as defined."""
        self.add_frames(table, [rows])

    def add_frames(self, table: Table, parts: Iterable[pl.DataFrame]) -> None:
        """The same from a frame in parts, one at a time."""
        self._create(table)
        self.insert(table, parts)

    def transaction(self) -> AbstractContextManager[None]:
        """Rows that are inserted inside are all there, or none of them where that fails."""
        return transaction(self._connection)

    def insert(self, table: Table, parts: Iterable[pl.DataFrame]) -> None:
        """More rows of a table that is there, in parts, one at a time."""
        for rows in parts:
            if rows.is_empty():
                continue
            self._connection.register("incoming", rows.pipe(table.conform).to_arrow())
            self._connection.execute(f"INSERT INTO {_name(table.name)} SELECT * FROM incoming")
            self._connection.unregister("incoming")

    def add_files(self, table: Table, files: Sequence[Path]) -> None:
        """A table from Parquet files of our own; in their order, unless they are many rows."""
        self._create(table)
        if files:
            columns = ", ".join(_name(name) for name in table.names)
            if sum(file.stat().st_size for file in files) > _ORDERED_BYTES:
                self._connection.execute("SET preserve_insertion_order = false")
            self._connection.execute(
                f"INSERT INTO {_name(table.name)} SELECT {columns}"
                " FROM read_parquet($files, hive_partitioning = false)",
                {"files": [escape(str(file)) for file in files]},
            )
            self._connection.execute("RESET preserve_insertion_order")

    def add_view(self, name: str, query: str, comment: str) -> None:
        """A view; the query was shipped with the package or written by the workspace's owner."""
        self._connection.execute(f"CREATE VIEW {_name(name)} AS {query}")
        self._connection.execute(f"COMMENT ON VIEW {_name(name)} IS {_text(comment)}")

    def forbid_files(self) -> None:
        """From here on, no statement may read or write another file: what a workspace's views are made under."""
        self._connection.execute("SET enable_external_access = false")

    def try_view(self, name: str | None, query: str, comment: str) -> str | None:
        """A view by a query that the workspace's owner wrote; why it can't be one, else None.

        Without a name, only whether it is a query is looked at. One that reads files is refused: whoever opens the
        database would read them, or fail to.
        """
        try:
            statements = self._connection.extract_statements(query)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                return "it is not one SELECT"
            if name is not None:
                self.add_view(name, _ENDED.sub("", query), comment)
        except duckdb.PermissionException:
            return "it reads files, and a report reads the published tables only"
        except duckdb.Error as error:
            return " ".join(str(error).split("\nLINE ", 1)[0].split())
        return None

    def write_parquet(self, name: str, path: Path) -> None:
        """The rows of a table as Parquet, for tools that don't speak DuckDB."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._connection.execute(f"COPY {_name(name)} TO {_text(str(path))} (FORMAT parquet, COMPRESSION zstd)")

    def _create(self, table: Table) -> None:
        name = _name(table.name)
        with self.transaction():  # by itself, each comment would wait for the disk
            self._connection.execute(f"CREATE TABLE {name} ({table.duckdb_columns()})")
            self._connection.execute(f"COMMENT ON TABLE {name} IS {_text(f'One row is {table.grain}.')}")
            for column in table.columns:
                self._connection.execute(f"COMMENT ON COLUMN {name}.{_name(column.name)} IS {_text(_meaning(column))}")


def _meaning(column: Column) -> str:
    return f"{column.meaning} (unit: {column.unit})" if column.unit else column.meaning


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: Any) -> str:
    return "'" + str(value).replace("'", "''") + "'"
