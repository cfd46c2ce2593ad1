"""Values as the dialect writes them: money in units and nanos, instants, numbers."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from datetime import date

NANOS_PER_UNIT = 10**9
_MICROSECOND = timedelta(microseconds=1)


def money(amount: Decimal, currency: str) -> dict[str, Any]:
    """An amount of at most nine decimals.

    Raises:
        ValueError: it has more, which is a mistake of ours: nothing is rounded here.
    """
    nanos = amount.scaleb(9)
    if nanos != nanos.to_integral_value():
        raise ValueError(f"{amount} {currency} has more than nine decimals")
    return money_of_nanos(int(nanos), currency)


def money_of_nanos(nanos: int, currency: str) -> dict[str, Any]:
    """An amount in billionths: units and nanos of one sign, -1.75 is -1 and -750,000,000."""
    units, rest = divmod(abs(nanos), NANOS_PER_UNIT)
    sign = -1 if nanos < 0 else 1
    return {"currency_code": currency, "units": sign * units, "nanos": sign * rest}


def number(amount: Decimal) -> float:
    """A bare number, where the dialect has no money: exact as text, up to 15 digits."""
    return float(amount)


def whole_or_decimal(value: Decimal | None) -> str:
    """A quantity as text, without zeros at its end; 1 where nothing is counted."""
    return "1" if value is None else f"{value.normalize():f}"


def instant(value: datetime | None) -> str | None:
    """An instant: with Z, or with the offset of its zone."""
    return None if value is None else value.isoformat().replace("+00:00", "Z")


def utc(value: datetime | None) -> str | None:
    """An instant in UTC."""
    return None if value is None else instant(value.astimezone(UTC))


def last_instant(end: datetime) -> datetime:
    """The last instant before ``end``: the dialect's ends are included."""
    return end - _MICROSECOND


def end_of(bound: datetime) -> datetime:
    """The first instant after a bound of a request: one that ends in .999999 is included, as the dialect's ends are."""
    return bound + _MICROSECOND if bound.microsecond == 999_999 else bound  # noqa: PLR2004 - the last one of a second


def first_instant_of(day: date, zone: str) -> datetime:
    """Midnight at which a day begins."""
    return datetime.combine(day, time(), tzinfo=ZoneInfo(zone))


def last_instant_of(day: date, zone: str) -> datetime:
    """The last instant of a day."""
    return datetime.combine(day, time.max, tzinfo=ZoneInfo(zone))


def slice_of(nanos: int, start: datetime, end: datetime, since: datetime, until: datetime) -> int:
    """The part of an amount for ``start`` to ``end`` that falls between ``since`` and ``until``, by time.

    Each border is rounded down by itself, so that windows side by side add up to the whole, to the last digit.
    """
    length = (end - start) // _MICROSECOND
    if length <= 0:
        return nanos

    def until_then(moment: datetime) -> int:
        return nanos * ((min(max(moment, start), end) - start) // _MICROSECOND) // length

    return until_then(until) - until_then(since)
