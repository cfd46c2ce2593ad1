"""Rate one shard: whole billing accounts in, their charges out. One deterministic function, whatever engine runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from ratemill.frames import collect
from ratemill.money import QUANTITY, convert_quantity, exact_cost
from ratemill.rating.prices import KEY, find_prices, why_unpriced
from ratemill.tables.book import HOURS_IN_MONTH
from ratemill.tables.charges import CHARGE_ORDER, CHARGES, UNPRICED

if TYPE_CHECKING:
    from ratemill.period import BillingPeriod


@dataclass(frozen=True)
class RatedShard:
    """Charges in CHARGE_ORDER, and usage that found no price. Metered quantity = charges' + unpriced quantity."""

    charges: pl.DataFrame
    unpriced: pl.DataFrame


def rate_shard(
    metered: pl.DataFrame,
    *,
    skus: pl.DataFrame,
    prices: pl.DataFrame,
    period: BillingPeriod,
    run_id: str,
) -> RatedShard:
    """Price metered usage.

    ``metered``: series_id, identity_id, the metered columns of a series (resource_id, resource_name, sku_id, region,
    project_id, tags), the owner's (account_id, billing_account_id, currency, time_zone, price_lists), the cell's
    (local_date, slot_start, shares_day) and quantity, records, charge_start, charge_end, last_usage_start. One row per
    series and cell. ``renamed`` says that another series has the same identity.

    Raises:
        polars.exceptions.ComputeError: when a cost overflows DECIMAL(38,18).
    """
    keys = metered.select(KEY).unique()
    found = find_prices(keys, prices)
    priced = metered.join(found, on=KEY, how="left", nulls_equal=True, validate="m:1")
    no_price = priced.filter(pl.col("price_id").is_null())
    charges = priced.filter(pl.col("price_id").is_not_null()) if no_price.height else priced
    charges = _one_row_per_charge(charges)
    charges = charges.join(_units(skus), on="sku_id", how="left", validate="m:1")
    charges = charges.join(_hours(charges, period), on="time_zone", how="left", validate="m:1")
    return RatedShard(_charges(charges, period=period, run_id=run_id), _unpriced(no_price, skus, prices))


_GRAIN = ["identity_id", "account_id", "local_date", "price_id", "list_price_id"]


def _one_row_per_charge(priced: pl.DataFrame) -> pl.DataFrame:
    """Put together the parts of one charge: cells of a day whose price stayed, series that differ only in a label.

    Only rows that can have a partner are grouped; the others are charges already.
    """
    may_have_partner = pl.col("shares_day") | pl.col("renamed")
    alone = priced.filter(~may_have_partner)
    parts = priced.filter(may_have_partner)
    if not parts.height:
        return alone
    same_inside = [name for name in priced.columns if name not in {
        *_GRAIN, "quantity", "records", "charge_start", "charge_end", "last_usage_start", "resource_name", "series_id",
        "slot_start",
    }]  # fmt: skip
    together = collect(
        parts.lazy()
        .group_by(_GRAIN)
        .agg(
            pl.col("quantity").sum(),
            pl.col("records").sum(),
            pl.col("charge_start").min(),
            pl.col("charge_end").max(),
            # The latest name the resource had within the charge.
            pl.col("resource_name").sort_by("last_usage_start", "resource_name", nulls_last=False).last(),
            pl.col("series_id", "slot_start", "last_usage_start").min(),
            pl.col(same_inside).first(),
        )
    )
    return pl.concat([alone, together.select(alone.columns)])


def _units(skus: pl.DataFrame) -> pl.DataFrame:
    divisor = pl.col("units_per_pricing_unit")
    return skus.select(
        "sku_id",
        "usage_unit",
        "pricing_unit",
        by_hours=divisor == HOURS_IN_MONTH,
        fixed_divisor=pl.when(divisor != HOURS_IN_MONTH).then(divisor).cast(QUANTITY),
    )


def _hours(charges: pl.DataFrame, period: BillingPeriod) -> pl.DataFrame:
    """Real hours of the local month, per zone: 743 or 745 where clocks change."""
    zones = sorted(charges["time_zone"].unique())
    return pl.DataFrame(
        {"time_zone": zones, "month_hours": [period.hours(zone) for zone in zones]},
        schema={"time_zone": pl.String, "month_hours": pl.Int64},
    )


def _charges(rated: pl.DataFrame, *, period: BillingPeriod, run_id: str) -> pl.DataFrame:
    divisor = pl.when("by_hours").then(pl.col("month_hours").cast(QUANTITY)).otherwise("fixed_divisor")
    costed = (
        rated.rename({"quantity": "usage_quantity"})
        .with_columns(pricing_quantity=convert_quantity(pl.col("usage_quantity"), divisor))
        .with_columns(
            contracted_cost=exact_cost(pl.col("pricing_quantity"), pl.col("unit_price")),
            list_cost=exact_cost(pl.col("pricing_quantity"), pl.col("list_unit_price")),
        )
        .with_columns(
            pl.lit(str(period)).alias("period"),
            pl.lit("usage").alias("charge_kind"),
            pl.lit(run_id).alias("run_id"),
            invoice_id_of(pl.lit(str(period)), pl.col("billing_account_id"), pl.col("currency")).alias("invoice_id"),
            contracted_unit_price="unit_price",
            cost="contracted_cost",
        )
    )
    return costed.pipe(CHARGES.conform).sort(CHARGE_ORDER)


def invoice_id_of(period: pl.Expr, billing_account_id: pl.Expr, currency: pl.Expr) -> pl.Expr:
    """Identity of the invoice that a charge goes on: one per period, billing account and currency."""
    return pl.concat_str(period, billing_account_id, currency, separator="-")


def _unpriced(no_price: pl.DataFrame, skus: pl.DataFrame, prices: pl.DataFrame) -> pl.DataFrame:
    if not no_price.height:
        return UNPRICED.empty()
    reasons = why_unpriced(no_price.select(KEY).unique(), prices)
    grouped = collect(
        no_price.lazy()
        .join(reasons.lazy(), on=KEY, how="left", nulls_equal=True, validate="m:1")
        .join(skus.lazy().select("sku_id", "usage_unit"), on="sku_id", how="left", validate="m:1")
        .group_by("billing_account_id", "account_id", "sku_id", "region", "usage_unit", "reason")
        .agg(
            pl.col("charge_start").min().alias("first_usage"),
            pl.col("charge_end").max().alias("last_usage"),
            pl.col("quantity").sum(),
            pl.col("records").sum(),
        )
    )
    return grouped.pipe(UNPRICED.conform).sort("billing_account_id", "account_id", "sku_id", "region", "first_usage")
