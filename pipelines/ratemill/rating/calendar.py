"""Cells: stretches of a month inside which neither day, owner nor price can change, so that usage may be summed.

A *calendar* is the list of cells that a series follows. Series share calendars (same owners' zones, same price cuts
and windows), so the table that the warehouse joins with has one row per calendar and instant of usage, not per record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl

from ratemill.book.windows import hours_of_the_week

if TYPE_CHECKING:
    from ratemill.period import BillingPeriod
    from ratemill.rating.versions import PriceVersions

WINDOW_SEPARATOR = "\x1f"


@dataclass(frozen=True)
class Calendars:
    """Which calendar each pair of owner and SKU follows, and the cells of each calendar."""

    assigned: pl.DataFrame
    """account_id, project_id (as metered), sku_id, calendar_id."""
    instants: pl.DataFrame
    """calendar_id, usage_start, cell, hour (real hour of the local month, from 0): only instants in the period."""
    cells: pl.DataFrame
    """calendar_id, cell, local_date, moment (what charges are cut by: the day, or the hour of the month), slot_start
    (instant from which the SKU's prices stay the same), windows (those of the SKU's windows that hold), owner_from
    (start of the owner's stretch), shares_charge (another cell may end up in the same charge)."""


def make_calendars(
    series: pl.DataFrame,
    owners: pl.DataFrame,
    versions: PriceVersions,
    windows: pl.DataFrame,
    instants: pl.DataFrame,
    *,
    period: BillingPeriod,
    detail: Literal["day", "hour"],
) -> Calendars:
    """Calendars for the (account_id, project_id, sku_id) of ``series`` over the instants at which usage starts.

    Args:
        series: metered series.
        owners: stretches of ownership in the period, see :mod:`ratemill.rating.owners`.
        versions: the book's prices.
        windows: the book's time windows.
        instants: usage_start, one row each.
        period: the month; an instant belongs to it if it does in its payer's zone.
        detail: whether charges are cut by local day or by hour.
    """
    triples = series.select("account_id", "project_id", "sku_id").unique()
    owner_kinds = _grouped(
        triples.select("account_id", "project_id").unique(),
        owners.select("account_id", "project_id", "owner_from", "owner_to", "time_zone"),
        ["account_id", "project_id"],
        ["owner_from", "owner_to", "time_zone"],
        "owner_kind",
    )
    sku_kinds = _grouped(
        triples.select("sku_id").unique(), _sku_facts(versions, period), ["sku_id"], ["cut", "window"], "sku_kind"
    )
    assigned = triples.join(owner_kinds.of, on=["account_id", "project_id"], nulls_equal=True, validate="m:1").join(
        sku_kinds.of, on="sku_id", validate="m:1"
    )
    pairs = (
        assigned.select("owner_kind", "sku_kind").unique().sort("owner_kind", "sku_kind").with_row_index("calendar_id")
    )
    assigned = assigned.join(pairs, on=["owner_kind", "sku_kind"], validate="m:1").select(
        "account_id", "project_id", "sku_id", pl.col("calendar_id").cast(pl.Int32)
    )
    marked = (
        pairs.join(_owner_days(owner_kinds.members, instants, period), on="owner_kind", how="inner", validate="m:m")
        .join(_slots(sku_kinds, instants, period), on=["sku_kind", "usage_start"], how="inner", validate="m:1")
        .with_columns(pl.col("calendar_id").cast(pl.Int32))
    )
    return _numbered(assigned, _with_windows(marked, sku_kinds.members, windows), detail)


def _sku_facts(versions: PriceVersions, period: BillingPeriod) -> pl.DataFrame:
    """sku_id, cut, window: price cuts inside the period, and windows that prices ask for; one of the two is empty."""
    inside = (pl.col("cut") > period.widest_start) & (pl.col("cut") < period.widest_end)
    return pl.concat([versions.cuts.filter(inside), versions.windows_of_skus], how="diagonal")


@dataclass(frozen=True)
class _Kinds:
    of: pl.DataFrame
    """The keys and the number of the kind they are."""
    members: pl.DataFrame
    """The number of a kind and what its keys have in common, one row each; kinds with nothing have no row."""


def _grouped(keys: pl.DataFrame, facts: pl.DataFrame, by: list[str], columns: list[str], kind: str) -> _Kinds:
    """Number the distinct sets of facts; keys with the same set share a number."""
    sets = facts.sort(*by, *columns, nulls_last=False).group_by(by, maintain_order=True).agg(columns)
    signed = keys.join(sets, on=by, how="left", nulls_equal=True, validate="1:1").with_columns(
        _signature=pl.struct(columns).struct.json_encode()
    )
    numbers = signed.select("_signature").unique().sort("_signature").with_row_index(kind)
    of = signed.join(numbers, on="_signature", validate="m:1")
    members = of.unique(kind, keep="first").select(kind, *columns).drop_nulls(columns[0]).explode(columns)
    return _Kinds(of.select(*by, kind), members)


def _owner_days(kinds: pl.DataFrame, instants: pl.DataFrame, period: BillingPeriod) -> pl.DataFrame:
    """owner_kind, usage_start, time_zone, local_date, hour, owner_from, inside the period where the owner is."""
    dated = [
        instants.head(0).with_columns(
            time_zone=pl.lit(""), local_date=pl.lit(None, dtype=pl.Date), hour=pl.lit(None, dtype=pl.Int32)
        )
    ]
    for zone in sorted(kinds["time_zone"].unique()):
        start, end = period.start(zone), period.end(zone)
        dated.append(
            instants.filter((pl.col("usage_start") >= start) & (pl.col("usage_start") < end)).select(
                "usage_start",
                pl.lit(zone).alias("time_zone"),
                pl.col("usage_start").dt.convert_time_zone(zone).dt.date().alias("local_date"),
                (pl.col("usage_start") - start).dt.total_hours().cast(pl.Int32).alias("hour"),
            )
        )
    return (
        kinds.join(pl.concat(dated), on="time_zone", how="inner", validate="m:m")
        .filter((pl.col("owner_from") <= pl.col("usage_start")) & (pl.col("usage_start") < pl.col("owner_to")))
        .select("owner_kind", "usage_start", "time_zone", "local_date", "hour", "owner_from")
    )


def _slots(kinds: _Kinds, instants: pl.DataFrame, period: BillingPeriod) -> pl.DataFrame:
    """sku_kind, usage_start, slot_start: the latest price cut at or before each instant, else the period's start."""
    everyone = kinds.of.select("sku_kind").unique().join(instants, how="cross").sort("sku_kind", "usage_start")
    cuts = (
        kinds.members.select("sku_kind", "cut", pl.col("cut").alias("slot_start")).drop_nulls().sort("sku_kind", "cut")
    )
    return everyone.join_asof(
        cuts, left_on="usage_start", right_on="cut", by="sku_kind", strategy="backward", check_sortedness=False
    ).select("sku_kind", "usage_start", pl.col("slot_start").fill_null(period.widest_start))


def _with_windows(marked: pl.DataFrame, sku_members: pl.DataFrame, windows: pl.DataFrame) -> pl.DataFrame:
    """``marked`` with ``windows``: names of the SKU's windows that hold at the local time, empty where none does."""
    asked = sku_members.select("sku_kind", "window").drop_nulls().unique()
    if not asked.height or not marked.height:
        return marked.with_columns(windows=pl.lit(""))
    local = marked.select("time_zone", "usage_start").unique()
    held = (
        marked.select("calendar_id", "sku_kind", "time_zone", "usage_start")
        .join(asked, on="sku_kind", how="inner", validate="m:m")
        .join(_windows_at(local, windows), on=["time_zone", "usage_start", "window"], how="inner", validate="m:1")
        .group_by("calendar_id", "usage_start")
        .agg(pl.col("window").sort().str.join(WINDOW_SEPARATOR).alias("windows"))
    )
    return marked.join(held, on=["calendar_id", "usage_start"], how="left", validate="m:1").with_columns(
        pl.col("windows").fill_null("")
    )


def _windows_at(local: pl.DataFrame, windows: pl.DataFrame) -> pl.DataFrame:
    """time_zone, usage_start, window: every window that a wall clock is in. An hour that comes twice is in it twice."""
    parts = [
        part.with_columns(_clock=pl.col("usage_start").dt.convert_time_zone(zone).dt.replace_time_zone(None))
        for (zone,), part in local.partition_by("time_zone", as_dict=True).items()
    ]
    minute = (
        (pl.col("_clock").dt.weekday().cast(pl.Int64) - 1) * (24 * 60)
        + pl.col("_clock").dt.hour().cast(pl.Int64) * 60
        + pl.col("_clock").dt.minute().cast(pl.Int64)
    )
    clocks = pl.concat(parts).select("time_zone", "usage_start", minute.alias("minute"))
    minutes = clocks["minute"].unique()
    held = [
        pl.DataFrame({"minute": [m for m in minutes if bits >> m & 1]}, schema={"minute": pl.Int64}).with_columns(
            window=pl.lit(window)
        )
        for window, bits in sorted(hours_of_the_week(windows).items())
    ]
    return clocks.join(pl.concat(held), on="minute", how="inner", validate="m:m").drop("minute")


def _numbered(assigned: pl.DataFrame, marked: pl.DataFrame, detail: Literal["day", "hour"]) -> Calendars:
    moment = pl.col("hour") if detail == "hour" else pl.col("local_date").dt.day().cast(pl.Int32)
    marked = marked.with_columns(moment=moment)
    cell_key = ["calendar_id", "local_date", "moment", "slot_start", "windows", "owner_from"]
    cells = marked.select(cell_key).unique().sort(cell_key)
    cells = cells.with_columns(
        cell=pl.int_range(pl.len(), dtype=pl.Int32).over("calendar_id"),
        shares_charge=pl.len().over("calendar_id", "local_date", "moment") > 1,
    )
    instants = marked.join(cells, on=cell_key, how="inner", validate="m:1").select(
        "calendar_id", "usage_start", "cell", "hour"
    )
    return Calendars(assigned, instants.sort("calendar_id", "usage_start"), cells)
