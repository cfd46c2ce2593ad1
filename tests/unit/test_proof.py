"""Proofs in small: files against hashes, numbers against series, sums against sums, values against values."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from ratemill.audit import rows_sha256
from ratemill.proof import broken_sums, changed_files, changed_rows, different_values, wrong_numbers
from ratemill.tables.invoices import (
    COMMITMENT_LEDGER,
    CREDIT_LEDGER,
    INVOICE_DEDUCTIONS,
    INVOICE_LINES,
    INVOICES,
    TAX_LINES,
    Billed,
)

if TYPE_CHECKING:
    from ratemill.tables.columns import Table

NUMBERS = {"i1": "2026-00001"}
NAME = "invoice 2026-00001 (i1)"


def rows(table: Table, *values: dict[str, Any]) -> pl.DataFrame:
    exact = [
        {name: Decimal(value) if isinstance(value, str) and isinstance(table[name].dtype, pl.Decimal) else value
         for name, value in row.items()}
        for row in values
    ]  # fmt: skip
    return pl.DataFrame([dict.fromkeys(table.names) | row for row in exact], schema=table.polars_schema)


def billed(**changed: dict[str, Any]) -> Billed:
    """An invoice of two lines: 10.00 less 10 %, less a credit of 1.00, and a fee of 5; 20 % tax; 3.00 prepaid.

    ``changed``: values of the first row of a table, by the table's name.
    """
    amounts = {"subtotal_amount": "15", "discount_amount": "-1", "commitment_amount": "0", "credit_amount": "-1",
               "untaxed_amount": "13", "tax_amount": "2.6", "total_amount": "15.6", "prepaid_amount": "-3",
               "due_amount": "12.6"}  # fmt: skip
    taxed = {"tax_code": "fr", "tax_category": "standard", "tax_rate": "20"}
    none = {f"{kind}_amount": "0" for kind in ("discount", "commitment", "credit")}
    line = {"invoice_id": "i1", "line_number": 1, "line_kind": "usage", "cost": "10.004", "rounding": "-0.004",
            "amount": "10", **none, "discount_amount": "-1", "credit_amount": "-1", "net_amount": "8", **taxed}  # fmt: skip
    fee = {"invoice_id": "i1", "line_number": 2, "line_kind": "recurring", "cost": "5", "rounding": "0", "amount": "5",
           **none, "net_amount": "5", **taxed}  # fmt: skip
    deductions = [
        {"invoice_id": "i1", "deduction_number": number, "line_number": 1, "kind": kind, "amount": "-1"}
        for number, kind in ((1, "discount"), (2, "credit"))
    ]
    tax = {"invoice_id": "i1", "tax_code": "fr", "category": "standard", "rate": "20", "base_amount": "13",
           "tax_amount": "2.6"}  # fmt: skip
    drawn = [
        {"invoice_id": "i1", "credit_id": "k1", "kind": "promotional", "balance_before": "1", "amount": "1",
         "balance_after": "0"},
        {"invoice_id": "i1", "credit_id": "k2", "kind": "prepaid", "balance_before": "10", "amount": "3",
         "balance_after": "7"},
    ]  # fmt: skip
    invoice = {"invoice_id": "i1", "origin": "run", "lines": 2, "number": "2026-00001", **amounts}
    tables = (
        (INVOICES, [invoice]), (INVOICE_LINES, [line, fee]), (INVOICE_DEDUCTIONS, deductions), (TAX_LINES, [tax]),
        (CREDIT_LEDGER, drawn), (COMMITMENT_LEDGER, []),
    )  # fmt: skip
    return Billed.of(
        rows(table, *({**row, **(changed.get(table.name, {}) if not place else {})} for place, row in enumerate(given)))
        for table, given in tables
    )


CHARGED = pl.DataFrame(
    {"invoice_id": ["i1"], "charged": [Decimal(13)]}, schema_overrides={"charged": pl.Decimal(38, 18)}
)


def test_sums_of_a_sound_invoice_hold():
    assert broken_sums(billed(), NUMBERS, CHARGED) == []
    assert broken_sums(Billed.empty(), {}) == []


@pytest.mark.parametrize(
    ("table", "values", "told"),
    [
        ("invoices", {"subtotal_amount": "16"}, ["subtotal and deductions make the untaxed amount: 14 is not 13",
                                                 "the amounts of lines make the subtotal: 15 is not 16"]),
        ("invoices", {"due_amount": "12.5"}, ["total and prepaid credits make what is due: 12.6 is not 12.5"]),
        ("invoices", {"lines": 3}, ["the number of lines: 2 is not 3"]),
        ("invoice_lines", {"rounding": "0"}, ["line 1: cost and rounding make the amount of a line: 10.004 is not 10"]),
        ("invoice_lines", {"discount_amount": "-2"}, [
            "line 1: amount and deductions make the net amount of a line: 7 is not 8",
            "the discounts of lines make the discount amount: -2 is not -1",
            "line 1: rows of invoice_deductions make the discount of a line: -1 is not -2"]),
        ("invoice_lines", {"tax_rate": "10"}, ["the net amounts of lines of one tax make its base: 5 is not 13",
                                               "the net amounts of lines of one tax make its base: 8 is not 0"]),
        ("invoice_deductions", {"line_number": 2}, [
            "line 1: rows of invoice_deductions make the discount of a line: 0 is not -1",
            "line 2: rows of invoice_deductions make the discount of a line: -1 is not 0"]),
        ("tax_lines", {"tax_amount": "2.7"}, ["taxes make the tax amount: 2.7 is not 2.6"]),
        ("credit_ledger", {"amount": "0.5", "balance_after": "0.5"}, [
            "promotional credits drawn make the credit amount: -0.5 is not -1"]),
        ("credit_ledger", {"balance_after": "1"}, [
            "what was left of a credit less what is drawn is what is left: 0 is not 1"]),
    ],
)  # fmt: skip
def test_sum_that_does_not_hold_is_named_with_both_sides(table, values, told):
    found = [finding.message for finding in broken_sums(billed(**{table: values}), NUMBERS, CHARGED)]
    assert sorted(found) == sorted(f"{NAME}{', ' if text.startswith('line') else ': '}{text}" for text in told)


def test_charges_that_do_not_add_up_are_named():
    less = CHARGED.with_columns(charged=pl.col("charged") - Decimal("0.01"))
    assert [finding.message for finding in broken_sums(billed(), NUMBERS, less)] == [
        f"{NAME}: charges make the untaxed amount: 12.99 is not 13"
    ]


def test_differing_values_are_named_with_table_line_and_column():
    stored = billed(invoice_lines={"account_name": "Nobody"}, tax_lines={"rate": "21"})
    assert [finding.message for finding in different_values(billed(), stored, NUMBERS)] == [
        f"{NAME}, line_number 1: account_name of invoice_lines is Nobody, derived again it is (none)",
        f"{NAME}, tax_code fr, category standard, rate 20: its row in tax_lines is gone; derived again it is there",
        f"{NAME}, tax_code fr, category standard, rate 21: its row in tax_lines was added; derived again there is none",
    ]


def test_what_the_close_fills_in_is_not_derived():
    issued = billed(invoices={"status": "issued", "issue_date": date(2026, 11, 2), "due_date": date(2026, 12, 2)})
    assert different_values(billed(invoices={"number": None}), issued, NUMBERS) == []


def test_many_differing_rows_are_counted():
    lines = pl.concat([rows(INVOICE_LINES, {"invoice_id": "i1", "line_number": number}) for number in range(1, 31)])
    derived, stored = (
        Billed.of([INVOICES.empty(), lines.with_columns(sku_id=pl.lit(sku)), *(t.empty() for t in _REST)])
        for sku in ("a", "b")
    )
    found = different_values(derived, stored, {})
    assert len(found) == 21
    assert found[-1].message == "… and 10 more rows of invoice_lines"


_REST = (INVOICE_DEDUCTIONS, TAX_LINES, CREDIT_LEDGER, COMMITMENT_LEDGER)


def test_rows_are_named_by_document_and_table():
    issued = rows_sha256(billed())
    gone = {name: digest for name, digest in issued["i1"].items() if name != "tax_lines"}
    assert [
        finding.message for finding in changed_rows(issued | {"i2": {}}, {"i1": gone, "i3": {"invoices": "x"}}, NUMBERS)
    ] == [
        f"{NAME}: its rows in tax_lines are gone after it was issued",
        "invoice i3 was added: it was never issued",
    ]


def test_files_are_named_with_what_became_of_them():
    found = changed_files(
        {"a": "1", "b": "2", "c": "3"}, {"b": "2", "c": "4", "d": "5"}, folder="out", rule="documents"
    )
    assert [(finding.file, finding.message.split(":")[0]) for finding in found] == [
        ("out/a", "the file is missing"),
        ("out/c", "the file was changed"),
        ("out/d", "the file was added"),
    ]


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        (["2026-1", "2026-2", "CN-1"], []),
        (["2026-1", "CN-1"], ["no document bears the number 2026-2 of the series 2026-{number}"]),
        (["2026-1", "2026-2", "2026-2", "CN-1"], ["invoice i1 bears the number 2026-2, as another document does",
                                                  "invoice i2 bears the number 2026-2, as another document does"]),
        (["2026-1", "2026-2", "CN-1", "CN-2"], ["invoice i3 bears the number CN-2, which was never given"]),
        (["2026-1", "2026-2", "CN-1", None], ["invoice i3 bears the number None, which was never given"]),
    ],
)  # fmt: skip
def test_numbers_that_are_missing_double_or_of_no_series_are_named(numbers, told):
    issued = pl.DataFrame({"invoice_id": [f"i{place}" for place in range(len(numbers))], "number": numbers})
    found = wrong_numbers([("2026-{number}", 2), ("CN-{number}", 1)], issued)
    assert [finding.message for finding in found] == told
