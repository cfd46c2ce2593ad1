"""Commitments: whoever promises to spend an amount pays it, used or not, and gets a percent of it off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ratemill.frames import collect
from ratemill.invoicing.deductions import OpenLines, in_turns
from ratemill.invoicing.lines import draft_lines, exact
from ratemill.invoicing.payers import own_invoice, prorated, with_valid_days
from ratemill.invoicing.scope import in_scope, scope_of_row
from ratemill.invoicing.spread import minor_units, percent_of, to_whole
from ratemill.money import AMOUNT, ZERO
from ratemill.tables.columns import TEXT
from ratemill.tables.invoices import COMMITMENT_LEDGER

if TYPE_CHECKING:
    from ratemill.period import BillingPeriod


def due_commitments(commitments: pl.DataFrame, payers: pl.DataFrame, period: BillingPeriod) -> pl.DataFrame:
    """Commitments of the month, beside their payers, with invoice_id, days, first_day, last_day, committed_amount."""
    valid = with_valid_days(commitments.join(payers, on="account_id", how="inner", validate="m:1"), period)
    currencies = sorted(valid["currency"].unique())
    return valid.with_columns(
        own_invoice(period), committed_amount=prorated(pl.col("amount"), pl.col("currency"), currencies, period)
    ).filter(pl.col("committed_amount") > 0)


def measured_commitments(due: pl.DataFrame, usage: pl.DataFrame) -> pl.DataFrame:
    """``due`` with eligible_amount, which is the usage that counts, and shortfall_amount, which is what it lacks.

    ``usage``: usage lines with what scopes look at.
    """
    eligible = collect(
        usage.lazy()
        .select("invoice_id", "category", "service", "sku_id", "project_id", "region", eligible_amount="amount")
        .join(due.lazy().select("invoice_id", "commitment_id", *scope_of_row()), on="invoice_id", how="inner")
        .filter(in_scope())
        .group_by("commitment_id")
        .agg(pl.col("eligible_amount").sum())
    )
    missing = pl.col("committed_amount") - pl.col("eligible_amount")
    return (
        due.join(eligible, on="commitment_id", how="left", validate="1:1", maintain_order="left")
        .with_columns(pl.col("eligible_amount").fill_null(ZERO))
        .with_columns(shortfall_amount=pl.max_horizontal(missing, pl.lit(ZERO).cast(AMOUNT)))
    )


def shortfall_lines(measured: pl.DataFrame) -> pl.DataFrame:
    """One line of DRAFT_LINES per commitment that was not met: what is missing, at the account that pays."""
    return (
        measured.filter(pl.col("shortfall_amount") > 0)
        .with_columns(
            account_id="billing_account_id",
            project_id=pl.lit(None),
            region=pl.lit(None),
            source_id="commitment_id",
            description="note",
            amount="shortfall_amount",
            charge_start=pl.max_horizontal("valid_from", "month_start"),
            charge_end=pl.min_horizontal("valid_to", "month_end"),
            named_at="tax_point",
        )
        .pipe(exact)
        .pipe(draft_lines, kind="commitment")
    )


def take_commitments(opened: OpenLines, measured: pl.DataFrame) -> OpenLines:
    """``opened`` after each commitment's percent of what was committed, off its usage and its shortfall."""
    candidates = (
        measured.join(minor_units(measured["currency"]), on="currency", how="inner", validate="m:1")
        .with_columns(committed=to_whole("committed_amount"))
        .select(
            "invoice_id",
            pl.lit(None, dtype=TEXT).alias("only_account"),
            pl.col("commitment_id").alias("deduction_id"),
            pl.col("note").alias("deduction_name"),
            pl.col("discount_percent").alias("percent"),
            percent_of(pl.col("committed"), pl.col("discount_percent")).alias("reduction"),
            *scope_of_row(),
        )
        .filter(pl.col("reduction") > 0)
    )
    for turn in in_turns(candidates, "deduction_id"):
        its_shortfall = (pl.col("line_kind") == "commitment") & (pl.col("source_id") == pl.col("deduction_id"))
        rows = (
            opened.beside(turn)
            .filter(its_shortfall | ((pl.col("line_kind") == "usage") & in_scope()))
            .with_columns(base="left")
            .with_columns(total=pl.min_horizontal("reduction", pl.col("base").sum().over("place")))
        )
        opened = opened.after(rows, kind="commitment")
    return opened


def commitment_ledger(measured: pl.DataFrame, deductions: pl.DataFrame, period: BillingPeriod) -> pl.DataFrame:
    """Rows of COMMITMENT_LEDGER: one per commitment of the month."""
    taken = collect(
        deductions.lazy()
        .filter(pl.col("kind") == "commitment")
        .group_by(pl.col("source_id").alias("commitment_id"))
        .agg(pl.col("amount").sum().alias("discount_amount"))
    )
    return (
        measured.join(taken, on="commitment_id", how="left", validate="1:1")
        .with_columns(
            pl.col("discount_amount").fill_null(ZERO), days_in_month=pl.lit(period.days), description="note"
        )
        .pipe(COMMITMENT_LEDGER.conform)
        .sort(COMMITMENT_LEDGER.key)
    )  # fmt: skip
