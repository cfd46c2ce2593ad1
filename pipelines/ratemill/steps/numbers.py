"""Giving numbers: gap-free, in one transaction with the documents that bear them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import polars as pl

from ratemill.errors import InvariantError, UsageError
from ratemill.invoicing.numbering import NumberPattern, numbers_of
from ratemill.tables.invoices import INVOICES
from ratemill.tables.runs import NUMBER_SERIES

if TYPE_CHECKING:
    from datetime import date, datetime

    from ratemill.config import Config
    from ratemill.io.warehouse import Warehouse


def day_of_issue(config: Config, now: datetime) -> date:
    """The day it is for the seller: that of ``[seller] time_zone``, else of ``[period] time_zone``."""
    return now.astimezone(ZoneInfo(config.seller.time_zone or config.period.time_zone)).date()


def last_issue_date(warehouse: Warehouse) -> date | None:
    """The latest day on which a document was issued."""
    latest: date | None = warehouse.table("billing", INVOICES, "status = 'issued'")["issue_date"].max()  # type: ignore[assignment]
    return latest


def coming_numbers(warehouse: Warehouse, pattern: str, issue_date: date, count: int) -> list[str]:
    """The next numbers of the pattern's series, without taking them: nobody else can while the lock is held.

    Raises:
        UsageError: a document has one of them already, since another pattern gave it.
    """
    series = NumberPattern(pattern).series(issue_date)
    last = _last_of(warehouse, series)
    numbers = numbers_of(series, last + 1, last + count)
    taken = _issued_numbers(warehouse) & set(numbers)
    if taken:
        raise UsageError(
            f"the pattern {pattern!r} gives the number {min(taken)}, which a document bears already → choose another"
            " pattern in [seller] invoice_number or credit_note_number"
        )
    return numbers


def next_numbers(warehouse: Warehouse, pattern: str, issue_date: date, count: int) -> list[str]:
    """Take the next ``count`` numbers of the pattern's series, inside the transaction that issues their documents.

    Args:
        warehouse: with its transaction open: when it is rolled back, the numbers are free again.
        pattern: ``[seller] invoice_number`` or ``credit_note_number``.
        issue_date: day in the seller's zone; gives the year.
        count: how many.

    Raises:
        UsageError: a document has one of them already, since another pattern gave it.
    """
    numbers = coming_numbers(warehouse, pattern, issue_date, count)
    if numbers:
        series = NumberPattern(pattern).series(issue_date)
        row = {"series": series, "last": _last_of(warehouse, series) + count}
        warehouse.delete("ops", NUMBER_SERIES, "series = $series", {"series": series})
        warehouse.insert("ops", NUMBER_SERIES, pl.DataFrame([row], schema=NUMBER_SERIES.polars_schema))
    return numbers


def assert_gap_free(warehouse: Warehouse) -> None:
    """Prove that the documents issued bear the numbers 1 to last of each series, each once; call it before the commit.

    Raises:
        InvariantError: naming the numbers that are missing, double or of no series.
    """
    series = warehouse.table("ops", NUMBER_SERIES).sort("series")
    given = Counter(number for row in series.iter_rows() for number in numbers_of(row[0], 1, row[1]))
    issued = warehouse.table("billing", INVOICES, "status = 'issued'")
    borne = Counter(issued["number"].to_list())
    if given != borne:
        missing, excess = sorted((given - borne).elements()), sorted(map(str, (borne - given).elements()))
        told = [f"{what}: {', '.join(found[:5])}" for what, found in (("without a document", missing),
                ("double, or of no series", excess)) if found]  # fmt: skip
        raise InvariantError(f"numbers of documents are not gap-free: {'; '.join(told)}; nothing was written")


def _last_of(warehouse: Warehouse, series: str) -> int:
    found = warehouse.table("ops", NUMBER_SERIES, "series = $series", {"series": series})["last"]
    return int(found[0]) if found.len() else 0


def _issued_numbers(warehouse: Warehouse) -> set[str]:
    return set(warehouse.table("billing", INVOICES, "status = 'issued'")["number"])
