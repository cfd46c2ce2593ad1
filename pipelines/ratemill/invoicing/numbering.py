"""Numbers of invoices and credit notes: patterns, and the series that they run in.

A pattern such as ``{year}-{number:05}`` says what a number looks like. With year and month of the day of issue filled
in it names a series, ``2026-{number:05}``, in which numbers run from 1 without a gap.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import Formatter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

FIELDS = ("year", "month", "number")
LONGEST = 40
"""Characters that a number may have; fields of other systems end soon after."""

_WIDTH = re.compile(r"(0[1-9])?")
_EXAMPLE = "{year}-{number:05}"


@dataclass(frozen=True)
class NumberPattern:
    """A pattern that was found to be right."""

    text: str

    @classmethod
    def parse(cls, text: str) -> NumberPattern:
        """Read a pattern.

        Raises:
            ValueError: it is none; the message says what a pattern may hold.
        """
        try:
            parts = list(Formatter().parse(text))
        except ValueError as error:
            raise ValueError(f"{error}; write fields in braces, for example {_EXAMPLE}") from None
        fields = [name for _, name, _, _ in parts if name is not None]
        unknown = [name for name in fields if name not in FIELDS]
        if unknown:
            known = ", ".join(f"{{{name}}}" for name in FIELDS)
            raise ValueError(f"{{{unknown[0]}}} is no field; the fields are {known}, for example {_EXAMPLE}")
        if fields.count("number") != 1:
            raise ValueError(f"{{number}} must be in it once, for example {_EXAMPLE}")
        if "month" in fields and "year" not in fields:
            raise ValueError(f"{{month}} needs {{year}} beside it, else numbers come again each year: {_EXAMPLE}")
        for literal, name, width, conversion in parts:
            if not literal.isprintable():
                raise ValueError("only printable characters can be in a number")
            if conversion or (width and name != "number") or not _WIDTH.fullmatch(width or ""):
                raise ValueError(f"only {{number}} takes a width, as {{number:05}} does: 00001; example: {_EXAMPLE}")
        pattern = cls(text)
        if text != text.strip() or len(pattern.series_format(2026, 12).format(number=1)) > LONGEST:
            raise ValueError(f"a number has at most {LONGEST} characters and no blanks around it")
        return pattern

    def series(self, issue_date: date) -> str:
        """The series that a document of that day belongs to; itself the format of its numbers."""
        return self.series_format(issue_date.year, issue_date.month)

    def series_format(self, year: int, month: int) -> str:
        """The pattern with year and month filled in, and ``{number…}`` left."""
        filled = {"year": f"{year:04d}", "month": f"{month:02d}"}
        series = ""
        for literal, name, width, _ in Formatter().parse(self.text):
            series += literal.replace("{", "{{").replace("}", "}}")
            if name == "number":
                series += f"{{number:{width}}}" if width else "{number}"
            elif name is not None:
                series += filled[name]
        return series


def numbers_of(series: str, first: int, last: int) -> list[str]:
    """The numbers of a series from ``first`` to ``last``."""
    return [series.format(number=number) for number in range(first, last + 1)]
