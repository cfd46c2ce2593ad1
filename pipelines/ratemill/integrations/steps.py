"""What schedulers have in common: the steps of a month as command lines, and which month is due.

Needs nothing but the standard library, so that a scheduler can read it without the engine beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from ratemill.period import BillingPeriod

if TYPE_CHECKING:
    from datetime import datetime

PATIENCE_SECONDS = 3600
"""How long a step waits for another process that is at work in the workspace."""


class Step(NamedTuple):
    """One step of a month, as a command."""

    command: str
    makes: str
    """What it leaves behind, as one word."""
    about: str
    """The same in a sentence."""
    takes_period: bool = True
    """Whether it is about one month; the others are about the whole workspace, and quick where nothing is new."""

    def arguments(self, workspace: str, period: str, wait: float) -> list[str]:
        """What stands behind the command; see :func:`common_arguments`."""
        return common_arguments(workspace, period if self.takes_period else None, wait)


STEPS = (
    Step(
        "load",
        "usage",
        "Meter readings of new and changed files: accepted, or rejected with a reason; duplicates settled.",
        takes_period=False,
    ),
    Step("check", "book", "Prices, accounts and taxes of the month, checked cell by cell and against each other."),
    Step("rate", "charges", "What the month's usage costs, by account, project, resource, SKU and day."),
    Step("invoice", "invoices", "Draft invoices of the month with discounts, commitments, credits and taxes."),
    Step("report", "documents", "Invoices as PDF, HTML, JSON and CSV, cost reports, and the workbook of the month."),
    Step(
        "publish",
        "database",
        "published/billing.duckdb and Parquet: every month that has invoices, for SQL and BI tools.",
        takes_period=False,
    ),
)
"""The run, one step after the other; each needs the one before."""


def common_arguments(workspace: str, period: str | None, wait: float) -> list[str]:
    """What stands behind every command: it ends with one JSON object on stdout, and logs as JSON lines."""
    of_period = ["--period", period] if period is not None else []
    return ["--workspace", workspace, *of_period, "--wait", f"{wait:g}", "--json", "--log-format", "json"]


def due_period(instant: datetime, time_zone: str) -> BillingPeriod:
    """The month that is due at ``instant``: the one before the month that it lies in, by the clocks of ``time_zone``.

    A scheduler's own idea of an interval is not asked: it may be the month that has just begun.

    Raises:
        ValueError: the instant has no offset.
    """
    if instant.tzinfo is None:
        raise ValueError(f"{instant} has no offset from UTC, so which month it lies in is open")
    return BillingPeriod.containing(instant.astimezone(ZoneInfo(time_zone)).date()).shift(-1)
