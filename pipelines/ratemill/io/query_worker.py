"""Runs one query of an analyst in a process of its own. Started by :mod:`ratemill.io.query`, never imported.

Reads one JSON request from stdin; writes the result as an Arrow stream to stdout and how it went as one JSON line to
stderr. Needs nothing of the package. DuckDB itself is no sandbox, so there are layers: the database is opened
read-only with files, network, extensions, secrets and settings locked away; only one SELECT is let through; the process
may create no file content (RLIMIT_FSIZE 0), has a memory ceiling, a clean environment and a deadline.

A report is such a query with values that are bound to its ``$names``, never put into its text, and with a condition on
its rows: one expression, proven to be no more than that before it is put behind a WHERE.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import threading
import time
from contextlib import suppress
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable

_ADDRESS_SPACE_BEYOND_MEMORY = 8 << 30
"""Libraries and allocators reserve gigabytes of addresses that they never touch."""

_ROWS_PER_BATCH = 8192

_SECONDS_TO_UNWIND = 2.0
"""What DuckDB gets to notice that it was interrupted: some functions look up rarely."""

_FROM_TEXT: dict[str, Callable[[str], Any]] = {
    "text": str,
    "whole": int,
    "number": Decimal,
    "day": date.fromisoformat,
}
"""Kind of a parameter → its value from the request's text."""

_NOT_ALLOWED = ("read-only mode", "configuration has been locked")
"""In messages about what a locked, read-only database refuses."""

_DAMAGED = (duckdb.IOException, duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)


class _Stop(Exception):  # noqa: N818 - an outcome
    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def _main() -> None:
    result = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not end up in the result
    request = json.load(sys.stdin)
    _limit_process(request["memory_bytes"])
    outcome = _outcome_of(lambda: _answer(request, result))
    with suppress(OSError):
        result.close()
    _end(outcome)


def _outcome_of(act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``act`` comes to, failures included."""
    try:
        return act()
    except _Stop as stop:
        return {"kind": stop.kind, "message": str(stop)}
    except MemoryError:
        return {"kind": "memory", "message": "out of memory"}
    except duckdb.Error as error:
        return {"kind": _kind(error), "message": _one_line(str(error))}


def _end(outcome: dict[str, Any]) -> None:
    sys.stderr.write("\n" + json.dumps(outcome) + "\n")
    sys.stderr.flush()
    os._exit(0)  # no destructors: an interrupted query may still be unwinding


def _limit_process(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ceiling = memory_bytes + _ADDRESS_SPACE_BEYOND_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))


def _answer(request: dict[str, Any], result: Any) -> dict[str, Any]:
    connection = _open(request)
    _start_timer(request["timeout"], connection.interrupt)
    _start_timer(request["timeout"] + _SECONDS_TO_UNWIND, lambda: _end({"kind": "timeout", "message": "out of time"}))
    return _fetch(connection, request, result)


def _fetch(connection: duckdb.DuckDBPyConnection, request: dict[str, Any], result: Any) -> dict[str, Any]:
    """Run the request's query and write its rows to ``result``, as far as they are wanted."""
    started = time.monotonic()
    statement, values = _prepare(connection, request)
    # sql(), not execute(), which makes all rows before it hands out the first.
    reader = connection.sql(statement, params=values or None).to_arrow_reader(_ROWS_PER_BATCH)
    rows = size = 0
    limit = request["max_rows"]
    truncated = False
    with pa.ipc.new_stream(result, reader.schema) as stream:
        for batch in reader:
            kept = batch if limit is None else batch.slice(0, limit - rows)
            size += kept.nbytes
            if size > request["max_bytes"]:
                raise _Stop("too_large", f"the result is larger than {request['max_bytes'] >> 20} MiB")
            stream.write_batch(kept)
            rows += kept.num_rows
            if kept.num_rows < batch.num_rows:
                truncated = True
                break
    return {"kind": "done", "truncated": truncated, "seconds": round(time.monotonic() - started, 4)}


def _start_timer(seconds: float, act: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


def _open(request: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        request["database"],
        read_only=True,
        config={
            "enable_external_access": "false",
            "python_enable_replacements": "false",
            "allow_community_extensions": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_persistent_secrets": "false",
            "memory_limit": f"{request['memory_bytes'] >> 20}MiB",
            "threads": str(request["threads"]),
            "temp_directory": "",
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET lock_configuration = true")
    return connection


def _prepare(connection: duckdb.DuckDBPyConnection, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The statement to run and the values of its parameters; both have passed the gate."""
    statement = _let_only_a_query_through(connection, request["sql"])
    values = {name: _FROM_TEXT[given["kind"]](given["value"]) for name, given in request.get("parameters", {}).items()}
    conditions = []
    if request.get("periods") is not None:
        values |= dict(zip(("first_period", "last_period"), request["periods"], strict=True))
        if "first_period" not in statement.named_parameters:
            conditions.append(_OF_PERIODS)
    if request.get("where") is not None:
        conditions.append(_only_a_condition(connection, request["where"]))
    text = request["sql"]
    if conditions:
        # On lines of their own: a comment at the end of one must not swallow what follows.
        both = "\n) AND (\n".join(conditions)
        text = f"SELECT * FROM (\n{_without_end(statement.query)}\n) AS report WHERE (\n{both}\n)"  # noqa: S608
        statement = _let_only_a_query_through(connection, text)
    missing = sorted(statement.named_parameters - values.keys())
    if missing:
        raise _Stop("bad_sql", f"${missing[0]} has no value")
    used = {name: value for name, value in values.items() if name in statement.named_parameters}
    if conditions[:1] == [_OF_PERIODS]:
        _require_period(connection, text, used)
    return text, used


_OF_PERIODS = "report.period BETWEEN $first_period AND $last_period"
_NOT_OF_PERIODS = "--period can't be given: this report has no column period to choose months by → leave --period out"


def _require_period(connection: duckdb.DuckDBPyConnection, text: str, values: dict[str, Any]) -> None:
    try:
        connection.execute(f"EXPLAIN {text}", values)
    except duckdb.BinderException as error:
        if '"report" does not have a column named "period"' in str(error):
            raise _Stop("bad_option", _NOT_OF_PERIODS) from None
        raise


def _let_only_a_query_through(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    """The one SELECT (or DESCRIBE, SHOW, SUMMARIZE, EXPLAIN) that ``sql`` is; anything else is refused."""
    statements = connection.extract_statements(sql)
    if not statements:
        raise _Stop("bad_sql", "there is no statement in it")
    if len(statements) > 1:
        raise _Stop("refused", f"one statement at a time, and this is {len(statements)}")
    kind = _kind_of(statements[0])
    if kind == "MULTI":
        raise _Stop("refused", "PIVOT has to name its columns: PIVOT … ON column IN ('a', 'b') …")
    if kind not in ("SELECT", "EXPLAIN"):
        raise _Stop("refused", f"only SELECT, DESCRIBE, SHOW, SUMMARIZE and EXPLAIN are allowed, and this is {kind}")
    return statements[0]


def _kind_of(statement: duckdb.Statement) -> str:
    try:
        return str(statement.type.name)
    except ValueError:  # a kind that DuckDB's Python library has no name for yet
        return "something else"


def _only_a_condition(connection: duckdb.DuckDBPyConnection, text: str) -> str:
    """``text``, proven to be one expression: what DuckDB's parser makes of ``SELECT (text)`` has nothing else in it.

    ``true) UNION SELECT …`` would fit between the parentheses of a WHERE as well, and be more than a condition.
    """
    if not re.sub(r"--[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL).strip():
        raise _Stop("bad_option", "--where is empty; it takes a condition on the report's columns, such as cost > 100")
    seen = _parsed(connection, text)
    if seen is None or _without_columns(seen) != _without_columns(_parsed(connection, "true")):
        raise _Stop("refused", "--where takes one condition on the report's columns, such as cost > 100")
    return text


def _parsed(connection: duckdb.DuckDBPyConnection, expression: str) -> dict[str, Any] | None:
    ((answer,),) = connection.execute(
        "SELECT json_serialize_sql($text)", {"text": f"SELECT (\n{expression}\n)"}
    ).fetchall()
    parsed: dict[str, Any] = json.loads(answer)
    if parsed["error"] and parsed.get("error_type") == "parser":
        raise _Stop("bad_option", f"--where is no condition: {_one_line(parsed['error_message'])}")
    return None if parsed["error"] or len(parsed["statements"]) != 1 else parsed["statements"][0]


def _without_columns(statement: dict[str, Any] | None) -> dict[str, Any]:
    """All of a statement but the one expression that it selects."""
    node = dict(statement["node"]) if statement else {}
    columns = node.pop("select_list", [])
    return {"columns": len(columns), "aliases": [column["alias"] for column in columns], **node}


def _without_end(sql: str) -> str:
    """Without the semicolon, and comments after it."""
    return re.sub(r";(?:\s|--[^\n]*)*\Z", "", sql)


def _kind(error: duckdb.Error) -> str:
    if isinstance(error, duckdb.InterruptException):
        return "timeout"
    if isinstance(error, duckdb.OutOfMemoryException):
        return "memory"
    if isinstance(error, duckdb.PermissionException) or any(words in str(error) for words in _NOT_ALLOWED):
        return "refused"
    if isinstance(error, _DAMAGED):
        return "database"
    return "bad_sql"


def _one_line(message: str) -> str:
    """DuckDB's message without the excerpt of the query and its caret."""
    kept = message.split("\nLINE ", 1)[0]
    return " ".join(kept.split())


if __name__ == "__main__":
    _main()
