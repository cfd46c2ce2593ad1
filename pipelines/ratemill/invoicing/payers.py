"""Who pays for an account, and the local month of whoever pays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import polars as pl

from ratemill.frames import collect
from ratemill.money import AMOUNT, COST, round_to_minor_unit
from ratemill.rating.shard import invoice_id_of
from ratemill.tables.columns import INSTANT, TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ratemill.period import BillingPeriod

NOON = 12


def payers_of(accounts: pl.DataFrame, *, period: BillingPeriod, time_zone: str) -> pl.DataFrame:
    """One row per account: who pays for it, and the payer's currency, tax data and local month.

    Columns: account_id, billing_account_id, payer_currency, account_tax_code, country, state, zone, month_start,
    month_end (exclusive), tax_point (the last instant of the local month).
    """
    payers = accounts.select(
        pl.col("account_id").alias("billing_account_id"),
        pl.col("currency").alias("payer_currency"),
        pl.col("tax_code").alias("account_tax_code"),
        "country",
        "state",
        zone=pl.col("time_zone").fill_null(time_zone),
    )
    return (
        accounts.select("account_id", billing_account_id=pl.coalesce("billing_account_id", "account_id"))
        .join(payers, on="billing_account_id", how="inner", validate="m:1")
        .join(_months(payers["zone"].unique().sort(), period), on="zone", how="inner", validate="m:1")
    )


def _months(zones: Iterable[str], period: BillingPeriod) -> pl.DataFrame:
    rows = [(zone, period.start(zone), period.end(zone)) for zone in zones]
    schema = pl.Schema([("zone", TEXT), ("month_start", INSTANT), ("month_end", INSTANT)])
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        tax_point=pl.col("month_end") - pl.duration(microseconds=1)
    )


def with_valid_days(rows: pl.DataFrame, period: BillingPeriod) -> pl.DataFrame:
    """``rows`` that are valid on a local day of the month, with days, first_day and last_day.

    ``rows``: zone, valid_from, valid_to. A day counts when its local noon lies in [valid_from, valid_to), so that a
    date that is midnight in another zone means the same day everywhere but at the far ends of the earth.
    """
    days = [period.first_day + timedelta(days=number) for number in range(period.days)]
    noons = pl.DataFrame(
        [
            (zone, day, datetime(day.year, day.month, day.day, NOON, tzinfo=ZoneInfo(zone)).astimezone(UTC))
            for zone in rows["zone"].unique().sort()
            for day in days
        ],
        schema={"zone": TEXT, "day": pl.Date, "noon": INSTANT},
        orient="row",
    )
    numbered = rows.with_row_index("row")
    begun = pl.col("valid_from").is_null() | (pl.col("valid_from") <= pl.col("noon"))
    not_ended = pl.col("valid_to").is_null() | (pl.col("noon") < pl.col("valid_to"))
    counted = collect(
        numbered.lazy()
        .select("row", "zone", "valid_from", "valid_to")
        .join(noons.lazy(), on="zone", how="inner")
        .filter(begun & not_ended)
        .group_by("row")
        .agg(
            pl.len().cast(pl.Int32).alias("days"),
            pl.col("day").min().alias("first_day"),
            pl.col("day").max().alias("last_day"),
        )
    )
    return numbered.join(counted, on="row", how="inner", validate="1:1").sort("row").drop("row")


def prorated(amount: pl.Expr, currency: pl.Expr, currencies: list[str], period: BillingPeriod) -> pl.Expr:
    """Amount × days / days of the month, half-up to the minor unit.

    The quotient is rounded at 18 places on the way. That moves no tie: with at most 31 days, what is no tie differs
    from one by more than 10^-6 of an amount's last place.
    """
    exact = amount.cast(COST) * pl.col("days").cast(pl.Decimal(38, 0)) / pl.lit(period.days).cast(COST)
    return round_to_minor_unit(exact, currency, currencies)


def valid_at_tax_point(valid_from: str = "valid_from", valid_to: str = "valid_to") -> pl.Expr:
    """Whether a row holds at the last instant of the payer's local month."""
    begun = pl.col(valid_from).is_null() | (pl.col(valid_from) <= pl.col("tax_point"))
    return begun & (pl.col(valid_to).is_null() | (pl.col("tax_point") < pl.col(valid_to)))


def own_invoice(period: BillingPeriod) -> pl.Expr:
    """invoice_id: the invoice of the row's payer and currency."""
    return invoice_id_of(pl.lit(str(period)), pl.col("billing_account_id"), pl.col("currency")).alias("invoice_id")


def in_minor_units(amount: str, currencies: list[str]) -> pl.Expr:
    """The amount rounded half-up to the row's currency's minor unit."""
    return round_to_minor_unit(pl.col(amount).cast(AMOUNT), pl.col("currency"), currencies)
