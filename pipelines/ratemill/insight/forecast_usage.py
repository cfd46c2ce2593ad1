"""What the rest of a month will be used for: each metered thing goes on as it did, by the hours of its own week.

In words, for the docs and for whoever wonders about a figure (docs/forecast-and-anomalies.md):

- a resource that is older than two weeks repeats the hours of its week, as they were on average over four weeks, at the
  level of its last seven days; growth that went on in each of the last weeks goes on;
- a younger one runs at the average of its life so far, by the week of its SKU where that is known;
- one that paused for longer than it ever does has stopped;
- where short-lived resources come and go, what all of them used lately goes on, by those that run now;
- what is not simply added up over the month (peaks, percentiles, records rounded up) repeats its last week hour by
  hour, since averages have no peaks.

Group sums of a few hundred numbers are all that is needed, which Polars does; a library of forecasting methods would
bring numpy, pandas and scipy with it, and knows nothing of resources that stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import polars as pl

from ratemill.money import QUANTITY
from ratemill.tables.columns import INSTANT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

HISTORY_DAYS = 28
"""Whole weeks, so that each hour of the week occurs as often as any other."""
LIFE_DAYS = 56
"""How far back resources are seen to come and go."""
MATURE_DAYS = 14
LEVEL_DAYS = 7
HOURS_A_WEEK = 168

_PAUSE_HOURS = 6
"""Whoever never pauses has stopped after so many hours without usage."""
_PAUSE_FACTOR = 1.5
"""Others after their longest pause so far, and half of it."""
_SHORT_LIVES = 2
"""Resources of a group that came and went within the history, from which on it is one whose resources do."""
_OLD_FACTOR = 2
"""A resource that lived so much longer than any that went is none of them."""
_TRIMMED_FROM = 5
_BATCH = 2_000

FLAT = -1
"""Pattern of what has none: every hour like the other."""
GROUP = ("account_id", "project_id", "sku_id", "region", "tags")


@dataclass(frozen=True)
class UsageHistory:
    """What was used before the instant from which on usage is to be expected."""

    start: datetime
    end: datetime
    """First instant of which nothing is known yet."""
    lives: pl.DataFrame
    """One row per thing that is metered: identity_id, series_id (its latest labels), account_id, project_id, sku_id,
    region, tags, zone (of its payer), first_start, last_end, quantity, records, decimals, longest_pause_hours; all of
    the last LIFE_DAYS."""
    slots: pl.DataFrame
    """identity_id, slot (local hour of the week, from Monday 00:00), quantity."""
    last_week: pl.DataFrame
    """The same of the last seven days."""
    days: pl.DataFrame
    """identity_id, day (local), quantity: may reach further back than ``start``."""


def clock(zones: Iterable[str], start: datetime, end: datetime) -> pl.DataFrame:
    """zone, hour (UTC), slot and day (local) of every hour from ``start`` to before ``end``."""
    hours = pl.DataFrame(
        {"hour": pl.datetime_range(start, end, "1h", closed="left", time_unit="us", time_zone="UTC", eager=True)}
    )
    parts = [pl.DataFrame(schema={"zone": pl.String, "hour": INSTANT, "slot": pl.Int16, "day": pl.Date})]
    for zone in sorted(set(zones)):
        local = pl.col("hour").dt.convert_time_zone(zone)
        slot = (local.dt.weekday().cast(pl.Int16) - 1) * 24 + local.dt.hour().cast(pl.Int16)
        parts.append(hours.select(pl.lit(zone).alias("zone"), "hour", slot.alias("slot"), local.dt.date().alias("day")))
    return pl.concat(parts)


@dataclass(frozen=True)
class UsagePlan:
    """How usage goes on."""

    end: datetime
    things: pl.DataFrame
    """series_id, zone, decimals, step (what usage comes in multiples of), starts (instant), pattern, level,
    daily_growth (of the level)."""
    patterns: pl.DataFrame
    """pattern, slot, weight: what is used in that hour of the week at level 1; slots that are not there: nothing."""


def plan_usage(history: UsageHistory, *, hour_by_hour: Iterable[str]) -> UsagePlan:
    """Plan how usage goes on.

    ``hour_by_hour``: SKUs of which more than the sum of a month counts.
    """
    # What is rounded up record by record must not come in more and smaller records than it did.
    record = pl.col("quantity").sum() / pl.col("records").sum()
    lives = (
        _judged(history)
        .with_columns(replays=pl.col("sku_id").is_in(sorted(hour_by_hour)))
        .with_columns(step=pl.when("replays").then(record.over(GROUP)).otherwise(_finest()))
    )
    own = _own_patterns(history, lives)
    shared, of_skus = _sku_patterns(own, lives)
    turning = _turning_over(history, lives)
    single = lives.join(turning.select("identity_id"), on="identity_id", how="anti").filter("is_running")
    mature = _with_level(history, single.filter("is_mature"), own)
    young = _with_average(history, single.filter(~pl.col("is_mature")), of_skus, shared)
    pooled = _with_shared_pattern(turning, of_skus)
    names = ["series_id", "zone", "decimals", "step", "starts", "pattern", "level", "daily_growth"]
    things = pl.concat([part.select(names) for part in (mature, young, pooled)]).sort("series_id")
    used = pl.concat([own.select("pattern", "slot", "weight"), shared.select("pattern", "slot", "weight")])
    return UsagePlan(history.end, things.filter(pl.col("level") > 0), used)


def _judged(history: UsageHistory) -> pl.DataFrame:
    """Lives with age_hours, first_hour, is_mature, is_running, is_new (it began within the history), starts."""
    end = pl.lit(history.end).cast(INSTANT)
    known_until = pl.max_horizontal("last_end", end)
    pause = _hours(pl.max_horizontal(end - pl.col("last_end"), pl.duration(hours=0)))
    mature = pl.col("age_hours") >= MATURE_DAYS * 24
    typical = pl.col("longest_pause_hours").filter(mature).median().over("sku_id").fill_null(0)
    longest = pl.when(mature).then("longest_pause_hours").otherwise(pl.max_horizontal("longest_pause_hours", typical))
    first = history.lives["first_start"].min()
    return (
        history.lives.sort("identity_id")
        .with_columns(
            age_hours=_hours(known_until - pl.col("first_start")),
            first_hour=pl.col("first_start").dt.truncate("1h"),
            starts=known_until.dt.truncate("1h"),
            is_new=pl.col("first_start") >= pl.lit(first, dtype=INSTANT) + pl.duration(hours=24),
        )
        .with_columns(
            is_mature=mature,
            is_running=pause <= pl.max_horizontal(longest * _PAUSE_FACTOR, pl.lit(_PAUSE_HOURS)),
        )
    )


def _finest() -> pl.Expr:
    """What the meter counts in."""
    return pl.lit(10.0).pow(-pl.col("decimals").cast(pl.Float64))


def _hours(duration: pl.Expr) -> pl.Expr:
    return duration.dt.total_seconds() / 3_600


# ------------------------------------------------------------------------------------------------------------ patterns


def _own_patterns(history: UsageHistory, lives: pl.DataFrame) -> pl.DataFrame:
    """identity_id, pattern, slot, weight of those that have a week of their own."""
    mature = lives.filter("is_mature", ~pl.col("replays"))
    hours = clock(mature["zone"].unique(), history.start, history.end)
    begins = mature.select("zone", "first_hour").unique()
    times = (
        begins.join(hours, on="zone", how="inner")
        .filter(pl.col("hour") >= pl.col("first_hour"))
        .group_by("zone", "first_hour", "slot")
        .agg(times=pl.len())
    )
    averages = (
        history.slots.join(mature.select("identity_id", "zone", "first_hour"), on="identity_id", how="inner")
        .join(times, on=["zone", "first_hour", "slot"], how="inner", validate="m:1")
        .select("identity_id", "slot", weight=pl.col("quantity") / pl.col("times"))
    )
    replaying = lives.filter("replays", "is_mature")
    replayed = history.last_week.join(replaying, on="identity_id", how="semi").select(
        "identity_id", "slot", weight="quantity"
    )
    return (
        pl.concat([averages, replayed])
        .sort("identity_id", "slot")
        .select("identity_id", pl.col("identity_id").cast(pl.Int64).alias("pattern"), "slot", "weight")
    )


def _sku_patterns(own: pl.DataFrame, lives: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The weeks of SKUs: pattern, slot, weight (1 on average); and whose they are: sku_id, zone, pattern."""
    key = ["sku_id", "zone"]
    going_on = lives.filter("is_running", ~pl.col("replays"))  # the last week of one that stopped is no whole week
    sums = (
        own.join(going_on.select("identity_id", *key), on="identity_id", how="inner")
        .group_by(*key, "slot", maintain_order=True)
        .agg(pl.col("weight").sum())
        .with_columns(average=pl.col("weight").sum().over(key) / HOURS_A_WEEK)
        .filter(pl.col("average") > 0)
        .sort(*key, "slot")
    )
    of_skus = sums.select(key).unique().sort(key)
    of_skus = of_skus.with_columns(pattern=FLAT - 1 - pl.int_range(pl.len(), dtype=pl.Int64))
    shared = sums.join(of_skus, on=key, how="inner", maintain_order="left").select(
        *key, "pattern", "slot", weight=pl.col("weight") / pl.col("average")
    )
    return shared, of_skus


# -------------------------------------------------------------------------------------------------------------- levels


def _with_level(history: UsageHistory, things: pl.DataFrame, own: pl.DataFrame) -> pl.DataFrame:
    """Level of the last days against the pattern, and growth that went on from week to week."""
    by_weekday = own.group_by("identity_id", weekday=pl.col("slot") // 24).agg(usual=pl.col("weight").sum())
    last_day = pl.col("last_day")
    back = pl.int_range(1, HISTORY_DAYS + 1, dtype=pl.Int64, eager=True).alias("back")
    ends = pl.DataFrame(
        [(zone, history.end.astimezone(ZoneInfo(zone)).date()) for zone in sorted(set(things["zone"]))],
        schema={"zone": pl.String, "last_day": pl.Date},
        orient="row",
    )
    days = (
        things.filter(~pl.col("replays"))
        .select("identity_id", "zone", "first_start")
        .join(ends, on="zone", how="inner", validate="m:1")
        .join(back.to_frame(), how="cross")
        .with_columns(day=last_day - pl.duration(days=pl.col("back")))
        .with_columns(weekday=(pl.col("day").dt.weekday() - 1).cast(pl.Int16))
        .filter(pl.col("day") > pl.col("first_start").dt.date())
        .join(history.days, on=["identity_id", "day"], how="left", validate="1:1")
        .join(by_weekday, on=["identity_id", "weekday"], how="left", validate="m:1")
        .with_columns(pl.col("quantity", "usual").fill_null(0))
        .sort("identity_id", "back")
    )
    levels = _level_of_last_days(days.filter(pl.col("back") <= LEVEL_DAYS, pl.col("usual") > 0))
    return (
        things.join(levels, on="identity_id", how="left", validate="1:1")
        .join(_weekly_growth(days), on="identity_id", how="left", validate="1:1")
        .with_columns(pl.col("level").fill_null(1), pl.col("daily_growth").fill_null(0))
        .with_columns(
            pattern=pl.col("identity_id").cast(pl.Int64),
            step=_finest(),  # records are repeated as they were
            level=pl.col("level") + pl.col("daily_growth") * (LEVEL_DAYS / 2),
        )
    )


def _level_of_last_days(days: pl.DataFrame) -> pl.DataFrame:
    """The highest and the lowest day don't count, where every day was used: one spike is no new level."""
    ratio = pl.col("quantity") / pl.col("usual")
    is_trimmed = (pl.col("quantity").min() > 0) & (pl.len() >= _TRIMMED_FROM)
    inner = pl.col("ratio").rank("ordinal").is_between(2, pl.len() - 1)
    kept = pl.when(is_trimmed).then(inner).otherwise(pl.lit(True))
    return (
        days.with_columns(ratio=ratio)
        .with_columns(is_kept=kept.over("identity_id"))
        .filter("is_kept")
        .group_by("identity_id", maintain_order=True)
        .agg(level=pl.col("quantity").sum() / pl.col("usual").sum())
    )


def _weekly_growth(days: pl.DataFrame) -> pl.DataFrame:
    """identity_id, daily_growth of the level: where each week was above the one before, or each below it."""
    weeks = (
        days.with_columns(week=(pl.col("back") - 1) // 7)
        .group_by("identity_id", "week", maintain_order=True)
        .agg(pl.len().alias("days"), ratio=pl.col("quantity").sum() / pl.col("usual").sum())
        .filter(pl.col("days") == 7)  # noqa: PLR2004 - a week
        .sort("identity_id", "week", descending=[False, True])
        .with_columns(step=pl.col("ratio").diff().over("identity_id"))
    )
    steps = pl.col("step").drop_nulls()
    return (
        weeks.group_by("identity_id", maintain_order=True)
        .agg(steps.len().alias("steps"), steps.median().alias("step"), one_way=(steps > 0).all() | (steps < 0).all())
        .filter("one_way", pl.col("steps") == HISTORY_DAYS // 7 - 1)
        .select("identity_id", daily_growth=pl.col("step") / 7)
    )


def _with_average(
    history: UsageHistory, things: pl.DataFrame, of_skus: pl.DataFrame, shared: pl.DataFrame
) -> pl.DataFrame:
    """Young ones: as much as in their life so far, by the week of their SKU where that is known."""
    known = things.join(of_skus, on=["sku_id", "zone"], how="left", validate="m:1")
    lived = (
        known.filter(pl.col("pattern").is_not_null())
        .select("identity_id", "zone", "first_hour", "pattern")
        .join(clock(things["zone"].unique(), history.start, history.end), on="zone", how="inner")
        .filter(pl.col("hour") >= pl.col("first_hour"))
        .join(shared.select("pattern", "slot", "weight"), on=["pattern", "slot"], how="inner", validate="m:1")
        .group_by("identity_id")
        .agg(lived=pl.col("weight").sum())
    )
    has_pattern = pl.col("lived") > 0
    return known.join(lived, on="identity_id", how="left", validate="1:1").select(
        *things.columns,
        pattern=pl.when(has_pattern).then("pattern").otherwise(pl.lit(FLAT, dtype=pl.Int64)),
        level=pl.col("quantity") / pl.when(has_pattern).then("lived").otherwise(pl.max_horizontal("age_hours", 1)),
        daily_growth=pl.lit(0.0),
    )


def _turning_over(history: UsageHistory, lives: pl.DataFrame) -> pl.DataFrame:
    """Short-lived resources of groups in which such come and go, with the level of those that go on for all of them."""
    went = ~pl.col("is_running")
    span = pl.when(went).then(_hours(pl.col("last_end") - pl.col("first_start"))).otherwise("age_hours")
    whole = went & pl.col("is_new")
    begun = lives["first_hour"].min()
    hours = (history.end - begun) / timedelta(hours=1) if begun is not None else 1  # type: ignore[operator]
    members = (
        lives.with_columns(span=span)
        .with_columns(whole_lives=whole.sum().over(GROUP), longest=pl.col("span").filter(whole).max().over(GROUP))
        .filter(
            pl.col("whole_lives") >= _SHORT_LIVES,
            went | pl.col("is_new"),
            pl.col("span") <= pl.col("longest") * _OLD_FACTOR,
        )
        .sort("identity_id")
    )
    latest = pl.struct("last_end", "series_id").rank("ordinal", descending=True).over(GROUP) == 1
    goes_on = pl.when(pl.col("is_running").any().over(GROUP)).then("is_running").otherwise(latest)
    return members.with_columns(goes_on=goes_on).with_columns(
        level=pl.when("goes_on").then(
            pl.col("quantity").sum().over(GROUP) / hours / pl.col("goes_on").sum().over(GROUP)
        ).otherwise(pl.lit(0.0)),
        daily_growth=pl.lit(0.0),
    )  # fmt: skip


def _with_shared_pattern(things: pl.DataFrame, of_skus: pl.DataFrame) -> pl.DataFrame:
    return things.join(of_skus, on=["sku_id", "zone"], how="left", validate="m:1").with_columns(
        pl.col("pattern").fill_null(FLAT)
    )


# --------------------------------------------------------------------------------------------------------------- hours


def expected_usage(plan: UsagePlan, ends: Mapping[str, datetime], *, since: datetime) -> Iterator[pl.DataFrame]:
    """Frames of series_id, usage_start, quantity: from the end of the history to the end of the month in each zone.

    Hours before ``since`` are of another month.

    Quantities have as many decimals as the meter's have. What rounding takes from an hour, a later hour gets: many
    small hours are not rounded away.
    """
    hours = pl.concat(
        [clock([], plan.end, plan.end), *(clock([zone], plan.end, end) for zone, end in ends.items() if end > plan.end)]
    ).drop("day")
    for batch in plan.things.iter_slices(_BATCH):
        lead = _hours(pl.col("hour") - pl.lit(plan.end).cast(INSTANT)) / 24
        weight = pl.when(pl.col("pattern") == FLAT).then(pl.lit(1.0)).otherwise(pl.col("weight").fill_null(0))
        amount = (pl.col("level") + pl.col("daily_growth") * lead).clip(0) * weight
        rows = (
            batch.join(hours, on="zone", how="inner")
            .filter(pl.col("hour") >= pl.col("starts"))
            .join(plan.patterns, on=["pattern", "slot"], how="left", validate="m:1")
            .sort("series_id", "hour")
            .with_columns(amount=amount)
        )
        # A hair above the half, so that 0.5 reached by adding tenths is not once 0.49999 and once 0.5.
        so_far = (pl.col("amount").cum_sum().over("series_id") / pl.col("step") + 1e-6).round()
        steps = rows.with_columns(steps=so_far).with_columns(
            steps=pl.col("steps") - pl.col("steps").shift(1, fill_value=0).over("series_id")
        )
        some = steps.filter(pl.col("steps") > 0, pl.col("hour") >= since)
        for (decimals,), part in sorted(some.partition_by("decimals", as_dict=True).items()):
            exact = (pl.col("steps") * pl.col("step")).round(decimals).cast(pl.Decimal(38, decimals))
            yield part.select("series_id", usage_start="hour", quantity=exact).cast({"quantity": QUANTITY})
