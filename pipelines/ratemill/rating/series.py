"""What the book knows of metered series, and which of them it does not know."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

UNKNOWN_SCHEMA = pl.Schema({"series_id": pl.Int32, "records": pl.Int64, "column": pl.String, "value": pl.String,
                  "rule": pl.String, "message": pl.String})  # fmt: skip


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


SHARD_ROWS = 1_500_000
"""About how many charges a shard may hold: bounds the memory of rating."""


def assign_shards(owned: pl.DataFrame, *, cells_per_series: int) -> pl.DataFrame:
    """series_id, shard: whole billing accounts in every shard, in order of their ids.

    ``owned``: series_id, billing_account_id, one row per series and payer in the period. A series that moved from one
    payer to another keeps both in one shard. Every series is taken to fill all its cells, so that the cut depends on
    data alone and never on the machine.
    """
    group_of = _linked(owned)
    grouped = owned.with_columns(group=pl.col("billing_account_id").replace(group_of))
    sizes = (
        grouped.unique("series_id")
        .group_by("group")
        .agg(rows=pl.len().cast(pl.Int64) * cells_per_series)
        .sort("group")
        .with_columns(shard=((pl.col("rows").cum_sum() - 1) // SHARD_ROWS).cast(pl.Int32))
    )
    return grouped.unique("series_id").join(sizes, on="group", validate="m:1").select("series_id", "shard")


def _linked(owned: pl.DataFrame) -> dict[str, str]:
    """Payer → the smallest payer it shares a series with, directly or through others."""
    parent: dict[str, str] = {}

    def root(payer: str) -> str:
        while parent.get(payer, payer) != payer:
            payer = parent[payer]
        return payer

    shared = owned.group_by("series_id").agg(pl.col("billing_account_id").unique().sort()).filter(
        pl.col("billing_account_id").list.len() > 1
    )  # fmt: skip
    for first, *others in shared["billing_account_id"].unique().sort().to_list():
        for other in others:
            low, high = sorted((root(first), root(other)))
            parent[high] = low
    return {payer: root(payer) for payer in parent}
