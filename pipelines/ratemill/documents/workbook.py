"""The month as one workbook: what finance checks, files and imports.

Sheets: Control (who, what, and totals that must agree), Summary (per customer, beside last month), Invoices, Lines,
Taxes, Deductions and credits, Exceptions, Journal, and Corrections where there are any. The control totals are
formulas over the other sheets, so that a reader sees them agree, and sees where a copy was changed.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.documents.formats import format_month
from ratemill.documents.sheets import Sheets, cell
from ratemill.documents.workbook_control import write_control
from ratemill.documents.workbook_tables import WorkbookSource, WorkbookTable, adds_up, workbook_tables
from ratemill.frames import collect
from ratemill.money import ZERO, minor_unit_decimals

if TYPE_CHECKING:
    from collections.abc import Mapping

WORKBOOK_FILE = "workbook.xlsx"
MOST_ROWS = 100_000
"""Rows of a table before it goes into a Parquet file beside the workbook. A sheet can hold 1,048,575, but each 100,000
take half a minute and a GB to write, and a while to open."""


@dataclass(frozen=True)
class Workbook:
    """A workbook, and what does not fit into it."""

    data: bytes
    beside: dict[str, bytes] = field(default_factory=dict)
    """File name → Parquet, of tables with too many rows."""


def build_workbook(source: WorkbookSource, *, most_rows: int = MOST_ROWS) -> Workbook:
    """The workbook of a period, the same bytes for the same source.

    ``most_rows``: tables of more rows are put into Parquet files beside it, and the sheet says so.
    """
    tables = workbook_tables(source)
    long = {one.name for one in tables if one.rows.height > most_rows}
    month = format_month(source.period.first_day)
    sheets = Sheets(
        title=f"{source.seller}, {month}",
        author=source.seller,
        created=source.period.last_day,
        footer=f"{source.seller} · {month} · run {source.run_id}",
    )
    control = sheets.sheet("Control", landscape=False, title=f"{source.seller}, {month}")
    _summary(sheets, source)
    for one in tables:
        sheet = sheets.sheet(one.sheet, title=one.sheet if one.name in long else "")
        if one.name in long:
            note = f"{one.rows.height:,} rows, more than a sheet is good for: they are in {one.file}, beside this file."
            sheets.text(sheet, 2, 0, note)
        else:
            sheets.table(sheet, one.name, one.fields, one.rows)
    write_control(sheets, control, source, tables, left_out=long)
    return Workbook(sheets.finish(), {one.file: _parquet(one) for one in tables if one.name in long})


def _parquet(table: WorkbookTable) -> bytes:
    buffer = io.BytesIO()
    rows = table.rows.select(each.name for each in table.fields)
    rows.rechunk().write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


# ----------------------------------------------------------------------------------------------------------- Summary

_SUMMED = (
    "subtotal_amount", "discount_amount", "commitment_amount", "credit_amount", "untaxed_amount", "tax_amount",
    "total_amount", "prepaid_amount", "due_amount",
)  # fmt: skip
_SUMMARY = (
    ("Customer", 30), ("Account", 18), ("Documents", 11), ("Before deductions", 14), ("Discounts and credits", 14),
    ("Untaxed", 14), ("Untaxed last month", 14), ("Change", 13), ("Change %", 10), ("Tax", 13), ("Total", 14),
    ("Prepaid", 12), ("Due", 14),
)  # fmt: skip
"""Last month stands beside what it is compared with: behind the totals it would look like one of them, with tax."""
_UNTAXED, _PREVIOUS, _CHANGE, _CHANGE_PERCENT = 5, 6, 7, 8
_AMOUNTS = {
    3: "subtotal_amount", 4: "deductions", _UNTAXED: "untaxed_amount", _PREVIOUS: "previous",
    9: "tax_amount", 10: "total_amount", 11: "prepaid_amount", 12: "due_amount",
}  # fmt: skip
"""Column → what is in it."""


def _summary(sheets: Sheets, source: WorkbookSource) -> None:
    """Per customer and currency, the largest first, beside last month; sums per currency, which are never added up."""
    sheet = sheets.sheet("Summary", title=f"Summary, {format_month(source.period.first_day)}")
    previous = format_month(source.period.shift(-1).first_day)
    sheets.text(sheet, 1, 0, f"Change: untaxed amounts against {previous}. Currencies are not added up.", sheets.muted)
    for column, (heading, width) in enumerate(_SUMMARY):
        sheet.set_column(column, column, width)
        sheets.text(sheet, 3, column, heading, sheets.heading("right" if column > 1 else "left"))
    sheet.set_row(3, 32)
    row = 4
    for customers in _by_customer(source).partition_by("currency", maintain_order=True):
        sheets.text(sheet, row, 0, customers["currency"][0], sheets.section)
        first = row + 1
        for record in customers.iter_rows(named=True):
            row += 1
            sheets.text(sheet, row, 0, source.names.get(record["billing_account_id"], record["billing_account_id"]))
            sheets.text(sheet, row, 1, record["billing_account_id"])
            sheet.write_number(row, 2, record["documents"], sheets.style(num_format="0", align="right"))
            _amounts(sheets, sheet, row, record)
            _change(sheets, sheet, row, record)
        row += 1
        _total(sheets, sheet, row, first, customers)
        row += 2
    sheet.freeze_panes(4, 1)
    sheet.repeat_rows(3)


def _by_customer(source: WorkbookSource) -> pl.DataFrame:
    key = ["currency", "billing_account_id"]
    now = source.billed.invoices.lazy().group_by(key).agg(pl.len().alias("documents"), pl.col(_SUMMED).sum())
    before = source.previous_invoices.lazy().group_by(key).agg(previous=pl.col("untaxed_amount").sum())
    filled = [pl.col(name).fill_null(ZERO) for name in (*_SUMMED, "previous")]
    return collect(
        now.join(before, on=key, how="full", coalesce=True, validate="1:1")
        .with_columns(*filled, pl.col("documents").fill_null(0))
        .with_columns(deductions=pl.col("discount_amount") + pl.col("commitment_amount") + pl.col("credit_amount"))
        .sort("currency", "untaxed_amount", "billing_account_id", descending=[False, True, False])
    )


def _amounts(sheets: Sheets, sheet: Any, row: int, record: Mapping[str, Any], **style: Any) -> None:
    for column, name in _AMOUNTS.items():
        sheets.amount(sheet, row, column, record[name], record["currency"], **style)


def _change(sheets: Sheets, sheet: Any, row: int, record: Mapping[str, Any], **style: Any) -> None:
    currency, change = record["currency"], record["untaxed_amount"] - record["previous"]
    if not adds_up([record["untaxed_amount"], record["previous"]], currency):
        sheets.amount(sheet, row, _CHANGE, change, currency, **style)
        return
    untaxed, previous = cell(row, _UNTAXED), cell(row, _PREVIOUS)
    decimals = minor_unit_decimals(currency)
    sheet.write_formula(
        row, _CHANGE, f"=ROUND({untaxed}-{previous},{decimals})", sheets.money(currency, **style), float(change)
    )
    share = float(change / record["previous"]) if record["previous"] else ""
    percent = sheets.style(num_format="+0.0%;[Red]-0.0%;0.0%", align="right", **style)
    formula = f'=IF({previous}=0,"",{cell(row, _CHANGE)}/{previous})'
    sheet.write_formula(row, _CHANGE_PERCENT, formula, percent, share)


def _total(sheets: Sheets, sheet: Any, row: int, first: int, customers: pl.DataFrame) -> None:
    """A currency's sums, as formulas over the rows above where they are exact."""
    style = {"bold": True, "top": 1}
    currency = customers["currency"][0]
    sums = {"currency": currency, "documents": customers["documents"].sum()}
    sheets.text(sheet, row, 0, f"Total {currency}", sheets.style(**style))
    sheet.write_blank(row, 1, None, sheets.style(**style))
    span = f"{cell(first, 2)}:{cell(row - 1, 2)}"
    count = sheets.style(num_format="0", align="right", **style)
    sheet.write_formula(row, 2, f"=SUM({span})", count, sums["documents"])
    for column, name in _AMOUNTS.items():
        sums[name] = sum(customers[name].to_list(), ZERO)
        if adds_up(customers[name].to_list(), currency):
            formula = f"=SUM({cell(first, column)}:{cell(row - 1, column)})"
            sheet.write_formula(row, column, formula, sheets.money(currency, **style), float(sums[name]))
        else:
            sheets.amount(sheet, row, column, sums[name], currency, **style)
    _change(sheets, sheet, row, sums, **style)
