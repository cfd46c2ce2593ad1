"""Months and instants as requests name them."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, WithJsonSchema

from ratemill.api.problems import Problem
from ratemill.period import BillingPeriod

if TYPE_CHECKING:
    from ratemill.api.snapshots import Snapshot

_YEARS = (1900, 2999)
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}")


def _is_period(text: str) -> str:
    return str(BillingPeriod.parse(text))


PeriodText = Annotated[
    str,
    AfterValidator(_is_period),
    WithJsonSchema({"type": "string", "pattern": r"^[12]\d{3}-(0[1-9]|1[0-2])$", "examples": ["2026-10"]}),
]


def _is_near(instant: datetime) -> datetime:
    if not _YEARS[0] <= instant.year <= _YEARS[1]:
        raise ValueError(f"must be within the years {_YEARS[0]} to {_YEARS[1]}")
    return instant


def _is_written_out(value: object) -> object:
    """Not a number of seconds since some year, which pydantic would take as well."""
    if not isinstance(value, str) or _ISO.match(value) is None:
        raise ValueError("must be written as ISO 8601 has it: 2026-10-01T00:00:00Z, or 2026-10-01 where it is a day")
    return value


InstantAsked = Annotated[AwareDatetime, BeforeValidator(_is_written_out), AfterValidator(_is_near)]
"""An instant with its offset; those near the ends of the calendar have no counterpart in UTC."""

DayAsked = Annotated[date, BeforeValidator(_is_written_out)]


def latest_period(snapshot: Snapshot) -> str:
    """The last month that something seen was billed in.

    Raises:
        Problem: there is none (404).
    """
    periods: list[str] = [row["period"] for row in snapshot.rows("api/periods")]
    if not periods:
        raise Problem(404, "nothing-billed", "nothing is billed yet of what this key may see")
    return max(periods)


def periods_asked(snapshot: Snapshot, first: str | None, last: str | None) -> tuple[str, str]:
    """The first and the last month of a request, where it may leave out one or both.

    Raises:
        Problem: they are in the wrong order (422), or left out and nothing is billed yet (404).
    """
    first = first or last or latest_period(snapshot)
    last = last or first
    if first > last:
        raise Problem.wrong_query("last_period", f"is {last}, before first_period, {first}")
    return first, last
