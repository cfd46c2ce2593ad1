"""What the book knows of metered series, who owns them, and how they are dealt into shards."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from ratemill.rating.versions import ATTRIBUTE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Collection

UNKNOWN_SCHEMA = pl.Schema(
    {
        "series_id": pl.Int32,
        "records": pl.Int64,
        "column": pl.String,
        "value": pl.String,
        "rule": pl.String,
        "message": pl.String,
    }
)


@dataclass(frozen=True)
class KnownSeries:
    """Series that can be rated, and those that cannot, with the reason."""

    known: pl.DataFrame
    unknown: pl.DataFrame
    """series_id, records, column, value, rule, message: one row per series and reason."""


def split_by_book(series: pl.DataFrame, accounts: pl.DataFrame, skus: pl.DataFrame) -> KnownSeries:
    """Split metered series by whether the book knows their account, SKU and unit.

    These rules depend on the book, so they are judged at each rating and not when a file is loaded: a missing account
    that is added to the book needs no reload. An empty unit means the SKU's usage unit.
    """
    judged = series.join(
        accounts.select("account_id", has_account=pl.lit(True)), on="account_id", how="left", validate="m:1"
    ).join(skus.select("sku_id", "usage_unit"), on="sku_id", how="left", validate="m:1")
    reasons = [
        judged.filter(pl.col("has_account").is_null()).select(
            "series_id",
            "records",
            column=pl.lit("account_id"),
            value="account_id",
            rule=pl.lit("account_id.unknown"),
            message=pl.lit("must be an account of book/accounts"),
        ),
        judged.filter(pl.col("usage_unit").is_null()).select(
            "series_id",
            "records",
            column=pl.lit("sku_id"),
            value="sku_id",
            rule=pl.lit("sku_id.unknown"),
            message=pl.lit("must be a SKU of book/skus"),
        ),
        judged.filter(pl.col("unit") != pl.col("usage_unit")).select(
            "series_id",
            "records",
            column=pl.lit("unit"),
            value="unit",
            rule=pl.lit("unit.wrong"),
            message=pl.format("must be {}, the usage unit of SKU {}", "usage_unit", "sku_id"),
        ),
    ]
    unknown = pl.concat(reasons).cast(UNKNOWN_SCHEMA).sort("series_id", "rule")
    known = series.join(unknown.select("series_id").unique(), on="series_id", how="anti", maintain_order="left")
    return KnownSeries(known, unknown)


CHARGED = ["account_id", "project_id", "sku_id", "region", "resource_id", "tags"]
"""What the owner's charges are for, in their order; the meter's account, names and units make no other charge."""


def own_series(known: pl.DataFrame, owners: pl.DataFrame) -> pl.DataFrame:
    """Each metered series once per stretch of ownership, with what its owner pays for.

    ``known``: series_id, account_id (as metered), project_id, resource_id, resource_name, sku_id, region, tags,
    attributes, calendar_id. ``owners``: see :func:`ratemill.rating.owners.owners_of`, stretches of the period only.
    Comes back with account_id (the owner's), billing_account_id, currency, time_zone, price_lists, owner_from,
    charged_series (number of the combination of CHARGED, in order), and shares_series (other rows have that number).
    """
    owned = (
        known.join(
            owners.drop("owner_to"), on=["account_id", "project_id"], how="inner", nulls_equal=True, validate="m:m"
        )
        .drop("account_id")
        .rename({"owner_account_id": "account_id"})
    )
    numbers = (
        owned.select("billing_account_id", "currency", *CHARGED)
        .unique()
        .sort("billing_account_id", "currency", *CHARGED)
        .with_row_index("charged_series")
    )
    return owned.join(
        numbers, on=["billing_account_id", "currency", *CHARGED], how="left", nulls_equal=True, validate="m:1"
    ).with_columns(shares_series=pl.len().over("charged_series") > 1)


def spread_attributes(series: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """``series`` with a column ``attr.<name>`` for each attribute that prices ask for, from the JSON ``attributes``."""
    if not names:
        return series.drop("attributes")
    texts = series["attributes"].unique().to_list()
    parsed = [json.loads(text) if text else {} for text in texts]
    columns = {
        f"{ATTRIBUTE_PREFIX}{name}": pl.Series([row.get(name) for row in parsed], dtype=pl.String) for name in names
    }
    table = pl.DataFrame({"attributes": pl.Series(texts, dtype=pl.String), **columns})
    return series.join(table, on="attributes", how="left", nulls_equal=True, validate="m:1").drop("attributes")


SHARD_ROWS = 200_000
"""About how many charges a shard may hold: bounds the memory of rating."""


def assign_shards(owned: pl.DataFrame, *, whole_skus: Collection[str]) -> pl.DataFrame:
    """series_id, shard: what is rated together is never cut, in order of payer, SKU, account and project.

    That is a project's use of one SKU: prices are for one SKU, tiers of a project or resource and caps count inside it,
    and so does every invoice line. Where tiers count a payer's whole use, for ``whole_skus``, that stays together.
    ``owned``: series_id, billing_account_id, account_id, project_id, sku_id, cells, one row per series and owner in the
    period; ``cells``: how many a series fills at most, so that the cut depends on data alone and never on the machine.
    A series that moved from one owner to another keeps both in one shard.
    """
    is_whole = pl.col("sku_id").is_in(list(whole_skus))
    named = owned.with_columns(
        pl.when(~is_whole).then(pl.col(name)).alias(name) for name in ("account_id", "project_id")
    )
    units = named.select(_UNIT).unique().sort(_UNIT).with_row_index("unit")
    numbered = named.join(units, on=_UNIT, how="left", nulls_equal=True, validate="m:1")
    grouped = numbered.with_columns(pl.col("unit").replace(_linked(numbered))).unique("series_id")
    sizes = (
        grouped.group_by("unit", "sku_id")
        .agg(rows=pl.col("cells").sum())
        .join(units, on="unit", how="left", validate="m:1")
        .sort("billing_account_id", "sku_id", "unit")
        .with_columns(shard=((pl.col("rows").cum_sum() - 1) // SHARD_ROWS).cast(pl.Int32))
    )
    return grouped.join(sizes, on=["unit", "sku_id"], validate="m:1").select("series_id", "shard")


_UNIT = ["billing_account_id", "account_id", "project_id"]


def _linked(numbered: pl.DataFrame) -> dict[int, int]:
    """Unit → the first unit it shares a series with, directly or through others."""
    parent: dict[int, int] = {}

    def root(unit: int) -> int:
        while parent.get(unit, unit) != unit:
            unit = parent[unit]
        return unit

    shared = numbered.group_by("series_id").agg(pl.col("unit").unique().sort()).filter(pl.col("unit").list.len() > 1)
    for first, *others in shared["unit"].unique().to_list():
        for other in others:
            low, high = sorted((root(first), root(other)))
            parent[high] = low
    return {unit: root(unit) for unit in parent}
