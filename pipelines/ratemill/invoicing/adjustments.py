"""Adjustments: amounts that a person adds or takes off, with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ratemill.invoicing.lines import draft_lines, exact
from ratemill.invoicing.payers import in_minor_units, own_invoice

if TYPE_CHECKING:
    from ratemill.period import BillingPeriod


def adjustment_lines(adjustments: pl.DataFrame, payers: pl.DataFrame, period: BillingPeriod) -> pl.DataFrame:
    """One line of DRAFT_LINES per adjustment of the month, in its currency or the payer's."""
    rows = (
        adjustments.filter(pl.col("period") == str(period))
        .join(payers, on="account_id", how="inner", validate="m:1")
        .with_columns(currency=pl.coalesce("currency", "payer_currency"))
    )
    currencies = sorted(rows["currency"].unique())
    return (
        rows.with_columns(
            own_invoice(period),
            source_id="adjustment_id",
            description="reason",
            amount=in_minor_units("amount", currencies),
            charge_start="month_start",
            charge_end="month_end",
            first_day=pl.lit(period.first_day),
            last_day=pl.lit(period.last_day),
            named_at="tax_point",
        )
        .pipe(exact)
        .pipe(draft_lines, kind="adjustment")
    )
