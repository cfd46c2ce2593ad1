"""Reads the book's files: CSV as spreadsheets save it, or Parquet, into typed frames that keep their contracts.

Every cell is read as text first and parsed by the column's type, so that one wrong cell is one finding with its line,
and no number ever passes through a float. The rules, for users in docs/workspace.md, "The book":

- Blanks around a value are cut off; an empty cell is the column's default, or no value. Rows without any value are
  skipped.
- Numbers are plain digits with a decimal point. A number with more decimals than are kept (4 of an amount, else 12) is
  refused, not rounded, and so is one with an exponent: a spreadsheet that writes ``1.23E-05`` writes what it shows,
  which may be less than it holds.
- A date is midnight in the workspace's time zone. A date with a time must say its offset (``Z``, ``+02:00``): without
  one, an hour of each autumn would be two.
- Files separated by semicolons or tabs, as spreadsheets of many countries write them, are read too.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ratemill.book.model import SOURCE_DEFAULTS, SOURCE_FILE, SOURCE_ROW, Book, without_rows
from ratemill.findings import Finding, Severity, capped, errors
from ratemill.money import plain_decimal
from ratemill.tables.book import EVERY_BOOK_TABLE, REQUIRED_BOOK_TABLES
from ratemill.tables.columns import INSTANT, TEXT, Column, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_FORMATS = (".csv", ".parquet")
_OTHER_SHEETS = (".xlsx", ".xls", ".ods", ".tsv")
_SEPARATORS = (",", ";", "\t")
_SHOWN = 60
"""Longest part of a value that a message repeats."""


def read_book(folder: Path, *, time_zone: str) -> tuple[Book | None, list[Finding]]:
    """The book in ``folder``, and every mistake of every file.

    Args:
        folder: holds one file per table, ``<table>.csv`` or ``<table>.parquet``.
        time_zone: the workspace's zone, where dates without a time begin.

    Returns:
        The book, or None if any finding is an error; and the findings, at most 20 per rule and file.
    """
    if not folder.is_dir():
        return None, [
            Finding(
                Severity.ERROR,
                "book.missing",
                f"the workspace has no folder {folder.name}",
                f"create {folder.name}/ with at least {', '.join(f'{name}.csv' for name in REQUIRED_BOOK_TABLES)}",
                file=folder.name,
            )
        ]
    files, found = _files(folder)
    frames: dict[str, pl.DataFrame] = {}
    for table in EVERY_BOOK_TABLE:
        path = files.get(table.name)
        if path is None:
            continue
        frame, problems = _read_table(path, table, folder.name, time_zone)
        found += problems
        if frame is not None:
            frames[table.name] = frame
    found = capped(found)
    if errors(found):
        return None, found
    return Book(**{table.name: frames.get(table.name, without_rows(table)) for table in EVERY_BOOK_TABLE}), found


def read_book_table(path: Path, table: Table, *, time_zone: str) -> tuple[pl.DataFrame | None, list[Finding]]:
    """One table from a file of any name, as :func:`read_book` reads it, and its mistakes; findings name ``path``.

    Returns:
        The table, or None if any finding is an error; and the findings, at most 20 per rule.
    """
    label = str(path)
    if path.suffix.lower() not in _FORMATS:
        return None, [
            _error("book.format", "the file is not read; expected CSV or Parquet", "save it as CSV UTF-8", label)
        ]
    sheet, found = _read_csv(path, table, label) if path.suffix.lower() == ".csv" else _read_parquet(path, label)
    frame = None
    if sheet is not None:
        frame, problems = _typed(sheet, table, ZoneInfo(time_zone))
        found += sorted(problems, key=lambda finding: finding.row or 0)
    found = capped(found)
    return None if errors(found) else frame, found


def read_tables(folder: Path, tables: Sequence[Table], *, time_zone: str) -> dict[str, pl.DataFrame]:
    """Some tables of a book whose others may be wrong, by name; one that is not as it should be has no rows."""
    files = _files(folder)[0] if folder.is_dir() else {}
    found = {}
    for table in tables:
        path = files.get(table.name)
        frame, problems = _read_table(path, table, folder.name, time_zone) if path else (None, [])
        found[table.name] = without_rows(table) if frame is None or errors(problems) else frame
    return found


def _read_table(path: Path, table: Table, folder: str, time_zone: str) -> tuple[pl.DataFrame | None, list[Finding]]:
    """A file as the frame of its table, none where it can't be read at all; and its mistakes."""
    label = f"{folder}/{path.name}"
    sheet, found = _read_csv(path, table, label) if path.suffix.lower() == ".csv" else _read_parquet(path, label)
    if sheet is None:
        return None, found
    frame, problems = _typed(sheet, table, ZoneInfo(time_zone))
    return frame, [*found, *sorted(problems, key=lambda finding: finding.row or 0)]


@dataclass(frozen=True)
class _Sheet:
    """A file as text."""

    label: str
    cells: pl.DataFrame
    """Text columns as the file names them; an empty cell is null."""
    lines: pl.Series
    """Line of each row."""


def _files(folder: Path) -> tuple[dict[str, Path], list[Finding]]:
    """The file of each table, and what is wrong with the folder's list of files."""
    found: list[Finding] = []
    files: dict[str, Path] = {}
    names = [table.name for table in EVERY_BOOK_TABLE]
    for path in sorted(folder.iterdir()):
        label = f"{folder.name}/{path.name}"
        suffix = path.suffix.lower()
        if path.name.startswith((".", "~")) or suffix not in (*_FORMATS, *_OTHER_SHEETS) or path.is_dir():
            continue  # notes, locks of a spreadsheet program, folders
        if path.stem not in names:
            found.append(
                _error(
                    "book.unknown_file",
                    f"{path.stem} is no table of the book{_did_you_mean(path.stem, names)}; nothing reads this file",
                    f"rename it to one of {', '.join(names)}, or move it elsewhere",
                    label,
                )
            )
        elif suffix in _OTHER_SHEETS:
            found.append(
                _error(
                    "book.format",
                    f"a {suffix} file is not read; expected {path.stem}.csv or {path.stem}.parquet",
                    "save it as CSV UTF-8, and remove this file",
                    label,
                )
            )
        elif path.stem in files:
            found.append(
                _error(
                    "book.two_files",
                    f"the table {path.stem} has two files, {files[path.stem].name} and {path.name}",
                    "keep the one that is right",
                    label,
                )
            )
        else:
            files[path.stem] = path
    given = {*files, *(Path(finding.file or "").stem for finding in found if finding.rule != "book.unknown_file")}
    found += [
        _error(
            "book.missing_table",
            f"the table {table.name} is missing; expected {table.name}.csv or {table.name}.parquet in {folder.name}/",
            f"create it with the columns {', '.join(column.name for column in table.columns if _is_required(column))}",
            f"{folder.name}/{table.name}.csv",
        )
        for table in EVERY_BOOK_TABLE
        if table.name in REQUIRED_BOOK_TABLES and table.name not in given
    ]
    return files, found


# --- CSV ---------------------------------------------------------------------------------------------------------


def _read_csv(path: Path, table: Table, label: str) -> tuple[_Sheet | None, list[Finding]]:
    """The file's cells as text, with the line each row begins on."""
    text, problem = _decoded(path, table, label)
    if text is None:
        return None, [problem] if problem else []
    if not text.strip():
        return None, [
            _error(f"{table.name}.empty", "the file is empty", f"begin with the header: {','.join(table.names)}", label)
        ]
    found: list[Finding] = []
    header: list[str] = []
    width = 0
    rows: list[list[str]] = []
    lines: list[int] = []
    # newline="" keeps \r\n as it is, so that lines are counted as an editor counts them
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text, table), strict=True)
    begun = 1
    try:
        for cells in reader:
            line, begun = begun, reader.line_num + 1
            if not header:
                header, width = _header(cells), len(cells)
            elif len(cells) == len(header):
                rows.append(cells)
                lines.append(line)
            elif len(cells) == width and not any(cells[len(header) :]):
                rows.append(cells[: len(header)])
                lines.append(line)
            elif any(cells):
                found.append(_ragged(table, label, line, len(cells), len(header)))
    except csv.Error as error:
        found.append(_broken_quotes(table, label, begun, str(error)))
    return _sheet(label, header, rows, lines), found


def _decoded(path: Path, table: Table, label: str) -> tuple[str | None, Finding | None]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        return None, _error(
            f"{table.name}.unreadable", f"the file cannot be read: {error.strerror}", "mend access", label
        )
    cure = "save it as CSV UTF-8"
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return None, _error(f"{table.name}.encoding", "the file is UTF-16; expected UTF-8", cure, label)
    try:
        return raw.decode("utf-8-sig"), None
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n|\r|\n", raw[: error.start])) + 1
        message = f"byte {raw[error.start]:#04x} is not UTF-8"
        return None, _error(f"{table.name}.encoding", message, cure, label, row=line)


def _separator(text: str, table: Table) -> str:
    """The separator under which the header has most of the table's columns; a comma in doubt."""
    first = re.search(r"\S.*", text)
    header = first[0] if first else ""
    known = set(table.names)
    return max(_SEPARATORS, key=lambda mark: len({cell.strip(' "\r\n') for cell in header.split(mark)} & known))


def _header(cells: list[str]) -> list[str]:
    """Column names; spreadsheets leave separators behind the last one, which mean nothing."""
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    return names


def _ragged(table: Table, label: str, line: int, seen: int, expected: int) -> Finding:
    return _error(
        f"{table.name}.cells",
        f"the row has {seen} cells; the header has {expected}",
        'put a value that contains the separator in quotation marks: "Example, Ltd"',
        label,
        row=line,
    )


def _broken_quotes(table: Table, label: str, line: int, reason: str) -> Finding:
    if "unexpected end" in reason:
        message = "a quotation mark opened in this row is never closed"
    elif "field larger" in reason:
        message = "a cell is longer than 131072 characters; most likely a quotation mark is never closed"
    else:
        message = f"the quotation marks of this row do not match ({reason})"
    cure = 'write a quotation mark inside a quoted value twice: "the ""big"" one"; the rows below were not read'
    return _error(f"{table.name}.quotes", message, cure, label, row=line)


def _sheet(label: str, header: list[str], rows: list[list[str]], lines: list[int]) -> _Sheet:
    """Cells by column, trimmed, empty ones null; rows without a value are left out."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(header)
    # a name that repeats is told apart here and reported where columns are checked
    series = [pl.Series(f"{index}", values, dtype=TEXT) for index, values in enumerate(columns)]
    trimmed = pl.all().str.strip_chars()
    cells = pl.DataFrame(series).with_columns(pl.when(trimmed != "").then(trimmed))
    numbers = pl.Series(lines, dtype=pl.Int64)
    if cells.width:
        filled = cells.select(pl.any_horizontal(pl.all().is_not_null())).to_series()
        if not filled.all():
            cells, numbers = cells.filter(filled), numbers.filter(filled)
    cells.columns = _told_apart(header)
    return _Sheet(label, cells, numbers)


_REPEATED = "\x00"


def _told_apart(header: list[str]) -> list[str]:
    """Names where a repeated one has its position behind a mark that no name can contain."""
    return [name if name not in header[:index] else f"{name}{_REPEATED}{index}" for index, name in enumerate(header)]


# --- Parquet -----------------------------------------------------------------------------------------------------


def _read_parquet(path: Path, label: str) -> tuple[_Sheet | None, list[Finding]]:
    """The file's cells as exact text, with the number of each row."""
    try:
        # Not Polars' own reader: damaged files make it panic. Validated in full, since Arrow trusts text to be UTF-8.
        table = pq.read_table(pa.BufferReader(path.read_bytes()))
        table.validate(full=True)
        frame = pl.DataFrame(table)
    except (pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        return None, [
            _error(f"{path.stem}.unreadable", f"not a Parquet file that can be read: {reason}", "write it anew", label)
        ]
    found: list[Finding] = []
    texts: list[pl.Series] = []
    for series in frame:
        text = _exact_text(series)
        if text is None:
            found.append(
                _error(
                    f"{path.stem}.column_type",
                    f"the column is of type {series.dtype}, which holds no exact value",
                    "write numbers as decimal or text, instants as timestamp with time zone, the rest as text",
                    label,
                    column=series.name,
                )
            )
            text = pl.Series(series.name, [None] * frame.height, dtype=TEXT)
        texts.append(text.str.strip_chars())
    cells = pl.DataFrame(texts).with_columns(pl.when(pl.all() != "").then(pl.all()))
    lines = pl.int_range(1, frame.height + 1, dtype=pl.Int64, eager=True)
    return _Sheet(label, cells, lines), found


def _exact_text(series: pl.Series) -> pl.Series | None:
    """The values as a CSV file would spell them; None for types that have no exact spelling."""
    dtype = series.dtype
    if dtype == pl.Null or series.null_count() == len(series):
        return pl.Series(series.name, [None] * len(series), dtype=TEXT)
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is None:
            return series.dt.to_string("%Y-%m-%dT%H:%M:%S%.6f")
        return series.dt.convert_time_zone("UTC").dt.to_string("%Y-%m-%dT%H:%M:%S%.6fZ")
    if dtype.is_integer() or dtype.is_decimal() or dtype in (pl.String, pl.Boolean, pl.Date, pl.Categorical, pl.Enum):
        return series.cast(TEXT)
    return None


# --- columns and cells -------------------------------------------------------------------------------------------


def _typed(sheet: _Sheet, table: Table, zone: ZoneInfo) -> tuple[pl.DataFrame, list[Finding]]:
    """The sheet as the table's frame with the source columns, and every finding in it.

    Cells that cannot be read are null in the frame; the caller must not use a frame with findings.
    """
    found = list(_column_findings(sheet, table))
    if table.name in REQUIRED_BOOK_TABLES and sheet.cells.is_empty():
        found.append(
            _error(f"{table.name}.no_rows", "the table has no rows", f"add {table.grain} per row", sheet.label)
        )
    extra = [Column(name, TEXT, "", nullable=True) for name in sheet.cells.columns if _is_open(name, table)]
    columns = (*table.columns, *sorted(extra, key=lambda column: column.name))
    height = sheet.cells.height
    no_texts = pl.Series([None] * height, dtype=TEXT)
    given = set(sheet.cells.columns)
    texts = pl.DataFrame(
        [sheet.cells.get_column(c.name) if c.name in given else no_texts.alias(c.name) for c in columns]
    )
    # one query a table: what costs in a book of many small tables is the number of queries
    frame = texts.select(
        *(_parsed(texts.get_column(column.name), column, zone).alias(column.name) for column in columns),
        pl.lit(sheet.label).alias(SOURCE_FILE),
        sheet.lines.alias(SOURCE_ROW),
        pl.concat_str(pl.lit(""), *(_if_left_empty(column) for column in columns if column.default is not None)).alias(
            SOURCE_DEFAULTS
        ),
    )
    unread: dict[str, set[int]] = {}
    for column in columns:
        seen, values = texts.get_column(column.name), frame.get_column(column.name)
        unread[column.name] = set()
        if column.name not in given:
            unread[column.name] = set(range(height))  # said once, for the column
        elif values.null_count() > (seen.null_count() if column.default is None else 0):
            bad = (seen.is_not_null() & values.is_null()).arg_true()
            unread[column.name] = set(bad.to_list())
            found += _unreadable_cells(seen, bad, column, table, sheet)
    found += _broken_rules(frame, table, sheet, unread)
    return frame, found


def _if_left_empty(column: Column) -> pl.Expr:
    """The column's name and a space, in rows that leave its cell empty."""
    return pl.when(pl.col(column.name).is_null()).then(pl.lit(f"{column.name} ")).otherwise(pl.lit(""))


def _is_required(column: Column) -> bool:
    return not column.nullable and column.default is None


_OPEN_NAME = re.compile(r"[A-Za-z0-9_-]+")


def _is_open(name: str, table: Table) -> bool:
    """Whether a column is one that users may add, such as ``attr.disk_type``."""
    prefix = table.open_prefix
    return prefix is not None and name.startswith(prefix) and bool(_OPEN_NAME.fullmatch(name.removeprefix(prefix)))


def _column_findings(sheet: _Sheet, table: Table) -> Iterator[Finding]:
    """Unknown, repeated and missing columns."""
    for name in sheet.cells.columns:
        if _REPEATED in name:
            twice = name.split(_REPEATED)[0]
            yield _error(
                f"{table.name}.repeated_column",
                f"the column {twice!r} is in the header twice" if twice else "a column has no name",
                "keep one of them" if twice else "name it, or remove it",
                sheet.label,
                column=twice or None,
            )
        elif name not in table.names and not _is_open(name, table):
            others = [known for known in table.names if known not in sheet.cells.columns]
            yield _error(
                f"{table.name}.unknown_column",
                (f"unknown column {_quoted(name)}" if name else "a column has no name") + _did_you_mean(name, others),
                f"the columns of {table.name} are {', '.join(table.names)}"
                + (f", and any {table.open_prefix}<name>" if table.open_prefix else ""),
                sheet.label,
                column=name or None,
            )
    for column in table.columns:
        if _is_required(column) and column.name not in sheet.cells.columns:
            yield _error(
                f"{table.name}.missing_column",
                f"the column {column.name} is missing; it holds: {column.meaning}",
                "add the column",
                sheet.label,
                column=column.name,
            )


def _unreadable_cells(
    texts: pl.Series, bad: pl.Series, column: Column, table: Table, sheet: _Sheet
) -> Iterator[Finding]:
    for line, text in zip(sheet.lines.gather(bad), texts.gather(bad), strict=True):
        rule, message, cure = _explained(text, column)
        yield _error(
            f"{table.name}.{column.name}.{rule}",
            message,
            cure,
            sheet.label,
            row=line,
            column=column.name,
            value=text,
        )


def _broken_rules(frame: pl.DataFrame, table: Table, sheet: _Sheet, unread: dict[str, set[int]]) -> list[Finding]:
    """Findings for whatever the table's contract refuses, except what follows from cells that could not be read."""
    if table.is_kept_by(frame):
        return []
    import pandera.errors  # noqa: PLC0415 - takes a second, which books without mistakes are spared

    try:
        table.validate(frame)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases
    else:
        raise AssertionError(f"pandera finds nothing wrong with a frame of {table.name} that breaks its contract")
    if cases["index"].null_count():
        raise AssertionError(f"frame of {table.name} has other columns than its contract: {cases}")
    found: list[Finding] = []
    for case in cases.filter(pl.col("schema_context") == "Column").iter_rows(named=True):
        column, index = table[case["column"]], case["index"]
        if index not in unread[column.name]:
            found.append(_broken_rule(case, column, table, sheet))
    if cases.filter(pl.col("schema_context") != "Column").height:
        readable = [index for index in range(frame.height) if not any(index in unread[name] for name in table.key)]
        found += _repeated_keys(frame, readable, table, sheet)
    return found


def _broken_rule(case: dict[str, Any], column: Column, table: Table, sheet: _Sheet) -> Finding:
    line = sheet.lines[case["index"]]
    if case["check"] == "not_nullable":
        message, rule, text = f"{column.name} is empty; expected {column.expected()}", "required", None
    else:
        text = sheet.cells[column.name][case["index"]]
        message = f"{column.name} is {_quoted(text)}; expected {column.expected()}"
        rule = column.checks()[case["check_number"]].name or "rule"
    near = _did_you_mean(text or "", list(column.one_of))
    return _error(
        f"{table.name}.{column.name}.{rule}",
        message + near,
        f"{column.name} holds: {column.meaning}",
        sheet.label,
        row=line,
        column=column.name,
        value=text,
    )


def _repeated_keys(frame: pl.DataFrame, readable: list[int], table: Table, sheet: _Sheet) -> Iterator[Finding]:
    """Each row whose key an earlier row has, naming that row."""
    keys = frame.select(*table.key, pl.lit(sheet.lines).alias(SOURCE_ROW))[readable]
    first = pl.col(SOURCE_ROW).first().over(table.key)
    for row in keys.with_columns(_first=first).filter(pl.col(SOURCE_ROW) != pl.col("_first")).iter_rows(named=True):
        named = ", ".join(f"{name} {'empty' if row[name] is None else _plain(row[name])}" for name in table.key)
        yield _error(
            f"{table.name}.key",
            f"a second row with {named}; the first is {sheet.label}:{row['_first']}",
            f"keep one of them: {' and '.join(table.key)} {'together name' if table.key[1:] else 'names'} one row",
            sheet.label,
            row=row[SOURCE_ROW],
            column=table.key[0],
        )


# --- values ------------------------------------------------------------------------------------------------------

_CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:?\d{2})", re.ASCII)
_LOCAL = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?", re.ASCII)


def _parsed(texts: pl.Series, column: Column, zone: ZoneInfo) -> pl.Expr:
    """The texts of a frame's column as values of the column's type, null where a text is none."""
    dtype = column.dtype
    if texts.null_count() == len(texts) and column.default is None:
        return pl.lit(None, dtype=dtype)
    text = pl.col(column.name) if column.default is None else pl.col(column.name).fill_null(column.default)
    if isinstance(dtype, pl.Decimal):
        return pl.when(text.str.contains(plain_decimal(dtype.scale))).then(text).cast(dtype)
    if dtype == pl.Int64:
        return pl.when(text.str.contains(r"^-?[0-9]{1,18}$")).then(text).cast(dtype)
    if dtype == TEXT:
        return pl.when(~text.str.contains(_CONTROL)).then(text)
    parse: Callable[[str], Any] = {
        pl.Boolean: lambda text: {"true": True, "false": False}.get(text.lower()),
        pl.Date: _day,
        pl.Datetime: lambda text: _instant(text, zone),
    }[dtype.base_type()]
    distinct = list({*texts.to_list(), column.default} - {None})
    values = pl.Series([parse(text) for text in distinct], dtype=pl.Int64 if dtype == INSTANT else dtype).cast(dtype)
    return text.replace_strict(distinct, values, default=None, return_dtype=dtype)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        return None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _instant(text: str, zone: ZoneInfo) -> int | None:
    """Microseconds since 1970 in UTC; a date is the first instant of its day in ``zone``."""
    try:
        if _DATE.fullmatch(text):
            day = date.fromisoformat(text)
            instant = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
        elif _INSTANT.fullmatch(text):
            instant = datetime.fromisoformat(text).astimezone(UTC)
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return (instant - _EPOCH) // _MICROSECOND


def _explained(text: str, column: Column) -> tuple[str, str, str]:
    """Why a cell cannot be read: rule, message and cure."""
    seen = f"{column.name} is {_quoted(text)}"
    kind = column.dtype.base_type()
    if kind == pl.Decimal:
        return _explained_number(text, column, seen)
    if kind == pl.Datetime and _LOCAL.fullmatch(text):
        cure = "add Z for UTC or an offset such as +02:00, or write the date alone for midnight"
        return "offset", f"{seen}, which does not say in which time zone; expected {column.expected()}", cure
    if kind in (pl.Datetime, pl.Date):
        if _DATE.match(text):
            return (
                "format",
                f"{seen}, which is no day or time of the calendar; expected {column.expected()}",
                "mend the date",
            )
        cure = "write year, month and day as 2026-10-31; a spreadsheet keeps that in cells formatted as text"
        return "format", f"{seen}; expected {column.expected()}", cure
    if kind == pl.String:
        return "control_character", f"{seen}, which has a control character in it", "type the value anew"
    return "format", f"{seen}; expected {column.expected()}", f"{column.name} holds: {column.meaning}"


def _explained_number(text: str, column: Column, seen: str) -> tuple[str, str, str]:
    expected = f"expected {column.expected()}"
    if re.fullmatch(r"-?[0-9]+(\.[0-9]*)?[eE][+-]?[0-9]+", text):
        cure = "write all digits; in a spreadsheet, format the cell as a number with up to 12 decimals"
        return "exponent", f"{seen}, whose exponent may hide rounded digits; {expected}", cure
    if re.fullmatch(r"-?[0-9]+\.[0-9]+", text):
        whole, decimals = text.lstrip("-0").split(".")
        kept = column.dtype.scale if isinstance(column.dtype, pl.Decimal) else 0
        if len(decimals.rstrip("0")) > kept:
            return (
                "decimals",
                f"{seen}, which has {len(decimals.rstrip('0'))} decimals; at most {kept} are kept exactly",
                f"round it yourself to {kept} decimals, so that the number is the one you mean",
            )
        return (
            "digits",
            f"{seen}, which has {len(whole)} digits before the point; at most 26 are kept",
            "mend the number",
        )
    if re.fullmatch(r"-?[0-9][0-9.,'\u2019\s_]*", text):
        return "format", f"{seen}; {expected}", "write a decimal point and no thousands separators: 1234.5"
    return "format", f"{seen}; {expected}", "write the bare number, without a currency, unit or percent sign"


# --- messages ----------------------------------------------------------------------------------------------------


def _error(
    rule: str,
    message: str,
    cure: str,
    file: str,
    *,
    row: int | None = None,
    column: str | None = None,
    value: str | None = None,
) -> Finding:
    return Finding(Severity.ERROR, rule, message, cure, file=file, row=row, column=column, value=value)


def _quoted(text: str) -> str:
    """A value as messages repeat it: control characters escaped, long ones cut."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return _quoted(value) if isinstance(value, str) else str(value)


def _did_you_mean(word: str, known: list[str]) -> str:
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower().replace(" ", "_")[:_SHOWN], by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""
