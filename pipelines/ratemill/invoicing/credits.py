"""Credits: balances that invoices draw on, promotional ones before tax and prepaid ones after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ratemill.frames import collect
from ratemill.invoicing.deductions import OpenLines, in_turns
from ratemill.invoicing.payers import own_invoice, valid_at_tax_point
from ratemill.invoicing.scope import in_scope, scope_of_row
from ratemill.invoicing.spread import WHOLE, minor_units, to_amount, to_whole
from ratemill.money import ZERO
from ratemill.tables.columns import TEXT
from ratemill.tables.invoices import CREDIT_LEDGER

if TYPE_CHECKING:
    from ratemill.period import BillingPeriod

_SOONEST_FIRST = ("never_expires", "expires_on", "credit_id")


def usable_credits(
    credits_: pl.DataFrame, drawn: pl.DataFrame, payers: pl.DataFrame, period: BillingPeriod
) -> pl.DataFrame:
    """Credits that can be used at the tax point and have something left, beside the invoice that draws on them.

    ``drawn``: credit_id, amount: what earlier invoices used. Comes back with the credit's columns, invoice_id,
    balance_before, unit, and available: the whole minor units of the balance.
    """
    usable = (
        credits_.join(payers, on="account_id", how="inner", validate="m:1")
        .filter(valid_at_tax_point("granted_on", "expires_on"))
        .join(drawn.select("credit_id", drawn="amount"), on="credit_id", how="left", validate="1:1")
        .with_columns(
            own_invoice(period),
            balance_before=pl.col("amount") - pl.col("drawn").fill_null(ZERO),
            never_expires=pl.col("expires_on").is_null(),
        )
    )
    return (
        usable.join(minor_units(usable["currency"]), on="currency", how="inner", validate="m:1")
        .with_columns(available=to_whole("balance_before"))
        .filter(pl.col("available") > 0)
        .drop("amount", "drawn")
    )


def take_credits(opened: OpenLines, usable: pl.DataFrame) -> OpenLines:
    """``opened`` after the promotional credits, soonest expiry first, as far as lines and the invoice go."""
    candidates = usable.filter(pl.col("kind") == "promotional").with_columns(only_account=pl.lit(None, dtype=TEXT))
    for placed in in_turns(candidates, *_SOONEST_FIRST):
        turn = placed.select(
            "invoice_id",
            "place",
            "only_account",
            pl.col("credit_id").alias("deduction_id"),
            pl.col("note").alias("deduction_name"),
            pl.lit(None).alias("percent"),
            "available",
            *scope_of_row(),
        )
        untaxed = collect(opened.lines.lazy().group_by("invoice_id").agg(pl.col("left").sum().alias("untaxed")))
        rows = (
            opened.beside(turn)
            .filter(in_scope())
            .with_columns(base="left")
            .join(untaxed, on="invoice_id", how="left", validate="m:1")
            .with_columns(total=pl.min_horizontal("available", pl.col("base").sum().over("place"), pl.col("untaxed")))
        )
        opened = opened.after(rows, kind="credit")
    return opened


def promotional_draws(usable: pl.DataFrame, deductions: pl.DataFrame) -> pl.DataFrame:
    """Rows of CREDIT_LEDGER: what lines had taken off by promotional credits."""
    used = collect(
        deductions.lazy()
        .filter(pl.col("kind") == "credit")
        .group_by("invoice_id", pl.col("source_id").alias("credit_id"))
        .agg((-pl.col("amount").sum()).alias("amount"))
    )
    return _ledger(usable.join(used, on=["invoice_id", "credit_id"], how="inner", validate="1:1"))


def prepaid_draws(usable: pl.DataFrame, totals: pl.DataFrame) -> pl.DataFrame:
    """Rows of CREDIT_LEDGER: what prepaid credits pay of the taxed totals, soonest expiry first.

    ``totals``: invoice_id, total_amount.
    """
    before = pl.col("available").cum_sum().over("invoice_id") - pl.col("available")
    return (
        usable.filter(pl.col("kind") == "prepaid")
        .join(totals.select("invoice_id", "total_amount"), on="invoice_id", how="inner", validate="m:1")
        .sort("invoice_id", *_SOONEST_FIRST)
        .with_columns(used=pl.min_horizontal(pl.col("available"), to_whole("total_amount") - before))
        .filter(pl.col("used") > pl.lit(0, dtype=WHOLE))
        .with_columns(amount=to_amount("used"))
        .pipe(_ledger)
    )


def _ledger(drawn: pl.DataFrame) -> pl.DataFrame:
    return (
        drawn.with_columns(balance_after=pl.col("balance_before") - pl.col("amount"), description="note")
        .pipe(CREDIT_LEDGER.conform)
        .sort(CREDIT_LEDGER.key)
    )
