"""Draft invoices of one period: lines, deductions, taxes, totals (docs/how-we-bill.md, from "Lines" on)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from ratemill.frames import collect
from ratemill.invoicing.adjustments import adjustment_lines
from ratemill.invoicing.charges import added_charges
from ratemill.invoicing.commitments import (
    commitment_ledger,
    due_commitments,
    measured_commitments,
    shortfall_lines,
    take_commitments,
)
from ratemill.invoicing.corrected import correction_lines
from ratemill.invoicing.credits import prepaid_draws, promotional_draws, take_credits, usable_credits
from ratemill.invoicing.deductions import LINE, OpenLines, shares_by_line
from ratemill.invoicing.discounts import take_discounts
from ratemill.invoicing.lines import add_up_lines, described, numbered, usage_lines
from ratemill.invoicing.payers import payers_of
from ratemill.invoicing.recurring import recurring_lines
from ratemill.invoicing.tax import tax_lines, with_taxes
from ratemill.money import ZERO
from ratemill.tables.charges import CHARGES
from ratemill.tables.invoices import (
    CORRECTIONS,
    CREDIT_LEDGER,
    DEDUCTION_KINDS,
    INVOICE_LINES,
    INVOICES,
    Billed,
)

if TYPE_CHECKING:
    from ratemill.book.model import Book
    from ratemill.findings import Finding
    from ratemill.period import BillingPeriod

SHARES = tuple(f"{kind}_amount" for kind in DEDUCTION_KINDS)


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
    credits_drawn: pl.DataFrame | None = None,
    corrections: pl.DataFrame | None = None,
    correction_documents: bool = False,
) -> Invoices:
    """Draft invoices of a period, one per billing account and currency.

    Args:
        charges: what rating made: usage, caps and minimums.
        book: its accounts, names, fees, deals and taxes.
        period: the month.
        time_zone: of payers that name none.
        run_id: written on invoices and charges.
        credits_drawn: credit_id, amount: what the invoices of earlier periods use of each credit.
        corrections: rows of CORRECTIONS, differences of closed periods to bill.
        correction_documents: bill corrections by credit notes and invoices of their own, not as lines among the others.
    """
    drawn = CREDIT_LEDGER.empty().select("credit_id", "amount") if credits_drawn is None else credits_drawn
    corrections = CORRECTIONS.empty() if corrections is None else corrections
    payers = payers_of(book.accounts, period=period, time_zone=time_zone)

    # 1. Lines: of usage, fees, adjustments, corrections; then what commitments find missing of the usage.
    usage = described(usage_lines(add_up_lines(charges), payers), book)
    others = [
        recurring_lines(book.recurring, payers, period),
        adjustment_lines(book.adjustments, payers, period),
        correction_lines(corrections, payers, period, time_zone=time_zone, documents=correction_documents),
    ]
    commitments = measured_commitments(due_commitments(book.commitments, payers, period), usage)
    others.append(shortfall_lines(commitments))

    # 2. The tax that each line bears, and its number.
    taxed, findings = with_taxes(pl.concat([usage, described(pl.concat(others), book)]), payers, book.taxes)
    if findings:
        return Invoices(**vars(Billed.empty()), findings=tuple(findings))
    lines = numbered(taxed)

    # 3. What is taken off them: discounts, then discounts of commitments, then promotional credits.
    credits_ = usable_credits(book.credits, drawn, payers, period)
    opened = OpenLines.of(lines)
    opened = take_discounts(opened, book.discounts, lines=lines, charges=charges, period=period)
    opened = take_commitments(opened, commitments)
    opened = take_credits(opened, credits_)
    deductions = opened.deductions()
    lines = _with_net_amounts(lines, deductions)

    # 4. Taxes on what is left, totals, and what prepaid credits pay of them.
    taxes = tax_lines(lines)
    totals = _totals(lines, taxes, period=period, run_id=run_id, correction_documents=correction_documents)
    prepaid = prepaid_draws(credits_, totals)
    return Invoices(
        _with_prepaid(totals, prepaid),
        INVOICE_LINES.conform(lines),
        deductions,
        taxes,
        pl.concat([promotional_draws(credits_, deductions), prepaid]).sort(CREDIT_LEDGER.key),
        commitment_ledger(commitments, deductions, period),
        added_charges(lines, deductions, period=str(period), run_id=run_id),
    )


def bills_without_usage(book: Book, period: BillingPeriod, time_zone: str) -> bool:
    """Whether the book has a fee, adjustment or commitment that is billed for ``period`` without usage."""
    payers = payers_of(book.accounts, period=period, time_zone=time_zone)
    return any(
        frame.height
        for frame in (
            recurring_lines(book.recurring, payers, period),
            adjustment_lines(book.adjustments, payers, period),
            due_commitments(book.commitments, payers, period),
        )
    )


def _with_net_amounts(lines: pl.DataFrame, deductions: pl.DataFrame) -> pl.DataFrame:
    """Lines with their share of each kind of deduction, and net_amount, which is what they add to the invoice."""
    return (
        lines.join(shares_by_line(deductions), on=LINE, how="left", validate="1:1", maintain_order="left")
        .with_columns(pl.col(SHARES).fill_null(ZERO))
        .with_columns(net_amount=sum((pl.col(name) for name in SHARES), pl.col("amount")))
    )


def _totals(
    lines: pl.DataFrame, taxes: pl.DataFrame, *, period: BillingPeriod, run_id: str, correction_documents: bool
) -> pl.DataFrame:
    """Rows of INVOICES before prepaid credits."""
    usage = pl.col("line_kind") == "usage"
    sums = collect(
        lines.lazy()
        .group_by("invoice_id", "billing_account_id", "currency")
        .agg(
            pl.len().alias("lines"),
            pl.coalesce("list_cost", "cost").filter(usage).sum().alias("list_amount"),
            pl.col("amount").sum().alias("subtotal_amount"),
            pl.col(SHARES).sum(),
            pl.col("net_amount").sum().alias("untaxed_amount"),
            pl.col("rounding").sum(),
            # Where corrections have documents of their own, all lines of one correct the same invoice.
            pl.col("corrects_invoice_id").min() if correction_documents else pl.lit(None).alias("corrects_invoice_id"),
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
            document=pl.when(total < 0).then(pl.lit("credit_note")).otherwise(pl.lit("invoice")),
            origin=pl.lit("run"),
            total_amount=total,
            prepaid_amount=pl.lit(0),
            due_amount=total,
            **{name: pl.lit(None) for name in ("number", "issue_date", "due_date")},
        )
        .pipe(INVOICES.conform)
        .sort("billing_account_id", "currency", "invoice_id")
    )


def _with_prepaid(invoices: pl.DataFrame, prepaid: pl.DataFrame) -> pl.DataFrame:
    """Invoices with what prepaid credits pay of them, and what remains due."""
    paid = collect(prepaid.lazy().group_by("invoice_id").agg(pl.col("amount").sum().alias("paid")))
    return (
        invoices.join(paid, on="invoice_id", how="left", validate="1:1", maintain_order="left")
        .with_columns(prepaid_amount=-pl.col("paid").fill_null(ZERO))
        .with_columns(due_amount=pl.col("total_amount") + pl.col("prepaid_amount"))
        .pipe(INVOICES.conform)
    )
