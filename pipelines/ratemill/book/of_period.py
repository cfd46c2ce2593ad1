"""The part of a book that can change what one period is billed: what the identity of its rating is made from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from ratemill.tables.book import BOOK_TABLES
from ratemill.tables.columns import INSTANT

if TYPE_CHECKING:
    from ratemill.book.model import Book
    from ratemill.period import BillingPeriod


def book_of_period(book: Book, period: BillingPeriod) -> Book:
    """``book`` without what cannot matter to ``period`` in any time zone.

    Dated rows outside the period are left out, validity is cut at its ends, and so ending a price next month or adding
    a new one leaves the result as it was. Adjustments of other periods, later exchange rates, and credits (which pay
    invoices, but change no line) are left out.
    """
    parts: dict[str, pl.DataFrame] = {"credits": book.credits.clear()}
    for table in BOOK_TABLES:
        if "valid_from" in table.names:
            parts[table.name] = _clipped(book.frame(table.name), period)
    parts["adjustments"] = book.adjustments.filter(pl.col("period") == str(period))
    parts["fx_rates"] = book.fx_rates.filter(pl.col("date") <= period.widest_end.date())
    return replace(book, **parts)


def _clipped(frame: pl.DataFrame, period: BillingPeriod) -> pl.DataFrame:
    start, end = (pl.lit(instant, dtype=INSTANT) for instant in (period.widest_start, period.widest_end))
    begins, ends = pl.col("valid_from"), pl.col("valid_to")
    return frame.filter((begins.is_null() | (begins < end)) & (ends.is_null() | (ends > start))).with_columns(
        valid_from=pl.when(begins > start).then(begins), valid_to=pl.when(ends < end).then(ends)
    )
