"""A query's rows as a workbook: text as text, numbers as numbers as long as a double holds all their digits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.documents.sheets import Field, Kind, Sheets
from ratemill.errors import UsageError
from ratemill.io.formats import CellKind, to_cells

if TYPE_CHECKING:
    from datetime import date

    import pyarrow as pa

MOST_ROWS, MOST_COLUMNS = 100_000, 1_000
"""As for the month's workbook: more rows take a GB to write, and long to open."""
_NARROWEST, _WIDEST = 8, 48
_LOOKED_AT = 200
"""Rows that decide how wide a column is."""
_KINDS = {
    CellKind.TEXT: Kind.TEXT,
    CellKind.DAY: Kind.DAY,
    CellKind.WHOLE: Kind.WHOLE,
    CellKind.DECIMAL: Kind.DECIMAL,
    CellKind.FLOAT: Kind.NUMBER,
}


def to_workbook(table: pa.Table, *, query: str, truncated: bool, created: date) -> bytes:
    """The sheets Rows and Query, as the bytes of a file.

    Args:
        table: the rows. Instants are text in ISO 8601, UTC; nested values are JSON.
        query: how it was asked.
        truncated: whether there are more rows than these.
        created: day of the file's properties.

    Raises:
        UsageError: more rows or columns than a workbook is good for, or two that a sheet can't tell apart.
    """
    if table.num_rows > MOST_ROWS or table.num_columns > MOST_COLUMNS:
        raise UsageError(
            f"{table.num_rows:,} rows of {table.num_columns:,} columns are more than a workbook is good for"
            f" ({MOST_ROWS:,} of {MOST_COLUMNS:,}): write .csv or .parquet, or fewer rows"
        )
    _refuse_equal_headings(table.column_names)
    fields: list[Field] = []
    columns: dict[str, pl.Series] = {}
    for number, (heading, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        kind, values = to_cells(column)
        name = f"column_{number}"  # a column called currency would decide about amounts
        fields.append(Field(name, heading, _KINDS[kind], _width(heading, values)))
        columns[name] = pl.Series(name, values, dtype=pl.Object)
    sheets = Sheets(title="Query", author="ratemill", created=created, footer="ratemill")
    sheets.table(sheets.sheet("Rows"), "rows", fields, pl.DataFrame(columns))
    told = sheets.sheet("Query", landscape=False, title="Query")
    told.set_column(0, 0, 100)
    rows = f"{table.num_rows:,} row{'' if table.num_rows == 1 else 's'}{'; there are more' if truncated else ''}"
    for number, line in enumerate([rows, "", *query.splitlines()], start=2):
        sheets.text(told, number, 0, line)
    return sheets.finish()


def _width(heading: str, values: list[Any]) -> int:
    longest = max((len(str(value)) for value in values[:_LOOKED_AT] if value is not None), default=0)
    return min(max(_NARROWEST, len(heading) + 3, longest + 2), _WIDEST)


def _refuse_equal_headings(names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            raise UsageError(f"a sheet can't tell two columns called {name!r} apart: give each its own name with AS")
        seen.add(name.casefold())
