"""Draft invoices of one period: lines, taxes, totals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from ratemill.frames import collect
from ratemill.invoicing.lines import add_up_lines, rounding_charges
from ratemill.invoicing.tax import tax_lines, taxes_of
from ratemill.rating.owners import EVER
from ratemill.tables.charges import CHARGES
from ratemill.tables.invoices import (
    COMMITMENT_LEDGER,
    CREDIT_LEDGER,
    INVOICE_DEDUCTIONS,
    INVOICE_LINES,
    INVOICES,
    Billed,
)

if TYPE_CHECKING:
    from ratemill.book.model import Book
    from ratemill.findings import Finding
    from ratemill.period import BillingPeriod


@dataclass(frozen=True)
class Invoices(Billed):
    """The draft invoices of a period, and what they add to its charges."""

    charges: pl.DataFrame = field(default_factory=CHARGES.empty)
    """Charges that invoicing adds, to be kept beside those that rating made: rounding, fees, discounts, …"""
    findings: tuple[Finding, ...] = ()
    """Errors: taxes that are missing. The frames are empty then."""


def assemble_invoices(
    charges: pl.LazyFrame,
    *,
    book: Book,
    period: BillingPeriod,
    time_zone: str,
    run_id: str,
) -> Invoices:
    """Draft invoices, one per billing account and currency, from the usage charges of a period."""
    sums = add_up_lines(charges)
    payers = book.accounts.select(
        pl.col("account_id").alias("billing_account_id"),
        pl.col("tax_code").alias("account_tax_code"),
        "country",
        "state",
        zone=pl.col("time_zone").fill_null(time_zone),
    )
    described = _described(sums, book.accounts, book.projects, book.skus).join(
        payers, on="billing_account_id", how="left", validate="m:1"
    )
    needs = described.select(
        "billing_account_id", pl.col("account_tax_code").alias("tax_code"), "country", "state", "tax_category"
    ).unique().sort("billing_account_id", "tax_category")  # fmt: skip
    zones = dict(described.select("billing_account_id", "zone").unique().sort("billing_account_id").iter_rows())
    applied, findings = taxes_of(needs, book.taxes, period=period, time_zones=zones)
    if findings:
        return Invoices(**vars(Billed.empty()), findings=tuple(findings))
    taxed = _with_local_days(
        described.join(applied, on=["billing_account_id", "tax_category"], how="left", validate="m:1")
    )
    lines = _numbered(taxed)
    tax_rows = tax_lines(taxed)
    return Invoices(
        _totals(taxed, tax_rows, period=period, run_id=run_id),
        lines,
        INVOICE_DEDUCTIONS.empty(),
        tax_rows,
        CREDIT_LEDGER.empty(),
        COMMITMENT_LEDGER.empty(),
        rounding_charges(sums, period=str(period), run_id=run_id),
    )


def _described(sums: pl.DataFrame, accounts: pl.DataFrame, projects: pl.DataFrame, skus: pl.DataFrame) -> pl.DataFrame:
    """Lines with the names a person reads."""
    account_names = accounts.select("account_id", pl.col("name").alias("account_name"))
    sku_names = skus.select("sku_id", "service", "category", pl.col("name").alias("sku_name"), "tax_category")
    return (
        _with_project_names(sums, projects)
        .join(account_names, on="account_id", how="left", validate="m:1")
        .join(sku_names, on="sku_id", how="left", validate="m:1")
    )


def _with_project_names(lines: pl.DataFrame, projects: pl.DataFrame) -> pl.DataFrame:
    """project_name: the latest name the project had at this account by the line's last usage.

    The name that another account gave it after a move (or before) is none of this account's business.
    """
    names = projects.select(
        "project_id", "account_id", pl.col("valid_from").fill_null(EVER), pl.col("name").alias("project_name")
    ).sort("project_id", "account_id", "valid_from")
    return (
        lines.sort("project_id", "account_id", "last_start")
        .join_asof(
            names,
            left_on="last_start",
            right_on="valid_from",
            by=["project_id", "account_id"],
            strategy="backward",
            check_sortedness=False,
        )
        .drop("valid_from")
    )


def _with_local_days(lines: pl.DataFrame) -> pl.DataFrame:
    """first_day and last_day in the payer's zone."""
    parts = [
        part.with_columns(
            first_day=pl.col("first_start").dt.convert_time_zone(zone).dt.date(),
            last_day=pl.col("last_start").dt.convert_time_zone(zone).dt.date(),
        )
        for (zone,), part in lines.partition_by("zone", as_dict=True, maintain_order=True).items()
    ]
    return pl.concat(parts) if parts else lines.with_columns(
        first_day=pl.lit(None, dtype=pl.Date), last_day=pl.lit(None, dtype=pl.Date)
    )  # fmt: skip


_LINE_ORDER = ["invoice_id", "account_id", "project_id", "service", "sku_id", "region", "first_day", "price_id"]


def _numbered(lines: pl.DataFrame) -> pl.DataFrame:
    return (
        lines.sort(_LINE_ORDER)
        .with_columns(
            line_number=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("invoice_id"),
            line_kind=pl.lit("usage"),
            net_amount=pl.col("amount"),
            tax_rate=pl.col("rate"),
            **{name: pl.lit(0) for name in ("discount_amount", "commitment_amount", "credit_amount")},
            **{name: pl.lit(None) for name in ("source_id", "description", "corrects_period", "corrects_invoice_id")},
        )
        .pipe(INVOICE_LINES.conform)
    )


def _totals(lines: pl.DataFrame, taxes: pl.DataFrame, *, period: BillingPeriod, run_id: str) -> pl.DataFrame:
    sums = collect(
        lines.lazy()
        .group_by("invoice_id", "billing_account_id", "currency")
        .agg(
            pl.len().alias("lines"),
            pl.coalesce("list_cost", "cost").sum().alias("list_amount"),
            pl.col("amount").sum().alias("untaxed_amount"),
            pl.col("rounding").sum(),
        )
    )
    tax = collect(taxes.lazy().group_by("invoice_id").agg(pl.col("tax_amount").sum()))
    total = pl.col("untaxed_amount") + pl.col("tax_amount")
    return (
        sums.join(tax, on="invoice_id", how="left", validate="1:1")
        .with_columns(
            pl.lit(str(period)).alias("period"),
            pl.lit("draft").alias("status"),
            pl.lit(run_id).alias("run_id"),
            document=pl.lit("invoice"),
            origin=pl.lit("run"),
            subtotal_amount=pl.col("untaxed_amount"),
            total_amount=total,
            due_amount=total,
            **{n: pl.lit(0) for n in ("discount_amount", "commitment_amount", "credit_amount", "prepaid_amount")},
            **{n: pl.lit(None) for n in ("number", "issue_date", "due_date", "corrects_invoice_id")},
        )
        .pipe(INVOICES.conform)
        .sort("billing_account_id", "currency")
    )
