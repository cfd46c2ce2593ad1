"""Rows of a query, to the terminal or to a file: what ``ratemill sql`` and ``ratemill query`` have in common."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratemill.cli.shared import finish, print_text, printable, terminal_width
from ratemill.errors import UsageError

if TYPE_CHECKING:
    from ratemill.io.query import QueryResult

TABLE_ROWS = 1000
"""Rows of a table on the terminal when no option says how many."""


class OutputFormat(StrEnum):
    """How rows are printed or written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    XLSX = "xlsx"


_FILES_ONLY = (OutputFormat.PARQUET, OutputFormat.XLSX)
_BY_ENDING = {
    ".csv": OutputFormat.CSV,
    ".json": OutputFormat.JSON,
    ".jsonl": OutputFormat.JSON,
    ".ndjson": OutputFormat.JSON,
    ".parquet": OutputFormat.PARQUET,
    ".xlsx": OutputFormat.XLSX,
    ".txt": OutputFormat.TABLE,
}

FormatOption = Annotated[
    OutputFormat | None,
    typer.Option(
        "--format", show_default=False, help="Default: by the ending of --output, else table. json: one per line."
    ),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", show_default=False, help="Write to a file.")
]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.001, metavar="SECONDS", help="Stop after this.")]
MemoryOption = Annotated[int, typer.Option("--memory", min=64, metavar="MIB", help="Memory that the query may use.")]


def choose_format(wanted: OutputFormat | None, output: Path | None) -> OutputFormat:
    """The format that the options name.

    Raises:
        UsageError: they name none, or one that needs a file.
    """
    if output is None:
        if wanted in _FILES_ONLY:
            raise UsageError(f"--format {wanted} needs --output FILE")
        return wanted or OutputFormat.TABLE
    if wanted is not None:
        return wanted
    by_ending = _BY_ENDING.get(output.suffix.lower())
    if by_ending is None:
        raise UsageError(f"--output {output}: unknown ending; use {', '.join(_BY_ENDING)}, or say --format")
    return by_ending


def deliver(
    result: QueryResult, chosen: OutputFormat, output: Path | None, *, json: bool, query: str, more: str
) -> None:
    """Print or write the rows of a finished query.

    Args:
        result: the rows.
        chosen: how.
        output: a file instead of the terminal.
        json: end with a summary, which holds the rows where there is no file.
        query: how it was asked, for a workbook's reader.
        more: the option that gives more rows.
    """
    summary: dict[str, Any] = {
        "rows": result.table.num_rows,
        "truncated": result.truncated,
        "columns": result.table.column_names,
    }
    if output is not None:
        write_rows(result, chosen, output, query=query)
        finish({**summary, "output": str(output)}, json=json)
    elif json:
        from ratemill.io.formats import to_rows  # noqa: PLC0415 - heavy libraries, not needed for --help

        finish({**summary, "data": list(to_rows(result.table))}, json=True)
    else:
        print_text(format_rows(result, chosen, terminal_width(), more=more))


def write_rows(result: QueryResult, chosen: OutputFormat, output: Path, *, query: str) -> None:
    """The rows as a file, which appears whole or not at all."""
    from ratemill.io.atomic import staged_file, write_file  # noqa: PLC0415 - heavy libraries, not needed for --help
    from ratemill.io.formats import write_parquet  # noqa: PLC0415

    if chosen is OutputFormat.PARQUET:
        with staged_file(output) as staged:
            write_parquet(result.table, staged)
    elif chosen is OutputFormat.XLSX:
        from ratemill.io.query_workbook import to_workbook  # noqa: PLC0415

        today = datetime.now(UTC).date()
        write_file(output, to_workbook(result.table, query=query, truncated=result.truncated, created=today))
    else:
        write_file(output, format_rows(result, chosen, width=None).encode())


def format_rows(result: QueryResult, chosen: OutputFormat, width: int | None, *, more: str = "") -> str:
    """The rows as text."""
    from ratemill.io.formats import to_csv, to_json_lines, to_text_table  # noqa: PLC0415

    match chosen:
        case OutputFormat.CSV:
            return to_csv(result.table)
        case OutputFormat.JSON:
            return to_json_lines(result.table)
        case _:
            return to_text_table(result.table, width=width, truncated=result.truncated, more=more, clean=printable)
