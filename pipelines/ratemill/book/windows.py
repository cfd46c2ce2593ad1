"""Time windows: stretches of the local week, such as peak hours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import polars as pl

from ratemill.book.rows import Row, findings_for

if TYPE_CHECKING:
    from ratemill.book.model import Book
    from ratemill.findings import Finding

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")
_MINUTES_OF_A_DAY = 24 * 60


def minutes(time: str) -> int | None:
    """Minutes since local midnight of ``HH:MM`` (``24:00`` is the end of the day); None for anything else."""
    if _TIME.fullmatch(time) is None:
        return None
    hours, rest = time.split(":")
    return int(hours) * 60 + int(rest)


def hours_of_the_week(windows: pl.DataFrame) -> dict[str, int]:
    """Each window as a bit per minute of the week, Monday first; rows that cannot be read add nothing."""
    bits: dict[str, int] = {}
    for row in windows.iter_rows(named=True):
        start, end = minutes(row["from_time"]), minutes(row["to_time"])
        if start is None or end is None or start >= end:
            continue
        stretch = ((1 << (end - start)) - 1) << start
        for day in set(row["days"].split()).intersection(DAYS):
            bits[row["window"]] = bits.get(row["window"], 0) | stretch << (DAYS.index(day) * _MINUTES_OF_A_DAY)
    return bits


def window_days_are_known(book: Book) -> list[Finding]:
    """Days are names of week days, separated by spaces."""
    known = pl.col("days").str.contains(rf"^(?:{'|'.join(DAYS)})(?:\s+(?:{'|'.join(DAYS)}))*$")
    return findings_for(
        book.windows.filter(~known),
        rule="windows.days",
        message=lambda row: f"days of window {row['window']!r} are {row['days']!r}; expected names of {' '.join(DAYS)}",
        cure="write the days in lower case, separated by spaces: mon tue wed",
        column="days",
    )


def window_times_are_known(book: Book) -> list[Finding]:
    """Times are HH:MM, and a stretch ends after it starts, on the same day."""
    found: list[Finding] = []
    for column in ("from_time", "to_time"):
        found += findings_for(
            book.windows.filter(~pl.col(column).str.contains(rf"^(?:{_TIME.pattern})$")),
            rule=f"windows.{column}",
            message=lambda row, column=column: (
                f"{column} of window {row['window']!r} is {row[column]!r}; expected a "  # type: ignore[misc]
                "local time, HH:MM"
            ),
            cure="write hours and minutes with two digits each: 08:00",
            column=column,
        )
    readable = pl.all_horizontal(pl.col("from_time", "to_time").str.contains(rf"^(?:{_TIME.pattern})$"))
    # HH:MM sorts as text the way it sorts as time
    found += findings_for(
        book.windows.filter(readable & (pl.col("from_time") >= pl.col("to_time"))),
        rule="windows.empty",
        message=_runs_backwards,
        cure="split a stretch that passes midnight into two rows: until 24:00, and from 00:00 on the next day",
        column="to_time",
    )
    return found


def _runs_backwards(row: Row) -> str:
    return f"window {row['window']!r} ends at {row['to_time']}, which is not after {row['from_time']}"
