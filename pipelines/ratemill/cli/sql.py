"""``ratemill sql``: read-only SQL on the published data."""

from __future__ import annotations

import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratemill.cli.shared import (
    JsonOption,
    LogFormatOption,
    WorkspaceOption,
    finish,
    open_workspace,
    print_text,
    printable,
)
from ratemill.errors import UsageError

if TYPE_CHECKING:
    from ratemill.io.query import QueryResult

_TABLE_ROWS = 1000
"""Rows of a table on the terminal when --limit-rows says nothing."""


class OutputFormat(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


_BY_ENDING = {
    ".csv": OutputFormat.CSV,
    ".json": OutputFormat.JSON,
    ".jsonl": OutputFormat.JSON,
    ".ndjson": OutputFormat.JSON,
    ".parquet": OutputFormat.PARQUET,
    ".txt": OutputFormat.TABLE,
}


def sql(
    query: Annotated[
        str | None, typer.Argument(metavar="SQL", show_default=False, help="One SELECT; - reads it from stdin.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", show_default=False, help="Read the SQL from a file.")
    ] = None,
    output_format: Annotated[
        OutputFormat | None,
        typer.Option(
            "--format", show_default=False, help="Default: by the ending of --output, else table. json: one per line."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", show_default=False, help="Write to a file.")
    ] = None,
    limit_rows: Annotated[
        int | None,
        typer.Option("--limit-rows", min=0, metavar="N", show_default=False, help="At most N rows; a table: 1000."),
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.001, metavar="SECONDS", help="Stop after this.")] = 60,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Query the published data with SQL, read-only.

    The query runs in a process of its own that can read published/billing.duckdb and nothing else. With --json and
    without --output, the rows are part of the summary.

    \b
    Examples:
      ratemill sql "SHOW TABLES"
      ratemill sql "DESCRIBE charges"
      ratemill sql "SELECT account_id, sum(cost) AS cost FROM charges GROUP BY ALL" -o costs.csv
    """  # noqa: D301 - the mark that keeps lines apart in --help must be a real \b
    text = _read_sql(query, file)
    chosen = _choose_format(output_format, output)
    opened = open_workspace(workspace, log_format=log_format)

    from ratemill.io.query import QueryLimits, run_query  # noqa: PLC0415 - after cheap errors

    for_terminal = chosen is OutputFormat.TABLE and output is None and not json
    max_rows = _TABLE_ROWS if limit_rows is None and for_terminal else limit_rows
    result = run_query(opened.published_database, text, limits=QueryLimits(timeout_seconds=timeout, max_rows=max_rows))
    summary = {"rows": result.table.num_rows, "truncated": result.truncated, "columns": result.table.column_names}
    if output is not None:
        _write(result, chosen, output)
        finish({**summary, "output": str(output)}, json=json)
    elif json:
        from ratemill.io.formats import to_rows  # noqa: PLC0415

        finish({**summary, "data": list(to_rows(result.table))}, json=True)
    else:
        print_text(_format(result, chosen, _terminal_width()))


def _read_sql(query: str | None, file: Path | None) -> str:
    """The SQL text, from exactly one place.

    Raises:
        UsageError: from none, from two, or from a file that can't be read.
    """
    if query is not None and file is not None:
        raise UsageError("give the SQL as an argument or with --file, not both")
    if file is not None:
        try:
            return file.read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--file: {file} can't be read: {(error.strerror or 'error').lower()}") from None
        except UnicodeDecodeError as error:
            raise UsageError(f"--file: {file} is not UTF-8 text (byte {error.start})") from None
    if query == "-" or (query is None and not sys.stdin.isatty()):
        return sys.stdin.read()
    if query is None:
        raise UsageError('no SQL given; for example: ratemill sql "SHOW TABLES"')
    return query


def _choose_format(wanted: OutputFormat | None, output: Path | None) -> OutputFormat:
    if output is None:
        if wanted is OutputFormat.PARQUET:
            raise UsageError("--format parquet needs --output FILE")
        return wanted or OutputFormat.TABLE
    if wanted is not None:
        return wanted
    by_ending = _BY_ENDING.get(output.suffix.lower())
    if by_ending is None:
        raise UsageError(f"--output {output}: unknown ending; use {', '.join(_BY_ENDING)}, or say --format")
    return by_ending


def _write(result: QueryResult, chosen: OutputFormat, output: Path) -> None:
    from ratemill.io.atomic import staged_file, write_file  # noqa: PLC0415
    from ratemill.io.formats import write_parquet  # noqa: PLC0415

    if chosen is OutputFormat.PARQUET:
        with staged_file(output) as staged:
            write_parquet(result.table, staged)
    else:
        write_file(output, _format(result, chosen, width=None).encode())


def _format(result: QueryResult, chosen: OutputFormat, width: int | None) -> str:
    from ratemill.io.formats import to_csv, to_json_lines, to_text_table  # noqa: PLC0415

    match chosen:
        case OutputFormat.CSV:
            return to_csv(result.table)
        case OutputFormat.JSON:
            return to_json_lines(result.table)
        case _:
            return to_text_table(result.table, width=width, truncated=result.truncated, clean=printable)


def _terminal_width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
