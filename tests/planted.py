"""Anomalies planted into the demo's usage, to count which of them are found, and what else is.

A plant is a file of usage beside those of the demo: what somebody might have left running, in one account, of one
service, worth a multiple of what that account spends on the service on a usual day. It is found again by its resource.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import cycle
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable

KINDS = {
    "a resource for a day": (24, 1),
    "a resource that stays": (24, 10),
    "six hours of it": (6, 1),
    "an old resource that runs wild for two days": (24, 2),
}
"""What is planted: hours a day, days."""
SIZES = (0.5, 1.0, 2.0, 5.0)
"""Times the usual day of the account and service."""
LEAST_USUAL = 2_000
"""Of smaller days, in the smallest unit of the currency, half is not worth an alarm by its own rule."""
_MAX_DAY, _MIN_DAY = 26, 3


@dataclass(frozen=True)
class Plant:
    """One planted anomaly."""

    account_id: str
    service: str
    kind: str
    size: float
    day: date
    resource_id: str


def plant(history: pl.DataFrame, series: pl.DataFrame, *, count: int, month: date) -> tuple[list[Plant], pl.DataFrame]:
    """``count`` plants in ``month``, and the rows of a usage file with them.

    Args:
        history: day, account_id, service, currency, resource_id, sku_id, quantity, value, minor_unit: what each
            resource used and what it cost, before anything is planted.
        series: account_id (as metered), project_id, resource_id, sku_id, region, unit, tags, attributes of what is
            metered: a plant is like one of them.
        count: how many.
        month: its first day.
    """
    places = iter(_places(history, month))
    plants, rows = [], []
    for number, (kind, size) in zip(range(count), cycle((k, s) for s in SIZES for k in KINDS)):
        place = next(places, None)
        if place is None:
            break
        hours, days = KINDS[kind]
        wild = kind.startswith("an old")
        like = series.filter(pl.col("resource_id") == place["resource_id"], pl.col("sku_id") == place["sku_id"]).row(
            0, named=True
        )
        name = like["resource_id"] if wild else f"planted-{number:02d}"
        day = month + timedelta(days=_MIN_DAY - 1 + number * 7 % (_MAX_DAY - _MIN_DAY))
        plants.append(Plant(place["account_id"], place["service"], kind, size, day, name))
        quantity = round(place["usual"] * size / place["unit_cost"] / hours, 6)
        # From midnight on where the payer is, so that a plant is of one day.
        for offset in range(days):
            begin = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=offset, hours=place["shift"])
            for hour in range(hours):
                start = begin + timedelta(hours=hour, minutes=30 if wild else 0)
                rows.append({**like, "resource_id": name, "usage_start": start, "quantity": quantity})
    return plants, _as_usage(rows)


def _places(history: pl.DataFrame, month: date) -> list[dict]:
    """Accounts and services with enough spend, each with one resource that a plant may be like; none twice."""
    before = history.filter(pl.col("day").is_between(month - timedelta(days=28), month - timedelta(days=1)))
    key = ["account_id", "service", "currency", "minor_unit"]
    days = before.group_by(*key, "day").agg(pl.col("value").sum())
    usual = days.group_by(key).agg(usual=pl.col("value").sum() / 28).filter(
        pl.col("usual") >= LEAST_USUAL * pl.col("minor_unit")
    )  # fmt: skip
    things = (
        before.group_by(*key, "resource_id", "sku_id", "shift")
        .agg(pl.col("value").sum(), pl.col("quantity").sum(), last=pl.col("day").max())
        .filter(pl.col("value") > 0, pl.col("resource_id").is_not_null(), pl.col("last") == month - timedelta(days=1))
        .with_columns(unit_cost=pl.col("value") / pl.col("quantity"))
        .sort("value", descending=True)
        .unique(key, keep="first", maintain_order=True)
    )
    return usual.join(things, on=key, how="inner").sort("account_id", "service").to_dicts()


def _as_usage(rows: list[dict]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, infer_schema_length=None)
    start = pl.col("usage_start").cast(pl.Datetime("us", "UTC"))
    return frame.select(
        "account_id", "project_id", "resource_id", "sku_id", "region", "unit",
        usage_start=start,
        quantity=pl.col("quantity").cast(pl.Decimal(38, 6)),
        **{"attr.os": pl.col("attributes").str.json_path_match("$.os")},
    )  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How many of the plants were found, and what else was."""

    found: list[Plant]
    missed: list[Plant]
    alarms: int
    true_alarms: int

    @property
    def precision(self) -> float:
        """Share of alarms that were planted."""
        return self.true_alarms / self.alarms if self.alarms else 1.0

    @property
    def recall(self) -> float:
        """Share of plants that were found."""
        return len(self.found) / (len(self.found) + len(self.missed))


def judge(plants: Iterable[Plant], anomalies: pl.DataFrame) -> Outcome:
    """An alarm is true where a plant's resource drives it within a day of its begin; a plant is found by such a one."""
    found, true = set(), set()
    for number, alarm in enumerate(anomalies.iter_rows(named=True)):
        drivers = {driver["resource_id"] for driver in alarm["drivers"]}
        for one in plants:
            near = abs((alarm["day"] - one.day).days) <= 1
            if near and one.resource_id in drivers and one.account_id == alarm["account_id"]:
                found.add(one)
                true.add(number)
    plants = list(plants)
    return Outcome(
        [one for one in plants if one in found], [one for one in plants if one not in found],
        anomalies.height, len(true),
    )  # fmt: skip
