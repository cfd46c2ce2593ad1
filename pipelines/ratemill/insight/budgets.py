"""Budgets: what counts towards each, how much that is, and which thresholds it has reached.

In words (docs/alerts.md, "Budgets"):

- A charge counts where every column of the budget that is given fits it: the account used it or pays for it, the
  category, service, SKU, project, region and tag are those of the charge, and its currency is the budget's.
- **gross** is the sum of what counts before discounts, commitments' discounts and promotional credits; **net** is the
  sum with them; **taxed** is net with its tax: per invoice, tax and rate, the tax of the part that counts, rounded
  half-up once. Of a whole invoice these are its subtotal, untaxed and total amounts, to the last digit.
- Figures are rounded half-up to the minor unit, and a threshold is reached at its amount, not above it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.book.budgets import Threshold, thresholds_of
from ratemill.frames import collect
from ratemill.money import COST, ZERO, part_by_days, percent_of_amount, percent_reached, rounded_amount, scaled
from ratemill.period import BillingPeriod

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date
    from decimal import Decimal

_TAKEN_OFF = ("discount", "credit")
_USAGE = ("usage", "cap", "minimum")
_KEYS = (
    "period", "invoice_id", "billing_account_id", "account_id", "project_id", "sku_id", "region", "tags", "currency",
    "corrects_period",
)  # fmt: skip
CHARGE_COLUMNS = (*_KEYS, "charge_kind", "charge_start", "charge_end", "cost")
"""Columns of charges that budgets look at."""
_NARROWING = ("category", "service", "sku_ids", "project_id", "region", "excludes", "tag_key", "where")
_ON_INVOICES = {"gross": "subtotal_amount", "net": "untaxed_amount", "taxed": "total_amount"}
QUARTER = 3
YEAR = 12


# ------------------------------------------------------------------------------------------------- when a budget is for


@dataclass(frozen=True)
class Span:
    """The months that one amount of a budget is meant for."""

    label: str
    """``2026-10``, ``2026-Q4`` or ``2026``."""
    months: tuple[BillingPeriod, ...]

    @classmethod
    def of(cls, period: BillingPeriod, length: str) -> Span:
        """The month, quarter or year that a billing period lies in."""
        if length == "month":
            return cls(str(period), (period,))
        size = QUARTER if length == "quarter" else YEAR
        first = (period.month - 1) // size * size + 1
        start = BillingPeriod(period.year, first)
        label = f"{period.year}-Q{first // QUARTER + 1}" if length == "quarter" else str(period.year)
        return cls(label, tuple(start.shift(offset) for offset in range(size)))


def spans_of(budgets: pl.DataFrame, periods: Iterable[BillingPeriod], *, time_zone: str) -> list[tuple[Any, Span]]:
    """Each budget (a row as a mapping) with each of its spans that ``periods`` lie in.

    A budget is for the spans that begin while it is valid, so that one span has one amount.
    """
    found: dict[tuple[str, str], tuple[Any, Span]] = {}
    for row in budgets.sort("budget_id").iter_rows(named=True):
        for period in periods:
            span = Span.of(period, row["period"])
            start = span.months[0].start(time_zone)
            if (row["valid_from"] or start) <= start < (row["valid_to"] or start.max.replace(tzinfo=start.tzinfo)):
                found.setdefault((row["budget_id"], span.label), (row, span))
    return list(found.values())


# ------------------------------------------------------------------------------------------------------ what is counted


def spending(
    charges: pl.LazyFrame,
    *,
    lines: pl.DataFrame,
    skus: pl.DataFrame,
    zones: Mapping[str, str] | None = None,
    time_zone: str = "UTC",
) -> pl.DataFrame:
    """Charges added up to what budgets look at: keys, service, category, gross, net, usage (of gross), and their tax.

    Args:
        charges: :data:`CHARGE_COLUMNS` of any periods.
        lines: invoice lines of those periods: invoice_id, sku_id, corrects_period, tax_code, tax_category, tax_rate.
        skus: the book's: sku_id, service, category.
        zones: account that pays → time zone, where days are wanted: ``first`` and ``last`` local day of each charge.
        time_zone: of payers that ``zones`` does not name.
    """
    days = [] if zones is None else ["first", "last"]
    rows = charges.select(CHARGE_COLUMNS)
    if zones is not None:
        rows = _with_days(rows, zones, time_zone)
    off = pl.col("charge_kind").is_in(_TAKEN_OFF) | ((pl.col("charge_kind") == "commitment") & (pl.col("cost") < 0))
    cost = pl.col("cost").cast(COST)
    sums = collect(
        rows.group_by(*_KEYS, *days).agg(
            gross=cost.filter(~off).sum(),
            net=cost.sum(),
            usage=cost.filter(pl.col("charge_kind").is_in(_USAGE)).sum(),
        )
    )
    taxed_by = ["invoice_id", "sku_id", "corrects_period"]
    taxes = lines.sort(*taxed_by, "tax_code", "tax_rate").unique(taxed_by, keep="first").select(
        *taxed_by, "tax_code", "tax_category", "tax_rate"
    )  # fmt: skip
    return (
        sums.join(taxes, on=taxed_by, how="left", validate="m:1", nulls_equal=True)
        .join(skus.select("sku_id", "service", "category"), on="sku_id", how="left", validate="m:1")
        .sort(*_KEYS, *days)
    )


def _with_days(rows: pl.LazyFrame, zones: Mapping[str, str], time_zone: str) -> pl.LazyFrame:
    """``rows`` with first and last, the local days of each charge's first and last instant."""
    zone = pl.col("billing_account_id").replace_strict(
        list(zones), list(zones.values()), default=time_zone, return_dtype=pl.String
    )
    named = sorted({time_zone, *zones.values()})
    last = pl.col("charge_end") - pl.duration(microseconds=1)
    found = {}
    for name, instant in (("first", pl.col("charge_start")), ("last", pl.max_horizontal(last, "charge_start"))):
        day = pl.lit(None, dtype=pl.Date)
        for known in named:
            day = pl.when(zone == known).then(instant.dt.convert_time_zone(known).dt.date()).otherwise(day)
        found[name] = day
    return rows.with_columns(**found)


def counted(rows: pl.DataFrame, budget: Mapping[str, Any], span: Span) -> pl.DataFrame:
    """The rows of :func:`spending` that count towards a budget in one span.

    What a row lacks (a fee has no region) is not what a budget asks for.
    """
    conditions = [
        pl.col("period").is_in([str(month) for month in span.months]),
        pl.col("currency") == budget["currency"],
    ]
    if budget["account_id"] is not None:
        conditions.append(
            (pl.col("account_id") == budget["account_id"]) | (pl.col("billing_account_id") == budget["account_id"])
        )
    conditions += [
        pl.col(name) == budget[name]
        for name in ("category", "service", "project_id", "region")
        if budget[name] is not None
    ]
    if budget["sku_ids"] is not None:
        conditions.append(pl.col("sku_id").is_in(budget["sku_ids"].split()))
    if budget["excludes"] is not None:
        conditions.append(~pl.col("sku_id").is_in(budget["excludes"].split()).fill_null(value=False))
    if budget["tag_key"] is not None:
        conditions.append(pl.col("tags").is_in(_tags_with(rows["tags"], budget["tag_key"], budget["tag_value"])))
    return rows.filter(*(condition.fill_null(value=False) for condition in conditions))


def _tags_with(tags: pl.Series, key: str, value: str | None) -> list[str]:
    """Those texts of ``tags``, JSON objects, that have the key (and value)."""
    found = []
    for text in tags.drop_nulls().unique():
        given = json.loads(text)
        if key in given and (value is None or given[key] == value):
            found.append(text)
    return found


def figure(rows: pl.DataFrame, measure: str, currency: str) -> Decimal:
    """What rows of :func:`spending` come to, rounded to the minor unit; see the module for gross, net and taxed."""
    if not rows.height:
        return rounded_amount(ZERO, currency)
    if measure == "gross":
        return rounded_amount(_sum(rows, "gross"), currency)
    net = rounded_amount(_sum(rows, "net"), currency)
    if measure == "net":
        return net
    bases = collect(
        rows.lazy()
        .filter(pl.col("tax_rate").is_not_null())
        .group_by("invoice_id", "tax_code", "tax_category", "tax_rate")
        .agg(pl.col("net").sum())
    )
    taxes = [
        rounded_amount(percent_of_amount(base, rate), currency) for base, rate in bases.select("net", "tax_rate").rows()
    ]
    return net + sum(taxes, ZERO)


def _sum(rows: pl.DataFrame, column: str) -> Decimal:
    """The exact sum of a column of decimals; zero of none."""
    total: Decimal = collect(rows.lazy().select(pl.col(column).sum())).item() or ZERO
    return total


def expected_figure(
    rows: pl.DataFrame, forecast: pl.DataFrame, totals: pl.DataFrame, budget: Mapping[str, Any], span: Span
) -> Decimal:
    """What one running month is expected to add to a budget by its end.

    Of everything that an account pays for (or of everything) that is what the expected invoices say. Of a part it is
    the usage that is expected, and fees and the like as they stand, with the share of discounts, credits and tax that
    there is so far.

    Args:
        rows: of :func:`spending`, the charges of the month so far.
        forecast: forecast rows of the month, with ``period``: the keys of usage, forecast_cost.
        totals: expected invoices: billing_account_id, currency, subtotal_amount, untaxed_amount, total_amount.
        budget: its row of the book.
        span: the span that the month is of.
    """
    currency, measure = budget["currency"], budget["measure"]
    so_far = counted(rows, budget, span)
    of_payer = totals.filter(pl.col("currency") == currency)
    if budget["account_id"] is not None:
        of_payer = of_payer.filter(pl.col("billing_account_id") == budget["account_id"])
    is_whole = budget["account_id"] is None or of_payer.height > 0
    if is_whole and all(budget[name] is None for name in _NARROWING):
        return rounded_amount(_sum(of_payer, _ON_INVOICES[measure]), currency)
    usage = _sum(counted(forecast, budget, span), "forecast_cost")
    gross = usage + _sum(so_far, "gross") - _sum(so_far, "usage")
    return rounded_amount(scaled(gross, figure(so_far, measure, currency), figure(so_far, "gross", currency)), currency)


def until(rows: pl.DataFrame, day: date) -> pl.DataFrame:
    """``rows`` (with first and last) as they stood at the end of a day: what spans more days counts in equal parts."""
    of_days = (pl.col("last") - pl.col("first")).dt.total_days() + 1
    days = (pl.min_horizontal(pl.col("last"), pl.lit(day)) - pl.col("first")).dt.total_days() + 1
    return rows.filter(pl.col("first") <= day).with_columns(
        part_by_days(pl.col(name), days, of_days).alias(name) for name in ("gross", "net", "usage")
    )


# ---------------------------------------------------------------------------------------------------- how budgets stand


@dataclass(frozen=True)
class Standing:
    """How a budget stands in one span."""

    budget: Mapping[str, Any]
    """Its row of the book."""
    span: Span
    figure: Decimal
    """What counts towards it, as its measure and basis say."""
    actual: Decimal
    """The same so far; equal to the figure where the basis is actual."""
    reached: tuple[Threshold, ...]
    """Thresholds at or below the figure, lowest first."""

    @property
    def name(self) -> str:
        """What people call it."""
        return str(self.budget["note"] or self.budget["budget_id"])

    @property
    def percent(self) -> Decimal:
        """The figure in percent of the amount, to one decimal, rounded down."""
        return percent_reached(self.figure, self.budget["amount"])


def standing(budget: Mapping[str, Any], span: Span, *, actual: Decimal, expected: Decimal | None = None) -> Standing:
    """How a budget stands: by what was spent, or where its basis is forecast and there is one, by what is expected."""
    value = actual if expected is None or budget["basis"] == "actual" else expected
    limits = thresholds_of(budget["thresholds"], budget["amount"])
    return Standing(budget, span, value, actual, tuple(limit for limit in limits if value >= limit.limit))


@dataclass(frozen=True)
class Crossing:
    """The first day of a span at whose end a threshold was reached."""

    budget: Mapping[str, Any]
    span: Span
    threshold: Threshold
    day: date
    figure: Decimal
    """At the end of that day."""


def crossings(budget: Mapping[str, Any], span: Span, figures: Sequence[tuple[date, Decimal]]) -> list[Crossing]:
    """When each threshold would have been told of, given the figure at the end of each day, in order.

    A figure may fall again (a credit, a correction); that is no second crossing.
    """
    found = []
    for threshold in thresholds_of(budget["thresholds"], budget["amount"]):
        first = next(((day, value) for day, value in figures if value >= threshold.limit), None)
        if first is not None:
            found.append(Crossing(budget, span, threshold, *first))
    return found
