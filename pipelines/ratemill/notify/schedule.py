"""When a notification may be sent: quiet hours, the e-mail of the day, and how long to wait after a failure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

NO_QUIET = "off"
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_FIRST_WAIT = timedelta(minutes=5)
_LONGEST_WAIT = timedelta(hours=12)


def quiet_hours(text: str) -> tuple[time, time] | None:
    """From and to, as ``22:00-07:00`` says; none for ``off``.

    Raises:
        ValueError: it says neither.
    """
    if text == NO_QUIET:
        return None
    matched = _HOURS.fullmatch(text)
    if matched is None or matched[1] + matched[2] == matched[3] + matched[4]:
        raise ValueError(f"{text!r} are no quiet hours; write them as 22:00-07:00, or off")
    hours = [int(part) for part in matched.groups()]
    return time(hours[0], hours[1]), time(hours[2], hours[3])


def is_quiet(now: datetime, hours: str, zone: ZoneInfo) -> bool:
    """Whether ``now`` lies in quiet hours, from the first minute to the last: 22:00-07:00 ends at 07:00 sharp."""
    quiet = quiet_hours(hours)
    if quiet is None:
        return False
    start, end = quiet
    clock = now.astimezone(zone).time()
    return start <= clock < end if start < end else clock >= start or clock < end


def next_time(now: datetime, at: str, zone: ZoneInfo) -> datetime:
    """The first instant from ``now`` on at which the clock of ``zone`` shows ``at``, in UTC."""
    hour, minute = (int(part) for part in at.split(":"))
    local = now.astimezone(zone)
    today = datetime.combine(local.date(), time(hour, minute), tzinfo=zone)
    # By the calendar, not by 24 hours: a day on which the clocks change has its own length.
    found = today if today >= local else datetime.combine(
        local.date() + timedelta(days=1), time(hour, minute), tzinfo=zone
    )  # fmt: skip
    return found.astimezone(UTC)


def wait_after(attempts: int) -> timedelta:
    """How long to wait after that many attempts: 5 minutes, 10, 20, …, at most 12 hours."""
    doublings: int = 2 ** min(attempts - 1, 20)
    return min(_FIRST_WAIT * doublings, _LONGEST_WAIT)
