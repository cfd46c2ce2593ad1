"""The demo workspace: a made-up cloud provider, its book, and as much usage as asked for.

The book and the shape of the fleet (which kinds of resources there are, what they meter, where they run, how the day
goes) are CSV files under data/sample/demo. This module only turns them into hourly rows.

Nothing here is random. Every choice is integer arithmetic on the number of a resource and the hour, in the open
(:func:`scramble`), so that the same call writes the same rows on every machine and with every library version. Time
is counted from 1970, never from the first day written: a month's files do not depend on how many months there are.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

import polars as pl

from ratemill.errors import UsageError
from ratemill.frames import collect
from ratemill.money import QUANTITY
from ratemill.period import BillingPeriod
from ratemill.resources import shipped
from ratemill.tables.columns import INSTANT
from ratemill.workspace import CONFIG_FILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEFAULT_RESOURCES = 150
DEFAULT_MONTHS = 2
DEFAULT_UNTIL = BillingPeriod(2026, 10)
DEFAULT_SEED = 958
"""A fleet that, of the default size, has every kind of price in it: tests/unit/test_samples.py lists them."""

MAX_RESOURCES = 10_000_000
MAX_MONTHS = 36
EARLIEST = BillingPeriod(2024, 2)
"""The sample's prices begin in January 2024, in the workspace's time zone."""
LATEST = BillingPeriod(2099, 11)

MIN_RESOURCES_FOR_MISTAKES = 50
"""With fewer, the mistakes would be more than the 0.1 % of rows at which a run refuses to bill."""
RESOURCES_PER_EXTRA_MISTAKE = 10_000

TAGS = pl.Map(pl.String, pl.String)
USAGE_FILE_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "account_id": pl.String,
    "project_id": pl.String,
    "resource_id": pl.String,
    "resource_name": pl.String,
    "sku_id": pl.String,
    "region": pl.String,
    "usage_start": INSTANT,
    "usage_end": INSTANT,
    "quantity": QUANTITY,
    "unit": pl.String,
    "tags": TAGS,
    "attr.os": pl.String,
}
"""Columns of a usage file, in order."""

_HOURS_A_DAY = 24
_HOURS_A_WEEK = 7 * _HOURS_A_DAY
_MICROSECONDS_AN_HOUR = 3_600_000_000
_QUANTITY_DIGITS = 6
_ROWS_PER_GROUP = 1 << 18
_OFFICE_HOURS = range(7, 20)
_WEEKDAYS = 5
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday
_MANIFEST_DAYS = (1, 2)

_PRIME = 2_147_483_647
_STRIDE = 61
"""Shares no factor with the weights' sums, so that resources spread over placements and kinds evenly."""


def write_demo(
    folder: Path,
    *,
    resources: int = DEFAULT_RESOURCES,
    months: int = DEFAULT_MONTHS,
    until: BillingPeriod = DEFAULT_UNTIL,
    seed: int = DEFAULT_SEED,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Write a workspace into ``folder``: configuration, book, and one usage file a day.

    ``resources`` run at any time, with about one row an hour each. The days are those that the local months of any
    account reach into: the last of the month before, and the first of the month after, are there too.

    Args:
        folder: where to write; made if missing.
        resources: how many resources run at a time.
        months: how many months, the last being ``until``.
        until: the last month.
        seed: another number gives another fleet.
        progress: told the name of each usage file when it is written.

    Raises:
        UsageError: a number is out of range.
    """
    size = Size(resources=resources, months=months, until=until)
    source = shipped("data/sample") / "demo"
    (folder / "usage").mkdir(parents=True, exist_ok=True)
    (folder / "book").mkdir(exist_ok=True)
    shutil.copyfile(source / CONFIG_FILE, folder / CONFIG_FILE)
    for table in sorted((source / "book").glob("*.csv")):
        shutil.copyfile(table, folder / "book" / table.name)

    fleet = read_fleet(source)
    meters = plan_meters(fleet, resources=resources, seed=seed)
    for day in size.days:
        file = folder / "usage" / f"usage-{day}.parquet"
        usage = pl.concat([usage_of_day(meters, day, fleet), mistakes_of_day(meters, day, fleet, resources=resources)])
        usage.sink_parquet(
            file, compression="zstd", row_group_size=_ROWS_PER_GROUP, maintain_order=True, engine="streaming"
        )
        if BillingPeriod.containing(day) == until and day.day in _MANIFEST_DAYS:
            write_manifest(file)
        if progress is not None:
            progress(file.name)


@dataclass(frozen=True)
class Size:
    """How much usage to make; raises UsageError for numbers out of range."""

    resources: int = DEFAULT_RESOURCES
    months: int = DEFAULT_MONTHS
    until: BillingPeriod = DEFAULT_UNTIL

    def __post_init__(self) -> None:
        for name, value, most in (("resources", self.resources, MAX_RESOURCES), ("months", self.months, MAX_MONTHS)):
            if not 1 <= value <= most:
                raise UsageError(f"--{name} {value}: expected a whole number from 1 to {most:,}")
        if self.until > LATEST or self.first < EARLIEST:
            raise UsageError(
                f"--until {self.until} with --months {self.months}: the sample has prices from {EARLIEST} to {LATEST}; "
                "choose another month, or fewer of them"
            )

    @property
    def first(self) -> BillingPeriod:
        """The first month."""
        return self.until.shift(1 - self.months)

    @property
    def days(self) -> list[date]:
        """Each UTC day that the months reach into in any time zone, in order."""
        start, end = self.first.widest_start.date(), self.until.widest_end.date()
        return [start + timedelta(days=offset) for offset in range((end - start).days + 1)]


def write_manifest(file: Path) -> None:
    """Write ``<file>.manifest.json``, with which a meter says what it sent: hash, rows, and total quantity."""
    rows, quantity = collect(pl.scan_parquet(file).select(rows=pl.len(), quantity=pl.col("quantity").sum())).row(0)
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    manifest = {"sha256": sha256, "rows": rows, "quantity_total": format(quantity, "f")}
    file.with_name(f"{file.name}.manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


# ----------------------------------------------------------------------------------------------- the fleet, as data


@dataclass(frozen=True, eq=False)
class Fleet:
    """The shape of the fleet: data/sample/demo/fleet, with units of the SKUs and cost centres of the projects."""

    placements: pl.DataFrame
    """Where resources are: account_id, project_id?, region, team?, cost_center?, utc_shift_hours, weight."""
    kinds: pl.DataFrame
    """How long resources live: kind, stem, cycle_hours_*, alive_percent_*, office_hours, weight."""
    meters: pl.DataFrame
    """What they meter: kind, part, sku_id? (empty: nothing), os?, unit, low, high, step, decimals, growth_…, rhythm,
    weight."""
    names: pl.DataFrame
    environments: pl.DataFrame
    tag_forms: pl.DataFrame
    week: tuple[int, ...]
    """Load in percent of the usual, per hour of the week from Monday 00:00."""


def read_fleet(source: Path) -> Fleet:
    """The fleet described under ``source``, the folder data/sample/demo."""
    folder = source / "fleet"
    projects = pl.read_csv(source / "book" / "projects.csv").unique("project_id", keep="first")
    skus = pl.read_csv(source / "book" / "skus.csv", infer_schema=False).select("sku_id", unit="usage_unit")
    lookup = {"how": "left", "maintain_order": "left", "validate": "m:1"}
    placements = (
        pl.read_csv(folder / "placements.csv")
        .join(pl.read_csv(folder / "regions.csv"), on="region", **lookup)  # type: ignore[arg-type]
        .join(projects.select("project_id", "cost_center"), on="project_id", **lookup)  # type: ignore[arg-type]
    )
    rhythm = pl.read_csv(folder / "rhythm.csv").sort("local_hour")
    weekday, weekend = rhythm["weekday_percent"].to_list(), rhythm["weekend_percent"].to_list()
    return Fleet(
        placements=placements,
        kinds=pl.read_csv(folder / "kinds.csv"),
        meters=pl.read_csv(folder / "meters.csv").join(skus, on="sku_id", **lookup),  # type: ignore[arg-type]
        names=pl.read_csv(folder / "names.csv"),
        environments=pl.read_csv(folder / "environments.csv"),
        tag_forms=pl.read_csv(folder / "tag_forms.csv"),
        week=(*weekday * _WEEKDAYS, *weekend * (7 - _WEEKDAYS)),
    )


def plan_meters(fleet: Fleet, *, resources: int, seed: int) -> pl.DataFrame:
    """One row per resource and thing it meters, ordered; what does not change from day to day.

    A resource's number stands for a place in the fleet: when its life is over, another resource takes the place.
    """
    seed %= _PRIME
    slots = (
        pl.select(slot=pl.int_range(resources, dtype=pl.Int64))
        .with_columns(
            chance=scramble(pl.col("slot") + seed, 1),
            _placement=(pl.col("slot") * _STRIDE + seed) % fleet.placements["weight"].sum(),
            _kind=(pl.col("slot") * _STRIDE + seed) % fleet.kinds["weight"].sum(),
        )
        .with_columns(
            _environment=scramble(pl.col("chance"), 2) % fleet.environments["weight"].sum(),
            _form=scramble(pl.col("chance"), 3) % fleet.tag_forms["weight"].sum(),
            _name=scramble(pl.col("chance"), 4) % fleet.names["weight"].sum(),
        )
    )
    for name, options in (
        ("_placement", fleet.placements),
        ("_kind", fleet.kinds),
        ("_environment", fleet.environments),
        ("_form", fleet.tag_forms),
        ("_name", fleet.names),
    ):
        slots = slots.join(_tickets(options, name), on=name, how="left", validate="m:1").drop(name)
    slots = slots.join(
        tag_sets(fleet),
        on=["team", "cost_center", "environment", "form"],
        how="left",
        validate="m:1",
        nulls_equal=True,
    )
    parts = (
        fleet.meters.group_by("kind", "part", maintain_order=True)
        .agg(parts_weight=pl.col("weight").sum())
        .with_row_index("part_number")
    )
    options = pl.concat(
        _tickets(group, "_ticket")
        for group in fleet.meters.partition_by("kind", "part", maintain_order=True, include_key=True)
    )
    return (
        slots.join(parts, on="kind")
        .with_columns(_ticket=scramble(pl.col("chance") + pl.col("part_number"), 5) % pl.col("parts_weight"))
        .join(options, on=["kind", "part", "_ticket"], validate="m:1")
        .filter(pl.col("sku_id").is_not_null())
        .sort("slot", "part_number")
        .with_columns(_lifetimes())
        .with_columns(
            offset_hours=scramble(pl.col("chance"), 8) % pl.col("cycle_hours"),
            alive_hours=pl.col("cycle_hours") * pl.col("alive_percent") // 100,
            serial=_serials(pl.col("slot")),
        )
        .select(
            "slot", "chance", "part_number", "account_id", "project_id", "region", "utc_shift_hours", "stem", "serial",
            "word", "sku_id", "os", "unit", "tags", "cycle_hours", "offset_hours", "alive_hours", "office_hours", "low",
            "high", "step", "decimals", "growth_per_mille_a_day", "rhythm",
        )
    )  # fmt: skip


def _lifetimes() -> list[pl.Expr]:
    """How long a place's cycle is, and for which share of it a resource is there."""
    return [
        _between("cycle_hours_min", "cycle_hours_max", scramble(pl.col("chance"), 6)).alias("cycle_hours"),
        _between("alive_percent_min", "alive_percent_max", scramble(pl.col("chance"), 7)).alias("alive_percent"),
    ]


def _between(low: str, high: str, chance: pl.Expr) -> pl.Expr:
    return pl.col(low) + chance % (pl.col(high) - pl.col(low) + 1)


def _tickets(options: pl.DataFrame, ticket: str) -> pl.DataFrame:
    """Each option as often as its weight says, numbered from 0 in ``ticket``."""
    repeated = options.select(pl.exclude("weight").repeat_by("weight").explode())
    return repeated.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(ticket))


def _serials(slot: pl.Expr) -> pl.Expr:
    """A different number for each place, that does not look counted: ten digits."""
    return ((slot + 1) * 1_220_703_125 % _PRIME).cast(pl.String).str.zfill(10)


def tag_sets(fleet: Fleet) -> pl.DataFrame:
    """The tags of each combination of team, cost centre, environment and form: the forms tag what they have a key for.

    The form ``untagged`` has no tags at all, ``empty`` has none of them: meters send both.
    """
    combinations = (
        fleet.placements.select("team", "cost_center")
        .unique(maintain_order=True)
        .join(fleet.environments.select("environment"), how="cross", maintain_order="left_right")
        .join(fleet.tag_forms.drop("weight"), how="cross", maintain_order="left_right")
    )
    tags = [
        None
        if row["form"] == "untagged"
        else {
            row[key]: row[value]
            for key, value in (("env_key", "environment"), ("team_key", "team"), ("cost_center_key", "cost_center"))
            if row[key] is not None and row[value] is not None
        }
        for row in combinations.iter_rows(named=True)
    ]
    return combinations.select(
        "team", "cost_center", "environment", "form", pl.Series("tags", tags, dtype=TAGS, strict=True)
    )


# ---------------------------------------------------------------------------------------------- the fleet, in hours


def usage_of_day(meters: pl.DataFrame, day: date, fleet: Fleet) -> pl.LazyFrame:
    """The rows of a UTC day, each meter's hours in a row."""
    first_hour = _hours_since_1970(day)
    return usage_of_hours(meters_of_day(meters, first_hour), first_hour, range(_HOURS_A_DAY), fleet.week)


def meters_of_day(meters: pl.DataFrame, first_hour: int) -> pl.DataFrame:
    """The meters with something to write on the day from ``first_hour``, and for which of its hours.

    A cycle is a day at least, so that at most two resources share a place on one day.
    """
    cycle = (first_hour + pl.col("offset_hours")) // pl.col("cycle_hours")
    starts = pl.col("cycle") * pl.col("cycle_hours") - pl.col("offset_hours")
    size = pl.col("low") + (pl.col("high") - pl.col("low")) * (pl.col("luck") * pl.col("luck")) // 1_000_000
    return (
        pl.concat([meters.with_columns(cycle=cycle), meters.with_columns(cycle=cycle + 1)])
        .with_columns(
            first=(starts - first_hour).clip(0),
            last=(starts - first_hour + pl.col("alive_hours")).clip(upper_bound=_HOURS_A_DAY),
            days_alive=(first_hour - starts).clip(0) // _HOURS_A_DAY,
        )
        .filter(pl.col("first") < pl.col("last"))
        .sort("slot", "cycle", "part_number")
        .with_columns(
            chance=scramble((pl.col("chance") + pl.col("cycle") * 7_919 + pl.col("part_number")) % _PRIME, 9),
            number=scramble((pl.col("chance") + pl.col("cycle")) % _PRIME, 10) % 900 + 100,
        )
        .with_columns(luck=pl.col("chance") % 1_000)  # squared: few are large, as in life
        .with_columns(size=size // pl.col("step") * pl.col("step"))
        .select(
            "account_id", "project_id", "region", "sku_id", "os", "unit", "tags", "utc_shift_hours", "office_hours",
            "rhythm", "chance", "first", "last",
            resource_id=pl.format("{}-{}-{}", "stem", "serial", "cycle"),
            resource_name=pl.format("{}-{}-{}", "word", "stem", "number"),
            size=pl.col("size") * (1_000 + pl.col("growth_per_mille_a_day") * pl.col("days_alive")) // 1_000,
            to_micros=pl.lit(10, dtype=pl.Int64).pow(_QUANTITY_DIGITS - pl.col("decimals")),
        )
    )  # fmt: skip


def usage_of_hours(alive: pl.DataFrame, first_hour: int, hours: range, week: tuple[int, ...]) -> pl.LazyFrame:
    """The rows of some hours of the day from ``first_hour``."""
    shifts = alive["utc_shift_hours"].unique().sort()
    now = first_hour + pl.col("hour")
    amount = pl.when("rhythm").then(pl.col("size") * pl.col("load") * _noise(now) // 10_000).otherwise("size")
    start = now * _MICROSECONDS_AN_HOUR
    return (
        alive.lazy()
        .join(
            _local_hours(shifts, first_hour, hours, week).lazy(),
            on="utc_shift_hours",
            maintain_order="left_right",
        )
        .filter(
            (pl.col("first") <= pl.col("hour"))
            & (pl.col("hour") < pl.col("last"))
            & (pl.col("at_work") | ~pl.col("office_hours"))
        )
        .select(
            "account_id",
            "project_id",
            "resource_id",
            "resource_name",
            "sku_id",
            "region",
            usage_start=start.cast(INSTANT),
            usage_end=(start + _MICROSECONDS_AN_HOUR).cast(INSTANT),
            quantity=(amount * pl.col("to_micros")).cast(QUANTITY) * pl.lit("0.000001").cast(QUANTITY),
            unit="unit",
            tags="tags",
            **{"attr.os": pl.col("os")},
        )
    )


def _noise(now: pl.Expr) -> pl.Expr:
    """From 50 to 149 percent, for each meter and hour."""
    return 50 + scramble((pl.col("chance") + now) % _PRIME, 11) % 100


def _local_hours(shifts: pl.Series, first_hour: int, hours: range, week: tuple[int, ...]) -> pl.DataFrame:
    """What an hour of the UTC day is like where the clock is ``utc_shift_hours`` ahead."""
    local = [
        (shift, hour, (first_hour + hour + shift + _EPOCH_WEEKDAY * _HOURS_A_DAY) % _HOURS_A_WEEK)
        for shift in shifts
        for hour in hours
    ]
    rows = [
        (shift, hour, week[place], place // _HOURS_A_DAY < _WEEKDAYS and place % _HOURS_A_DAY in _OFFICE_HOURS)
        for shift, hour, place in local
    ]
    schema = {"utc_shift_hours": pl.Int64, "hour": pl.Int64, "load": pl.Int64, "at_work": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _hours_since_1970(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) // 3_600


def scramble(number: pl.Expr, salt: int) -> pl.Expr:
    """A number from 0 to 2³¹ - 2 that looks unrelated to ``number`` (0 to 2³¹ - 2); always the same one.

    Two rounds of a line and a square modulo a prime. Every step stays below 2⁶³, so nothing depends on how overflow
    is handled.
    """
    once = _square((number * 48_271 + salt * 1_000_003) % _PRIME)
    return _square((once * 69_621 + salt) % _PRIME)


def _square(number: pl.Expr) -> pl.Expr:
    return (number * number + number * 3) % _PRIME


# ------------------------------------------------------------------------------------------------------ the mistakes


@cache
def mistakes() -> dict[int, tuple[str, dict[str, pl.Expr]]]:
    """Per day of the month: what goes wrong on it, and how the copies of good rows differ from them."""
    text = pl.String
    return {
        3: ("no account", {"account_id": pl.lit(None, dtype=text)}),
        4: ("unknown account", {"account_id": pl.lit("acc-unheard-of"), "project_id": pl.lit(None, dtype=text)}),
        6: ("unknown SKU", {"sku_id": pl.lit("cmp-discontinued")}),
        8: ("negative quantity", {"quantity": -pl.col("quantity")}),
        10: ("wrong unit", {"unit": pl.lit("Fortnights")}),
        12: ("ends before it starts", {"usage_end": pl.col("usage_start") - pl.duration(hours=1)}),
        14: ("account id too long", {"account_id": pl.col("account_id") + "-" + pl.lit("x" * 600)}),
        16: ("sent twice", {}),
        18: ("sent again a day later", {}),
        20: ("sent twice, differently", {"quantity": pl.col("quantity") + 1}),
    }


_COPIED_HOUR = 12
_AGAIN_A_DAY_LATER = 18


def mistakes_of_day(meters: pl.DataFrame, day: date, fleet: Fleet, *, resources: int) -> pl.LazyFrame:
    """The bad rows at the end of the day's file: copies of good ones with the day's mistake.

    The good rows stay, so that mistakes change no invoice, but for the records sent twice differently: of those
    neither can be believed.
    """
    copied = day - timedelta(days=1) if day.day == _AGAIN_A_DAY_LATER else day
    alive = meters_of_day(meters, _hours_since_1970(copied))
    hours = range(_COPIED_HOUR, _COPIED_HOUR + 1)
    good = usage_of_hours(alive, _hours_since_1970(copied), hours, fleet.week)
    if day.day not in mistakes() or resources < MIN_RESOURCES_FOR_MISTAKES:
        return good.head(0)
    _, changes = mistakes()[day.day]
    count = 1 + resources // RESOURCES_PER_EXTRA_MISTAKE
    machines = good.filter((pl.col("unit") == "Hours") & pl.col("project_id").is_not_null())
    return machines.head(count).with_columns(**changes)
