"""forecast: what a month is expected to cost at its end. Nothing is written that stays."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import polars as pl

from ratemill.errors import DataRefusedError, LockedError, NothingToBillError, UsageError
from ratemill.findings import Finding, Severity
from ratemill.insight.forecast import (
    KEY,
    LOOK_BACK_DAYS,
    Forecast,
    costs_of,
    invoice_totals,
    past_errors,
    rows_of,
    unit_costs,
    valued_days,
)
from ratemill.insight.forecast_backtest import STANDPOINTS, scores
from ratemill.insight.forecast_usage import (
    HISTORY_DAYS,
    LIFE_DAYS,
    UsageHistory,
    clock,
    expected_usage,
    plan_usage,
)
from ratemill.invoicing.assembly import assemble_invoices
from ratemill.invoicing.corrections import find_corrections
from ratemill.io.charge_store import ChargeStore
from ratemill.period import BillingPeriod
from ratemill.rating.owners import owners_of
from ratemill.resources import sql
from ratemill.steps.check import Checked, checked_book
from ratemill.steps.inputs import periods_to_correct
from ratemill.steps.overflow import largest_charge, overflow_refused
from ratemill.steps.rate import rate_into, unpriced_findings
from ratemill.tables.columns import INSTANT
from ratemill.tables.invoices import CORRECTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ratemill.book.model import Book
    from ratemill.invoicing.assembly import Invoices
    from ratemill.steps.context import Context


def forecast(context: Context, period: BillingPeriod, *, as_of: datetime) -> Forecast:
    """What ``period`` is expected to cost at its end, looked at from ``as_of``.

    Usage is what is loaded; prices, deals and taxes are those of the book as it is now, whatever day they begin on.
    From the month's end on, the forecast is the bill.

    Raises:
        UsageError: the month has not begun at ``as_of``, that lies in the future, or loading did not come to its end.
        LockedError: the period is closed.
        DataRefusedError: the book has mistakes, or a tax is missing.
        NothingToBillError: there is neither usage to go by nor anything else to bill.
    """
    _refuse_standpoint(context, period, as_of)
    book, _ = checked_book(context.workspace)
    with context.progress.step("forecast") as step:
        found = Forecaster(context, book).forecast(period, as_of, corrections=_corrections(context, book, period))
        step.done(f"{period} as of {as_of:%Y-%m-%d %H:%M} UTC, usage until {found.known_until:%Y-%m-%d %H:%M}")
    return found


def _refuse_standpoint(context: Context, period: BillingPeriod, as_of: datetime) -> None:
    refuse_unsettled(context)
    if as_of > context.now:
        raise UsageError(
            f"--as-of {as_of:%Y-%m-%d %H:%M} UTC lies in the future: it is {context.now:%Y-%m-%d %H:%M} UTC"
            " → leave it out to look from now"
        )
    if as_of < period.widest_start:
        current = BillingPeriod.containing(as_of.astimezone(ZoneInfo(context.config.period.time_zone)).date())
        raise UsageError(
            f"{period} has not begun at {as_of:%Y-%m-%d %H:%M} UTC: a month is forecast from its first day on"
            f" → run: ratemill forecast --period {current}, or give another --as-of"
        )
    if context.warehouse.closed_period(period) is not None and as_of >= period.end(context.config.period.time_zone):
        raise LockedError(
            f"{period} is closed: what it cost is on its invoices, and nothing is left to forecast"
            " → to see how well it would have been forecast, run: ratemill forecast --backtest"
        )


def refuse_unsettled(context: Context) -> None:
    """Refuse to look at usage that was not loaded to its end.

    Raises:
        UsageError: loading was stopped.
    """
    if not context.warehouse.usage.is_settled():
        raise UsageError(
            "loading was stopped before its end, so files may be missing and duplicates are not settled"
            " → run: ratemill load"
        )


def _corrections(context: Context, book: Book, period: BillingPeriod) -> pl.DataFrame:
    """What the month's invoices have to bill for closed months, as ``steps/correct.py`` finds it."""
    found = [CORRECTIONS.empty()]
    for name in periods_to_correct(context, book, period):
        closed = BillingPeriod.parse(name)
        with rated(context, book, closed, ()) as charges:
            again = _assembled(context, replace(book, credits=book.credits.clear()), closed, charges.scan())
        found.append(find_corrections(again, context.warehouse.issued_for(closed), period=name))
    return pl.concat(found)


# ------------------------------------------------------------------------------------------------------------- rating


@dataclass(frozen=True)
class Charged:
    """Charges that are there as long as they are looked at."""

    store: ChargeStore
    period: BillingPeriod
    run_id: str

    def scan(self) -> pl.LazyFrame:
        """The charges of usage, with caps and minimums."""
        return self.store.usage_charges(self.period, self.run_id)

    def unpriced(self) -> pl.DataFrame:
        """Usage without a price."""
        return self.store.unpriced(self.period, self.run_id)


@contextmanager
def rated(
    context: Context,
    book: Book,
    period: BillingPeriod,
    expected: Iterable[pl.DataFrame],
    *,
    before: datetime | None = None,
) -> Iterator[Charged]:
    """The month's charges by the code of the real run, in a folder that goes again.

    ``expected``: frames of series_id, usage_start, quantity, beside what was metered ``before`` (None: all of it).
    """
    store = ChargeStore(context.workspace.state / "spill" / "forecast")
    with context.warehouse.meter.expecting(period, before or period.widest_end, expected) as files:
        checked = Checked(period, book, files, {"usage": {}}, ())
        context = replace(context, cluster=None)  # what is expected lies in this process
        try:
            with store.writing(period, checked.run_id) as writer:
                writer.facts = rate_into(context, checked, writer, keep_rejects=False)
            yield Charged(store, period, checked.run_id)
        finally:
            shutil.rmtree(store.folder(period, checked.run_id), ignore_errors=True)


def _assembled(
    context: Context,
    book: Book,
    period: BillingPeriod,
    charges: pl.LazyFrame,
    *,
    credits_drawn: pl.DataFrame | None = None,
    corrections: pl.DataFrame | None = None,
) -> Invoices:
    with overflow_refused("the sum of an invoice's charges", partial(largest_charge, charges)):
        invoices = assemble_invoices(
            charges,
            book=book,
            period=period,
            time_zone=context.config.period.time_zone,
            run_id=str(period),
            credits_drawn=credits_drawn,
            corrections=corrections,
            correction_documents=context.config.policy.corrections == "credit_note",
        )
    if invoices.findings:
        raise DataRefusedError(f"taxes of {period} are missing; nothing was forecast", findings=invoices.findings)
    return invoices


# ------------------------------------------------------------------------------------------------------------ history


# The types that DuckDB's answers come in are wider.
_ID_TYPE = pl.Schema({"identity_id": pl.Int32})
_SLOT_TYPES = pl.Schema({"identity_id": pl.Int32, "slot": pl.Int16})
_LIFE_TYPES = pl.Schema(
    {"identity_id": pl.Int32, "series_id": pl.Int32, "quantity": pl.Float64, "records": pl.Int64, "decimals": pl.Int32}
)
_LIFE_INSTANTS = pl.Schema({"first_start": INSTANT, "last_end": INSTANT})


@dataclass(frozen=True)
class Standpoint:
    """What is known at an instant."""

    as_of: datetime
    known_until: datetime
    history: UsageHistory
    things: pl.DataFrame
    """identity_id, series_id, account_id (whoever owns it at that instant), project_id, resource_id, sku_id, region,
    tags, billing_account_id, currency, zone; one row per identity."""


class Forecaster:
    """Forecasts of one book on the usage of one workspace."""

    def __init__(self, context: Context, book: Book) -> None:
        self.context = context
        self.book = book
        self.zones = {context.config.period.time_zone, *book.accounts["time_zone"].drop_nulls()}

    def forecast(
        self, period: BillingPeriod, as_of: datetime, *, corrections: pl.DataFrame | None = None, errors: bool = True
    ) -> Forecast:
        """See :func:`forecast`; without its refusals. ``errors``: False where no interval is asked for."""
        context, book = self.context, self.book
        credits_drawn = context.warehouse.credits_drawn(period)
        ends = {zone: period.end(zone) for zone in sorted(self.zones)}
        is_over = as_of >= max(ends.values())
        seen = self.standpoint(as_of, nothing_more=is_over)
        expected: Iterable[pl.DataFrame] = ()
        if not is_over:
            plan = plan_usage(seen.history, hour_by_hour=_hour_by_hour(book))
            expected = expected_usage(plan, ends, since=period.widest_start)
        with rated(context, book, period, expected, before=as_of) as whole:
            charges = whole.scan()
            invoices = _assembled(context, book, period, charges, credits_drawn=credits_drawn, corrections=corrections)
            totals = invoice_totals(invoices)
            unpriced = whole.unpriced()
            costs = unit_costs(charges) if errors and not is_over else []
            whole_cost = actual_cost = costs_of(charges, book.skus)
        if not is_over and plan.things.height:
            with rated(context, book, period, (), before=as_of) as so_far:
                actual_cost = costs_of(so_far.scan(), book.skus)
        rows = rows_of(actual_cost, whole_cost)
        if not rows.height and not totals.height:
            raise NothingToBillError(
                f"there is no usage to forecast {period} from: none in the {HISTORY_DAYS} days before"
                f" {as_of:%Y-%m-%d %H:%M} UTC → run: ratemill load, or give another --period or --as-of"
            )
        off = self._errors(seen, costs, period) if costs else _no_errors()
        findings = (*unpriced_findings(unpriced, severity=Severity.WARNING), *_late(seen, is_over=is_over))
        return Forecast(period, as_of, seen.known_until, rows, totals, off, findings)

    def _errors(
        self, seen: Standpoint, costs: list[tuple[list[str], pl.DataFrame]], period: BillingPeriod
    ) -> pl.DataFrame:
        zone = ZoneInfo(self.context.config.period.time_zone)
        last_day = (seen.known_until.astimezone(zone) - timedelta(hours=24)).date()
        named = seen.things.join(
            self.book.skus.select("sku_id", "service", "category"), on="sku_id", how="inner", validate="m:1"
        )
        days = valued_days(seen.history.days, named, costs).select(*KEY, "day", "value")
        remaining = (period.end(zone.key) - seen.known_until) / timedelta(days=1)
        return past_errors(days, last_day=last_day, remaining_days=remaining)

    def standpoint(self, as_of: datetime, *, nothing_more: bool = False, days: int = LOOK_BACK_DAYS + 1) -> Standpoint:
        """What is known at ``as_of``; ``nothing_more``: what is loaded is all there will be."""
        until = as_of if nothing_more else self._known_until(as_of)
        things = self._things(until)
        zones = sorted(set(things["zone"]))
        metered = self._metered(things)
        start = until - timedelta(days=HISTORY_DAYS)

        def usage(name: str, since: datetime) -> pl.DataFrame:
            hours = clock(zones, since.replace(minute=0, second=0, microsecond=0), until + timedelta(hours=1))
            return self.context.warehouse.frame_over(
                sql(f"core/{name}"), {"start": since, "end": until}, metered=metered, clock=hours
            )

        lives = self.context.warehouse.frame(
            sql("core/usage_lives"), {"start": until - timedelta(days=LIFE_DAYS), "end": as_of}
        )
        kept = ["identity_id", "account_id", "project_id", "sku_id", "region", "tags", "zone"]
        known = lives.cast(_LIFE_TYPES).join(things.select(kept), on="identity_id", how="inner", validate="1:1")
        history = UsageHistory(
            start=start.replace(minute=0, second=0, microsecond=0),
            end=until,
            lives=known.cast(_LIFE_INSTANTS),
            slots=usage("usage_by_slot", start).cast(_SLOT_TYPES),
            last_week=usage("usage_by_slot", until - timedelta(days=7)).cast(_SLOT_TYPES),
            days=usage("usage_by_local_day", until - timedelta(days=days)).cast(_ID_TYPE),
        )
        return Standpoint(as_of, until, history, things)

    def _known_until(self, as_of: datetime) -> datetime:
        """The end of the last hour before ``as_of`` that has as many records as hours usually have.

        Usage comes late, and some of it later: what of the last hours is missing is expected, not taken for an end.
        """
        for days in (8, 8 * HISTORY_DAYS):
            since = as_of - timedelta(days=days)
            hours = self.context.warehouse.frame(sql("core/hours_with_records"), {"start": since, "end": as_of})
            if hours.height:
                usual = hours.tail(_USUAL_HOURS)["records"].median()
                full = hours.filter(pl.col("records") * 2 >= usual)["hour"].max()
                until: datetime = full + timedelta(hours=1)  # type: ignore[operator,assignment]
                return min(until.astimezone(UTC), as_of)
        return as_of

    def _things(self, until: datetime) -> pl.DataFrame:
        """Everything that was ever metered, with whoever owns it at ``until``."""
        series = self.context.warehouse.frame(
            "SELECT series_id, identity_id, account_id, project_id, resource_id, sku_id, region, tags FROM raw.series"
        ).cast({"series_id": pl.Int32, "identity_id": pl.Int32})
        zone = self.context.config.period.time_zone
        pairs = series.select("account_id", "project_id").unique()
        owners = (
            owners_of(pairs, self.book.accounts, self.book.projects, time_zone=zone)
            .filter(pl.col("owner_from") <= until, pl.col("owner_to") > until)
            .select("account_id", "project_id", "owner_account_id", "billing_account_id", "currency", zone="time_zone")
        )
        latest = series.sort("series_id").unique("identity_id", keep="last", maintain_order=True)
        owned = latest.join(owners, on=["account_id", "project_id"], how="inner", nulls_equal=True, validate="m:1")
        known = owned.join(self.book.skus.select("sku_id"), on="sku_id", how="semi")
        return known.with_columns(account_id=pl.col("owner_account_id")).drop("owner_account_id").sort("identity_id")

    def _metered(self, things: pl.DataFrame) -> pl.DataFrame:
        series = self.context.warehouse.frame("SELECT series_id, identity_id FROM raw.series")
        zones = things.select("identity_id", "zone")
        return series.cast(pl.Int32).join(zones, on="identity_id", how="inner", validate="m:1")


_USUAL_HOURS = 7 * 24


def _no_errors() -> pl.DataFrame:
    return past_errors(
        pl.DataFrame(schema={**dict.fromkeys(KEY, pl.String), "day": pl.Date, "value": pl.Float64}),
        last_day=datetime(1970, 1, 1, tzinfo=UTC).date(),
        remaining_days=0,
    )


def _hour_by_hour(book: Book) -> pl.Series:
    """SKUs of which more than the sum of a month counts."""
    counts = (pl.col("aggregation") != "sum") | pl.col("record_increment").is_not_null()
    return book.skus.filter(counts)["sku_id"]


def _late(seen: Standpoint, *, is_over: bool) -> Iterator[Finding]:
    late = seen.as_of - seen.known_until
    if not is_over and late > timedelta(hours=36):
        yield Finding(
            Severity.WARNING,
            "forecast.late_usage",
            f"usage is there until {seen.known_until:%Y-%m-%d %H:%M} UTC, {late // timedelta(hours=1)} hours before"
            f" {seen.as_of:%Y-%m-%d %H:%M} UTC: what is missing is expected, not metered",
            "run: ratemill load",
        )


# ----------------------------------------------------------------------------------------------------------- backtest


@dataclass(frozen=True)
class Backtest:
    """How well past months would have been forecast."""

    scores: pl.DataFrame
    """Rows of SCORES_SCHEMA."""
    changed: tuple[str, ...]
    """Months of which the usage or the book has changed since they were billed: they cost something else today."""


def backtest(context: Context, *, periods: int) -> Backtest:
    """Stand in the last ``periods`` months that are loaded whole, on several days each, and compare with their end.

    Raises:
        UsageError: no month is loaded from its first day to its last.
        DataRefusedError: the book has mistakes.
    """
    refuse_unsettled(context)
    chosen = _whole_months(context)[-periods:]
    if not chosen:
        raise UsageError(
            "no month's usage is loaded from its first day to its last, so there is nothing to compare with"
            " → run: ratemill load"
        )
    book, _ = checked_book(context.workspace)
    forecaster = Forecaster(context, book)
    zone = context.config.period.time_zone
    found, changed = [], []
    for period in chosen:
        with context.progress.step(f"backtest {period}", total=len(STANDPOINTS), unit="days") as step:
            final = forecaster.forecast(period, period.widest_end, errors=False)
            if not _is_as_billed(context, final, period):
                changed.append(str(period))
            for day in STANDPOINTS:
                as_of = period.start(zone) + timedelta(days=day)
                found.append(scores(forecaster.forecast(period, as_of), final, day=day))
                step.advance()
    return Backtest(pl.concat(found), tuple(changed))


def _whole_months(context: Context) -> list[BillingPeriod]:
    """Months that are over and loaded from their first day to their last."""
    spans = context.warehouse.usage.files().select(
        pl.col("first_usage_start").min(), pl.col("last_usage_start").max()
    ).row(0)  # fmt: skip
    first, last = spans
    if first is None:
        return []
    day = timedelta(days=1)
    zone = context.config.period.time_zone
    period, found = BillingPeriod.containing(first.date()), []
    while period.end(zone) - day <= last and period.end(zone) <= context.now:
        if first < period.start(zone) + day:
            found.append(period)
        period = period.shift(1)
    return found


def _is_as_billed(context: Context, final: Forecast, period: BillingPeriod) -> bool:
    """Whether the month costs today what its invoices say; also where there are none yet."""
    lines = context.warehouse.billed(period)
    if not lines.invoices.height:
        return True
    names = lines.invoices.select("invoice_id", "billing_account_id", "currency")
    billed = (
        lines.lines.filter(pl.col("line_kind") == "usage")
        .join(names, on="invoice_id", how="inner", validate="m:1")
        .group_by("billing_account_id", "currency")
        .agg(pl.col("amount").sum())
    )
    both = billed.join(
        final.invoices.filter(pl.col("usage_amount") != 0).select("billing_account_id", "currency", "usage_amount"),
        on=["billing_account_id", "currency"], how="full", coalesce=True,
    )  # fmt: skip
    return both.filter(pl.col("amount").fill_null(0) != pl.col("usage_amount").fill_null(0)).height == 0
