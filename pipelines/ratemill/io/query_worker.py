"""Runs one query of an analyst in a process of its own. Started by :mod:`ratemill.io.query`, never imported.

Reads one JSON request from stdin; writes the result as an Arrow stream to stdout and how it went as one JSON line to
stderr. Needs nothing of the package. DuckDB itself is no sandbox, so there are layers: the database is opened
read-only with files, network, extensions, secrets and settings locked away; only one SELECT is let through; the process
may create no file content (RLIMIT_FSIZE 0), has a memory ceiling, a clean environment and a deadline.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from typing import Any

import duckdb
import pyarrow as pa

_ADDRESS_SPACE_BEYOND_MEMORY = 8 << 30
"""Libraries and allocators reserve gigabytes of addresses that they never touch."""

_ROWS_PER_BATCH = 8192

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
    try:
        outcome = _answer(request, result)
        result.close()
    except _Stop as stop:
        outcome = {"kind": stop.kind, "message": str(stop)}
    except MemoryError:
        outcome = {"kind": "memory", "message": "out of memory"}
    except duckdb.Error as error:
        outcome = {"kind": _kind(error), "message": _one_line(str(error))}
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
    _let_only_a_query_through(connection, request["sql"])
    timer = threading.Timer(request["timeout"], connection.interrupt)
    timer.daemon = True
    timer.start()
    reader = connection.sql(request["sql"]).to_arrow_reader(_ROWS_PER_BATCH)
    rows = size = 0
    limit = request["max_rows"]
    with pa.ipc.new_stream(result, reader.schema) as stream:
        for batch in reader:
            kept = batch if limit is None else batch.slice(0, limit - rows)
            size += kept.nbytes
            if size > request["max_bytes"]:
                raise _Stop("too_large", f"the result is larger than {request['max_bytes'] >> 20} MiB")
            stream.write_batch(kept)
            rows += kept.num_rows
            if kept.num_rows < batch.num_rows:
                return {"kind": "done", "truncated": True}
    return {"kind": "done", "truncated": False}


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


def _let_only_a_query_through(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    statements = connection.extract_statements(sql)
    if not statements:
        raise _Stop("bad_sql", "there is no statement in it")
    if len(statements) > 1:
        raise _Stop("refused", f"one statement at a time, and this is {len(statements)}")
    if statements[0].type not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        kind = statements[0].type.name
        raise _Stop("refused", f"only SELECT, DESCRIBE, SHOW, SUMMARIZE and EXPLAIN are allowed, and this is {kind}")


def _kind(error: duckdb.Error) -> str:
    if isinstance(error, duckdb.InterruptException):
        return "timeout"
    if isinstance(error, duckdb.OutOfMemoryException):
        return "memory"
    if isinstance(error, duckdb.PermissionException):
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
