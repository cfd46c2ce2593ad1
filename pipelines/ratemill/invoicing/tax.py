"""Tax: which rate a line bears, and one tax amount per rate of an invoice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ratemill.findings import Finding, Severity
from ratemill.frames import collect
from ratemill.money import COST, round_to_minor_unit
from ratemill.tables.invoices import TAX_LINES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratemill.period import BillingPeriod

HUNDRED = 100


def taxes_of(
    needs: pl.DataFrame, taxes: pl.DataFrame, *, period: BillingPeriod, time_zones: Mapping[str, str]
) -> tuple[pl.DataFrame, list[Finding]]:
    """The tax that applies to each payer and tax category at the tax point, and an error for each without one.

    ``needs``: billing_account_id, tax_code (the account's own, or empty), country, state, tax_category, one row each.
    ``time_zones``: billing_account_id → zone; the tax point is the last instant of the payer's local month.
    A code the account names is used; else the rows of its country: for its state first, then for any.
    Comes back with tax_code, rate, kind, note.
    """
    tax_points = pl.DataFrame(
        {
            "billing_account_id": list(time_zones),
            "tax_point": [period.end(zone) for zone in time_zones.values()],
        },
        schema={"billing_account_id": pl.String, "tax_point": pl.Datetime("us", "UTC")},
    ).with_columns(pl.col("tax_point") - pl.duration(microseconds=1))
    rows = taxes.select(
        pl.col("tax_code").alias("applied_code"),
        pl.col("country").alias("tax_country"),
        pl.col("region").alias("tax_region"),
        pl.col("category").alias("tax_category"),
        "rate",
        "kind",
        "note",
        "valid_from",
        "valid_to",
    )
    numbered = needs.join(tax_points, on="billing_account_id", how="left", validate="m:1").with_row_index("need")
    named = pl.col("tax_code") == pl.col("applied_code")
    by_place = (pl.col("tax_code").is_null()) & (pl.col("country") == pl.col("tax_country"))
    in_region = pl.col("tax_region").is_null() | (pl.col("tax_region") == pl.col("state")).fill_null(False)
    valid = (pl.col("valid_from").is_null() | (pl.col("valid_from") <= pl.col("tax_point"))) & (
        pl.col("valid_to").is_null() | (pl.col("tax_point") < pl.col("valid_to"))
    )
    found = (
        numbered.join(rows, on="tax_category", how="inner", validate="m:m")
        .filter((named | by_place).fill_null(False) & in_region & valid)
        .sort("need", pl.col("tax_region").is_null(), "applied_code")
        .unique("need", keep="first", maintain_order=True)
    )
    missing = numbered.join(found.select("need"), on="need", how="anti")
    applied = found.with_columns(tax_code="applied_code").select(
        "billing_account_id", "tax_category", "tax_code", "rate", "kind", "note"
    )
    return applied, [_missing(row) for row in missing.sort("need").iter_rows(named=True)]


def _missing(need: dict[str, object]) -> Finding:
    by = f"tax code {need['tax_code']}" if need["tax_code"] else f"country {need['country']}"
    return Finding(
        Severity.ERROR,
        "taxes.missing",
        f"account {need['billing_account_id']} has no tax for category {need['tax_category']}: no row of taxes for {by}"
        f" is valid at {need['tax_point']:%Y-%m-%d %H:%M} UTC",
        "add the row to taxes, or correct the account's tax_code or country",
        file="book/taxes.csv",
    )


def tax_lines(lines: pl.DataFrame) -> pl.DataFrame:
    """Rows of TAX_LINES: per invoice, code, category and rate one base and one tax, rounded half-up once.

    ``lines``: invoice_id, currency, amount, tax_code, tax_category, rate, kind, note.
    """
    grouped = collect(
        lines.lazy()
        .group_by(
            "invoice_id", "currency", "tax_code", pl.col("tax_category").alias("category"), "kind", "rate", "note"
        )
        .agg(pl.col("amount").sum().alias("base_amount"))
    )
    # At most 4 + 12 decimals, and two more by the division: exact at 18.
    exact_tax = pl.col("base_amount").cast(COST) * pl.col("rate") / HUNDRED
    currencies = sorted(grouped["currency"].unique())
    return (
        grouped.with_columns(tax_amount=round_to_minor_unit(exact_tax, pl.col("currency"), currencies))
        .pipe(TAX_LINES.conform)
        .sort("invoice_id", "tax_code", "category", "rate")
    )
