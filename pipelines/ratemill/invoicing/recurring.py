"""Recurring fees: an amount a month, by days where the month is not whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ratemill.invoicing.lines import draft_lines, exact
from ratemill.invoicing.payers import own_invoice, prorated, with_valid_days

if TYPE_CHECKING:
    from ratemill.period import BillingPeriod


def recurring_lines(recurring: pl.DataFrame, payers: pl.DataFrame, period: BillingPeriod) -> pl.DataFrame:
    """One line of DRAFT_LINES per fee that is valid on a day of the month, in its currency or the payer's."""
    fees = with_valid_days(recurring.join(payers, on="account_id", how="inner", validate="m:1"), period)
    fees = fees.with_columns(currency=pl.coalesce("currency", "payer_currency"))
    currencies = sorted(fees["currency"].unique())
    return (
        fees.with_columns(
            own_invoice(period),
            source_id="recurring_id",
            amount=prorated(pl.col("amount"), pl.col("currency"), currencies, period),
            charge_start=pl.max_horizontal("valid_from", "month_start"),
            charge_end=pl.min_horizontal("valid_to", "month_end"),
            named_at="tax_point",
        )
        .pipe(exact)
        .pipe(draft_lines, kind="recurring")
    )
