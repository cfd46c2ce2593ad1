"""What a month is expected to cost: rows and invoices at its end, and between which amounts each sum of rows may lie.

Quantities are expected by statistics (insight/forecast_usage.py); what they cost is computed by the code that bills.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from ratemill.frames import collect
from ratemill.money import AMOUNT, COST, ZERO
from ratemill.tables.columns import TEXT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from ratemill.findings import Finding
    from ratemill.invoicing.assembly import Invoices
    from ratemill.period import BillingPeriod

KEY = (
    "billing_account_id", "account_id", "project_id", "service", "category", "sku_id", "region", "tags", "currency",
)  # fmt: skip
"""What one row is about."""
_TYPES: dict[str, pl.DataType | type[pl.DataType]] = dict.fromkeys(KEY, TEXT)
ROWS_SCHEMA = pl.Schema({**_TYPES, "actual_cost": COST, "forecast_cost": COST})

LOOK_BACK_DAYS = 56
LOW, HIGH = 0.1, 0.9
"""Four times in five the cost lies between: an interval of 80 %."""
_OF_OTHERS = 0.5
"""The median error of all groups is what even a group without any of its own is given."""
_LEAD_DAYS = 14
_FEWEST_STANDPOINTS = 7
_WEEK = 7


@dataclass(frozen=True)
class Forecast:
    """A month as it is expected to end."""

    period: BillingPeriod
    as_of: datetime
    """The instant that is looked from: usage that began later is not known."""
    known_until: datetime
    """First instant from which usage is expected, not metered: the end of what is loaded, at the latest as_of."""
    rows: pl.DataFrame
    """One row per :data:`KEY`: actual_cost (usage until as_of at this month's prices), forecast_cost (expected at the
    month's end). Usage with caps and minimums, before what invoices take off and add."""
    invoices: pl.DataFrame
    """One row per billing_account_id and currency: what the month's invoices are expected to say; see
    :func:`invoice_totals`."""
    errors: pl.DataFrame
    """KEY, standpoint (a past day), error: how far off the rest of the month would have been, standing there."""
    findings: tuple[Finding, ...] = ()
    """Usage without a price, and whatever else makes the figures less than they could be."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to be expected: the figures are the bill."""
        return self.rows["actual_cost"].equals(self.rows["forecast_cost"])

    def interval(self, rows_filter: pl.Expr | None, by: Sequence[str]) -> pl.DataFrame:
        """Sums of rows, and between which amounts they will lie four times in five.

        Args:
            rows_filter: which rows; None for all.
            by: columns of KEY to group by. The currency is always one of them: amounts in several don't add up.

        Returns:
            ``by``, currency where it is not among them, actual_cost, forecast_cost, low, high (AMOUNT), by group.
        """
        group = [*by, *(["currency"] if "currency" not in by else [])]
        rows, errors = self.rows, self.errors
        others = group
        if rows_filter is not None:
            rows = rows.filter(rows_filter)
            errors = errors.join(rows.select(KEY), on=KEY, how="semi", nulls_equal=True)
            others = [*group, *(name for name in rows_filter.meta.root_names() if name in KEY and name not in group)]
        sums = collect(rows.lazy().group_by(group).agg(pl.col("actual_cost", "forecast_cost").sum())).sort(group)
        return (
            sums.join(
                _spread(errors, group), on=group, how="left", nulls_equal=True, validate="1:1", maintain_order="left"
            )
            .with_columns(
                pl.col("actual_cost", "forecast_cost").cast(AMOUNT).name.prefix("_"), usual=self._usual(others)
            )
            .with_columns(low=_off("below", -1), high=_off("above", +1))
            .with_columns(low=pl.max_horizontal("low", pl.min_horizontal("_actual_cost", "_forecast_cost")))
            .select(*group, "actual_cost", "forecast_cost", "low", "high")
        )

    def _usual(self, group: list[str]) -> pl.Expr:
        """Which share of the rest of the month such groups were off by, standing in the past: the median.

        What never changed so far may do so: its interval is not narrower than others' usually are.
        """
        rest = (pl.col("forecast_cost") - pl.col("actual_cost")).cast(pl.Float64)
        rests = self.rows.group_by(group).agg(rest=rest.sum()).filter(pl.col("rest") > 0)
        sums = _sums(self.errors, group).join(rests, on=group, how="inner", nulls_equal=True)
        share = sums.select((pl.col("error").abs() / pl.col("rest")).quantile(_OF_OTHERS, "higher")).item()
        return pl.lit(share, dtype=pl.Float64)


def _off(side: str, sign: int) -> pl.Expr:
    """The forecast and what it may be off; the whole rest of the month where the past says too little.

    Where nothing is left to expect, that is nothing.
    """
    rest = (pl.col("_forecast_cost") - pl.col("_actual_cost")).abs()
    known = pl.col("standpoints").fill_null(0) >= _FEWEST_STANDPOINTS
    usual = rest.cast(pl.Float64) * pl.col("usual").clip(upper_bound=1)
    off = pl.when(known).then(pl.max_horizontal(side, usual).round(4).cast(AMOUNT)).otherwise(rest)
    return pl.col("_forecast_cost") + pl.when(rest == 0).then(pl.lit(ZERO).cast(AMOUNT)).otherwise(off) * sign


def _sums(errors: pl.DataFrame, group: list[str]) -> pl.DataFrame:
    return (
        errors.sort(*KEY, "standpoint", nulls_last=False)
        .group_by(*group, "standpoint", maintain_order=True)
        .agg(pl.col("error").sum())
    )


def _spread(errors: pl.DataFrame, group: list[str]) -> pl.DataFrame:
    """Per group: standpoints, below and above: how far off forecasts were at worst, four times in five."""
    middle = pl.col("error").median()
    return (
        _sums(errors, group)
        .group_by(group, maintain_order=True)
        .agg(
            standpoints=pl.len(),
            below=middle - pl.col("error").quantile(LOW, "lower"),
            above=pl.col("error").quantile(HIGH, "higher") - middle,
        )
    )


# ---------------------------------------------------------------------------------------------------------- what it is


def costs_of(charges: pl.LazyFrame, skus: pl.DataFrame) -> pl.DataFrame:
    """KEY, cost: charges of usage, with caps and minimums, added up."""
    of_skus = skus.select("sku_id", "service", "category").lazy()
    named = charges.join(of_skus, on="sku_id", how="left", validate="m:1")
    return collect(named.group_by(KEY).agg(pl.col("cost").sum()))


def rows_of(actual: pl.DataFrame, expected: pl.DataFrame) -> pl.DataFrame:
    """Rows of a forecast from the costs (:func:`costs_of`) so far, and from those with what is expected."""
    nothing = pl.lit(ZERO).cast(COST)
    both = pl.concat(
        [
            actual.select(*KEY, pl.col("cost").alias("actual_cost"), nothing.alias("forecast_cost")),
            expected.select(*KEY, nothing.alias("actual_cost"), pl.col("cost").alias("forecast_cost")),
        ]
    )
    sums = collect(both.lazy().group_by(KEY).agg(pl.col("actual_cost", "forecast_cost").sum()))
    return sums.cast(ROWS_SCHEMA).select(ROWS_SCHEMA.names()).sort(KEY)


_TOTALS = (
    "subtotal_amount", "discount_amount", "commitment_amount", "credit_amount", "untaxed_amount", "tax_amount",
    "total_amount", "prepaid_amount", "due_amount",
)  # fmt: skip
_KINDS = {
    "usage": "usage_amount",
    "recurring": "recurring_amount",
    "adjustment": "adjustment_amount",
    "commitment": "shortfall_amount",
    "correction": "correction_amount",
}
INVOICES_SCHEMA = pl.Schema(
    {"billing_account_id": TEXT, "currency": TEXT} | dict.fromkeys([*_KINDS.values(), *_TOTALS], AMOUNT)
)


def invoice_totals(invoices: Invoices) -> pl.DataFrame:
    """One row per billing_account_id and currency, amounts as invoices have them.

    usage_amount, recurring_amount, adjustment_amount, shortfall_amount (of commitments) and correction_amount are the
    lines, and add up to subtotal_amount; with discount_amount, commitment_amount and credit_amount, which are zero or
    negative, that is untaxed_amount; plus tax_amount it is total_amount; with prepaid_amount it is due_amount.
    """
    lines = invoices.lines.group_by("invoice_id").agg(
        pl.col("amount").filter(line_kind=kind).sum().alias(name) for kind, name in _KINDS.items()
    )
    joined = invoices.invoices.join(lines, on="invoice_id", how="left", validate="1:1")
    sums = joined.lazy().group_by("billing_account_id", "currency").agg(pl.col(*_KINDS.values(), *_TOTALS).sum())
    return collect(sums).cast(INVOICES_SCHEMA).select(INVOICES_SCHEMA.names()).sort(
        "billing_account_id", "currency"
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------ what days cost


def unit_costs(charges: pl.LazyFrame) -> list[tuple[list[str], pl.DataFrame]]:
    """What one metered unit costs in this month, on average: from what is most alike to whatever has the same SKU.

    Pairs of key columns and frames of them with ``unit_cost``; for statistics, hence floats.
    """
    usage = charges.filter(pl.col("cost").is_not_null())
    keys = [
        ["account_id", "project_id", "sku_id", "region", "tags", "currency"],
        ["account_id", "sku_id", "region", "currency"],
        ["sku_id", "region", "currency"],
        ["sku_id", "currency"],
    ]
    found = []
    for key in keys:
        sums = collect(usage.group_by(key).agg(pl.col("cost").sum(), pl.col("usage_quantity").sum())).sort(key)
        quantity = pl.col("usage_quantity").cast(pl.Float64)
        known = sums.filter(pl.col("usage_quantity") > 0)
        found.append((key, known.select(*key, unit_cost=pl.col("cost").cast(pl.Float64) / quantity)))
    return found


def valued_days(days: pl.DataFrame, things: pl.DataFrame, costs: list[tuple[list[str], pl.DataFrame]]) -> pl.DataFrame:
    """``days`` (identity_id, day, quantity) with the columns of ``things`` and ``value``, at average prices.

    ``things``: identity_id and everything that ``costs`` are looked up by. What costs nothing known is left out.
    """
    priced = things
    for number, (key, frame) in enumerate(costs):
        named = frame.rename({"unit_cost": f"_cost_{number}"})
        priced = priced.join(named, on=key, how="left", nulls_equal=True, validate="m:1", maintain_order="left")
    names = [f"_cost_{number}" for number in range(len(costs))]
    priced = priced.with_columns(unit_cost=pl.coalesce(names)).drop(names).filter(pl.col("unit_cost").is_not_null())
    return (
        days.join(priced, on="identity_id", how="inner", validate="m:1")
        .with_columns(value=pl.col("quantity") * pl.col("unit_cost"))
        .drop("unit_cost")
    )


def past_errors(days: pl.DataFrame, *, last_day: date, remaining_days: float) -> pl.DataFrame:
    """How far off the rest of a month would have been, standing on each of the last weeks' days.

    From each day on, the week before it is repeated for up to two weeks and compared with what came. Where the rest of
    the month is longer, errors are taken to grow with it. All rows are looked at from the same days, so that errors
    that come together add up in sums, and others cancel out.

    Args:
        days: KEY, day, value.
        last_day: the last day that is known to its end.
        remaining_days: how much of the month is left.

    Returns:
        KEY, standpoint, error: ``past_errors`` of keys without usage in that time are not there.
    """
    schema = pl.Schema({**_TYPES, "standpoint": pl.Date, "error": pl.Float64})
    known = days.filter(pl.col("day") <= last_day, pl.col("day") > pl.lit(last_day) - pl.duration(days=LOOK_BACK_DAYS))
    if not known.height or remaining_days <= 0:
        return pl.DataFrame(schema=schema)
    lead = _lead(remaining_days)
    first: date = known["day"].min()  # type: ignore[assignment]
    every_day = pl.date_range(first, last_day, "1d", eager=True).alias("day").to_frame()
    summed = known.sort(*KEY, "day").group_by(*KEY, "day", maintain_order=True).agg(pl.col("value").sum())
    keys = summed.select(KEY).unique(maintain_order=True).with_row_index("row")
    numbered = summed.join(keys, on=KEY, how="inner", nulls_equal=True).select("row", "day", "value")
    dense = (
        keys.select("row")
        .join(every_day, how="cross")
        .join(numbered, on=["row", "day"], how="left", validate="1:1")
        .sort("row", "day")
        .with_columns(total=pl.col("value").fill_null(0).cum_sum().over("row"))
    )
    total = pl.col("total")
    week = total - total.shift(_WEEK)
    came = total.shift(-lead) - total
    repeated = week * (lead // _WEEK) if lead >= _WEEK else total.shift(_WEEK - lead) - total.shift(_WEEK)
    errors = dense.select(
        "row", standpoint="day", error=((came - repeated) * (remaining_days / lead)).over("row")
    ).drop_nulls()
    return errors.join(keys, on="row", how="inner", validate="m:1").select(schema.names()).cast(schema)


def _lead(remaining_days: float) -> int:
    """For how many days past forecasts are compared with what came: whole weeks where the rest is about as long."""
    if remaining_days >= _LEAD_DAYS * 3 / 4:
        return _LEAD_DAYS
    return min(_WEEK, math.ceil(remaining_days))
