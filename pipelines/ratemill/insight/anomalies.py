"""Unusual spend: days on which an account used more of a service than its own past lets expect, and because of what.

In words (docs/forecast-and-anomalies.md has figures):

- a day's spend is its usage at the month's average prices, so that a price rise, the first of a month with its cheap
  tiers, or a reached cap is no alarm;
- it is compared with the median of the seven days before, and with that of the same weekday in the four weeks before
  (no more than the highest of the seven days); the higher of the two is what was to be expected, so that neither
  weekends nor new levels alarm for long;
- it must stand out from how far days usually are off (the median of their distances), from what was reached on two
  other days of the last four weeks, and be worth a person's time: a floor in money;
- a service that an account of some age never used before is told of once;
- days that follow one another are one anomaly.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl

from ratemill.money import AMOUNT, minor_unit_decimals, round_to_minor_unit
from ratemill.tables.columns import TEXT

if TYPE_CHECKING:
    from datetime import date

GROUP = ("billing_account_id", "account_id", "service", "currency")
SPIKE, SHIFT, RISE, NEW = "spike", "shift", "rise", "new"
"""Back to where it was; it stayed; not known yet which; a service that was not used before."""
KINDS = (SPIKE, SHIFT, RISE, NEW)

HISTORY_DAYS = 90
MINOR_UNITS_AT_LEAST = 1_000
"""Least excess worth an alarm, in the smallest unit of a currency: EUR 10.00, JPY 1,000."""

_WEEK = 7
_MEMORY = 28
_SCORE_AT_LEAST = 6.0
_SHARE_AT_LEAST = 0.2
"""Of what was expected: less is no news, however steady it was before."""
_LEAST_SPREAD = 0.04
_KNOWN_DAYS = 14
"""An account must be so old before something new about it is told."""
_NORMAL = 1.4826
"""Makes a median of distances comparable to a standard deviation."""
_STAYS = 0.5
_DRIVERS = 5
_DRIVER_SHARE = 0.05
_RECENT_DAYS = 21

DRIVER = pl.Struct({"resource_id": TEXT, "sku_id": TEXT, "excess": AMOUNT})
_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "day": pl.Date,
    "last_day": pl.Date,
    **dict.fromkeys(GROUP, TEXT),
    "kind": TEXT,
    "expected": AMOUNT,
    "actual": AMOUNT,
    "excess": AMOUNT,
    "score": pl.Float64,
    "drivers": pl.List(DRIVER),
    "recent": pl.List(pl.Float64),
}
SCHEMA = pl.Schema(_COLUMNS)


def find_anomalies(
    history: pl.DataFrame,
    *,
    first_day: date,
    last_day: date,
    at_least: Decimal | None = None,
) -> pl.DataFrame:
    """The anomalies that begin from ``first_day`` to ``last_day``, the largest first within each currency.

    Args:
        history: day, the columns of :data:`GROUP`, resource_id, sku_id, value: what each resource's use of a SKU cost
            on a local day, at the same prices throughout; days without usage are left out. From some weeks before
            ``first_day`` on, days known to their end only.
        first_day: first local day to look at.
        last_day: last local day to look at.
        at_least: least excess that counts, in whatever the currency; else 1,000 of the currency's smallest unit.

    Returns:
        One row per anomaly: day and last_day (of days that follow one another), the columns of GROUP, kind (of
        :data:`KINDS`), expected, actual and excess (sums over these days), score (how many times the usual distance the
        worst of them is off), drivers (up to five resource_id, sku_id, excess, the largest first; resources that used
        less than usual are not among them), recent (the spend of the three weeks up to last_day).
    """
    known = history.filter(pl.col("day") <= last_day)
    if not known.height:
        return pl.DataFrame(schema=SCHEMA)
    judged = _judged(_dense_days(known, last_day), at_least)
    flagged = judged.filter("is_unusual", pl.col("day").is_between(first_day, last_day))
    if not flagged.height:
        return pl.DataFrame(schema=SCHEMA)
    found = _runs(flagged).join(_after(judged), on=["row", "day"], how="left", validate="1:1")
    found = found.with_columns(kind=_kind()).join(_recent(judged, found), on=["row", "last_day"], how="left")
    found = found.join(_drivers(known, found), on="anomaly", how="left", validate="1:1")
    amounts = [
        round_to_minor_unit(pl.col(name).cast(pl.Decimal(38, 6)), pl.col("currency"), _currencies(found)).alias(name)
        for name in ("expected", "actual", "excess")
    ]
    return (
        found.with_columns(amounts)
        .with_columns(pl.col("score").round(1))
        .select(SCHEMA.names())
        .cast(SCHEMA)
        .sort("currency", "excess", *GROUP[:3], "day", descending=[False, True, False, False, False, False])
    )


def _currencies(frame: pl.DataFrame) -> list[str]:
    return sorted(frame["currency"].unique())


def _dense_days(known: pl.DataFrame, last_day: date) -> pl.DataFrame:
    """Every day of every group from the first that is known, 0 where nothing was used.

    Columns: row (number of the group), GROUP, day, value, account_days (since the account was first seen).
    """
    begin: date = known["day"].min()  # type: ignore[assignment]
    days = pl.date_range(begin, last_day, "1d", eager=True).alias("day").to_frame()
    sums = known.sort("day", *GROUP, "resource_id", "sku_id", nulls_last=False).group_by(
        *GROUP, "day", maintain_order=True
    ).agg(pl.col("value").sum())  # fmt: skip
    rows = sums.select(GROUP).unique().sort(GROUP).with_row_index("row")
    since = known.group_by("account_id").agg(account_since=pl.col("day").min())
    numbered = sums.join(rows, on=GROUP, how="inner", nulls_equal=True).select("row", "day", "value")
    return (
        rows.join(days, how="cross")
        .join(numbered, on=["row", "day"], how="left", validate="1:1")
        .join(since, on="account_id", how="left", validate="m:1")
        .with_columns(
            pl.col("value").fill_null(0),
            account_days=(pl.col("day") - pl.col("account_since")).dt.total_days(),
        )
        .sort("row", "day")
    )


def _judged(days: pl.DataFrame, at_least: Decimal | None) -> pl.DataFrame:
    """``days`` with expected, excess, score, is_unusual, is_new."""
    value = pl.col("value")
    weekdays = pl.concat_list(value.shift(_WEEK * weeks).over("row") for weeks in range(1, 5))
    known = weekdays.list.drop_nulls()
    floors = pl.DataFrame(
        {
            "currency": _currencies(days),
            "floor": [float(_usual_floor(code) if at_least is None else at_least) for code in _currencies(days)],
        }
    )
    expected = (
        days.join(floors, on="currency", how="left", validate="m:1", maintain_order="left")
        .with_columns(
            _week=value.shift(1).rolling_median(_WEEK).over("row"),
            _highest=value.shift(1).rolling_max(_WEEK).over("row"),
            _weekdays=pl.when(known.list.len() > 1).then(known.list.median()),
            # All but one of the last four weeks' days were at most this.
            reached=value.shift(1)
            .rolling_quantile((_MEMORY - 2) / (_MEMORY - 1), "nearest", _MEMORY, min_samples=_WEEK)
            .over("row"),
            used_before=value.shift(1).rolling_max(_MEMORY, min_samples=1).over("row"),
        )
        # A weekday that is dearer than others was so a week ago too, unless all has become less since.
        .with_columns(_weekdays=pl.min_horizontal("_weekdays", "_highest"))
        .with_columns(
            expected=pl.max_horizontal("_week", "_weekdays"),
            distance=pl.min_horizontal((value - pl.col("_week")).abs(), (value - pl.col("_weekdays")).abs()),
        )
        .with_columns(excess=value - pl.col("expected"))
    )
    usual = pl.col("distance").shift(1).rolling_median(_MEMORY, min_samples=_WEEK).over("row") * _NORMAL
    spread = pl.max_horizontal(usual.fill_null(0), pl.col("expected") * _LEAST_SPREAD, pl.col("floor") / 10)
    return expected.with_columns(score=pl.col("excess") / spread).with_columns(
        is_new=pl.col("used_before").fill_null(0) == 0,
        is_unusual=(
            (pl.col("excess") >= pl.col("floor"))
            & (pl.col("excess") >= pl.col("expected") * _SHARE_AT_LEAST)
            & (pl.col("score") >= _SCORE_AT_LEAST)
            & (value > pl.col("reached") + pl.col("floor") / 2)
            & (pl.col("account_days") >= _KNOWN_DAYS)
        ).fill_null(value=False),
    )


def _usual_floor(currency: str) -> Decimal:
    return Decimal(MINOR_UNITS_AT_LEAST).scaleb(-minor_unit_decimals(currency))


def _runs(flagged: pl.DataFrame) -> pl.DataFrame:
    """Days that follow one another as one row: anomaly, row, GROUP, day, last_day, sums, what the first day was."""
    begins = (pl.col("day").diff().dt.total_days() != 1).fill_null(value=True).over("row")
    return (
        flagged.sort("row", "day")
        .with_columns(run=begins.cum_sum().over("row"))
        .group_by("row", *GROUP, "run", maintain_order=True)
        .agg(
            pl.col("day").min(),
            pl.col("day").max().alias("last_day"),
            pl.col("expected").sum(),
            pl.col("value").sum().alias("actual"),
            pl.col("excess").sum(),
            pl.col("score").max(),
            pl.col("is_new").first(),
            pl.col("expected").first().alias("first_expected"),
            pl.col("excess").first().alias("first_excess"),
        )
        .with_row_index("anomaly")
    )


def _after(judged: pl.DataFrame) -> pl.DataFrame:
    """row, day, days_after (0 to 3), median_after: what followed."""
    following = pl.concat_list(pl.col("value").shift(-ahead).over("row") for ahead in (1, 2, 3)).list.drop_nulls()
    return judged.select(
        "row", "day", days_after=following.list.len(), median_after=following.list.median()
    )  # fmt: skip


def _kind() -> pl.Expr:
    stays = pl.col("median_after") >= pl.col("first_expected") + pl.col("first_excess") * _STAYS
    return (
        pl.when("is_new")
        .then(pl.lit(NEW))
        .when(pl.col("days_after") < 2)  # noqa: PLR2004 - one day is no trend
        .then(pl.lit(RISE))
        .when(stays)
        .then(pl.lit(SHIFT))
        .otherwise(pl.lit(SPIKE))
    )


def _recent(judged: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    ends = found.select("row", "last_day").unique()
    days = judged.select("row", "day", "value").join(ends, on="row", how="inner")
    near = pl.col("day").is_between(pl.col("last_day") - pl.duration(days=_RECENT_DAYS - 1), pl.col("last_day"))
    return days.filter(near).sort("row", "day").group_by("row", "last_day", maintain_order=True).agg(
        pl.col("value").round(2).alias("recent")
    )  # fmt: skip


def _drivers(known: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """anomaly, drivers: what resources used on its days above the median of their week before."""
    thing = ["anomaly", "resource_id", "sku_id"]
    places = found.select("anomaly", *GROUP, "last_day", first=pl.col("day"), whole=pl.col("excess"))
    near = known.join(places, on=GROUP, how="inner", nulls_equal=True).filter(
        pl.col("day") >= pl.col("first") - pl.duration(days=_WEEK), pl.col("day") <= pl.col("last_day")
    )
    days = (
        near.sort(*thing, "day", nulls_last=False)
        .group_by(*thing, "day", "first", "last_day", "whole", maintain_order=True)
        .agg(pl.col("value").sum())
    )
    before = pl.col("day") < pl.col("first")
    sums = days.group_by(*thing, maintain_order=True).agg(
        actual=pl.col("value").filter(~before).sum(),
        usual=_median_of_week(before),
        length=((pl.col("last_day") - pl.col("first")).dt.total_days() + 1).first(),
        whole=pl.col("whole").first(),
    )
    excess = pl.col("actual") - pl.col("usual") * pl.col("length")
    largest = (
        sums.with_columns(excess=excess)
        .filter(pl.col("excess") >= pl.col("whole") * _DRIVER_SHARE)
        .sort("anomaly", "excess", "resource_id", "sku_id", descending=[False, True, False, False])
        .group_by("anomaly", maintain_order=True)
        .head(_DRIVERS)
    )
    entry = pl.struct("resource_id", "sku_id", pl.col("excess").round(2).cast(AMOUNT))
    return largest.group_by("anomaly", maintain_order=True).agg(entry.alias("drivers")).join(
        found.select("anomaly"), on="anomaly", how="right"
    ).with_columns(pl.col("drivers").fill_null(pl.lit([], dtype=pl.List(DRIVER))))  # fmt: skip


def _median_of_week(before: pl.Expr) -> pl.Expr:
    """The median of the seven days before; those without usage are not there, and count as nothing."""
    ordered = pl.col("value").filter(before).sort(descending=True)
    return ordered.slice(_WEEK // 2, 1).first().fill_null(0)
