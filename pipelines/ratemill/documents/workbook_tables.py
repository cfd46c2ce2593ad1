"""The tables of a workbook: which columns, which rows, under which name formulas find them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.documents.sheets import EXACT_DIGITS, Field, Kind
from ratemill.money import QUANTITY, ZERO, minor_unit_decimals
from ratemill.tables.columns import TEXT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratemill.findings import Finding
    from ratemill.period import BillingPeriod
    from ratemill.tables.invoices import Billed


@dataclass(frozen=True)
class WorkbookSource:
    """Everything a workbook is made of."""

    seller: str
    period: BillingPeriod
    run_id: str
    closed: bool
    hashes: Mapping[str, str]
    """What the run was made from: a name → its SHA-256 or version, in the order in which it is shown."""
    billed: Billed
    """The period's invoices and credit notes."""
    previous_invoices: pl.DataFrame
    """Those of the month before (rows of INVOICES)."""
    charges: pl.DataFrame
    """currency, charges (how many), cost: all charges of the run."""
    journal: pl.DataFrame
    """Rows of JOURNAL."""
    names: Mapping[str, str]
    """account_id → name."""
    facts: Mapping[str, int]
    """What happened to usage rows; see ``steps/rate.py``."""
    findings: Sequence[Finding]
    rejects: pl.DataFrame
    """Columns of sql/core/rejects_of_period.sql."""
    unpriced: pl.DataFrame
    """Rows of UNPRICED."""


_INVOICES = (
    Field("invoice_id", "Invoice", width=26),
    Field("number", "Number"),
    Field("document", "Document", width=12),
    Field("origin", "Made by", width=9),
    Field("status", "Status", width=9),
    Field("billing_account_id", "Account", width=18),
    Field("customer", "Customer", width=26),
    Field("currency", "Currency", width=9),
    Field("issue_date", "Issued", Kind.DAY, 11),
    Field("due_date", "Due on", Kind.DAY, 11),
    Field("corrects_invoice_id", "Corrects", width=18),
    Field("run_id", "Run", width=22),
    Field("lines", "Lines", Kind.COUNT, 8),
    Field("subtotal_amount", "Subtotal", Kind.AMOUNT),
    Field("discount_amount", "Discounts", Kind.AMOUNT, 12),
    Field("commitment_amount", "Commitment discounts", Kind.AMOUNT, 12),
    Field("credit_amount", "Promotional credits", Kind.AMOUNT, 12),
    Field("untaxed_amount", "Untaxed", Kind.AMOUNT),
    Field("tax_amount", "Tax", Kind.AMOUNT, 12),
    Field("total_amount", "Total", Kind.AMOUNT),
    Field("prepaid_amount", "Prepaid", Kind.AMOUNT, 12),
    Field("due_amount", "Due", Kind.AMOUNT),
)
_LINES = (
    Field("invoice_id", "Invoice", width=26),
    Field("line_number", "Line", Kind.COUNT, 6),
    Field("line_kind", "Kind", width=11),
    Field("origin", "Made by", width=9),
    Field("billing_account_id", "Payer", width=16),
    Field("account_id", "Account", width=16),
    Field("account_name", "Account name", width=22),
    Field("project_id", "Project", width=16),
    Field("project_name", "Project name", width=20),
    Field("service", "Service", width=22),
    Field("category", "Category", width=16),
    Field("sku_id", "SKU", width=14),
    Field("sku_name", "SKU name", width=32),
    Field("description", "Description", width=24),
    Field("region", "Region", width=16),
    Field("first_day", "First day", Kind.DAY, 11),
    Field("last_day", "Last day", Kind.DAY, 11),
    Field("pricing_quantity", "Quantity", Kind.NUMBER),
    Field("pricing_unit", "Unit", Kind.UNIT, 16),
    Field("unit_price", "Unit price", Kind.NUMBER),
    Field("currency", "Currency", width=9),
    Field("cost", "Exact cost", Kind.EXACT, 24),
    Field("cap_cost", "Of it caps", Kind.EXACT, 14),
    Field("minimum_cost", "Of it minimums", Kind.EXACT, 14),
    Field("amount", "Amount", Kind.AMOUNT),
    Field("discount_amount", "Discounts", Kind.AMOUNT, 12),
    Field("commitment_amount", "Commitment discounts", Kind.AMOUNT, 12),
    Field("credit_amount", "Promotional credits", Kind.AMOUNT, 12),
    Field("net_amount", "Net", Kind.AMOUNT),
    Field("tax_code", "Tax code", width=10),
    Field("tax_category", "Tax category", width=12),
    Field("tax_rate", "Tax rate", Kind.PERCENT, 9),
    Field("price_id", "Price", width=24),
    Field("source_id", "Source", width=16),
    Field("corrects_period", "Corrects month", width=11),
    Field("corrects_invoice_id", "Corrects invoice", width=24),
)
_TAXES = (
    Field("invoice_id", "Invoice", width=26),
    Field("billing_account_id", "Account", width=18),
    Field("currency", "Currency", width=9),
    Field("tax_code", "Tax code", width=12),
    Field("category", "Category", width=12),
    Field("kind", "Kind", width=16),
    Field("rate", "Rate", Kind.PERCENT, 9),
    Field("base_amount", "Base", Kind.AMOUNT),
    Field("tax_amount", "Tax", Kind.AMOUNT),
    Field("note", "Note", width=60),
)
_DEDUCTIONS = (
    Field("invoice_id", "Invoice", width=26),
    Field("billing_account_id", "Account", width=18),
    Field("currency", "Currency", width=9),
    Field("kind", "Kind", width=12),
    Field("source_id", "Source", width=20),
    Field("description", "Description", width=34),
    Field("deduction_number", "Order", Kind.COUNT, 7),
    Field("line_number", "Line", Kind.COUNT, 7),
    Field("percent", "Percent", Kind.PERCENT, 9),
    Field("amount", "Amount", Kind.AMOUNT),
    Field("balance_before", "Balance before", Kind.AMOUNT),
    Field("balance_after", "Balance after", Kind.AMOUNT),
)
_EXCEPTIONS = (
    Field("what", "What", width=16),
    Field("severity", "Severity", width=9),
    Field("rule", "Rule", width=26),
    Field("file", "File", width=28),
    Field("row", "Row", Kind.COUNT, 8),
    Field("column", "Column", width=14),
    Field("value", "Value", width=22),
    Field("account_id", "Account", width=16),
    Field("sku_id", "SKU", width=14),
    Field("region", "Region", width=16),
    Field("records", "Records", Kind.COUNT, 9),
    Field("quantity", "Quantity", Kind.NUMBER),
    Field("unit", "Unit", width=10),
    Field("message", "Message", width=70),
    Field("cure", "What to do", width=50),
)
_JOURNAL = (
    Field("invoice_id", "Invoice", width=26),
    Field("posting_number", "Posting no", Kind.COUNT, 9),
    Field("number", "Number"),
    Field("booking_date", "Date", Kind.DAY, 11),
    Field("billing_account_id", "Account", width=18),
    Field("customer", "Customer", width=26),
    Field("posting", "Posting", width=20),
    Field("service", "Service", width=26),
    Field("tax_code", "Tax code", width=12),
    Field("tax_category", "Tax category", width=12),
    Field("tax_rate", "Tax rate", Kind.PERCENT, 9),
    Field("currency", "Currency", width=9),
    Field("debit", "Debit", Kind.AMOUNT),
    Field("credit", "Credit", Kind.AMOUNT),
)
_CORRECTED = (
    Field("invoice_id", "Invoice", width=26),
    Field("line_number", "Line", Kind.COUNT, 6),
    Field("line_kind", "Kind", width=11),
    Field("account_id", "Account", width=16),
    Field("project_id", "Project", width=16),
    Field("sku_id", "SKU", width=14),
    Field("description", "Why", width=44),
    Field("corrects_period", "Corrects month", width=11),
    Field("corrects_invoice_id", "Corrects invoice", width=24),
    Field("source_id", "Source", width=18),
    Field("currency", "Currency", width=9),
    Field("net_amount", "Net", Kind.AMOUNT),
    Field("tax_rate", "Tax rate", Kind.PERCENT, 9),
)


def invoice_fields() -> tuple[Field, ...]:
    """Columns of invoices, with ``customer``."""
    return _INVOICES


def line_fields() -> tuple[Field, ...]:
    """Columns of lines, with ``billing_account_id, currency, origin`` of their invoice."""
    return _LINES


@dataclass(frozen=True)
class WorkbookTable:
    """One table, on a sheet of its own."""

    name: str
    """As formulas call it."""
    sheet: str
    fields: tuple[Field, ...]
    rows: pl.DataFrame

    @property
    def file(self) -> str:
        """Name of the file that holds it when it is too long for a sheet."""
        return f"workbook-{self.name.lower()}.parquet"

    def column(self, heading: str) -> str:
        """The frame's column behind a heading."""
        return next(each.name for each in self.fields if each.heading == heading)


def workbook_tables(source: WorkbookSource) -> list[WorkbookTable]:
    """The tables in the order of their sheets."""
    billed = source.billed
    about = billed.invoices.select("invoice_id", "billing_account_id", "currency", "origin")
    lines = billed.lines.join(about, on="invoice_id", how="left", validate="m:1", maintain_order="left")
    taxes = billed.taxes.join(about, on="invoice_id", how="left", validate="m:1", maintain_order="left")
    journal = _with_names(source.journal, source.names)
    corrected = lines.filter(pl.col("line_kind").is_in(["correction", "adjustment"]))
    tables = [
        WorkbookTable("Invoices", "Invoices", _INVOICES, _with_names(billed.invoices, source.names)),
        WorkbookTable("Lines", "Lines", _LINES, lines),
        WorkbookTable("Taxes", "Taxes", _TAXES, taxes),
        WorkbookTable("Deductions", "Deductions and credits", _DEDUCTIONS, _deductions(billed, about)),
        WorkbookTable("Exceptions", "Exceptions", _EXCEPTIONS, _exceptions(source)),
        WorkbookTable("Journal", "Journal", _JOURNAL, journal),
    ]
    if corrected.height:
        tables.append(WorkbookTable("Corrections", "Corrections", _CORRECTED, corrected))
    return tables


def _with_names(rows: pl.DataFrame, names: Mapping[str, str]) -> pl.DataFrame:
    known = pl.DataFrame({"billing_account_id": list(names), "customer": list(names.values())}, schema=[
        ("billing_account_id", TEXT), ("customer", TEXT)
    ])  # fmt: skip
    return rows.join(known, on="billing_account_id", how="left", validate="m:1", maintain_order="left")


def _deductions(billed: Billed, about: pl.DataFrame) -> pl.DataFrame:
    """What discounts, commitments and promotional credits take off each line, then what prepaid credits pay."""
    balances = billed.credits.filter(pl.col("kind") == "promotional").select(
        "invoice_id", "balance_before", "balance_after", source_id="credit_id", kind=pl.lit("credit")
    )
    taken = billed.deductions.join(
        balances, on=["invoice_id", "kind", "source_id"], how="left", validate="m:1", maintain_order="left"
    )
    paid = billed.credits.filter(pl.col("kind") == "prepaid").select(
        "invoice_id", "kind", "description", "balance_before", "balance_after", source_id="credit_id",
        amount=-pl.col("amount"),
    )  # fmt: skip
    both = pl.concat([taken, paid], how="diagonal")
    return both.join(about, on="invoice_id", how="left", validate="m:1", maintain_order="left").sort(
        "invoice_id", "deduction_number", "source_id", "line_number", nulls_last=True
    )


def _exceptions(source: WorkbookSource) -> pl.DataFrame:
    """Findings, rows that were rejected, and usage without a price."""
    schema: dict[str, Any] = {each.name: TEXT for each in _EXCEPTIONS if each.kind is Kind.TEXT}
    schema |= {"row": pl.Int64, "records": pl.Int64, "quantity": QUANTITY}
    findings = pl.DataFrame(
        [finding.as_dict() | {"what": "finding"} for finding in source.findings],
        schema={name: schema[name] for name in
                ("what", "severity", "rule", "file", "row", "column", "value", "message", "cure")},
    )  # fmt: skip
    rejects = source.rejects.rename({"row_number": "row"}).with_columns(
        what=pl.lit("rejected row"), severity=pl.lit("warning")
    )
    unpriced = source.unpriced.select(
        "account_id", "sku_id", "region", "quantity", "records", unit="usage_unit", message="reason",
        what=pl.lit("unpriced usage"), severity=pl.lit("warning"),
    )  # fmt: skip
    frames = [frame.cast({name: schema[name] for name in frame.columns}) for frame in (findings, rejects, unpriced)]
    return pl.concat([pl.DataFrame(schema=schema), *frames], how="diagonal")


def adds_up(values: Sequence[Decimal], currency: str) -> bool:
    """Whether sums of these are exact to the minor unit in doubles, in whatever order."""
    whole_digits = EXACT_DIGITS - minor_unit_decimals(currency)
    return sum((abs(value) for value in values), ZERO) < Decimal(10) ** whole_digits
