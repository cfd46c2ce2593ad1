"""Billing periods: one calendar month in a time zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

_PERIOD = re.compile(r"([12][0-9]{3})-(0[1-9]|1[0-2])")


@dataclass(frozen=True, order=True)
class BillingPeriod:
    """A calendar month, ``2026-10``; its instants depend on the time zone it is looked at from."""

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> BillingPeriod:
        """Read ``YYYY-MM``; raises ValueError for anything else."""
        match = _PERIOD.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a billing period; write it as YYYY-MM, for example 2026-10")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def containing(cls, day: date) -> BillingPeriod:
        """The month that ``day`` lies in."""
        return cls(day.year, day.month)

    def shift(self, months: int) -> BillingPeriod:
        """The period ``months`` later (earlier if negative)."""
        index = self.year * 12 + self.month - 1 + months
        return BillingPeriod(index // 12, index % 12 + 1)

    @property
    def first_day(self) -> date:
        """First day of the month."""
        return date(self.year, self.month, 1)

    @property
    def last_day(self) -> date:
        """Last day of the month: the tax point."""
        return self.shift(1).first_day - timedelta(days=1)

    @property
    def days(self) -> int:
        """Number of calendar days."""
        return self.last_day.day

    def start(self, zone: str = "UTC") -> datetime:
        """First instant of the month in ``zone``, in UTC."""
        return datetime(self.year, self.month, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC)

    def end(self, zone: str = "UTC") -> datetime:
        """First instant after the month in ``zone``, in UTC (exclusive)."""
        return self.shift(1).start(zone)

    def hours(self, zone: str = "UTC") -> int:
        """Real hours of the month in ``zone``: 672 to 745, where the clocks change."""
        return int((self.end(zone) - self.start(zone)).total_seconds() // 3600)

    @property
    def widest_start(self) -> datetime:
        """Earliest instant that belongs to this month anywhere on earth (UTC+14), in UTC."""
        return self.start() - timedelta(hours=14)

    @property
    def widest_end(self) -> datetime:
        """First instant after this month everywhere on earth (UTC-12), in UTC."""
        return self.end() + timedelta(hours=12)

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"


def parse_periods(text: str, *, today: date) -> list[BillingPeriod]:
    """Read ``2026-10``, ``2026-01..2026-10`` or ``last`` (the month before ``today``), in order.

    Raises:
        ValueError: for anything else, or a range that runs backwards.
    """
    if text == "last":
        return [BillingPeriod.containing(today).shift(-1)]
    first, separator, last = text.partition("..")
    if not separator:
        return [BillingPeriod.parse(first)]
    try:
        start, end = BillingPeriod.parse(first), BillingPeriod.parse(last)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a billing period; write it as YYYY-MM, or a range as 2026-01..2026-10"
        ) from None
    if end < start:
        raise ValueError(f"the range {text!r} runs backwards; write the earlier period first")
    count = (end.year - start.year) * 12 + end.month - start.month + 1
    return [start.shift(offset) for offset in range(count)]


def is_time_zone(name: str) -> bool:
    """Whether ``name`` is an IANA time zone, such as Europe/Paris."""
    return name in _time_zones()


@cache
def _time_zones() -> frozenset[str]:
    # Systems list two that are no zones: "localtime" is whatever the machine is set to, "Factory" is not set.
    return frozenset(available_timezones() - {"localtime", "Factory"})
