"""How well months that are over would have been forecast: errors and intervals against what they came to cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ratemill.money import AMOUNT, COST
from ratemill.tables.columns import TEXT

if TYPE_CHECKING:
    from ratemill.insight.forecast import Forecast

STANDPOINTS = (5, 10, 15, 20, 25)
"""Days of the month at whose end the backtest stands."""
CELL = ("account_id", "service", "currency")

_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "period": TEXT,
    "day": pl.Int32,
    "currency": TEXT,
    "cost": COST,
    "forecast_cost": COST,
    "low": AMOUNT,
    "high": AMOUNT,
    "total_error": pl.Float64,
    "wape": pl.Float64,
    "bias": pl.Float64,
    "coverage": pl.Float64,
    "naive_total_error": pl.Float64,
    "naive_wape": pl.Float64,
    "cells": pl.Int64,
}
SCORES_SCHEMA = pl.Schema(_COLUMNS)
"""One row per month, day and currency. Errors are shares of the cost: total_error of the currency's sum (positive: too
high), wape the sum of all errors of accounts and services whatever their sign, bias their median with their sign.
coverage: share of accounts and services whose cost the interval of 80 % held; naive: so far ÷ elapsed × month."""


def scores(forecast: Forecast, final: Forecast, *, day: int) -> pl.DataFrame:
    """Rows of :data:`SCORES_SCHEMA` for one standpoint. ``final``: the same month from its end."""
    compared = _compared(forecast, final, day / forecast.period.days)
    total = _compared(forecast, final, day / forecast.period.days, by=())
    sums = compared.group_by("currency").agg(
        wape=(pl.col("forecast") - pl.col("came")).abs().sum() / pl.col("came").sum(),
        bias=((pl.col("forecast") - pl.col("came")) / pl.col("came")).filter(pl.col("came") > 0).median(),
        coverage=pl.col("came").is_between(pl.col("low"), pl.col("high")).mean(),
        naive_wape=(pl.col("naive") - pl.col("came")).abs().sum() / pl.col("came").sum(),
        cells=pl.len(),
    )
    return (
        total.join(sums, on="currency", validate="1:1")
        .with_columns(
            period=pl.lit(str(forecast.period)),
            day=pl.lit(day),
            total_error=pl.col("forecast") / pl.col("came") - 1,
            naive_total_error=pl.col("naive") / pl.col("came") - 1,
            low=pl.col("low_amount"),
            high=pl.col("high_amount"),
        )
        .select(SCORES_SCHEMA.names())
        .cast(SCORES_SCHEMA)
        .sort("currency")
    )


def _compared(forecast: Forecast, final: Forecast, share: float, by: tuple[str, ...] = CELL[:-1]) -> pl.DataFrame:
    """Per group: cost (what it came to), forecast_cost, and in floats: came, forecast, naive, low, high."""
    then = forecast.interval(None, by)
    came = final.interval(None, by).select(*by, "currency", cost="forecast_cost")
    both = came.join(then, on=[*by, "currency"], how="full", coalesce=True, nulls_equal=True, validate="1:1")
    number = pl.Float64
    tolerance = pl.lit(0.005)  # a cost of no cent at all is inside an interval of none
    return both.with_columns(pl.col("cost", "actual_cost", "forecast_cost", "low", "high").fill_null(0)).with_columns(
        came=pl.col("cost").cast(number),
        forecast=pl.col("forecast_cost").cast(number),
        naive=pl.col("actual_cost").cast(number) / share,
        low_amount=pl.col("low"),
        high_amount=pl.col("high"),
        low=pl.col("low").cast(number) - tolerance,
        high=pl.col("high").cast(number) + tolerance,
    )


def by_day(all_scores: pl.DataFrame) -> pl.DataFrame:
    """period, day and the shares of :data:`SCORES_SCHEMA` over all currencies.

    Amounts in several currencies don't add up: each counts by its number of accounts and services.
    """
    weight = pl.col("cells") / pl.col("cells").sum()
    names = ["wape", "bias", "coverage", "naive_wape"]
    absolute = ["total_error", "naive_total_error"]
    return (
        all_scores.group_by("period", "day", maintain_order=True)
        .agg(
            *((pl.col(name) * weight).sum() for name in names),
            *((pl.col(name).abs() * weight).sum() for name in absolute),
            pl.col("cells").sum(),
            total_coverage=pl.col("cost").is_between(pl.col("low"), pl.col("high")).mean(),
        )
        .sort("period", "day")
    )
