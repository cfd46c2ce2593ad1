"""What is priced of what was metered: increments, aggregations, units. Rules: docs/how-we-bill.md, "Quantity"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ratemill.frames import collect
from ratemill.money import QUANTITY, QUANTITY_DECIMALS, convert_quantity
from ratemill.rating.integers import divide_half_even, share_out, to_decimals, to_integers
from ratemill.tables.book import HOURS_IN_MONTH

if TYPE_CHECKING:
    from ratemill.period import BillingPeriod


def unit_facts(skus: pl.DataFrame) -> pl.DataFrame:
    """sku_id, usage_unit, pricing_unit, aggregation, by_hours, fixed_divisor (empty where by_hours)."""
    divisor = pl.col("units_per_pricing_unit")
    return skus.select(
        "sku_id",
        "usage_unit",
        "pricing_unit",
        "aggregation",
        by_hours=divisor == HOURS_IN_MONTH,
        fixed_divisor=pl.when(divisor != HOURS_IN_MONTH).then(divisor).cast(QUANTITY),
    )


def month_hours(zones: list[str], period: BillingPeriod) -> pl.DataFrame:
    """time_zone, month_hours: the real hours of the local month; 743 or 745 where clocks change."""
    return pl.DataFrame(
        {"time_zone": zones, "month_hours": [period.hours(zone) for zone in zones]},
        schema={"time_zone": pl.String, "month_hours": pl.Int64},
    )


def priced_quantities(charges: pl.DataFrame, hourly: pl.DataFrame) -> pl.DataFrame:
    """``charges`` with pricing_quantity.

    ``charges``: charged_series, billable, aggregation, by_hours, fixed_divisor, month_hours, in key order.
    ``hourly``: charged_series, hour, billable of all usage (also unpriced) of SKUs that are not summed.

    A sum is converted charge by charge. Any other aggregation gives one figure per series and month, converted once
    and shared over the series' charges pro rata to what they billed: a price change splits it and never bills it twice.
    """
    divisor = pl.when("by_hours").then(pl.col("month_hours").cast(QUANTITY)).otherwise("fixed_divisor")
    summed = charges.with_columns(pricing_quantity=convert_quantity(pl.col("billable"), divisor))
    if not hourly.height:
        return summed
    figures = _figures(summed, hourly, divisor)
    others = summed.with_row_index("row").filter(pl.col("aggregation") != "sum")
    return _with_parts(summed, others.join(figures, on="charged_series", how="inner", validate="m:1"))


def _figures(charges: pl.DataFrame, hourly: pl.DataFrame, divisor: pl.Expr) -> pl.DataFrame:
    """charged_series, figure (in pricing units), everything (billable, of the whole month)."""
    facts = charges.filter(pl.col("aggregation") != "sum").unique("charged_series")
    by_hour = collect(
        hourly.lazy()
        .group_by("charged_series", "hour")
        .agg(pl.col("billable").sum())
        .join(facts.lazy().select("charged_series", "aggregation", "month_hours"), on="charged_series", how="inner")
    )
    # p95, nearest rank: of the month's hours the highest 5 % are forgiven, and hours without usage count as 0.
    rank_from_below = (95 * pl.col("month_hours") + 99) // 100
    forgiven = pl.col("month_hours") - rank_from_below
    from_above = pl.int_range(pl.len()).over("charged_series")
    nth = (
        by_hour.sort("charged_series", "billable", descending=[False, True])
        .filter(from_above == pl.when(pl.col("aggregation") == "p95").then(forgiven).otherwise(0))
        .select("charged_series", nth="billable")
    )
    everything = collect(by_hour.lazy().group_by("charged_series").agg(pl.col("billable").sum().alias("everything")))
    figured = (
        facts.drop("billable", "pricing_quantity")
        .join(everything, on="charged_series", how="left", validate="1:1")
        .join(nth, on="charged_series", how="left", validate="1:1")
    )
    mean = convert_quantity(pl.col("everything"), pl.col("month_hours"))
    figure = pl.when(pl.col("aggregation") == "mean").then(mean).otherwise(pl.col("nth").fill_null(0).cast(QUANTITY))
    return figured.with_columns(figure=figure).select(
        "charged_series", "everything", figure=convert_quantity(pl.col("figure"), divisor)
    )


def _with_parts(charges: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """The figure of each series shared over its charges; usage without a price keeps its part, unbilled."""
    ordered = others.sort("charged_series", "row")
    billed = collect(ordered.lazy().group_by("charged_series").agg(pl.col("billable").sum().alias("billed")))
    figures = ordered.unique("charged_series", keep="first", maintain_order=True).join(
        billed, on="charged_series", how="left", maintain_order="left", validate="1:1"
    )
    figure, part, whole = (to_integers(figures[name]) for name in ("figure", "billed", "everything"))
    priced = [divide_half_even((f or 0) * (p or 0), w) if w else f for f, p, w in zip(figure, part, whole, strict=True)]
    amounts = figures.select("charged_series").with_columns(amount=to_decimals(priced, QUANTITY_DECIMALS))
    ordered = ordered.join(amounts, on="charged_series", how="left", maintain_order="left", validate="m:1")
    shared = ordered.select("row").with_columns(
        part=share_out(ordered["charged_series"], ordered["amount"], ordered["billable"])
    )
    return (
        charges.with_row_index("row")
        .join(shared, on="row", how="left", maintain_order="left", validate="1:1")
        .with_columns(pricing_quantity=pl.coalesce("part", "pricing_quantity").cast(QUANTITY))
        .drop("row", "part")
    )
