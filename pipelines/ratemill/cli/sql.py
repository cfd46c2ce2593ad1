"""``ratemill sql``: read-only SQL on the published data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ratemill.cli.rows import (
    TABLE_ROWS,
    FormatOption,
    MemoryOption,
    OutputFormat,
    OutputOption,
    TimeoutOption,
    choose_format,
    deliver,
)
from ratemill.cli.shared import JsonOption, LogFormatOption, WorkspaceOption, open_workspace
from ratemill.errors import UsageError


def sql(
    query: Annotated[
        str | None, typer.Argument(metavar="SQL", show_default=False, help="One SELECT; - reads it from stdin.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", show_default=False, help="Read the SQL from a file.")
    ] = None,
    output_format: FormatOption = None,
    output: OutputOption = None,
    limit_rows: Annotated[
        int | None,
        typer.Option("--limit-rows", min=0, metavar="N", show_default=False, help="At most N rows; a table: 1000."),
    ] = None,
    timeout: TimeoutOption = 60,
    memory: MemoryOption = 1024,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Query the published data with SQL, read-only.

    Without SQL, on a terminal: a prompt with completion and history. A query runs in a process of its own that can read
    published/billing.duckdb and nothing else. With --json and without --output, the rows are part of the summary.

    \b
    Examples:
      ratemill sql "SHOW TABLES"
      ratemill sql "DESCRIBE charges"
      ratemill sql "SELECT account_id, sum(cost) AS cost FROM charges GROUP BY ALL" -o costs.csv
    """  # noqa: D301 - the mark that keeps lines apart in --help must be a real \b
    from ratemill.io.query import QueryLimits, run_query  # noqa: PLC0415 - heavy libraries, not needed for --help

    asks_a_person = query is None and file is None and sys.stdin.isatty() and sys.stdout.isatty()
    if asks_a_person and output is None and output_format is None and not json:
        from ratemill.cli.prompt import Prompt  # noqa: PLC0415 - heavy libraries, not needed for --help

        opened = open_workspace(workspace, log_format=log_format)
        rows = TABLE_ROWS if limit_rows is None else limit_rows
        limits = QueryLimits(timeout_seconds=timeout, memory_bytes=memory << 20, max_rows=rows)
        Prompt(opened, limits).run()
        return
    text = _read_sql(query, file)
    chosen = choose_format(output_format, output)
    opened = open_workspace(workspace, log_format=log_format)
    for_terminal = chosen is OutputFormat.TABLE and output is None and not json
    max_rows = TABLE_ROWS if limit_rows is None and for_terminal else limit_rows
    limits = QueryLimits(timeout_seconds=timeout, memory_bytes=memory << 20, max_rows=max_rows)
    result = run_query(opened.published_database, text, limits=limits)
    deliver(result, chosen, output, json=json, query=text, more="--limit-rows N")


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
