"""Who used it and who pays: accounts of usage series, with projects that move on a date."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from datetime import datetime

EVER = pl.datetime(1, 1, 1, time_zone="UTC", time_unit="us")
NEVER = pl.datetime(9999, 12, 31, time_zone="UTC", time_unit="us")


def owners_of(pairs: pl.DataFrame, accounts: pl.DataFrame, projects: pl.DataFrame, *, time_zone: str) -> pl.DataFrame:
    """Who owns the usage of each metered (account_id, project_id) pair, and from when to when.

    Columns: account_id, project_id (as metered), owner_from, owner_to, owner_account_id, billing_account_id, currency,
    time_zone, price_lists. One row per stretch of time with one owner; the stretches of a pair do not overlap.

    A project that the book knows at that instant belongs to the account the book says; else the meter's account
    counts. The billing account's zone decides days and months, its currency the invoice; the account's own price
    lists, else its payer's, are searched. Pairs whose account is unknown have no interval.
    """
    moves = (
        projects.select(
            "project_id",
            pl.col("account_id").alias("owner_account_id"),
            pl.col("valid_from").fill_null(EVER).alias("owner_from"),
            pl.col("valid_to").fill_null(NEVER).alias("owner_to"),
        )
        .join(pairs.unique(), on="project_id", how="inner")
        .sort("account_id", "project_id", "owner_from")
    )
    stretches = pl.concat([moves.select(_STRETCH), _gaps(pairs.unique(), moves).select(_STRETCH)])
    return _with_payers(stretches, accounts, time_zone=time_zone)


_STRETCH = ["account_id", "project_id", "owner_account_id", "owner_from", "owner_to"]


def _gaps(pairs: pl.DataFrame, moves: pl.DataFrame) -> pl.DataFrame:
    """Stretches in which the book does not know the pair's project: the meter's account owns them."""
    before = moves.with_columns(
        gap_from=pl.col("owner_to").shift(1).over("account_id", "project_id").fill_null(EVER),
        gap_to=pl.col("owner_from"),
    )
    after = moves.group_by("account_id", "project_id").agg(gap_from=pl.col("owner_to").max()).with_columns(gap_to=NEVER)
    unknown = pairs.join(moves, on=["account_id", "project_id"], how="anti", nulls_equal=True).with_columns(
        gap_from=EVER, gap_to=NEVER
    )
    gaps = [frame.select("account_id", "project_id", "gap_from", "gap_to") for frame in (before, after, unknown)]
    return (
        pl.concat(gaps)
        .filter(pl.col("gap_from") < pl.col("gap_to"))
        .select(
            "account_id",
            "project_id",
            pl.col("account_id").alias("owner_account_id"),
            pl.col("gap_from").alias("owner_from"),
            pl.col("gap_to").alias("owner_to"),
        )
    )


def _with_payers(stretches: pl.DataFrame, accounts: pl.DataFrame, *, time_zone: str) -> pl.DataFrame:
    own = accounts.select(
        pl.col("account_id").alias("owner_account_id"),
        pl.coalesce("billing_account_id", "account_id").alias("billing_account_id"),
        pl.col("price_lists").alias("own_lists"),
    )
    payers = accounts.select(
        pl.col("account_id").alias("billing_account_id"),
        "currency",
        pl.col("time_zone").fill_null(time_zone),
        pl.col("price_lists").alias("payer_lists"),
    )
    return (
        stretches.join(own, on="owner_account_id", how="inner", validate="m:1")
        .join(payers, on="billing_account_id", how="inner", validate="m:1")
        .with_columns(price_lists=pl.coalesce("own_lists", "payer_lists").fill_null(""))
        .drop("own_lists", "payer_lists")
        .sort("account_id", "project_id", "owner_from")
    )


def owners_in(owners: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """The stretches that touch [start, end), cut to it, so that moves at other times make no difference."""
    return owners.filter((pl.col("owner_from") < end) & (pl.col("owner_to") > start)).with_columns(
        pl.col("owner_from").clip(lower_bound=start), pl.col("owner_to").clip(upper_bound=end)
    )
