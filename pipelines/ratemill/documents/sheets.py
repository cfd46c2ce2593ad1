"""Sheets of a workbook: tables of frames in which no value of a customer can become a formula, a link or markup.

A number in a spreadsheet is a double, which holds 15 digits for sure. So amounts are written as numbers as long as that
is exact, and as text beyond; other numbers are rounded to 15 digits, and exact costs are always text. Equal content
gives equal bytes: nothing comes from a clock, and the file's own dates are given.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import xlsxwriter
from xlsxwriter.utility import xl_col_to_name, xl_range_abs

from ratemill.documents.formats import REPLACEMENT, clean_text, format_unit, plain
from ratemill.money import minor_unit_decimals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date

    import polars as pl

EXACT_DIGITS = 15
"""Significant digits that every double keeps."""
LONGEST_TEXT = 32_767
"""Characters of a cell."""
_LONGEST_FOOTER, _LONGEST_PROPERTY = 120, 200
_STARTS_A_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""As in spreadsheet.py; other white space is a blank by then."""
_NO_CHARACTERS = re.compile("[\ufffe\uffff]")
INK, MUTED, ACCENT, RULE = "#18222D", "#586572", "#0B5C6B", "#C9D1D8"
_A4 = 9


class Kind(StrEnum):
    """How the values of a column are written."""

    TEXT = "text"
    UNIT = "unit"
    """Text: a unit, whose number is grouped."""
    AMOUNT = "amount"
    """Money with the decimals of the row's currency."""
    NUMBER = "number"
    """Any other number, rounded to 15 digits."""
    EXACT = "exact"
    """A number with all its digits, as text."""
    DAY = "day"
    COUNT = "count"
    WHOLE = "whole"
    """A whole number such as a year or a count, without separators; as DECIMAL."""
    DECIMAL = "decimal"
    """Any number: as a number where a double holds all its digits, else as text with all of them."""
    PERCENT = "percent"
    """Percent as a number: 20 is 20 %."""


@dataclass(frozen=True)
class Field:
    """One column of a table."""

    name: str
    """Column of the frame."""
    heading: str
    """Unique within the table; formulas refer to it."""
    kind: Kind = Kind.TEXT
    width: int = 14
    """In characters."""


class Sheets:
    """A workbook in the making: sheets in the order in which they are added."""

    def __init__(self, *, title: str, author: str, created: date, footer: str) -> None:
        """An empty workbook.

        Args:
            title: of the file's properties.
            author: of the file's properties.
            created: date of the file's properties; the clock must not be in there.
            footer: printed below every page.
        """
        self._buffer = io.BytesIO()
        self._workbook = xlsxwriter.Workbook(
            self._buffer,
            {
                "in_memory": True,
                "strings_to_formulas": False,
                "strings_to_urls": False,
                "strings_to_numbers": False,
                "default_date_format": "yyyy-mm-dd",
            },
        )
        midnight = datetime(created.year, created.month, created.day)  # noqa: DTZ001 - the format knows no zones
        self._workbook.set_properties(
            {"title": _cut(title, _LONGEST_PROPERTY), "author": _cut(author, _LONGEST_PROPERTY), "created": midnight}
        )
        self._workbook.set_calc_mode("auto")
        self._footer = f"&L{_cut(footer, _LONGEST_FOOTER).replace('&', '&&')}&R&P / &N"
        self._formats: dict[tuple[tuple[str, Any], ...], Any] = {}

    def finish(self) -> bytes:
        """The file."""
        self._workbook.close()
        return self._buffer.getvalue()

    def style(self, **properties: Any) -> Any:
        """A cell format, made once for equal properties."""
        key = tuple(sorted(properties.items()))
        if key not in self._formats:
            self._formats[key] = self._workbook.add_format({"font_name": "Calibri", "valign": "vcenter", **properties})
        return self._formats[key]

    def money(self, currency: str, **properties: Any) -> Any:
        """Format of amounts in a currency: its decimals, negative ones red."""
        decimals = minor_unit_decimals(currency)
        number = "#,##0" + (f".{'0' * decimals}" if decimals else "")
        return self.style(num_format=f"{number};[Red]-{number}", align="right", **properties)

    @property
    def section(self) -> Any:
        """Format of a heading within a sheet."""
        return self.style(bold=True, font_size=12, font_color=ACCENT)

    def heading(self, align: str = "left") -> Any:
        """Format of a column's heading."""
        return self.style(bold=True, bottom=1, bottom_color=INK, text_wrap=True, valign="bottom", align=align)

    @property
    def muted(self) -> Any:
        """Format of what explains."""
        return self.style(font_color=MUTED)

    @property
    def good(self) -> Any:
        """Format of a control total that agrees."""
        return self.style(font_color="#1B6E3C", bg_color="#E7F4EC")

    @property
    def bad(self) -> Any:
        """Format of a control total that does not."""
        return self.style(font_color="#A62626", bg_color="#FBE9E9", bold=True)

    def sheet(self, name: str, *, landscape: bool = True, title: str = "") -> Any:
        """A new sheet, ready to print: one page wide, A4, the footer with page numbers."""
        sheet = self._workbook.add_worksheet(name)
        sheet.hide_gridlines(2)
        sheet.set_paper(_A4)
        if landscape:
            sheet.set_landscape()
        sheet.set_margins(left=0.4, right=0.4, top=0.5, bottom=0.7)
        sheet.fit_to_pages(1, 0)
        sheet.set_footer(self._footer)
        if title:
            sheet.set_row(0, 26)
            self.text(sheet, 0, 0, title, self.style(bold=True, font_size=16, font_color=ACCENT))
        return sheet

    def text(self, sheet: Any, row: int, column: int, value: str, style: Any | None = None) -> None:
        """A cell of text, whatever the text is."""
        cleaned = _text(value)
        if style is None:  # with the prefix it stays text when somebody edits the cell
            style = self.style(quote_prefix=True) if cleaned.startswith(_STARTS_A_FORMULA) else self.style()
        sheet.write_string(row, column, cleaned, style)

    def amount(self, sheet: Any, row: int, column: int, value: Decimal, currency: str, **properties: Any) -> None:
        """A cell of money: a number, or text where a number would not be exact."""
        if is_exact(value):
            sheet.write_number(row, column, float(value), self.money(currency, **properties))
        else:
            decimals = minor_unit_decimals(currency)
            sheet.write_string(row, column, f"{value:.{decimals}f}", self.style(align="right", **properties))

    def table(self, sheet: Any, name: str, fields: Sequence[Field], rows: pl.DataFrame, *, top: int = 0) -> None:
        """A named table that can be filtered and sorted; its headings stay on the screen and on every printed page.

        ``rows`` have the fields' columns, and ``currency`` where one is an amount.
        """
        currencies = rows["currency"].to_list() if "currency" in rows.columns else [""] * rows.height
        meant_as_text = []
        for number, field in enumerate(fields):
            sheet.set_column(number, number, field.width)
            if field.kind in (Kind.EXACT, Kind.AMOUNT, Kind.WHOLE, Kind.DECIMAL):
                meant_as_text.append(f"{cell(top + 1, number)}:{cell(top + max(rows.height, 1), number)}")
            write = self._writer(sheet, field.kind)
            for row, (value, currency) in enumerate(zip(rows[field.name], currencies, strict=True), start=top + 1):
                if value is not None:
                    write(row, number, value, currency)
        sheet.add_table(
            top,
            0,
            top + max(rows.height, 1),
            len(fields) - 1,
            {
                "name": name,
                "style": "Table Style Light 1",
                "columns": [
                    {"header": field.heading, "header_format": self.heading(_ALIGNED.get(field.kind, "right"))}
                    for field in fields
                ],
            },
        )
        if meant_as_text:
            sheet.ignore_errors({"number_stored_as_text": " ".join(meant_as_text)})
        sheet.set_row(top, 30)
        sheet.freeze_panes(top + 1, 0)
        sheet.repeat_rows(top)

    def _amount_writer(self, sheet: Any) -> Callable[[int, int, Any, str], None]:
        """As :meth:`amount`, quickly."""
        known: dict[str, tuple[Any, Decimal]] = {}

        def write(row: int, column: int, value: Decimal, currency: str) -> None:
            if currency not in known:
                surely_exact = Decimal(10) ** (EXACT_DIGITS - minor_unit_decimals(currency))
                known[currency] = (self.money(currency), surely_exact)
            style, surely_exact = known[currency]
            if -surely_exact < value < surely_exact:
                sheet.write_number(row, column, float(value), style)
            else:
                self.amount(sheet, row, column, value, currency)

        return write

    def _writer(self, sheet: Any, kind: Kind) -> Callable[[int, int, Any, str], None]:
        """What writes one value of a kind: row, column, value, currency."""
        if kind is Kind.AMOUNT:
            return self._amount_writer(sheet)
        if kind in (Kind.TEXT, Kind.UNIT):
            usual, quoted = self.style(), self.style(quote_prefix=True)

            def text(row: int, column: int, value: str, _: str) -> None:
                cleaned = _text(format_unit(value) if kind is Kind.UNIT else value)
                sheet.write_string(row, column, cleaned, quoted if cleaned.startswith(_STARTS_A_FORMULA) else usual)

            return text
        if kind is Kind.EXACT:
            muted = self.style(align="right", font_color=MUTED)
            return lambda row, column, value, _: sheet.write_string(row, column, plain(value), muted)
        if kind in (Kind.WHOLE, Kind.DECIMAL):
            shown, beyond = self.style(num_format=_NUMBER_FORMATS[kind], align="right"), self.style(align="right")

            def exact(row: int, column: int, value: Decimal, _: str) -> None:
                if is_exact(value):
                    sheet.write_number(row, column, float(value), shown)
                else:
                    sheet.write_string(row, column, plain(value), beyond)

            return exact
        if kind is Kind.DAY:
            day = self.style(num_format="yyyy-mm-dd", align="left")
            return lambda row, column, value, _: sheet.write_datetime(row, column, value, day)
        number = self.style(num_format=_NUMBER_FORMATS[kind], align="right")
        return lambda row, column, value, _: sheet.write_number(row, column, float(value), number)


_ALIGNED = {Kind.TEXT: "left", Kind.UNIT: "left", Kind.DAY: "left"}
_NUMBER_FORMATS = {
    Kind.NUMBER: "#,##0.############", Kind.COUNT: "#,##0", Kind.PERCENT: '0.####"%"', Kind.WHOLE: "0",
    Kind.DECIMAL: "#,##0.00############",
}  # fmt: skip


def is_exact(value: Decimal) -> bool:
    """Whether a double shows the number with all its digits."""
    return len(plain(value).lstrip("-").replace(".", "").lstrip("0")) <= EXACT_DIGITS


def cell(row: int, column: int) -> str:
    """``B7``, for formulas."""
    return f"{xl_col_to_name(column)}{row + 1}"


def fixed_span(first: tuple[int, int], last: tuple[int, int]) -> str:
    """``$B$7:$C$9``, for rules of cells that are elsewhere."""
    return str(xl_range_abs(*first, *last))


def _text(value: str) -> str:
    """Text as a cell can hold it: nothing that turns text around, no character that XML forbids, not too long."""
    return _cut(value, LONGEST_TEXT)


def _cut(value: str, longest: int) -> str:
    """``value`` without characters that may not be there, and in ``longest`` UTF-16 units, as spreadsheets count."""
    if value.isascii() and value.isprintable() and len(value) <= longest:
        return value
    cleaned = _NO_CHARACTERS.sub(REPLACEMENT, clean_text(value))
    if len(cleaned) * 2 <= longest:
        return cleaned
    units = cleaned.encode("utf-16-le")
    if len(units) <= 2 * longest:
        return cleaned
    return units[: 2 * (longest - 1)].decode("utf-16-le", errors="ignore") + "…"
