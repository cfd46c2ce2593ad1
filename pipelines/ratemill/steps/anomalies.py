"""anomalies: unusual spend of a period, at its own prices. Nothing is written that stays."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import polars as pl

from ratemill.errors import NothingToBillError, UsageError
from ratemill.insight.anomalies import GROUP, HISTORY_DAYS, find_anomalies
from ratemill.insight.forecast import unit_costs, valued_days
from ratemill.steps.check import checked_book
from ratemill.steps.forecast import Forecaster, rated, refuse_unsettled

if TYPE_CHECKING:
    from datetime import date, datetime
    from decimal import Decimal

    from ratemill.book.model import Book
    from ratemill.period import BillingPeriod
    from ratemill.steps.context import Context


def anomalies(
    context: Context,
    period: BillingPeriod,
    *,
    as_of: datetime | None = None,
    at_least: Decimal | None = None,
) -> pl.DataFrame:
    """Unusual spend on the days of ``period``; columns as :func:`ratemill.insight.anomalies.find_anomalies` gives them.

    Args:
        context: an open workspace.
        period: the month, also one that is under way or closed: its days that are loaded to their end are looked at.
        as_of: the instant to look from, else the clock's.
        at_least: least excess that counts, in whatever the currency; else 1,000 of its smallest unit.

    Raises:
        UsageError: the period has not begun, or loading did not come to its end.
        DataRefusedError: the book has mistakes.
        NothingToBillError: no usage of the period is loaded.
    """
    refuse_unsettled(context)
    clock = min(as_of or context.now, context.now)
    if clock < period.widest_start:
        raise UsageError(f"{period} has not begun at {clock:%Y-%m-%d %H:%M} UTC → correct --period, or --as-of")
    book, _ = checked_book(context.workspace)
    with context.progress.step("anomalies") as step:
        history = history_of(context, book, period, min(clock, period.widest_end))
        days = history.filter(pl.col("day").is_between(period.first_day, period.last_day))
        if not days.height:
            raise NothingToBillError(
                f"no whole day of {period} is loaded, so there is nothing to look at → run: ratemill load, or give"
                " another --period"
            )
        last_day: date = days["day"].max()  # type: ignore[assignment]
        found = find_anomalies(
            history.select("day", *GROUP, "resource_id", "sku_id", "value"),
            first_day=period.first_day,
            last_day=last_day,
            at_least=at_least,
        )
        step.done(f"{found.height:,} in {days.select(GROUP).n_unique():,} services of accounts")
    return found


def history_of(context: Context, book: Book, period: BillingPeriod, until: datetime) -> pl.DataFrame:
    """What each resource cost a day at the average prices of ``period``, days known to their end only.

    Columns: day, billing_account_id, account_id, project_id, service, category, currency, zone, resource_id, sku_id,
    region, tags, quantity, value.
    """
    forecaster = Forecaster(context, book)
    seen = forecaster.standpoint(until, days=HISTORY_DAYS)
    named = seen.things.join(
        book.skus.select("sku_id", "service", "category"), on="sku_id", how="inner", validate="m:1"
    )
    with rated(context, book, period, (), before=until) as charges:
        costs = unit_costs(charges.scan())
    of_skus = {*costs[-1][1]["sku_id"]}
    used = seen.history.days.select("identity_id").unique().join(named, on="identity_id", how="inner")
    if not of_skus.issuperset(used["sku_id"]):  # used before, and in this month no longer
        with rated(context, book, period.shift(-1), ()) as charges:
            costs += unit_costs(charges.scan())
    days = valued_days(seen.history.days, named, costs)
    ends = [
        (zone, (seen.known_until.astimezone(ZoneInfo(zone)) - timedelta(days=1)).date())
        for zone in sorted(set(named["zone"]))
    ]
    whole = pl.DataFrame(ends, schema={"zone": pl.String, "last_whole_day": pl.Date}, orient="row")
    return days.join(whole, on="zone", how="inner", validate="m:1").filter(pl.col("day") <= pl.col("last_whole_day"))
