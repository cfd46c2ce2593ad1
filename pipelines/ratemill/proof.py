"""Proving what was billed: rows against the hashes kept at their issue, sums against sums, values against values.

Pure: frames and hashes in, findings out. Each finding names the document, the table, and as far as it can be known the
line, the column and both values.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.findings import Finding, Severity
from ratemill.frames import collect
from ratemill.invoicing.numbering import numbers_of
from ratemill.money import COST, ZERO
from ratemill.tables.invoices import DEDUCTION_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ratemill.tables.columns import Table
    from ratemill.tables.invoices import Billed

GIVEN_AT_CLOSE = ("status", "number", "issue_date", "due_date")
"""Columns of INVOICES that the close fills in: a draft has others."""
_MOST_VALUES = 20
"""Differing values that are told of each table; the first ones lead to the cause as well as all."""

_TAMPERED = "find out who changed it, and restore the state folder from a backup"


def wrong(rule: str, message: str, cure: str = _TAMPERED, **place: Any) -> Finding:
    """Something that is not as it was left."""
    return Finding(Severity.ERROR, f"verify.{rule}", message, cure, **place)


def changed_files(
    expected: Mapping[str, str], seen: Mapping[str, str], *, folder: str, rule: str, cure: str = _TAMPERED
) -> list[Finding]:
    """An error for each file that was changed, is missing, or was added; both are path → SHA-256."""
    found = []
    for name in sorted({*expected, *seen}):
        if name not in seen:
            what = "is missing"
        elif name not in expected:
            what = "was added: nothing tells of it"
        elif expected[name] != seen[name]:
            what = f"was changed: its SHA-256 is {seen[name]}, it was {expected[name]}"
        else:
            continue
        found.append(wrong(rule, f"the file {what}", cure, file=f"{folder}/{name}"))
    return found


def changed_rows(
    expected: Mapping[str, Mapping[str, str]], seen: Mapping[str, Mapping[str, str]], numbers: Mapping[str, str | None]
) -> list[Finding]:
    """An error for each document and table whose rows are not those that were issued.

    Args:
        expected: invoice_id → table → SHA-256, see :func:`ratemill.audit.rows_sha256`.
        seen: the same of the rows as they are now.
        numbers: invoice_id → number, as far as it is known.
    """
    found = []
    for invoice_id in sorted({*expected, *seen}):
        name = named(invoice_id, numbers)
        if invoice_id not in expected:
            found.append(wrong("rows", f"{name} was added: it was never issued"))
            continue
        old, new = expected[invoice_id], seen.get(invoice_id, {})
        for table in sorted({*old, *new}):
            if old.get(table) == new.get(table):
                continue
            what = "are gone" if table not in new else "were added" if table not in old else "were changed"
            found.append(wrong("rows", f"{name}: its rows in {table} {what} after it was issued", column=table))
    return found


def named(invoice_id: str, numbers: Mapping[str, str | None]) -> str:
    """``invoice 2026-00001 (2026-10-acme-EUR)``."""
    number = numbers.get(invoice_id)
    return f"invoice {number} ({invoice_id})" if number else f"invoice {invoice_id}"


def different_values(derived: Billed, stored: Billed, numbers: Mapping[str, str | None]) -> list[Finding]:
    """An error for each value of ``stored`` that is another one when the period is derived again."""
    found: list[Finding] = []
    for (table, expected), (_, seen) in zip(derived.frames(), stored.frames(), strict=True):
        ignored = {*table.key, *(GIVEN_AT_CLOSE if table.name == "invoices" else ())}
        compared = [name for name in table.names if name not in ignored]
        both = expected.with_columns(is_derived=True).join(
            seen.with_columns(is_stored=True), on=list(table.key), how="full", coalesce=True, nulls_equal=True,
            validate="1:1", suffix="_stored",
        )  # fmt: skip
        differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_stored")) for name in compared)
        rows = both.filter(differs | pl.col("is_derived").is_null() | pl.col("is_stored").is_null()).sort(table.key)
        for row in rows.head(_MOST_VALUES).iter_rows(named=True):
            found += _different_row(table, row, compared, numbers)
        if rows.height > _MOST_VALUES:
            found.append(wrong("derived", f"… and {rows.height - _MOST_VALUES:,} more rows of {table.name}"))
    return found


def _different_row(
    table: Table, row: Mapping[str, Any], compared: Iterable[str], numbers: Mapping[str, str | None]
) -> list[Finding]:
    rest = [f"{name} {_plain(row[name])}" for name in table.key if name != "invoice_id" and row[name] is not None]
    place = ", ".join([named(row["invoice_id"], numbers), *rest])
    if row["is_stored"] is None:
        return [wrong("derived", f"{place}: its row in {table.name} is gone; derived again it is there")]
    if row["is_derived"] is None:
        return [wrong("derived", f"{place}: its row in {table.name} was added; derived again there is none")]
    return [
        wrong(
            "derived",
            f"{place}: {name} of {table.name} is {_plain(row[f'{name}_stored'])}, derived again it is"
            f" {_plain(row[name])}",
            column=name,
            value=_plain(row[f"{name}_stored"]),
        )
        for name in compared
        if row[name] != row[f"{name}_stored"]
    ]


def wrong_numbers(series: Iterable[tuple[str, int]], issued: pl.DataFrame) -> list[Finding]:
    """An error for each number that is missing, given twice, or of no series.

    Args:
        series: series and its last number, rows of NUMBER_SERIES.
        issued: invoice_id and number of every issued document.
    """
    given = {number: name for name, last in series for number in numbers_of(name, 1, last)}
    borne = Counter(issued["number"].to_list())
    found = [
        wrong("numbers", f"no document bears the number {number} of the series {name}")
        for number, name in given.items()
        if number not in borne
    ]
    for invoice_id, number in issued.select("invoice_id", "number").sort("invoice_id").iter_rows():
        if number not in given:
            found.append(wrong("numbers", f"invoice {invoice_id} bears the number {number}, which was never given"))
        elif borne[number] > 1:
            found.append(wrong("numbers", f"invoice {invoice_id} bears the number {number}, as another document does"))
    return found


# --------------------------------------------------------------------------------------------------------------- sums


def broken_sums(
    billed: Billed, numbers: Mapping[str, str | None], charged: pl.DataFrame | None = None
) -> list[Finding]:
    """An error for each sum of a document that does not hold.

    ``charged``: invoice_id, charged: sum of the charges; None where they can't be read.
    """
    found: list[Finding] = []
    for what, frame, left, right in _sums(billed, charged):
        different = frame.filter(pl.col(left).fill_null(ZERO) != pl.col(right).fill_null(ZERO))
        for row in different.sort("invoice_id").head(_MOST_VALUES).iter_rows(named=True):
            line = f", line {row['line_number']}" if row.get("line_number") is not None else ""
            found.append(
                wrong(
                    "sums",
                    f"{named(row['invoice_id'], numbers)}{line}: {what}: {_plain(row[left] or ZERO)} is not"
                    f" {_plain(row[right] or ZERO)}",
                )
            )
    return found


def _sums(billed: Billed, charged: pl.DataFrame | None) -> list[tuple[str, pl.DataFrame, str, str]]:
    """What each law says, a frame with invoice_id, and the two columns that must be equal."""
    lines = billed.lines.with_columns(
        exact=pl.col("cost") + pl.col("rounding"),
        exact_amount=pl.col("amount").cast(COST),
        net=_added(["amount", *_SHARES]),
    )
    invoices = billed.invoices.with_columns(
        untaxed=_added(["subtotal_amount", *_SHARES]),
        total=_added(["untaxed_amount", "tax_amount"]),
        due=_added(["total_amount", "prepaid_amount"]),
        number_of_lines=pl.col("lines").cast(pl.Decimal(38, 0)),
    )
    drawn = billed.credits.with_columns(left=pl.col("balance_before") - pl.col("amount"))
    laws = [
        ("cost and rounding make the amount of a line", lines, "exact", "exact_amount"),
        ("amount and deductions make the net amount of a line", lines, "net", "net_amount"),
        ("subtotal and deductions make the untaxed amount", invoices, "untaxed", "untaxed_amount"),
        ("untaxed amount and tax make the total", invoices, "total", "total_amount"),
        ("total and prepaid credits make what is due", invoices, "due", "due_amount"),
        ("what was left of a credit less what is drawn is what is left", drawn, "left", "balance_after"),
    ]
    counted = collect(lines.lazy().group_by("invoice_id").agg(pl.len().cast(pl.Decimal(38, 0)).alias("counted")))
    laws.append(("the number of lines", _beside(invoices, counted), "counted", "number_of_lines"))
    for what, frame, column, total in (
        ("the amounts of lines make the subtotal", lines, "amount", "subtotal_amount"),
        *((f"the {kind}s of lines make the {kind} amount", lines, f"{kind}_amount", f"{kind}_amount")
          for kind in DEDUCTION_KINDS),
        ("the net amounts of lines make the untaxed amount", lines, "net_amount", "untaxed_amount"),
        ("the bases of taxes make the untaxed amount", billed.taxes, "base_amount", "untaxed_amount"),
        ("taxes make the tax amount", billed.taxes, "tax_amount", "tax_amount"),
        ("prepaid credits drawn make the prepaid amount", _negative(billed.credits, "prepaid"), "taken",
         "prepaid_amount"),
        ("promotional credits drawn make the credit amount", _negative(billed.credits, "promotional"), "taken",
         "credit_amount"),
    ):  # fmt: skip
        laws.append((what, _beside(invoices, _summed(frame, ["invoice_id"], column)), "summed", total))
    laws += _sums_of_lines(billed)
    if charged is not None:
        costs = invoices.filter(origin="run").with_columns(untaxed_cost=pl.col("untaxed_amount").cast(COST))
        laws.append(("charges make the untaxed amount", _beside(costs, charged), "charged", "untaxed_cost"))
    return laws


_SHARES = tuple(f"{kind}_amount" for kind in DEDUCTION_KINDS)


def _sums_of_lines(billed: Billed) -> list[tuple[str, pl.DataFrame, str, str]]:
    """Deductions against the shares of lines, lines against the bases of taxes."""
    laws = []
    line = ["invoice_id", "line_number"]
    for kind in DEDUCTION_KINDS:
        taken = _summed(billed.deductions.filter(kind=kind), line, "amount")
        shares = billed.lines.select(*line, share=f"{kind}_amount").join(
            taken, on=line, how="full", coalesce=True, validate="1:1"
        )
        laws.append((f"rows of invoice_deductions make the {kind} of a line", shares, "summed", "share"))
    tax = ["invoice_id", "tax_code", "tax_category", "tax_rate"]
    bases = _summed(billed.taxes.rename({"category": "tax_category", "rate": "tax_rate"}), tax, "base_amount").rename(
        {"summed": "base"}
    )
    taxed = _summed(billed.lines, tax, "net_amount").join(bases, on=tax, how="full", coalesce=True, validate="1:1")
    laws.append(("the net amounts of lines of one tax make its base", taxed, "summed", "base"))
    return laws


def _added(names: Iterable[str]) -> pl.Expr:
    return sum((pl.col(name) for name in names), pl.lit(ZERO))


def _negative(drawn: pl.DataFrame, kind: str) -> pl.DataFrame:
    return drawn.filter(kind=kind).select("invoice_id", taken=-pl.col("amount"))


def _summed(frame: pl.DataFrame, by: list[str], column: str) -> pl.DataFrame:
    return collect(frame.lazy().group_by(by).agg(pl.col(column).sum().alias("summed")))


def _beside(invoices: pl.DataFrame, sums: pl.DataFrame) -> pl.DataFrame:
    return invoices.join(sums, on="invoice_id", how="full", coalesce=True, validate="1:1")


def _plain(value: Any) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, Decimal):
        return f"{value.normalize() if value else ZERO:f}"
    return str(value)
