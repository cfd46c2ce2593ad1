"""Books that could make rating slow: the same usage under other prices and owners."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from ratemill.period import BillingPeriod

Shape = Callable[[Path, BillingPeriod], None]
"""Rewrites ``book/*.csv`` of a demo workspace."""


def plain(folder: Path, period: BillingPeriod) -> None:
    """The demo's book as it is."""


def hourly_prices(folder: Path, period: BillingPeriod) -> None:
    """Every public price that is the only one of its SKU and currency has another version each hour of the month."""
    prices = _read(folder, "prices")
    hours = [period.widest_start + timedelta(hours=hour) for hour in range(_hours(period))]
    sold_as = ["price_list", "sku_id", "currency"]
    cut = pl.col("price_list").fill_null("public").is_in(["public", ""]) & (pl.len().over(sold_as) == 1)
    kept = prices.filter(~cut)
    versions = (
        prices.filter(cut)
        .join(
            pl.DataFrame({"_from": [_text(hour) for hour in hours], "_to": [*(_text(h) for h in hours[1:]), ""]}),
            how="cross",
        )
        .with_columns(
            price_id=pl.col("price_id") + "-" + pl.col("_from"), valid_from=pl.col("_from"), valid_to=pl.col("_to")
        )
        .select(prices.columns)
    )
    pl.concat([kept, versions]).write_csv(folder / "book" / "prices.csv")


def many_tiers(folder: Path, period: BillingPeriod) -> None:  # noqa: ARG001
    """Every plain price is graduated with 50 tiers, counted per account."""
    prices = _read(folder, "prices")
    plain_price = (
        (pl.len().over("price_id") == 1)
        & pl.col("mode").fill_null("per_unit").is_in(["per_unit", ""])
        & pl.col("window").fill_null("").eq("")
    )
    bounds = pl.DataFrame({"_up_to": [*(str(100 * tier) for tier in range(1, 50)), ""]})
    tiers = (
        prices.filter(plain_price)
        .join(bounds, how="cross")
        .with_columns(up_to="_up_to", mode=pl.lit("graduated"))
        .select(prices.columns)
    )
    pl.concat([prices.filter(~plain_price), tiers]).write_csv(folder / "book" / "prices.csv")


def one_payer(folder: Path, period: BillingPeriod) -> None:  # noqa: ARG001
    """One account pays for every account of its currency: a billing account with most of the rows."""
    accounts = _read(folder, "accounts")
    payer = pl.col("account_id").filter(pl.col("billing_account_id").fill_null("").eq("")).first().over("currency")
    accounts = accounts.with_columns(
        billing_account_id=pl.when(pl.col("account_id") == payer).then(pl.lit("")).otherwise(payer)
    )
    accounts.write_csv(folder / "book" / "accounts.csv")
    payers = accounts.filter(pl.col("billing_account_id") != "").select("account_id", _payer="billing_account_id")
    for table in ("commitments", "credits"):  # only who pays can have one
        deals = _read(folder, table)
        deals.join(payers, on="account_id", how="left", maintain_order="left").with_columns(
            account_id=pl.coalesce("_payer", "account_id")
        ).select(deals.columns).write_csv(folder / "book" / f"{table}.csv")
    for table in ("members", "budgets", "subscriptions"):  # they rate nothing
        (folder / "book" / f"{table}.csv").unlink()


SHAPES: dict[str, Shape] = {
    "plain": plain,
    "hourly-prices": hourly_prices,
    "many-tiers": many_tiers,
    "one-payer": one_payer,
}


def _read(folder: Path, table: str) -> pl.DataFrame:
    return pl.read_csv(folder / "book" / f"{table}.csv", infer_schema=False)


def _hours(period: BillingPeriod) -> int:
    return int((period.widest_end - period.widest_start) / timedelta(hours=1))


def _text(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")
