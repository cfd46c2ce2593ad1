"""One open DuckDB database: questions, changes in transactions, and frames lent to it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from ratemill.errors import TemporaryError, UsageError
from ratemill.io.atomic import names_full_disk, translate_os_errors
from ratemill.io.transactions import transaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from ratemill.memory import Budget
    from ratemill.tables.columns import Table

ROWS_AT_A_TIME = 250_000
"""Rows that may be many are worked on so many at a time."""
_ROWS_OF_GROUP = 100_000


class Database:
    """A connection. Tables of ours are named by schema and definition, all others by what a query says."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def execute(self, statement: str, parameters: Sequence[Any] | dict[str, Any] | None = None) -> None:
        """Run a statement that has no answer."""
        self._connection.execute(statement, parameters)

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Another connection to the same database, with temporary tables of its own."""
        cursor = self._connection.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def write_out(self) -> None:
        """Put all that happened into the file itself, so that a copy of the file has it."""
        self._connection.execute("CHECKPOINT")

    def transaction(self) -> AbstractContextManager[None]:
        """Everything inside happens, or nothing."""
        return transaction(self._connection)

    def frame(self, query: str, parameters: dict[str, Any] | None = None) -> pl.DataFrame:
        """Result of a query as a Polars frame, decimals exact, instants UTC."""
        return pl.DataFrame(pl.from_arrow(self._connection.sql(query, params=parameters or {}).to_arrow_table()))

    def frames(self, query: str, parameters: dict[str, Any]) -> Iterator[pl.DataFrame]:
        """The same some rows at a time; no other query may be asked meanwhile."""
        for batch in self._connection.sql(query, params=parameters).to_arrow_reader(ROWS_AT_A_TIME):
            yield pl.DataFrame(pl.from_arrow(batch))

    def frame_over(self, query: str, parameters: dict[str, Any], **frames: pl.DataFrame) -> pl.DataFrame:
        """Result of a query that also reads ``frames``, by their names; see :meth:`frame`."""
        with self.registered(**frames):
            return self.frame(query, parameters)

    def table(self, schema: str, table: Table, where: str = "true", parameters: dict[str, Any] | None = None
              ) -> pl.DataFrame:  # fmt: skip
        """Rows of one of our tables, columns and types as defined."""
        frame = self.frame(f"SELECT {quoted(table)} FROM {schema}.{table.name} WHERE {where}", parameters)
        return frame.cast(table.polars_schema)

    def row(self, query: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """First row of a query; all are fetched, since an open result blocks the connection."""
        rows: list[tuple[Any, ...]] = self._connection.execute(query, list(parameters)).fetchall()
        return rows[0] if rows else None

    def next_number(self, column: str, table: str) -> int:
        """The first number that is above all of a column."""
        row = self.row(f"SELECT coalesce(max({column}), 0) + 1 FROM {table}")
        return int(row[0]) if row else 1

    def insert(self, schema: str, table: Table, rows: pl.DataFrame) -> None:
        """Append rows; columns and types as the table defines them."""
        ordered = rows.pipe(table.conform)
        with self.lent(incoming=ordered):
            self._connection.execute(
                f"INSERT INTO {schema}.{table.name} ({quoted(table)}) SELECT {quoted(table)} FROM incoming"
            )

    def insert_from(self, schema: str, table: Table, query: str, parameters: dict[str, Any] | None = None) -> None:
        """Append what a query finds; columns as the table defines them."""
        self._connection.execute(
            f"INSERT INTO {schema}.{table.name} ({quoted(table)}) SELECT {quoted(table)} FROM ({query})",
            parameters or {},
        )

    def delete(self, schema: str, table: Table, where: str, parameters: dict[str, Any]) -> None:
        """Delete rows of one of our tables, inside a transaction."""
        self._connection.execute(f"DELETE FROM {schema}.{table.name} WHERE {where}", parameters)

    def write_parquet(self, query: str, path: Path, *, rows_of_group: int = _ROWS_OF_GROUP) -> None:
        """Write what a query without parameters finds to a file, however much it is."""
        with translate_os_errors(f"writing {path}"):
            self._connection.sql(query).write_parquet(str(path), compression="zstd", row_group_size=rows_of_group)

    @contextmanager
    def lent(self, **frames: pl.DataFrame) -> Iterator[None]:
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
    def registered(self, **frames: pl.DataFrame) -> Iterator[None]:
        """The same for a few rows, copied."""
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


def settings_of(budget: Budget, spill: Path) -> dict[str, Any]:
    """Settings of a database; what does not fit into its memory goes to ``spill``."""
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
def connected(path: Path, config: dict[str, Any], *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the database in a file, on UTC, closed with the block.

    Raises:
        TemporaryError: the disk is full, or another program has the file open.
        UsageError: it is no database of this version of DuckDB.
    """
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


def quoted(table: Table) -> str:
    """The columns of a table, for a statement."""
    return ", ".join(f'"{name}"' for name in table.names)


def literal(instant: datetime) -> str:
    """An instant of our own making, where DuckDB takes no parameters."""
    return f"TIMESTAMPTZ '{instant.isoformat(sep=' ')}'"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
