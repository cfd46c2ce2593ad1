"""What must hold before anything is written. A law whose side is empty fails: nothing to compare is no pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ratemill.errors import InvariantError
from ratemill.frames import collect
from ratemill.invoicing.lines import LINE_KEY
from ratemill.money import COST

if TYPE_CHECKING:
    from ratemill.invoicing.assembly import Invoices


def assert_quantities_kept(metered: pl.DataFrame, charges: pl.DataFrame, unpriced: pl.DataFrame) -> None:
    """Σ charge quantity + Σ unpriced quantity = Σ metered quantity, per SKU, to the last digit.

    Each frame has sku_id and quantity, one row per SKU.
    """
    rated = pl.concat([charges, unpriced], how="vertical_relaxed").group_by("sku_id").agg(pl.col("quantity").sum())
    _assert_equal("usage quantity per SKU", metered, rated, on=["sku_id"], value="quantity")


def assert_invoices_add_up(charges: pl.LazyFrame, invoices: Invoices) -> None:
    """Σ charges = Σ lines = untaxed total, at line, project, account and invoice level; totals and taxes agree."""
    all_charges = pl.concat([charges.select(*LINE_KEY, "invoice_id", "cost"),
                             invoices.charges.lazy().select(*LINE_KEY, "invoice_id", "cost")])  # fmt: skip
    by_line = collect(all_charges.group_by("invoice_id", *LINE_KEY).agg(pl.col("cost").sum()))
    lines = invoices.lines.with_columns(pl.col("net_amount").cast(COST).alias("line_cost"))
    for level in (
        ["invoice_id", "account_id", "project_id", "sku_id", "region", "price_id"],
        ["invoice_id", "account_id", "project_id"],
        ["invoice_id", "sku_id"],
        ["invoice_id"],
    ):
        _assert_equal(
            f"charges and lines by {', '.join(level)}",
            _summed(by_line, level, "cost"),
            _summed(lines, level, "line_cost").rename({"line_cost": "cost"}),
            on=level,
            value="cost",
        )
    totals = invoices.invoices.select("invoice_id", "untaxed_amount", "tax_amount", "total_amount", "due_amount")
    for name, table, column, total in (
        ("lines and untaxed total", invoices.lines, "net_amount", "untaxed_amount"),
        ("tax bases and untaxed total", invoices.taxes, "base_amount", "untaxed_amount"),
        ("taxes and tax total", invoices.taxes, "tax_amount", "tax_amount"),
    ):
        _assert_equal(
            name,
            _summed(table, ["invoice_id"], column).rename({column: "sum"}),
            totals.select("invoice_id", pl.col(total).alias("sum")),
            on=["invoice_id"],
            value="sum",
        )
    wrong = totals.filter(
        (pl.col("untaxed_amount") + pl.col("tax_amount") != pl.col("total_amount"))
        | (pl.col("total_amount") != pl.col("due_amount"))
    )
    if wrong.height:
        raise InvariantError(f"untaxed + tax ≠ total on invoice {wrong['invoice_id'][0]}; nothing was written")


def _summed(frame: pl.DataFrame, by: list[str], value: str) -> pl.DataFrame:
    return collect(frame.lazy().group_by(by).agg(pl.col(value).sum()))


def _assert_equal(name: str, left: pl.DataFrame, right: pl.DataFrame, *, on: list[str], value: str) -> None:
    if not left.height or not right.height:
        raise InvariantError(f"{name}: nothing to compare ({left.height} against {right.height} rows)")
    both = left.join(right, on=on, how="full", coalesce=True, nulls_equal=True, validate="1:1", suffix="_other")
    different = both.filter(pl.col(value).ne_missing(pl.col(f"{value}_other")))
    if different.height:
        row = different.sort(on).row(0, named=True)
        where = ", ".join(f"{key} {row[key]}" for key in on)
        raise InvariantError(
            f"{name}: {row[value]} ≠ {row[f'{value}_other']} at {where} ({different.height} differ);"
            " nothing was written"
        )
