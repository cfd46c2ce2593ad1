"""The published database, read back: tables as frames, whole or in parts."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from ratemill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ratemill.tables.columns import Table

_PART_ROWS = 250_000


@dataclass(frozen=True)
class PublishedTables:
    """A published database that is open for reading."""

    connection: duckdb.DuckDBPyConnection
    path: Path

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, memory: int) -> Iterator[PublishedTables]:
        """Open the file; it can be replaced meanwhile, what is read is of one state.

        Raises:
            UsageError: it is not there, or no database that can be read.
        """
        if not path.is_file():
            raise UsageError(f"{path} is not there: nothing was published yet → run: ratemill publish")
        config: dict[str, Any] = {
            "memory_limit": f"{memory}B",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
        }
        try:
            connection = duckdb.connect(str(path), read_only=True, config=config)
        except duckdb.IOException as error:
            reason = str(error).strip().splitlines()[0]
            raise UsageError(f"{path} can't be read: {reason} → run: ratemill publish") from None
        try:
            connection.execute("SET TimeZone = 'UTC'")
            yield cls(connection, path)
        finally:
            connection.close()

    def names(self) -> list[str]:
        """Names of its tables; views are not among them."""
        rows = self.connection.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal ORDER BY ALL")
        return [name for (name,) in rows.fetchall()]

    def frame(self, table: Table, where: str = "true", parameters: dict[str, Any] | None = None) -> pl.DataFrame:
        """Rows of a table, columns and types as defined."""
        return pl.concat([table.empty(), *self.parts(table, where, parameters)])

    def parts(
        self, table: Table, where: str = "true", parameters: dict[str, Any] | None = None
    ) -> Iterator[pl.DataFrame]:
        """The same in parts that fit into memory.

        Raises:
            UsageError: the database was published by a version that knew other columns.
        """
        columns = ", ".join(f'"{name}"' for name in table.names)
        query = f'SELECT {columns} FROM "{table.name}" WHERE {where}'  # noqa: S608 - names of our own tables
        try:
            # A cursor: an open result would be closed by the next query.
            reader = self.connection.cursor().sql(query, params=parameters or {}).to_arrow_reader(_PART_ROWS)
        except (duckdb.BinderException, duckdb.CatalogException):
            raise UsageError(
                f"{self.path} was published by another version of ratemill, which knew another table {table.name}"
                " → run: ratemill publish"
            ) from None
        for batch in reader:
            yield pl.DataFrame(pl.from_arrow(batch)).cast(table.polars_schema)
