"""Cells: stretches of a month inside which neither day, owner nor price can change, so that usage may be summed.

A *calendar* is the list of cells that a series follows. Series share calendars (same zone, same price cuts), so the
table that the warehouse joins with has one row per calendar and instant of usage, not per record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl

if TYPE_CHECKING:
    from ratemill.period import BillingPeriod


@dataclass(frozen=True)
class Calendars:
    """Which calendar each pair of owner and SKU follows, and the cells of each calendar."""

    assigned: pl.DataFrame
    """account_id, project_id (as metered), sku_id, calendar_id."""
    instants: pl.DataFrame
    """calendar_id, usage_start, cell: only instants that lie in the period where the owner is."""
    cells: pl.DataFrame
    """calendar_id, cell, local_date, slot_start (instant from which the SKU's prices stay the same), owner_from
    (start of the owner's stretch), shares_day (another cell has the same day and owner)."""


def price_cuts(prices: pl.DataFrame) -> pl.DataFrame:
    """Every instant at which a SKU's price may change: sku_id, cut."""
    return (
        pl.concat(
            [
                prices.select("sku_id", pl.col("valid_from").alias("cut")),
                prices.select("sku_id", pl.col("valid_to").alias("cut")),
            ]
        )
        .drop_nulls()
        .unique()
        .sort("sku_id", "cut")
    )


def make_calendars(
    series: pl.DataFrame,
    owners: pl.DataFrame,
    cuts: pl.DataFrame,
    instants: pl.DataFrame,
    *,
    period: BillingPeriod,
    detail: Literal["day", "hour"],
) -> Calendars:
    """Calendars for the (account_id, project_id, sku_id) of ``series`` over the instants at which usage starts.

    ``owners``: see :func:`ratemill.rating.owners.owners_of`; ``cuts``: see :func:`price_cuts`; ``instants``:
    usage_start, one row each. A day is a calendar day in the owner's payer's zone; ``detail = "hour"`` makes a cell of
    every instant.
    """
    triples = series.select("account_id", "project_id", "sku_id").unique()
    relevant = cuts.filter((pl.col("cut") > period.widest_start) & (pl.col("cut") < period.widest_end))
    stretches = owners.filter(
        (pl.col("owner_from") < period.widest_end) & (pl.col("owner_to") > period.widest_start)
    ).select("account_id", "project_id", "owner_from", "owner_to", "time_zone")
    owner_kinds = _grouped(
        triples.select("account_id", "project_id").unique(),
        stretches,
        ["account_id", "project_id"],
        ["owner_from", "owner_to", "time_zone"],
        "owner_kind",
    )
    sku_kinds = _grouped(triples.select("sku_id").unique(), relevant, ["sku_id"], ["cut"], "sku_kind")
    assigned = triples.join(owner_kinds.of, on=["account_id", "project_id"], nulls_equal=True, validate="m:1").join(
        sku_kinds.of, on="sku_id", validate="m:1"
    )
    pairs = (
        assigned.select("owner_kind", "sku_kind").unique().sort("owner_kind", "sku_kind").with_row_index("calendar_id")
    )
    assigned = assigned.join(pairs, on=["owner_kind", "sku_kind"], validate="m:1").select(
        "account_id", "project_id", "sku_id", pl.col("calendar_id").cast(pl.Int32)
    )
    days = _owner_days(owner_kinds.members, instants, period)
    slots = _slots(sku_kinds, instants, period)
    marked = (
        pairs.join(days, on="owner_kind", how="inner", validate="m:m")
        .join(slots, on=["sku_kind", "usage_start"], how="inner", validate="m:1")
        .select(pl.col("calendar_id").cast(pl.Int32), "usage_start", "local_date", "slot_start", "owner_from")
    )
    return _numbered(assigned, marked, detail)


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
    members = of.unique(kind, keep="first").select(kind, *columns).drop_nulls(columns).explode(columns)
    return _Kinds(of.select(*by, kind), members)


def _owner_days(kinds: pl.DataFrame, instants: pl.DataFrame, period: BillingPeriod) -> pl.DataFrame:
    """owner_kind, usage_start, local_date, owner_from, for instants inside the period where the owner is."""
    dated = [
        instants.with_columns(
            local_date=pl.col("usage_start").dt.convert_time_zone(zone).dt.date(),
            time_zone=pl.lit(zone),
        ).filter(pl.col("local_date").is_between(period.first_day, period.last_day))
        for zone in sorted(kinds["time_zone"].unique())
    ]
    if not dated:
        return pl.DataFrame(
            schema={"owner_kind": pl.UInt32, "usage_start": instants.schema["usage_start"], "local_date": pl.Date,
                    "owner_from": instants.schema["usage_start"]}
        )  # fmt: skip
    return (
        kinds.join(pl.concat(dated), on="time_zone", how="inner", validate="m:m")
        .filter((pl.col("owner_from") <= pl.col("usage_start")) & (pl.col("usage_start") < pl.col("owner_to")))
        .select("owner_kind", "usage_start", "local_date", "owner_from")
    )


def _slots(kinds: _Kinds, instants: pl.DataFrame, period: BillingPeriod) -> pl.DataFrame:
    """sku_kind, usage_start, slot_start: the latest price cut at or before each instant, else the period's start."""
    everyone = kinds.of.select("sku_kind").unique().join(instants, how="cross").sort("sku_kind", "usage_start")
    cuts = kinds.members.select("sku_kind", pl.col("cut").alias("slot_start"), pl.col("cut")).sort("sku_kind", "cut")
    return everyone.join_asof(
        cuts, left_on="usage_start", right_on="cut", by="sku_kind", strategy="backward", check_sortedness=False
    ).select("sku_kind", "usage_start", pl.col("slot_start").fill_null(period.widest_start))


def _numbered(assigned: pl.DataFrame, marked: pl.DataFrame, detail: Literal["day", "hour"]) -> Calendars:
    cell_key = ["calendar_id", "local_date", "slot_start", "owner_from"]
    if detail == "hour":
        cell_key.append("usage_start")
    cells = marked.select(cell_key).unique().sort(cell_key).with_columns(
        cell=pl.int_range(pl.len(), dtype=pl.Int32).over("calendar_id")
    )  # fmt: skip
    instants = marked.join(cells, on=cell_key, how="inner", validate="m:1").select("calendar_id", "usage_start", "cell")
    same_charge = ["calendar_id", "local_date", "owner_from", *(["usage_start"] if detail == "hour" else [])]
    return Calendars(
        assigned,
        instants.sort("calendar_id", "usage_start"),
        cells.with_columns(shares_day=pl.len().over(same_charge) > 1).select(
            "calendar_id", "cell", "local_date", "slot_start", "owner_from", "shares_day"
        ),
    )
