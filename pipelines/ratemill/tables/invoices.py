"""Invoices, their lines and taxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from ratemill.money import AMOUNT, COST, PRICE, QUANTITY
from ratemill.tables.book import TAX_KINDS
from ratemill.tables.columns import TEXT, Column, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

INVOICES = Table(
    "invoices",
    "one invoice or credit note of one billing account in one currency",
    (
        Column("invoice_id", TEXT, "Identity: period, billing account and currency; of a correction, with a suffix"),
        Column("document", TEXT, "What it is", one_of=("invoice", "credit_note")),
        Column("period", TEXT, "Billing period in which it is billed, YYYY-MM"),
        Column("billing_account_id", TEXT, "Account that pays"),
        Column("currency", TEXT, "ISO 4217 code of every amount"),
        Column("status", TEXT, "draft: recomputed at will; issued: final", one_of=("draft", "issued")),
        Column("number", TEXT, "Number given at issue; empty on drafts", nullable=True),
        Column("issue_date", pl.Date, "Day of issue in the seller's time zone", nullable=True),
        Column("due_date", pl.Date, "Day by which it is to be paid", nullable=True),
        Column("corrects_invoice_id", TEXT, "Invoice that a credit note, or an invoice of corrections, is about",
               nullable=True),
        Column("origin", TEXT, "Who made it: a run, or a person by hand (a credit note)", one_of=("run", "hand")),
        Column("lines", pl.Int64, "Number of lines"),
        Column("list_amount", COST, "Cost of usage at public prices, not rounded", unit="currency"),
        Column("subtotal_amount", AMOUNT, "Sum of the lines before discounts and credits", unit="currency"),
        Column("discount_amount", AMOUNT, "What discounts take off, zero or negative", unit="currency"),
        Column("commitment_amount", AMOUNT, "What discounts of commitments take off, zero or negative; shortfalls are "
               "lines", unit="currency"),
        Column("credit_amount", AMOUNT, "What promotional credits take off, zero or negative", unit="currency"),
        Column("untaxed_amount", AMOUNT, "Subtotal with discounts, commitments and credits", unit="currency"),
        Column("tax_amount", AMOUNT, "Sum of the taxes", unit="currency"),
        Column("total_amount", AMOUNT, "Untaxed amount plus tax", unit="currency"),
        Column("prepaid_amount", AMOUNT, "What prepaid credits pay, zero or negative", unit="currency"),
        Column("due_amount", AMOUNT, "What is to be paid: total with prepaid credits", unit="currency"),
        Column("rounding", COST, "Sum of what rounding the lines added", unit="currency"),
        Column("run_id", TEXT, "Run that computed it"),
    ),
    key=("invoice_id",),
)  # fmt: skip

LINE_KINDS = ("usage", "recurring", "adjustment", "commitment", "correction")

INVOICE_LINES = Table(
    "invoice_lines",
    "one account's and project's use of one SKU in one region under one price version, or one other amount",
    (
        Column("invoice_id", TEXT, "Invoice the line is on"),
        Column("line_number", pl.Int32, "Number of the line, from 1"),
        Column("line_kind", TEXT, "What it bills: usage (with caps and minimums), a recurring fee, an adjustment, the "
               "shortfall of a commitment, or a correction of a closed period", one_of=LINE_KINDS),
        Column("account_id", TEXT, "Account it is for"),
        Column("account_name", TEXT, "Name of the account"),
        Column("project_id", TEXT, "Project", nullable=True),
        Column("project_name", TEXT, "Name of the project", nullable=True),
        Column("service", TEXT, "Service; empty on lines that are for no SKU", nullable=True),
        Column("category", TEXT, "FOCUS service category", nullable=True),
        Column("sku_id", TEXT, "SKU", nullable=True),
        Column("sku_name", TEXT, "Name of the SKU", nullable=True),
        Column("region", TEXT, "Region", nullable=True),
        Column("price_id", TEXT, "Price version", nullable=True),
        Column("source_id", TEXT, "Row of the book it comes from where that is no price", nullable=True),
        Column("description", TEXT, "What the line is for, where the SKU's name does not say it", nullable=True),
        Column("corrects_period", TEXT, "Closed period that it corrects, YYYY-MM", nullable=True),
        Column("corrects_invoice_id", TEXT, "Invoice that it corrects", nullable=True),
        Column("first_day", pl.Date, "First local day it is for"),
        Column("last_day", pl.Date, "Last local day it is for"),
        Column("pricing_quantity", QUANTITY, "Quantity priced", unit="pricing_unit", nullable=True),
        Column("pricing_unit", TEXT, "Unit of the price", nullable=True),
        Column("unit_price", PRICE, "Price of one pricing unit; empty where tiers give several", unit="currency",
               nullable=True),
        Column("list_cost", COST, "Cost at the public price", unit="currency", nullable=True),
        Column("cost", COST, "Exact cost, before rounding", unit="currency"),
        Column("cap_cost", COST, "Part of the cost that caps took back, below zero; empty where none was reached",
               unit="currency", nullable=True),
        Column("minimum_cost", COST, "Part of the cost that minimums added; empty where usage reached them",
               unit="currency", nullable=True),
        Column("amount", AMOUNT, "Cost rounded half-up to the minor unit", unit="currency"),
        Column("rounding", COST, "amount minus cost", unit="currency"),
        Column("discount_amount", AMOUNT, "Its share of discounts, zero or negative", unit="currency"),
        Column("commitment_amount", AMOUNT, "Its share of discounts of commitments, zero or negative", unit="currency"),
        Column("credit_amount", AMOUNT, "Its share of promotional credits, zero or negative", unit="currency"),
        Column("net_amount", AMOUNT, "What is taxed: amount with its shares", unit="currency"),
        Column("tax_code", TEXT, "Tax that applies"),
        Column("tax_category", TEXT, "Tax category"),
        Column("tax_rate", PRICE, "Rate in percent that applies", unit="%"),
    ),
    key=("invoice_id", "line_number"),
)  # fmt: skip

EXPORTED_LINES = Table(
    "lines",
    INVOICE_LINES.grain,
    (
        *(INVOICES[name] for name in ("invoice_id", "document", "origin", "period", "billing_account_id", "currency",
                                      "status", "number", "issue_date", "due_date", "run_id")),
        *(column for column in INVOICE_LINES.columns if column.name != "invoice_id"),
    ),
    key=INVOICE_LINES.key,
)  # fmt: skip
"""Lines with what their invoice says about all of them: what other systems are given."""

DEDUCTION_KINDS = ("discount", "commitment", "credit")

INVOICE_DEDUCTIONS = Table(
    "invoice_deductions",
    "what one discount, commitment or promotional credit takes off one invoice line",
    (
        Column("invoice_id", TEXT, "Invoice"),
        Column("deduction_number", pl.Int32, "Order in which deductions of the invoice were applied, from 1; the rows "
               "of one discount share it"),
        Column("line_number", pl.Int32, "Line it is taken off"),
        Column("kind", TEXT, "What kind of row of the book it is", one_of=DEDUCTION_KINDS),
        Column("source_id", TEXT, "The discount, commitment or credit"),
        Column("description", TEXT, "What the invoice calls it"),
        Column("percent", PRICE, "Percent, where it has one", unit="%", nullable=True),
        Column("amount", AMOUNT, "What it takes off the line, negative", unit="currency"),
    ),
    key=("invoice_id", "deduction_number", "line_number"),
)  # fmt: skip

TAX_LINES = Table(
    "tax_lines",
    "one tax rate of one invoice",
    (
        Column("invoice_id", TEXT, "Invoice"),
        Column("tax_code", TEXT, "Tax code"),
        Column("category", TEXT, "Tax category"),
        Column("kind", TEXT, "What kind of supply it is", one_of=TAX_KINDS),
        Column("rate", PRICE, "Rate in percent", unit="%"),
        Column("base_amount", AMOUNT, "Sum of the lines it taxes", unit="currency"),
        Column("tax_amount", AMOUNT, "Tax, rounded half-up once on the summed base", unit="currency"),
        Column("note", TEXT, "Sentence the invoice must carry", nullable=True),
    ),
    key=("invoice_id", "tax_code", "category", "kind", "rate", "note"),
)

CREDIT_LEDGER = Table(
    "credit_ledger",
    "what one invoice draws on one credit",
    (
        Column("invoice_id", TEXT, "Invoice"),
        Column("credit_id", TEXT, "Credit"),
        Column("kind", TEXT, "What kind of credit it is", one_of=("promotional", "prepaid")),
        Column("currency", TEXT, "ISO 4217 code"),
        Column("balance_before", AMOUNT, "What was left before", unit="currency"),
        Column("amount", AMOUNT, "What the invoice uses, positive", unit="currency"),
        Column("balance_after", AMOUNT, "What is left", unit="currency"),
        Column("description", TEXT, "What the invoice calls it"),
    ),
    key=("invoice_id", "credit_id"),
)

COMMITMENT_LEDGER = Table(
    "commitment_ledger",
    "one commitment in one month",
    (
        Column("invoice_id", TEXT, "Invoice"),
        Column("commitment_id", TEXT, "Commitment"),
        Column("currency", TEXT, "ISO 4217 code"),
        Column("committed_amount", AMOUNT, "Amount committed to, for the days it is valid", unit="currency"),
        Column("days", pl.Int32, "Local days of the month on which it is valid"),
        Column("days_in_month", pl.Int32, "Local days of the month"),
        Column("eligible_amount", AMOUNT, "Usage that counts, at contracted prices", unit="currency"),
        Column("shortfall_amount", AMOUNT, "What is billed for usage that was not made", unit="currency"),
        Column("discount_amount", AMOUNT, "What its discount takes off, zero or negative", unit="currency"),
        Column("description", TEXT, "What the invoice calls it"),
    ),
    key=("invoice_id", "commitment_id"),
)

CORRECTIONS = Table(
    "corrections",
    "one line of a closed period whose billed amount is not what it should be",
    (
        Column("billing_account_id", TEXT, "Account that pays"),
        Column("currency", TEXT, "ISO 4217 code"),
        Column("corrects_period", TEXT, "The closed period, YYYY-MM"),
        Column("corrects_invoice_id", TEXT, "Invoice of that period; empty where the payer got none", nullable=True),
        Column("corrected_kind", TEXT, "Kind of the line", one_of=LINE_KINDS),
        *(INVOICE_LINES[name] for name in ("account_id", "project_id", "sku_id", "region", "price_id", "source_id")),
        Column("description", TEXT, "What the correction is for, in words", nullable=True),
        INVOICE_LINES["first_day"],
        INVOICE_LINES["last_day"],
        Column("pricing_quantity", QUANTITY, "Quantity it should be, less the quantity billed", unit="pricing_unit",
               nullable=True),
        INVOICE_LINES["pricing_unit"],
        Column("billed_amount", AMOUNT, "Net amount billed so far: the line with its discounts, and former corrections",
               unit="currency"),
        Column("correct_amount", AMOUNT, "Net amount it should be", unit="currency"),
        Column("amount", AMOUNT, "The difference to bill: correct less billed, not zero", unit="currency"),
        Column("tax_code", TEXT, "Tax at the tax point of the closed period"),
        Column("tax_category", TEXT, "Tax category"),
        TAX_LINES["kind"].renamed("tax_kind"),
        Column("tax_rate", PRICE, "Rate in percent", unit="%"),
        Column("tax_note", TEXT, "Sentence the invoice must carry", nullable=True),
    ),
)  # fmt: skip

BILLING_TABLES = (INVOICES, INVOICE_LINES, INVOICE_DEDUCTIONS, TAX_LINES, CREDIT_LEDGER, COMMITMENT_LEDGER)
"""Everything an invoice consists of; each has invoice_id."""


@dataclass(frozen=True)
class Billed:
    """Invoices and credit notes, draft or issued, with everything on them: a frame for each of BILLING_TABLES."""

    invoices: pl.DataFrame
    lines: pl.DataFrame
    deductions: pl.DataFrame
    taxes: pl.DataFrame
    credits: pl.DataFrame
    commitments: pl.DataFrame

    @classmethod
    def of(cls, frames: Iterable[pl.DataFrame]) -> Billed:
        """From frames in the order of BILLING_TABLES, each put in the order of its key."""
        return cls(*(frame.sort(*table.key) for table, frame in zip(BILLING_TABLES, frames, strict=True)))

    @classmethod
    def empty(cls) -> Billed:
        """Nothing billed."""
        return Billed(*(table.empty() for table in BILLING_TABLES))

    def together_with(self, others: Billed) -> Billed:
        """These and others."""
        pairs = zip(self.frames(), others.frames(), strict=True)
        return Billed.of(pl.concat([mine, theirs]) for (_, mine), (_, theirs) in pairs)

    def frames(self) -> tuple[tuple[Table, pl.DataFrame], ...]:
        """Each of BILLING_TABLES with its rows."""
        frames = (self.invoices, self.lines, self.deductions, self.taxes, self.credits, self.commitments)
        return tuple(zip(BILLING_TABLES, frames, strict=True))

    def each(self) -> Iterator[Billed]:
        """Each invoice alone, by invoice_id."""
        parts = [frame.partition_by("invoice_id", as_dict=True) for _, frame in self.frames()]
        nothing = [table.empty() for table, _ in self.frames()]
        for invoice_id in self.invoices["invoice_id"].sort():
            yield Billed(*(part.get((invoice_id,), none) for part, none in zip(parts, nothing, strict=True)))

    def batches(self, *, most_invoices: int, most_lines: int) -> Iterator[Billed]:
        """All invoices by invoice_id, some at a time: at most so many, and no more lines unless one alone has more."""
        frames = [frame.sort("invoice_id", maintain_order=True) for _, frame in self.frames()]
        ids = frames[0]["invoice_id"]
        starts = [frame["invoice_id"].search_sorted(ids, "left") for frame in frames]
        ends = [frame["invoice_id"].search_sorted(ids, "right") for frame in frames]
        lines = (ends[1] - starts[1]).to_list()
        first = 0
        while first < len(ids):
            last, counted = first, lines[first]
            while last + 1 < len(ids) and last + 1 - first < most_invoices and counted + lines[last + 1] <= most_lines:
                last += 1
                counted += lines[last]
            yield Billed(
                *(
                    frame.slice(start[first], end[last] - start[first])
                    for frame, start, end in zip(frames, starts, ends, strict=True)
                )
            )
            first = last + 1

    def on(self, invoice_id: str) -> Billed:
        """One invoice alone."""
        return Billed(*(frame.filter(pl.col("invoice_id") == invoice_id) for _, frame in self.frames()))
