"""What the API remembers itself: keys, accesses, and what clients may write. SQLite, ``state/api.sqlite``.

The billing job never writes here and a run never waits for it. Several processes may use it at once (WAL). Its schema
is the files of ``sql/api/store`` in their order; each is applied once, in a transaction with the number of the version.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ratemill.errors import UsageError
from ratemill.io.atomic import PRIVATE_FILE, make_private_folder
from ratemill.resources import shipped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

STORE_FILE = "api.sqlite"
_BUSY_SECONDS = 10.0


class Store:
    """The database; as many connections as there are threads at work with it."""

    def __init__(self, path: Path) -> None:
        """Open it, make it where it is not there yet, and bring its schema up to date.

        Raises:
            UsageError: a newer version of ratemill made it.
        """
        self.path = path
        self._idle: list[sqlite3.Connection] = []
        self._is_closed = False
        self._lock = threading.Lock()
        make_private_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
        os.close(descriptor)
        self._migrate()

    def rows(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Rows of a SELECT; ``:name`` is the parameter of that name."""
        with self._connection() as connection:
            return [dict(row) for row in connection.execute(statement, parameters or {})]

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write: all of the block's statements, or none where it fails. Writers wait for each other."""
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def write(self, statement: str, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> int:
        """One statement, once or for each of several sets of parameters; how many rows it changed."""
        with self.transaction() as connection:
            if isinstance(parameters, dict):
                return connection.execute(statement, parameters).rowcount
            return connection.executemany(statement, parameters).rowcount

    def insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows that all have the same columns; names are those of our own schema."""
        names = list(rows[0])
        values = ", ".join(f":{name}" for name in names)
        self.write(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values})", rows)  # noqa: S608 - our own names

    @property
    def generation(self) -> int:
        """Counts the changes of keys: what was concluded from an older count is to be looked up again."""
        (row,) = self.rows("SELECT generation FROM key_changes")
        return int(row["generation"])

    def close(self) -> None:
        """Close what is idle, and the others when they are done."""
        with self._lock:
            self._is_closed = True
            while self._idle:
                self._idle.pop().close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection that nobody else uses meanwhile."""
        with self._lock:
            idle = self._idle.pop() if self._idle else None
        connection = idle or self._open()
        try:
            yield connection
        finally:
            with self._lock:
                if self._is_closed:
                    connection.close()
                else:
                    self._idle.append(connection)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _migrate(self) -> None:
        files = sorted((shipped("sql") / "api" / "store").glob("*.sql"))
        with self.transaction() as connection:
            ((version,),) = connection.execute("PRAGMA user_version")
            if version > len(files):
                raise UsageError(
                    f"{self.path} was made by a newer version of ratemill (schema {version}, this one knows"
                    f" {len(files)}) → install that version, or restore the file from before"
                )
            for number, file in enumerate(files[version:], start=version + 1):
                for statement in _statements(file.read_text(encoding="utf-8")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")


def _statements(text: str) -> Iterator[str]:
    """The statements of a file, one by one: executescript would end the transaction."""
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
