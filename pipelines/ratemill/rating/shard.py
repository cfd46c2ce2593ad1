"""Rate one shard: whole billing accounts in, their charges out. One deterministic function, whatever engine runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from ratemill.frames import collect
from ratemill.money import COST, PRICE
from ratemill.rating.caps import differences
from ratemill.rating.costs import RESOURCE, side_costs
from ratemill.rating.prices import find_prices, price_key, why_unpriced
from ratemill.rating.quantities import month_hours, priced_quantities, unit_facts
from ratemill.tables.charges import CHARGES, UNPRICED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ratemill.period import BillingPeriod
    from ratemill.rating.versions import PriceVersions


@dataclass(frozen=True)
class RatedShard:
    """Charges in CHARGE_ORDER, and usage that found no price. Metered quantity = charges' + unpriced quantity."""

    charges: pl.DataFrame
    unpriced: pl.DataFrame


def rate_shard(
    metered: pl.DataFrame,
    hourly: pl.DataFrame,
    *,
    skus: pl.DataFrame,
    versions: PriceVersions,
    fx_rates: pl.DataFrame,
    period: BillingPeriod,
    run_id: str,
) -> RatedShard:
    """Price metered usage.

    Args:
        metered: one row per series, owner and cell: charged_series, what a series of that number is (see
            ``rating/series.py``), the owner's billing_account_id, currency, time_zone and price_lists, the cell's
            local_date, moment, slot_start and windows, may_merge (another row may be part of the same charge),
            quantity, billable (empty where it is the quantity), records, charge_start, charge_end, last_usage_start.
        hourly: charged_series, hour, billable of SKUs whose hours are not summed.
        skus: the book's SKUs.
        versions: the book's prices.
        fx_rates: the book's exchange rates.
        period: the month.
        run_id: the run.

    Raises:
        polars.exceptions.ComputeError: when a cost overflows DECIMAL(38,18).
    """
    key = [*price_key(versions), "local_date"]
    found = find_prices(metered, versions, fx_rates)
    priced = metered.join(found, on=key, how="left", nulls_equal=True, validate="m:1")
    has_price = pl.col("price_id").is_not_null()
    charges = _one_row_per_charge(priced.filter(has_price))
    charges = charges.join(unit_facts(skus), on="sku_id", how="left", validate="m:1")
    zones = sorted(charges["time_zone"].unique())
    charges = charges.join(month_hours(zones, period), on="time_zone", how="left", validate="m:1")
    charges = charges.sort("charged_series", "charge_start", "price_id", "list_price_id")
    charges = priced_quantities(charges, hourly).with_row_index("row")
    costed = _with_costs(charges, versions)
    usage = _usage_charges(costed, versions, period=period, run_id=run_id)
    numbered = usage.with_columns(costed["charged_series"])
    limits = _limit_charges(numbered, costed, versions)
    if limits.height:
        usage = _in_order(pl.concat([numbered, limits]))
    return RatedShard(usage, _unpriced(priced.filter(~has_price), skus, versions))


def _in_order(charges: pl.DataFrame) -> pl.DataFrame:
    """CHARGES in CHARGE_ORDER. The number of a charged series stands for all names that the order begins with."""
    return charges.sort("charged_series", "charge_start", "price_id", "list_price_id", "charge_kind").pipe(
        CHARGES.conform
    )


_GRAIN = ["charged_series", "moment", "price_id", "list_price_id"]
_ADDED_UP = ["quantity", "billable", "records", "charge_start", "charge_end", "last_usage_start", "resource_name"]


def _one_row_per_charge(priced: pl.DataFrame) -> pl.DataFrame:
    """Put together the parts of one charge: cells of a day whose price stayed, series that differ only in a label.

    Only rows that can have a partner are grouped; the others are charges already.
    """
    filled = priced.with_columns(billable=pl.coalesce("billable", "quantity"))
    alone, parts = filled.filter(~pl.col("may_merge")), filled.filter("may_merge")
    if not parts.height:
        return alone
    same_inside = [name for name in filled.columns if name not in {*_GRAIN, *_ADDED_UP}]
    together = collect(
        parts.lazy()
        .group_by(_GRAIN)
        .agg(
            pl.col("quantity", "billable", "records").sum(),
            pl.col("charge_start").min(),
            pl.col("charge_end").max(),
            # The latest name the resource had within the charge; of several, the greatest.
            pl.col("resource_name").sort_by("last_usage_start", "resource_name", nulls_last=False).last(),
            pl.col("last_usage_start").max(),
            pl.col(same_inside).first(),
        )
    )
    return pl.concat([alone, together.select(alone.columns)])


_SIDE = ["row", "moment", "pricing_quantity", *RESOURCE]


def _with_costs(charges: pl.DataFrame, versions: PriceVersions) -> pl.DataFrame:
    """``charges`` with what both sides cost in the currency of their price: price_cost, list_price_cost."""
    contracted = side_costs(charges.select(*_SIDE, "price_id"), versions)
    costed = charges.join(contracted.rename({"cost": "price_cost"}), on="row", how="left", validate="1:1")
    others = _rows_with_own_list_side(charges, versions)
    listed = side_costs(
        charges.join(others, on="row", how="semi").select(*_SIDE, price_id="list_price_id"), versions
    ).rename({"cost": "list_price_cost"})  # fmt: skip
    return costed.join(listed, on="row", how="left", validate="1:1").with_columns(
        # Where every charge of a run has the public price, both sides are the same computation.
        list_price_cost=pl.coalesce(
            "list_price_cost", pl.when(pl.col("list_price_id").is_not_null()).then("price_cost")
        )
    ).sort("row")  # fmt: skip


def _rows_with_own_list_side(charges: pl.DataFrame, versions: PriceVersions) -> pl.DataFrame:
    """Row of charges whose public price's run also holds charges that other prices applied to."""
    runs = versions.rows.select(pl.col("price_id").alias("list_price_id"), pl.col("run").alias("list_run"))
    listed = (
        charges.select("row", "billing_account_id", "price_id", "list_price_id")
        .filter(pl.col("list_price_id").is_not_null())
        .join(runs, on="list_price_id", how="left", validate="m:1")
    )
    differs = (pl.col("price_id") != pl.col("list_price_id")).any().over("billing_account_id", "list_run")
    return listed.filter(differs).select("row")


def _converted(amount: str, rate: str) -> pl.Expr:
    """An exact cost in the payer's currency, half-even at 18 places."""
    return pl.when(pl.col(rate).is_null()).then(pl.col(amount)).otherwise(pl.col(amount).cast(COST) * pl.col(rate))


def _converted_price(price: str, rate: str) -> pl.Expr:
    """A unit price in the payer's currency, half-even at 12 places; empty where tiers give several."""
    return pl.when(pl.col(rate).is_null()).then(pl.col(price)).otherwise(pl.col(price).cast(PRICE) * pl.col(rate))


def _unit_price(versions: PriceVersions, price_id: str, name: str) -> pl.DataFrame:
    return versions.rows.select(
        pl.col("price_id").alias(price_id),
        pl.col("unit_price").alias(name),
        pl.col("currency").alias(f"{name}_currency"),
    )


def _usage_charges(
    costed: pl.DataFrame, versions: PriceVersions, *, period: BillingPeriod, run_id: str
) -> pl.DataFrame:
    """Rows of CHARGES, in the order of ``costed``, money in the payer's currency."""
    priced = costed.join(
        _unit_price(versions, "price_id", "price"), on="price_id", how="left", maintain_order="left", validate="m:1"
    ).join(
        _unit_price(versions, "list_price_id", "list_price"),
        on="list_price_id", how="left", maintain_order="left", validate="m:1",
    )  # fmt: skip
    return priced.select(
        pl.lit(str(period)).alias("period"),
        "billing_account_id",
        "account_id",
        "project_id",
        "resource_id",
        "resource_name",
        "sku_id",
        "region",
        "tags",
        "charge_start",
        "charge_end",
        pl.lit("usage").alias("charge_kind"),
        "price_id",
        "list_price_id",
        pl.col("quantity").alias("usage_quantity"),
        "usage_unit",
        "pricing_quantity",
        "pricing_unit",
        "currency",
        _converted_price("list_price", "list_exchange_rate").alias("list_unit_price"),
        _converted_price("price", "exchange_rate").alias("contracted_unit_price"),
        _converted("list_price_cost", "list_exchange_rate").alias("list_cost"),
        _converted("price_cost", "exchange_rate").alias("contracted_cost"),
        _converted("price_cost", "exchange_rate").alias("cost"),
        pl.col("price_currency").alias("pricing_currency"),
        "exchange_rate",
        "list_exchange_rate",
        pl.lit(None).alias("source_id"),
        pl.lit(None).alias("corrects_period"),
        pl.lit(run_id).alias("run_id"),
        invoice_id_of(pl.lit(str(period)), pl.col("billing_account_id"), pl.col("currency")).alias("invoice_id"),
    ).pipe(CHARGES.conform)


def invoice_id_of(period: pl.Expr, billing_account_id: pl.Expr, currency: pl.Expr) -> pl.Expr:
    """Identity of the invoice that a charge goes on: one per period, billing account and currency."""
    return pl.concat_str(period, billing_account_id, currency, separator="-")


_NO_QUANTITY = ["usage_quantity", "usage_unit", "pricing_quantity", "pricing_unit", "list_unit_price",
                "contracted_unit_price"]  # fmt: skip


def _limit_charges(usage: pl.DataFrame, costed: pl.DataFrame, versions: PriceVersions) -> pl.DataFrame:
    """Charges of kind cap and minimum: each repeats the charge it stands beside, without quantities and unit prices.

    ``usage`` (CHARGES and charged_series, as what comes back) and ``costed`` are of the same charges, row by row.
    """
    if not versions.has_limits:
        return usage.head(0)
    side = costed.select("row", "charge_start", *RESOURCE, usage_quantity="quantity")
    contracted = differences(
        side.with_columns(
            costed["price_id"], costed["price_cost"].alias("cost"), usage["cost"].alias("converted"),
            costed["exchange_rate"],
        ),
        versions,
    )  # fmt: skip
    listed = differences(
        side.with_columns(
            costed["list_price_id"].alias("price_id"), costed["list_price_cost"].alias("cost"),
            usage["list_cost"].alias("converted"), costed["list_exchange_rate"].alias("exchange_rate"),
        ).filter(pl.col("price_id").is_not_null()),
        versions,
    )  # fmt: skip
    both = contracted.join(listed, on=["anchor", "charge_kind"], how="full", coalesce=True, suffix="_list")
    anchors = usage.drop("charge_kind", "list_cost", "contracted_cost", "cost").with_row_index("anchor")
    zero = pl.lit(0).cast(COST)
    rows = both.join(anchors, on="anchor", how="left", validate="m:1").with_columns(
        list_cost=pl.when(pl.col("list_price_id").is_not_null()).then(pl.coalesce("amount_list", zero)),
        contracted_cost=pl.coalesce("amount", zero),
        cost=pl.coalesce("amount", zero),
    )
    return rows.with_columns(pl.lit(None).alias(name) for name in _NO_QUANTITY).select(usage.columns).cast(usage.schema)


def _unpriced(no_price: pl.DataFrame, skus: pl.DataFrame, versions: PriceVersions) -> pl.DataFrame:
    """What would be lost by billing anyway, per account, SKU, region and reason."""
    if not no_price.height:
        return UNPRICED.empty()
    grouped = collect(
        no_price.lazy()
        .group_by("billing_account_id", "account_id", "currency", "sku_id", "region", "no_price")
        .agg(
            pl.col("charge_start").min().alias("first_usage"),
            pl.col("charge_end").max().alias("last_usage"),
            pl.col("quantity").sum(),
            pl.col("records").sum(),
        )
    )
    return (
        why_unpriced(grouped, versions)
        .join(skus.select("sku_id", "usage_unit"), on="sku_id", how="left", validate="m:1")
        .pipe(UNPRICED.conform)
        .sort(_UNPRICED_OF)
    )


_UNPRICED_OF = ["billing_account_id", "account_id", "sku_id", "region", "reason"]


def unpriced_of_shards(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Unpriced usage of several shards as one table: an account's use of one SKU may be cut by projects."""
    return (
        pl.concat([UNPRICED.empty(), *parts])
        .group_by(*_UNPRICED_OF, "usage_unit")
        .agg(
            pl.col("first_usage").min(),
            pl.col("last_usage").max(),
            pl.col("quantity").sum(),
            pl.col("records").sum(),
        )
        .pipe(UNPRICED.conform)
        .sort(_UNPRICED_OF)
    )
