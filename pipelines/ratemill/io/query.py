"""Read-only SQL on the published database, in a child process that can reach nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from ratemill.errors import DataRefusedError, RatemillError, TemporaryError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

Value = str | int | Decimal | date
"""What a parameter of a report can be."""

_KINDS = {str: "text", int: "whole", Decimal: "number", date: "day"}

_WORKER = Path(__file__).with_name("query_worker.py")
_GRACE_SECONDS = 10.0
"""How much longer than its own deadline the child may take before it is killed."""

_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG")
"""All that the child inherits: credentials of this process stay out of its reach."""


@dataclass(frozen=True)
class QueryLimits:
    """What one query may use."""

    timeout_seconds: float = 60.0
    max_rows: int | None = None
    """Rows beyond are cut off, and ``QueryResult.truncated`` says so."""
    max_bytes: int = 512 << 20
    """Of the result in Arrow's format; a larger result is an error."""
    memory_bytes: int = 1 << 30
    threads: int = 2


@dataclass(frozen=True)
class QueryResult:
    """Rows of a query; decimals exact, instants in UTC."""

    table: pa.Table
    truncated: bool
    """There were more rows than ``max_rows``."""
    seconds: float
    """Spent in the database, without the start of the process."""


def run_query(
    database: Path,
    sql: str,
    *,
    parameters: Mapping[str, Value] | None = None,
    periods: tuple[str, str] | None = None,
    where: str | None = None,
    limits: QueryLimits | None = None,
) -> QueryResult:
    """Run one SELECT (or DESCRIBE, SHOW, SUMMARIZE, EXPLAIN) on a DuckDB file, which is in one state throughout.

    A run that publishes meanwhile puts another file into its place; this one stays open until the query is done.

    Args:
        database: the file.
        sql: the statement.
        parameters: values of its ``$names``, bound and never put into the text.
        periods: first and last period, for ``$first_period`` and ``$last_period``; a statement that has no such
            parameters is filtered on its column ``period``.
        where: a condition on the columns of the result: one expression.
        limits: what it may use.

    Raises:
        UsageError: the file is not there, the SQL is wrong, or the result is too large.
        DataRefusedError: the statement would do more than read the database.
        TemporaryError: out of time or memory.
    """
    limits = limits or QueryLimits()
    if not database.is_file():
        raise UsageError(f"nothing is published yet: {database} does not exist; run `ratemill run` first")
    request = {
        "database": str(database),
        "sql": sql,
        "parameters": {
            name: {"kind": _KINDS[type(value)], "value": str(value)} for name, value in (parameters or {}).items()
        },
        "periods": periods,
        "where": where,
        "timeout": limits.timeout_seconds,
        "max_rows": limits.max_rows,
        "max_bytes": limits.max_bytes,
        "memory_bytes": limits.memory_bytes,
        "threads": limits.threads,
    }
    result, report, code = _run_worker(json.dumps(request).encode(), limits.timeout_seconds + _GRACE_SECONDS)
    outcome = _read_outcome(report) or ({"kind": "timeout", "message": ""} if code is None else None)
    if outcome is None:
        raise _died(code or 0, report)
    if outcome["kind"] != "done":
        raise _refusal(outcome["kind"], outcome["message"], limits)
    table = pa.ipc.open_stream(result).read_all()
    return QueryResult(table, truncated=outcome["truncated"] is True, seconds=float(str(outcome["seconds"])))


def _run_worker(request: bytes, deadline_seconds: float) -> tuple[bytes, bytes, int | None]:
    """Stdout, stderr and exit code (none: it was killed at the deadline) of the child.

    However this ends, Ctrl-C included, the child is gone after it.
    """
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | {"TZ": "UTC"}
    with subprocess.Popen(  # noqa: S603 - our own interpreter and file
        [sys.executable, "-P", str(_WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,  # the terminal's Ctrl-C reaches us alone, and we end the child
    ) as worker:
        try:
            result, report = worker.communicate(request, timeout=deadline_seconds)
        except subprocess.TimeoutExpired:
            worker.kill()
            result, report = worker.communicate()
            return result, report, None
        except BaseException:
            worker.kill()
            worker.wait()  # a block that Ctrl-C leaves would wait for a quarter of a second only
            raise
        return result, report, worker.returncode


def _read_outcome(report: bytes) -> dict[str, object] | None:
    """The child's last line, unless it died before it could write it."""
    lines = report.decode("utf-8", "replace").strip().splitlines()
    try:
        outcome = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return outcome if isinstance(outcome, dict) and "kind" in outcome else None


def _refusal(kind: object, message: object, limits: QueryLimits) -> RatemillError:
    match kind:
        case "bad_sql" | "bad_option":
            return UsageError(f"{'the query is wrong: ' if kind == 'bad_sql' else ''}{message}")
        case "refused":
            return DataRefusedError(f"the query is refused: {message}")
        case "timeout":
            return TemporaryError(
                f"the query was stopped after {limits.timeout_seconds:g} seconds;"
                " narrow it (a period, an account) or raise --timeout"
            )
        case "memory":
            return TemporaryError(_out_of_memory(limits))
        case "too_large":
            return UsageError(f"{message}; aggregate, add a LIMIT or ask for fewer rows")
        case _:
            return TemporaryError(
                f"the published database can't be read: {message}; publish it again with `ratemill publish`"
            )


def _died(code: int, report: bytes) -> RatemillError:
    """The child ended without a word: killed from outside, or by its memory ceiling."""
    if code < 0:
        return TemporaryError(f"the query's process was ended by {signal.Signals(-code).name}; try again")
    last = report.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no message"]
    return RatemillError(f"the query's process failed with exit code {code}: {last[0]}")


def _out_of_memory(limits: QueryLimits) -> str:
    return (
        f"the query needs more than the {limits.memory_bytes >> 20} MiB of memory it may use;"
        " narrow it, aggregate before joining and sorting, or raise --memory"
    )
