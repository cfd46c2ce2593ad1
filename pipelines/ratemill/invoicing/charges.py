"""The charges that invoicing adds, so that charges add up to the untaxed amount of every invoice, line by line."""

from __future__ import annotations

import polars as pl

from ratemill.invoicing.deductions import LINE
from ratemill.invoicing.lines import LINE_KEY
from ratemill.tables.charges import CHARGE_ORDER, CHARGES


def added_charges(lines: pl.DataFrame, deductions: pl.DataFrame, *, period: str, run_id: str) -> pl.DataFrame:
    """Rounding of usage lines, every other line, and every deduction, as CHARGES in one order."""
    return pl.concat(
        [
            rounding_charges(lines, period=period, run_id=run_id),
            line_charges(lines, period=period, run_id=run_id),
            deduction_charges(lines, deductions, period=period, run_id=run_id),
        ]
    ).sort(*CHARGE_ORDER, "source_id", "corrects_period", "cost")  # fmt: skip


def rounding_charges(lines: pl.DataFrame, *, period: str, run_id: str) -> pl.DataFrame:
    """A charge of kind ``rounding`` per line that rounding changed."""
    rounded = lines.filter(pl.col("rounding") != 0)
    return _charges(rounded, period, run_id, charge_kind=pl.lit("rounding"), cost=pl.col("rounding"))


def line_charges(lines: pl.DataFrame, *, period: str, run_id: str) -> pl.DataFrame:
    """A charge per line that is not made of usage charges, of the line's kind."""
    others = lines.filter(pl.col("line_kind") != "usage")
    return _charges(
        others,
        period,
        run_id,
        charge_kind=pl.col("line_kind"),
        cost=pl.col("cost"),
        source_id=pl.col("source_id"),
        corrects_period=pl.col("corrects_period"),
    )


def deduction_charges(lines: pl.DataFrame, deductions: pl.DataFrame, *, period: str, run_id: str) -> pl.DataFrame:
    """A charge below zero per deduction: of its kind, with the columns of the line it is taken off."""
    taken = deductions.select(*LINE, "kind", deducted_by="source_id", deducted="amount").join(
        lines, on=LINE, how="inner", validate="m:1"
    )  # fmt: skip
    return _charges(
        taken,
        period,
        run_id,
        charge_kind=pl.col("kind"),
        cost=pl.col("deducted"),
        source_id=pl.col("deducted_by"),
        corrects_period=pl.col("corrects_period"),
    )


def _charges(rows: pl.DataFrame, period: str, run_id: str, **columns: pl.Expr) -> pl.DataFrame:
    """``rows`` of lines as CHARGES without quantities: nothing of it was metered, so no price list prices it."""
    known = {
        "period": pl.lit(period),
        **{name: pl.col(name) for name in (*LINE_KEY, "charge_start", "charge_end", "invoice_id")},
        "list_cost": pl.lit(0),
        "contracted_cost": pl.lit(0),
        "run_id": pl.lit(run_id),
        **columns,
    }
    return rows.select(known.get(c.name, pl.lit(None)).cast(c.dtype).alias(c.name) for c in CHARGES.columns)
