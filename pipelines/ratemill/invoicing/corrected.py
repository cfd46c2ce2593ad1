"""Corrections of closed periods as lines: on the next invoice, or on documents of their own."""

from __future__ import annotations

import polars as pl

from ratemill.invoicing.lines import draft_lines, exact
from ratemill.invoicing.payers import own_invoice
from ratemill.period import BillingPeriod
from ratemill.tables.columns import INSTANT, TEXT


def correction_lines(
    corrections: pl.DataFrame, payers: pl.DataFrame, period: BillingPeriod, *, time_zone: str, documents: bool
) -> pl.DataFrame:
    """One line of DRAFT_LINES per correction, with the tax of the period it corrects.

    Its charges are of the corrected month, in the payer's zone (``time_zone`` where the book no longer has the payer).
    With ``documents``, what a closed invoice has too much goes on a credit note and what it has too little on an
    invoice, one of each per payer, currency and corrected period.
    """
    zones = payers.select("billing_account_id", "zone").unique()
    rows = corrections.join(zones, on="billing_account_id", how="left", validate="m:1").with_columns(
        pl.col("zone").fill_null(time_zone), own_invoice(period)
    )
    if documents:
        side = pl.when(pl.col("amount") < 0).then(pl.lit("credit")).otherwise(pl.lit("debit"))
        rows = rows.with_columns(
            invoice_id=pl.concat_str("invoice_id", side, "corrects_period", separator="-")
        )  # fmt: skip
    return (
        rows.join(_corrected_months(rows), on=["corrects_period", "zone"], how="left", validate="m:1")
        .with_columns(named_at=pl.col("charge_end") - pl.duration(microseconds=1))
        .pipe(exact)
        .pipe(draft_lines, kind="correction")
    )


def _corrected_months(rows: pl.DataFrame) -> pl.DataFrame:
    months = [
        (text, zone, BillingPeriod.parse(text).start(zone), BillingPeriod.parse(text).end(zone))
        for text, zone in rows.select("corrects_period", "zone").unique().sort("corrects_period", "zone").iter_rows()
    ]
    schema = pl.Schema([("corrects_period", TEXT), ("zone", TEXT), ("charge_start", INSTANT), ("charge_end", INSTANT)])
    return pl.DataFrame(months, schema=schema, orient="row")
