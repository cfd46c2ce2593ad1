"""A query's result as a text table, CSV, JSON, Parquet or cells: decimals keep every digit, instants are ISO 8601, UTC.

Nothing here rounds. A text table leaves out zeros at the end of a decimal column's fraction that no row needs.
"""

from __future__ import annotations

import json
import math
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ratemill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NULL = "NULL"
_NARROWEST_TEXT = 8
"""Columns of text are cut down to this width before columns are left out."""
_PADDING = 2
_LEAST_DECIMALS = 2
"""Of a column with a fraction."""
_ELLIPSIS = "…"


def to_csv(table: pa.Table) -> str:
    """RFC 4180 with a header and LF line ends; NULL is an empty field, an empty text is ``""``.

    Values are as they are: for programs, not made safe for spreadsheets.
    """
    import polars as pl  # noqa: PLC0415 - half a second, needed here only

    names = [f"column_{index}" for index in range(table.num_columns)]  # a query may name two columns alike
    texts = [[_text(value) for value in column] for column in _values(table)]
    header = pl.DataFrame([[name] for name in table.column_names], schema=dict.fromkeys(names, pl.String))
    rows = pl.DataFrame(texts, schema=dict.fromkeys(names, pl.String))
    return pl.concat([header, rows]).write_csv(include_header=False, quote_style="necessary", null_value="")


def to_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """One JSON-ready dict per row: decimals and instants as text, whole numbers as numbers.

    Raises:
        UsageError: two columns have the same name.
    """
    _refuse_equal_names(table)
    for row in zip(*_values(table), strict=True):
        yield dict(zip(table.column_names, row, strict=True))


def to_json_lines(table: pa.Table) -> str:
    """One JSON object per row and line; see :func:`to_rows`."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in to_rows(table))


def write_parquet(table: pa.Table, path: Path) -> None:
    """Parquet with zstd, types as in the database.

    Raises:
        UsageError: two columns have the same name.
    """
    import pyarrow.parquet as pq  # noqa: PLC0415 - needed here only

    _refuse_equal_names(table)
    pq.write_table(table, path, compression="zstd")


def to_text_table(
    table: pa.Table,
    *,
    width: int | None,
    truncated: bool = False,
    more: str = "",
    clean: Callable[[str], str] = str,
) -> str:
    """A table for reading: numbers to the right, the points of a column below each other, and the number of rows.

    NULL is shown as such.

    Args:
        table: the rows.
        width: columns of the terminal: long texts are cut with an ellipsis, then middle columns left out, which the
            last line says. Numbers are never cut. None: nothing is cut.
        truncated: whether there are more rows than these.
        more: the option that shows them.
        clean: makes a cell safe to show.
    """
    cells = [
        [
            NULL if value is None else clean(_text(value) or "").replace("\n", "⏎").replace("\t", " ")
            for value in _shortened(field.type, column)
        ]
        for field, column in zip(table.schema, _values(table), strict=True)
    ]
    headers = [clean(name) for name in table.column_names]
    numeric = [_is_number(field.type) for field in table.schema]
    widths = _fit(headers, cells, numeric, width)
    lines = _render(headers, cells, numeric, widths)
    return "\n".join([*lines, _footer(table, widths, truncated, more)]) + "\n"


def _shortened(kind: pa.DataType, values: list[Any]) -> list[Any]:
    """Decimals without the zeros that all of a column end with, but for two digits; other values as they are."""
    if not pa.types.is_decimal(kind) or kind.scale <= _LEAST_DECIMALS:
        return values
    fractions = [value.partition(".")[2].rstrip("0") for value in values if isinstance(value, str)]
    cut = kind.scale - max(map(len, fractions), default=0)
    cut = min(cut, kind.scale - _LEAST_DECIMALS)
    return [value[: len(value) - cut] if isinstance(value, str) else value for value in values]


class CellKind(StrEnum):
    """What the cells of a column are."""

    TEXT = "text"
    DAY = "day"
    WHOLE = "whole"
    DECIMAL = "decimal"
    FLOAT = "float"


def to_cells(column: pa.ChunkedArray) -> tuple[CellKind, list[Any]]:
    """A column for a spreadsheet: days as dates, numbers as exact decimals (floats as floats), all else as text."""
    kind = column.type
    if pa.types.is_date(kind):
        return CellKind.DAY, column.to_pylist()
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        whole = pa.types.is_integer(kind) or kind.scale == 0
        values = [None if value is None else Decimal(value) for value in column.to_pylist()]
        return CellKind.WHOLE if whole else CellKind.DECIMAL, values
    if pa.types.is_floating(kind):
        floats = column.to_pylist()
        if all(value is None or math.isfinite(value) for value in floats):
            return CellKind.FLOAT, floats
    return CellKind.TEXT, [_text(value) for value in _column_values(column)]


def _footer(table: pa.Table, widths: list[int | None], truncated: bool, more: str) -> str:  # noqa: FBT001 - private
    rows = f"{table.num_rows:,} row{'' if table.num_rows == 1 else 's'}"
    notes = [f"there are more{f': {more}' if more else ''}"] if truncated else []
    shown = sum(width is not None for width in widths)
    if shown < len(widths):
        notes.append(f"{shown} of {len(widths)} columns shown: widen the terminal, name columns, or use --format csv")
    return f"({rows}{''.join('; ' + note for note in notes)})"


def _fit(headers: list[str], cells: list[list[str]], numeric: list[bool], width: int | None) -> list[int | None]:
    """Width of each column; None for columns that are left out."""
    from rich.cells import cell_len  # noqa: PLC0415 - needed here only

    natural = [
        max(cell_len(header), *map(cell_len, column)) if column else cell_len(header)
        for header, column in zip(headers, cells, strict=True)
    ]
    if width is None:
        return list(natural)
    least = [
        full if is_number else min(full, _NARROWEST_TEXT) for full, is_number in zip(natural, numeric, strict=True)
    ]
    shown = list(range(len(natural)))
    # One column's worth of room for the ellipsis that stands for the left-out ones.
    while len(shown) > 1 and _total(least, shown) + (len(shown) < len(natural)) * (1 + _PADDING) > width:
        del shown[len(shown) // 2]
    spare = width - _total(least, shown) - (len(shown) < len(natural)) * (1 + _PADDING)
    widths: list[int | None] = [None] * len(natural)
    for position, index in enumerate(sorted(shown, key=lambda one: natural[one] - least[one])):
        # The shortest wishes first: what they leave goes to the longer ones.
        given = max(0, min(natural[index] - least[index], spare // (len(shown) - position)))
        widths[index] = least[index] + given
        spare -= given
    return widths


def _total(widths: list[int], shown: list[int]) -> int:
    return sum(widths[index] + _PADDING for index in shown) - _PADDING


def _render(headers: list[str], cells: list[list[str]], numeric: list[bool], widths: list[int | None]) -> list[str]:
    shown = [index for index, width in enumerate(widths) if width is not None]
    gap = next((position for position, index in enumerate(shown) if position != index), None)
    if gap is None and len(shown) < len(widths):
        gap = len(shown)

    def line(values: list[str], filler: str = _ELLIPSIS) -> str:
        parts = [_pad(values[index], widths[index] or 0, right=numeric[index]) for index in shown]
        if gap is not None:
            parts.insert(gap, filler)
        return (" " * _PADDING).join(parts).rstrip()

    rule = line(["─" * (width or 0) for width in widths], "─")
    return [line(headers), rule, *(line(list(row)) for row in zip(*cells, strict=True))]


def _pad(text: str, width: int, *, right: bool) -> str:
    from rich.cells import cell_len, set_cell_size  # noqa: PLC0415 - needed here only

    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + _ELLIPSIS
    filler = " " * (width - length)
    return filler + text if right else text + filler


def _refuse_equal_names(table: pa.Table) -> None:
    names = table.column_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"two columns are called {twice[0]!r}: give each its own name with AS")


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _values(table: pa.Table) -> list[list[Any]]:
    """Per column, JSON-ready values."""
    return [_column_values(column) for column in table.columns]


def _column_values(column: pa.ChunkedArray) -> list[Any]:
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        # Python's datetime has no nanoseconds; Arrow's own text has.
        texts = column.cast(pa.string()).to_pylist()
        return [None if text is None else text.replace(" ", "T") for text in texts]
    convert = _converter(kind)
    return [None if value is None else convert(value) for value in column.to_pylist()]


def _converter(kind: pa.DataType) -> Callable[[Any], Any]:
    """From the Python value of an Arrow type to a JSON-ready one; None stays None inside of nested values."""
    if pa.types.is_map(kind):
        item = _or_none(_converter(kind.item_type))
        return lambda pairs: {str(_leaf(key)): item(value) for key, value in pairs}
    if pa.types.is_struct(kind):
        fields = {field.name: _or_none(_converter(field.type)) for field in kind}
        return lambda struct: {name: convert(struct[name]) for name, convert in fields.items()}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        element = _or_none(_converter(kind.value_type))
        return lambda values: [element(value) for value in values]
    return _leaf


def _or_none(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else convert(value)


def _leaf(value: Any) -> Any:  # noqa: PLR0911 - one line per type
    match value:
        case bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case Decimal():
            return int(value) if value.as_tuple().exponent == 0 else format(value, "f")
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case date() | time():
            return value.isoformat()
        case bytes():
            return value.hex()
        case pa.MonthDayNano():
            seconds = format((Decimal(value.nanoseconds) / 10**9).normalize(), "f")
            return f"P{value.months}M{value.days}DT{seconds}S"
    return str(value)


def _text(value: Any) -> str | None:
    """A JSON-ready value as the text of a cell; nested values as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
