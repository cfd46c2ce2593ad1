"""Published states as the API reads them: one state per answer, a new one as soon as it is published.

The published folder is swapped as a whole, so a path names another file after each publish. A state is opened in a
DuckDB instance of its own that has nothing but the file attached: an instance that names the same path again would
be given the state that is still open. Answers under way keep theirs until they are done; then it is closed.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections import OrderedDict
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import duckdb

from ratemill.api.access import ScopeParameters
from ratemill.api.problems import Problem
from ratemill.resources import shipped, sql
from ratemill.tables.book import BOOK_TABLES
from ratemill.tables.charges import CHARGES
from ratemill.tables.invoices import BILLING_TABLES
from ratemill.tables.runs import CLOSED_PERIODS, DOCUMENTS, RUNS

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ratemill.insight.access import Scope

LOG = logging.getLogger(__name__)
SEEN = "seen_"
_TABLES = (CHARGES, *BILLING_TABLES, *BOOK_TABLES, DOCUMENTS, RUNS, CLOSED_PERIODS)
_REMEMBERED_ANSWERS = 512
_REMEMBERED_ROWS = 20_000
"""Rows in all answers that are remembered together."""
_WAIT_SECONDS = 5.0
"""How long a query waits for others to end before it is told to come again."""


class Snapshots:
    """The published database, opened at need and shared by all threads."""

    def __init__(
        self, published: Path, *, memory: str = "512MB", threads: int = 2, readers: int = 4, seconds: float = 20.0
    ) -> None:
        """Nothing is opened yet.

        Args:
            published: the database file.
            memory: what DuckDB may use.
            threads: what DuckDB may use.
            readers: queries at a time; more wait.
            seconds: after which a query is stopped.
        """
        self._file, self._memory, self._threads = published, memory, threads
        self._limits = _Limits(threading.BoundedSemaphore(readers), seconds)
        self._lock = threading.Lock()
        self._state: _State | None = None

    @contextmanager
    def current(self, scope: Scope) -> Iterator[Snapshot]:
        """The state that is published now, as far as ``scope`` sees it; the same one until the block ends.

        Raises:
            Problem: nothing is published (503).
        """
        state = self._enter()
        try:
            yield Snapshot(state, ScopeParameters.of(scope), self._limits)
        finally:
            self._leave(state)

    def version(self) -> str:
        """Version of what is published now.

        Raises:
            Problem: nothing is published (503).
        """
        state = self._enter()
        self._leave(state)
        return state.version

    def close(self) -> None:
        """Close what is open, now or when its last reader leaves."""
        with self._lock:
            self._retire()

    def _enter(self) -> _State:
        with self._lock:
            try:
                facts = _facts(self._file.stat())
                if self._state is None or self._state.facts != facts:
                    state = _open(self._file, memory=self._memory, threads=self._threads)
                    self._retire()
                    self._state = state
            except (OSError, duckdb.IOException):
                raise Problem.unavailable(
                    "not-published", "no bills are published yet; come again later", retry_after=60
                ) from None
            self._state.readers += 1
            return self._state

    def _leave(self, state: _State) -> None:
        with self._lock:
            state.readers -= 1
            if not state.readers and state is not self._state:
                state.connection.close()

    def _retire(self) -> None:
        state, self._state = self._state, None
        if state is not None and not state.readers:
            state.connection.close()


@dataclass(frozen=True)
class Snapshot:
    """One published state, as far as one key sees it."""

    _state: _State
    _scope: ScopeParameters
    _limits: _Limits

    @property
    def version(self) -> str:
        """Another one for each publish; for ETags."""
        return self._state.version

    @property
    def organizations(self) -> tuple[str, ...]:
        """Organizations that the key sees as a whole."""
        return self._scope.whole

    def rows(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Rows of a query, by its path below ``sql/`` without ending (``api/v1/invoices``); decimals stay decimals.

        The query reads the relations of ``sql/api/seen`` as ``seen_<name>``. The rows may be shared with other
        requests: make new ones instead of changing them.

        Raises:
            Problem: too many queries are at work, or it takes too long or too much (503).
        """
        text, names = composed(query)
        given = {**vars(self._scope), **(parameters or {})}
        bound = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
        key = (query, repr(sorted(bound.items())))
        remembered = self._state.answers.get(key)
        if remembered is None:
            remembered = self._run(text, {name: bound[name] for name in names})
            self._state.answers.put(key, remembered)
        return remembered

    def _run(self, text: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        if not self._limits.readers.acquire(timeout=_WAIT_SECONDS):
            raise Problem.unavailable("busy", "too many queries are at work; come again", retry_after=2)
        try:
            cursor = self._state.connection.cursor()
            timer = threading.Timer(self._limits.seconds, _interrupt, [cursor])
            timer.start()
            try:
                result = cursor.execute(text, parameters)
                names = [column[0] for column in result.description]
                return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
            finally:
                timer.cancel()
                cursor.close()
        except duckdb.InterruptException:
            raise Problem.unavailable(
                "too-slow", f"the answer takes longer than {self._limits.seconds:g} seconds; ask for less: a shorter"
                " time, one project, one SKU", retry_after=30,
            ) from None  # fmt: skip
        except duckdb.OutOfMemoryException:
            raise Problem.unavailable(
                "too-large", "the answer takes more memory than there is; ask for less: a shorter time, one project,"
                " one SKU", retry_after=30,
            ) from None  # fmt: skip
        finally:
            self._limits.readers.release()


def _interrupt(cursor: duckdb.DuckDBPyConnection) -> None:
    with suppress(duckdb.Error):  # it may be done by now
        cursor.interrupt()


@dataclass(frozen=True)
class _Limits:
    readers: threading.BoundedSemaphore
    seconds: float


@dataclass
class _State:
    connection: duckdb.DuckDBPyConnection
    facts: tuple[int, ...]
    version: str
    answers: _Answers
    readers: int = 0


class _Answers:
    """The answers that were asked for last, of one state."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: OrderedDict[tuple[str, str], list[dict[str, Any]]] = OrderedDict()
        self._count = 0

    def get(self, key: tuple[str, str]) -> list[dict[str, Any]] | None:
        with self._lock:
            rows = self._rows.get(key)
            if rows is not None:
                self._rows.move_to_end(key)
            return rows

    def put(self, key: tuple[str, str], rows: list[dict[str, Any]]) -> None:
        with self._lock:
            self._count += len(rows) - len(self._rows.pop(key, ()))
            self._rows[key] = rows
            while self._count > _REMEMBERED_ROWS or len(self._rows) > _REMEMBERED_ANSWERS:
                _, oldest = self._rows.popitem(last=False)
                self._count -= len(oldest)


def _facts(stat: os.stat_result) -> tuple[int, ...]:
    return (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)


def _open(file: Path, *, memory: str, threads: int) -> _State:
    """An instance with the file attached, and nothing else within reach."""
    while True:
        facts = _facts(file.stat())
        connection = duckdb.connect(
            config={
                "memory_limit": memory,
                "threads": threads,
                "temp_directory": "",
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "python_enable_replacements": False,
            }
        )
        try:
            path = str(file).replace("'", "''")
            connection.execute(f"ATTACH '{path}' AS published (READ_ONLY)")
            connection.execute("SET GLOBAL TimeZone = 'UTC'")
            connection.execute("SET GLOBAL enable_external_access = false")
            connection.execute("SET GLOBAL lock_configuration = true")
            _require_tables(connection)
            if _facts(file.stat()) == facts:  # else it was swapped meanwhile, and which one is open can't be told
                digest = hashlib.sha256(repr(facts).encode()).hexdigest()
                return _State(connection, facts, digest[:16], _Answers())
        except BaseException:
            connection.close()
            raise
        connection.close()


def _require_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Go on if the file has the tables and columns that this version of the program publishes.

    Raises:
        Problem: another version published it (503).
    """
    found = connection.execute("SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = 'published'")
    there = set(found.fetchall())
    missing = [f"{table.name}.{name}" for table in _TABLES for name in table.names if (table.name, name) not in there]
    if missing:
        LOG.error("published by another version of ratemill: no %s → run: ratemill publish", ", ".join(missing[:3]))
        raise Problem.unavailable("not-published", "bills are being published anew; come again later", retry_after=60)


@cache
def composed(query: str) -> tuple[str, tuple[str, ...]]:
    """A query behind the relations that it reads, as one statement, and the names of its parameters.

    Raises:
        ValueError: it names the published tables itself, past the scope.
    """
    text = _code(query)
    if re.search(r"\bpublished\b", text):
        raise ValueError(f"sql/{query}.sql names the published tables; it must read relations named {SEEN}… instead")
    needed: dict[str, str] = {}
    _collect(text, needed)
    own = re.sub(r"^WITH\b", "", text)
    relations = ",\n".join([f"{SEEN}{name} AS (\n{body}\n)" for name, body in needed.items()])
    if own != text:
        whole = f"WITH {relations},{own}" if relations else text
    else:
        whole = f"WITH {relations}\n{text}" if relations else text
    return whole, tuple(dict.fromkeys(re.findall(r"\$([a-z]\w*)", whole)))


def _collect(text: str, needed: dict[str, str]) -> None:
    """Add the relations that a text reads, and before each those that it reads itself."""
    for name in dict.fromkeys(re.findall(rf"\b{SEEN}(\w+)", text)):
        if name not in needed:
            body = _code(f"api/seen/{name}")
            _collect(body, needed)
            needed[name] = body


def _code(query: str) -> str:
    """A query without comments and final semicolon."""
    return re.sub(r"--.*", "", sql(query)).strip().removesuffix(";")


def seen_relations() -> list[str]:
    """Names of the relations of ``sql/api/seen``."""
    return sorted(path.stem for path in (shipped("sql") / "api" / "seen").glob("*.sql"))
