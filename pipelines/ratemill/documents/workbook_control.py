"""The Control sheet of a workbook: who, what, and totals that must agree, as formulas over the other sheets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.documents.sheets import EXACT_DIGITS, MUTED, RULE, Sheets, cell, fixed_span
from ratemill.documents.workbook_tables import WorkbookSource, WorkbookTable, adds_up
from ratemill.money import ZERO, minor_unit_decimals

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from decimal import Decimal


_CURRENCY = "{currency}"
"""Stands in formulas for the cell that holds a check's currency."""


@dataclass(frozen=True)
class _Side:
    """One of two figures that must be equal: a sum over tables, as a formula and as it is."""

    value: Decimal
    formula: str = ""
    """Without the equals sign; empty: there is nothing in the workbook to add up."""


@dataclass(frozen=True)
class _Check:
    currency: str
    claim: str
    left: _Side
    right: _Side
    is_exact: bool
    """Whether doubles can show that the two agree."""


@dataclass(frozen=True)
class _Sums:
    """Sums over the tables, in one currency."""

    currency: str
    tables: Mapping[str, WorkbookTable]
    left_out: set[str]
    """Names of tables that are not in the workbook."""

    def of(self, table: str, heading: str, **only: str) -> _Side:
        """Σ of a column, of rows that have these values (column → value)."""
        one = self.tables[table]
        rows = one.rows.filter(pl.col("currency") == self.currency, *(pl.col(n) == v for n, v in only.items()))
        value = sum(rows[one.column(heading)].to_list(), ZERO)
        if table in self.left_out:
            return _Side(value)
        headings = {each.name: each.heading for each in one.fields}
        conditions = "".join(f',{table}[{headings[name]}],"{wanted}"' for name, wanted in only.items())
        return _Side(value, f"SUMIFS({table}[{heading}],{table}[Currency],{_CURRENCY}{conditions})")

    def is_exact(self, *columns: tuple[str, str]) -> bool:
        """Whether all these columns can be added up as doubles."""
        values: list[Decimal] = []
        for table, heading in columns:
            one = self.tables[table]
            values += one.rows.filter(pl.col("currency") == self.currency)[one.column(heading)].to_list()
        return adds_up(values, self.currency)


def _plus(*sides: _Side) -> _Side:
    formulas = [side.formula for side in sides]
    return _Side(sum((side.value for side in sides), ZERO), "+".join(formulas) if all(formulas) else "")


def _minus(left: _Side, right: _Side) -> _Side:
    both = left.formula and right.formula
    return _Side(left.value - right.value, f"{left.formula}-{right.formula}" if both else "")


def _checks(source: WorkbookSource, tables: Mapping[str, WorkbookTable], left_out: set[str]) -> Iterator[_Check]:
    costs = dict(source.charges.select("currency", "cost").iter_rows())
    currencies = source.billed.invoices["currency"].unique().sort()
    for currency in currencies:
        sums = _Sums(currency, tables, left_out)
        untaxed, tax, total, due = (sums.of("Invoices", name) for name in ("Untaxed", "Tax", "Total", "Due"))
        deducted = _plus(*(sums.of("Invoices", name) for name in _TAKEN_OFF))
        owed = _minus(*(sums.of("Journal", side, posting="receivable") for side in ("Debit", "Credit")))
        charged = _Side(costs.get(currency, ZERO))
        exact = sums.is_exact(*_COMPARED)
        for claim, left, right in (
            ("Charges = lines, net", charged, sums.of("Lines", "Net", origin="run")),
            ("Lines, net = invoices, untaxed", sums.of("Lines", "Net"), untaxed),
            ("Taxes = invoices, tax", sums.of("Taxes", "Tax"), tax),
            ("Deductions and credits = invoices, taken off", sums.of("Deductions", "Amount"), deducted),
            ("Untaxed + tax = total", _plus(untaxed, tax), total),
            ("Total + prepaid = due", _plus(total, sums.of("Invoices", "Prepaid")), due),
            ("Journal, debit = credit", sums.of("Journal", "Debit"), sums.of("Journal", "Credit")),
            ("Journal, receivables = due", owed, due),
        ):
            yield _Check(currency, claim, left, right, exact)


_ON_ONE_PAGE = 64
"""Checks that can still be read where all are printed on one page."""
_TAKEN_OFF = ("Discounts", "Commitment discounts", "Promotional credits", "Prepaid")
_COMPARED = (
    ("Lines", "Net"), ("Invoices", "Untaxed"), ("Invoices", "Tax"), ("Invoices", "Total"), ("Invoices", "Due"),
    ("Deductions", "Amount"), ("Journal", "Debit"), ("Journal", "Credit"),
)  # fmt: skip


def write_control(
    sheets: Sheets, sheet: Any, source: WorkbookSource, tables: Sequence[WorkbookTable], *, left_out: set[str]
) -> None:
    """Fill the sheet.

    Args:
        sheets: the workbook.
        sheet: the empty sheet.
        source: what the workbook is made of.
        tables: its tables.
        left_out: names of those that are too long to be on a sheet.
    """
    for column, width in enumerate((13, 44, 20, 20, 16, 14)):
        sheet.set_column(column, column, width)
    checks = list(_checks(source, {one.name: one for one in tables}, left_out))
    row = _facts(sheets, sheet, source)
    row = _usage(sheets, sheet, source, row + 1)
    row += 1
    sheets.text(sheet, row, 0, "Control totals", sheets.section)
    row += 1
    headings = {"Currency": "left", "What must agree": "left", "Left": "right", "Right": "right",
                "Difference": "right", "Verdict": "center"}  # fmt: skip
    for column, (heading, align) in enumerate(headings.items()):
        sheets.text(sheet, row, column, heading, sheets.heading(align))
    first = row + 1
    for number, check in enumerate(checks):
        row += 1
        begins = number == 0 or checks[number - 1].currency != check.currency
        _check_row(sheets, sheet, row, check, begins=begins)
    _verdict(sheets, sheet, checks, first=first)
    files = sorted(one.file for one in tables if one.name in left_out)
    row = _notes(sheets, sheet, source, files, row=row + 2)
    sheet.print_area(0, 0, row, 5)
    if len(checks) <= _ON_ONE_PAGE:
        sheet.fit_to_pages(1, 1)
    sheet.activate()


def _facts(sheets: Sheets, sheet: Any, source: WorkbookSource) -> int:
    """Who, what, which run; the row below."""
    documents = Counter(source.billed.invoices["document"])
    numbers = source.billed.invoices["number"].drop_nulls().sort()
    facts = {
        "Period": str(source.period),
        "Status": "issued" if source.closed else "draft: recomputed at will until the period is closed",
        "Documents": f"{documents['invoice']:,} invoices, {documents['credit_note']:,} credit notes",
        **({"Numbers": f"{numbers[0]} … {numbers[-1]}"} if numbers.len() else {}),
        "Run": source.run_id,
        **source.hashes,
    }
    row = 3
    for name, value in facts.items():
        row += 1
        sheets.text(sheet, row, 0, name, sheets.muted)
        sheets.text(sheet, row, 1, value)
    return row + 1


def _usage(sheets: Sheets, sheet: Any, source: WorkbookSource, row: int) -> int:
    """What became of the usage rows, which must add up as well; the row below."""
    sheets.text(sheet, row, 0, "Usage rows", sheets.section)
    facts = source.facts
    count = sheets.style(num_format="#,##0", align="right")
    parts = (
        ("billed", facts["rows_billed"] - facts["rows_unpriced"]),
        ("without a price, on no invoice", facts["rows_unpriced"]),
        ("of other months", facts["rows_other_periods"]),
        ("duplicates, not billed twice", facts["rows_duplicate"]),
        ("rejected", facts["rows_rejected"]),
        ("left out by [usage.filter]", facts["rows_filtered"]),
    )
    for name, number in (("read", facts["rows_in"]), *parts):
        row += 1
        sheets.text(sheet, row, 1, name)
        sheet.write_number(row, 2, number, count)
    row += 1
    sheets.text(sheet, row, 1, "read, less the sum of the others")
    difference = facts["rows_in"] - sum(number for _, number in parts)
    formula = f"={cell(row - len(parts) - 1, 2)}-SUM({cell(row - len(parts), 2)}:{cell(row - 1, 2)})"
    sheet.write_formula(row, 2, formula, count, difference)
    _colour(sheets, sheet, (row, 2), (row, 2))
    return row + 1


def _check_row(sheets: Sheets, sheet: Any, row: int, check: _Check, *, begins: bool) -> None:
    """One check; ``begins``: it is the first of its currency, which a rule sets apart."""
    rule: dict[str, Any] = {"top": 1, "top_color": RULE} if begins else {}
    sheets.text(sheet, row, 0, check.currency, sheets.style(**rule, bold=begins))
    sheets.text(sheet, row, 1, check.claim, sheets.style(**rule))
    for column, side in ((2, check.left), (3, check.right)):
        if side.formula and check.is_exact:
            formula = side.formula.replace(_CURRENCY, f"$A{row + 1}")
            sheet.write_formula(row, column, f"={formula}", sheets.money(check.currency, **rule), float(side.value))
        else:
            sheets.amount(sheet, row, column, side.value, check.currency, **rule)
    difference = check.left.value - check.right.value
    if check.is_exact:
        formula = f"=ROUND({cell(row, 2)}-{cell(row, 3)},{minor_unit_decimals(check.currency)})"
        sheet.write_formula(row, 4, formula, sheets.money(check.currency, **rule), float(difference))
    else:
        sheets.amount(sheet, row, 4, difference, check.currency, **rule)
    verdict = "agree" if difference == ZERO else "DIFFERENT"
    sheet.write_formula(
        row, 5, f'=IF({cell(row, 4)}=0,"agree","DIFFERENT")', sheets.style(**rule, align="center"), verdict
    )


def _verdict(sheets: Sheets, sheet: Any, checks: Sequence[_Check], *, first: int) -> None:
    """One sentence at the top of the sheet, over all differences; the checks are in the rows from ``first``."""
    last = first + len(checks) - 1
    _colour(sheets, sheet, (first, 4), (last, 5))
    wrong = sum(check.left.value != check.right.value for check in checks)
    if not checks:
        sheets.text(sheet, 1, 0, "There is nothing to compare: no invoices.", sheets.muted)
        return
    span = f"{cell(first, 4)}:{cell(last, 4)}"
    agree = f"All {len(checks)} control totals agree."
    differ = "Control totals that differ: "
    formula = f'=IF(COUNTIF({span},0)=ROWS({span}),"{agree}","{differ}"&(ROWS({span})-COUNTIF({span},0))&".")'
    told = f"{differ}{wrong}." if wrong else agree
    sheet.write_formula(1, 0, formula, sheets.style(bold=True), told)
    fixed = fixed_span((first, 4), (last, 4))
    rule = {"type": "formula", "criteria": f"=COUNTIF({fixed},0)=ROWS({fixed})"}
    sheet.conditional_format(1, 0, 1, 5, {**rule, "format": sheets.good})
    rule["criteria"] = f"=COUNTIF({fixed},0)<>ROWS({fixed})"
    sheet.conditional_format(1, 0, 1, 5, {**rule, "format": sheets.bad})


def _colour(sheets: Sheets, sheet: Any, first: tuple[int, int], last: tuple[int, int]) -> None:
    """Green where the first column is zero, red where it is not."""
    if last[0] < first[0]:
        return
    compared = f"${cell(*first)}"
    for criteria, style in ((f"={compared}=0", sheets.good), (f"={compared}<>0", sheets.bad)):
        sheet.conditional_format(*first, *last, {"type": "formula", "criteria": criteria, "format": style})


def _notes(sheets: Sheets, sheet: Any, source: WorkbookSource, files: Sequence[str], *, row: int) -> int:
    """What a reader should know; the last row."""
    by_hand = source.billed.invoices.filter(pl.col("origin") == "hand").height
    notes = [
        "Left and right are formulas over the other sheets; charges are the sum of the run's exact charges.",
        f"Numbers hold {EXACT_DIGITS} digits. Amounts that need more are text; quantities and unit prices are rounded.",
        "Exact costs are text, with every digit.",
        "The journal has income per service and tax rate, before what is taken off and what is taken off.",
        "An accounting system maps each posting of the journal to an account of its own.",
        "What is on these sheets is a copy. The ledger is the published database.",
    ]
    if by_hand:
        notes.insert(1, f"{by_hand:,} credit notes that were issued by hand in this month are included; no charge is "
                     "theirs, and the first control total leaves them out.")  # fmt: skip
    notes += [f"{name} holds a table that is too long for a sheet." for name in files]
    sheets.text(sheet, row, 0, "Notes", sheets.section)
    wrapped = sheets.style(text_wrap=True, font_color=MUTED)
    for note in notes:
        row += 1
        sheet.merge_range(row, 0, row, 5, "", wrapped)
        sheets.text(sheet, row, 0, note, wrapped)
        sheet.set_row(row, 15 * (1 + len(note) // 125))
    return row
