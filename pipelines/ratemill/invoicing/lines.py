"""Invoice lines: charges added up and rounded, the rounding kept."""

from __future__ import annotations

import polars as pl

from ratemill.frames import collect
from ratemill.money import COST, round_to_minor_unit
from ratemill.tables.charges import CHARGE_ORDER, CHARGES

LINE_KEY = ["billing_account_id", "currency", "account_id", "project_id", "sku_id", "region", "price_id"]
"""One line per combination of these (docs/how-we-bill.md, "Lines")."""


def add_up_lines(charges: pl.LazyFrame) -> pl.DataFrame:
    """Sums per LINE_KEY: invoice_id, quantities and costs, exact and rounded half-up to the currency's minor unit.

    Columns: LINE_KEY, invoice_id, first_start, last_start, last_end, pricing_quantity, pricing_unit, unit_price (empty
    where the charges have several), list_cost (empty where one has none), cost, amount, rounding = amount less cost.
    """
    unit_price = pl.col("contracted_unit_price")
    lines = collect(
        charges.group_by(LINE_KEY).agg(
            pl.col("invoice_id").first(),
            pl.col("charge_start").min().alias("first_start"),
            pl.col("charge_start").max().alias("last_start"),
            pl.col("charge_end").max().alias("last_end"),
            pl.col("pricing_quantity").sum(),
            pl.col("pricing_unit").max(),
            pl.when(unit_price.min() == unit_price.max()).then(unit_price.min()).alias("unit_price"),
            pl.when(pl.col("list_cost").null_count() == 0).then(pl.col("list_cost").sum()).alias("list_cost"),
            pl.col("cost").sum(),
        )
    )
    currencies = sorted(lines["currency"].unique())
    return lines.with_columns(
        amount=round_to_minor_unit(pl.col("cost"), pl.col("currency"), currencies)
    ).with_columns(rounding=(pl.col("amount").cast(COST) - pl.col("cost")).cast(COST)).sort(LINE_KEY)  # fmt: skip


def rounding_charges(lines: pl.DataFrame, *, period: str, run_id: str) -> pl.DataFrame:
    """A charge of kind ``rounding`` per line that rounding changed, so that Σ charges = Σ lines at every level."""
    rounded = lines.filter(pl.col("rounding") != 0)
    known = {
        "period": pl.lit(period),
        "charge_start": pl.col("first_start"),
        "charge_end": pl.col("last_end"),
        "charge_kind": pl.lit("rounding"),
        "list_cost": pl.lit(0),
        "contracted_cost": pl.lit(0),
        "cost": pl.col("rounding"),
        "run_id": pl.lit(run_id),
        "invoice_id": pl.col("invoice_id"),
    }
    filled = [
        known.get(c.name, pl.col(c.name) if c.name in LINE_KEY else pl.lit(None)).cast(c.dtype).alias(c.name)
        for c in CHARGES.columns
    ]
    return rounded.select(filled).sort(CHARGE_ORDER)
