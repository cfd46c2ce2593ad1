"""The workbook of a month, and the journal on it: read back cell by cell, and by another program."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import zipfile
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import openpyxl
import polars as pl
import pytest

from ledger_rows import billed, document, half_up, line
from ratemill.documents.workbook import MOST_ROWS, build_workbook
from ratemill.documents.workbook_tables import WorkbookSource
from ratemill.errors import InvariantError
from ratemill.findings import Finding, Severity
from ratemill.insight.journal import journal
from ratemill.period import BillingPeriod
from ratemill.tables.charges import UNPRICED
from ratemill.tables.invoices import CREDIT_LEDGER, INVOICE_DEDUCTIONS, Billed
from ratemill.tables.journal import JOURNAL

D = Decimal
PERIOD = BillingPeriod.parse("2026-09")
NAMES = {"acme": "Acme", "sora": "空ロボ", "gulf": "Gulf Trading"}
FACTS = {
    "rows_in": 110, "rows_billed": 100, "rows_unpriced": 1, "rows_other_periods": 5, "rows_duplicate": 2,
    "rows_rejected": 3, "rows_filtered": 0,
}  # fmt: skip
REJECTS = pl.DataFrame(
    {"file": ["usage/a.parquet"], "row_number": [7], "column": ["sku_id"], "value": ['=HYPERLINK("x")'],
     "rule": ["usage.sku"], "message": ["no such SKU"]},
    schema_overrides={"row_number": pl.Int64},
)  # fmt: skip


def with_deduction(one: Billed, kind: str, amount: str, **values) -> Billed:
    """``one`` with a row of INVOICE_DEDUCTIONS on its first line."""
    row = {
        "invoice_id": one.invoices["invoice_id"][0], "deduction_number": one.deductions.height + 1, "line_number": 1,
        "kind": kind, "source_id": f"a-{kind}", "description": kind.title(), "percent": None, "amount": D(amount),
    } | values  # fmt: skip
    rows = pl.concat([one.deductions, pl.DataFrame([row], schema=INVOICE_DEDUCTIONS.polars_schema)])
    return replace(one, deductions=rows)


def september() -> Billed:
    """Three customers in three currencies; acme's invoice has a discount of 10 % and 50.00 paid ahead."""
    acme = billed(
        document(
            "2026-09-acme-EUR",
            line("90.00", service="Machines", discount_amount="-9.00", pricing_quantity=D("744"), unit_price=D("0.125")),
            line("10.00", line_kind="recurring", sku_id=None, sku_name=None, discount_amount="-1.00", source_id="fee"),
            subtotal_amount=D("100.00"), discount_amount=D("-10.00"), prepaid_amount=D("-50.00"), due_amount=D("58.00"),
        )
    )  # fmt: skip
    acme = with_deduction(acme, "discount", "-9.00", percent=D(10))
    acme = with_deduction(acme, "discount", "-1.00", percent=D(10), line_number=2, deduction_number=1)
    prepaid = {
        "invoice_id": "2026-09-acme-EUR", "credit_id": "paid-ahead", "kind": "prepaid", "currency": "EUR",
        "balance_before": D("50"), "amount": D("50"), "balance_after": D(0), "description": "Paid in advance",
    }  # fmt: skip
    acme = replace(acme, credits=pl.DataFrame([prepaid], schema=CREDIT_LEDGER.polars_schema))
    others = billed(
        document("2026-09-sora-JPY", line("6977", service="Machines", tax_rate="0")),
        document("2026-09-gulf-KWD", line("31.205", service="Machines", tax_rate="0")),
    )
    return Billed.of(pl.concat([a, b]) for (_, a), (_, b) in zip(acme.frames(), others.frames(), strict=True))


def source(of: Billed, **values) -> WorkbookSource:
    lines = of.lines.join(of.invoices.select("invoice_id", "currency", "origin"), on="invoice_id")
    charges = lines.filter(origin="run").group_by("currency").agg(pl.len().alias("charges"), pl.col("net_amount").sum())
    usual = {
        "seller": "Nordwind & Co", "period": PERIOD, "run_id": "2026-09-abc", "closed": True,
        "hashes": {"Inputs": "0" * 64}, "billed": of, "previous_invoices": of.invoices.clear(),
        "charges": charges.rename({"net_amount": "cost"}), "journal": journal(of, last_day=PERIOD.last_day),
        "names": NAMES, "facts": FACTS, "findings": [], "rejects": REJECTS.clear(), "unpriced": UNPRICED.empty(),
    }  # fmt: skip
    return WorkbookSource(**(usual | values))


def opened(data: bytes, *, values: bool = False):
    """The workbook as written; ``values``: what formulas came to, in place of the formulas."""
    return openpyxl.load_workbook(io.BytesIO(data), data_only=values)


def table(sheet) -> list[dict[str, object]]:
    """Rows of the one table on a sheet, by heading."""
    (named,) = sheet.tables.values()
    head, *rows = sheet[named.ref]
    return [{h.value: c.value for h, c in zip(head, row, strict=True)} for row in rows]


def control(book) -> list[tuple]:
    """The control totals: currency, claim, left, right, difference, verdict."""
    rows = list(book["Control"].iter_rows(values_only=True))
    start = next(at for at, row in enumerate(rows) if row[0] == "Currency") + 1
    return [row for row in rows[start:] if row[4] is not None]


# The journal -----------------------------------------------------------------------------------------------------------


def test_an_invoice_becomes_a_balanced_entry():
    entry = journal(september(), last_day=PERIOD.last_day).filter(invoice_id="2026-09-acme-EUR")
    assert entry.select("posting", "service", "tax_rate", "debit", "credit").rows() == [
        ("receivable", None, None, D("58.0000"), D(0)),
        ("prepayments", None, None, D("50.0000"), D(0)),
        ("discounts", "Machines", D(20), D("9.0000"), D(0)),
        ("discounts", "Recurring fees", D(20), D("1.0000"), D(0)),
        ("revenue", "Machines", D(20), D(0), D("90.0000")),
        ("revenue", "Recurring fees", D(20), D(0), D("10.0000")),
        ("output_tax", None, D(20), D(0), D("18.0000")),
    ]
    JOURNAL.validate(entry)


def test_a_credit_note_is_booked_the_other_way_round():
    note = billed(document("2026-09-acme-EUR", line("-30.00", service="Machines"), document="credit_note"))
    entry = journal(note, last_day=PERIOD.last_day)
    assert entry.select("posting", "debit", "credit").rows() == [
        ("receivable", D(0), D("36.0000")),
        ("revenue", D("30.0000"), D(0)),
        ("output_tax", D("6.0000"), D(0)),
    ]


def test_drafts_are_booked_on_the_last_day_and_issued_ones_on_theirs():
    draft = billed(document("2026-09-acme-EUR", line("1.00"), status="draft"))
    issued = billed(document("2026-09-acme-EUR", line("1.00"), issue_date=date(2026, 10, 2), number="2026-00001"))
    assert set(journal(draft, last_day=PERIOD.last_day)["booking_date"]) == {date(2026, 9, 30)}
    assert set(journal(issued, last_day=PERIOD.last_day).select("booking_date", "number").rows()) == {
        (date(2026, 10, 2), "2026-00001")
    }


def test_an_entry_that_does_not_balance_is_refused_by_name():
    wrong = billed(document("2026-09-acme-EUR", line("1.00"), due_amount=D("1.21")))
    with pytest.raises(InvariantError, match=r"2026-09-acme-EUR does not balance: debit 1\.2100, credit 1\.2000"):
        journal(wrong, last_day=PERIOD.last_day)


def test_nothing_billed_is_an_empty_journal():
    assert journal(Billed.empty(), last_day=PERIOD.last_day).is_empty()


# The workbook ----------------------------------------------------------------------------------------------------------


def test_sheets_and_the_names_of_their_tables():
    book = opened(build_workbook(source(september())).data)
    assert {sheet.title: list(sheet.tables) for sheet in book} == {
        "Control": [], "Summary": [], "Invoices": ["Invoices"], "Lines": ["Lines"], "Taxes": ["Taxes"],
        "Deductions and credits": ["Deductions"], "Exceptions": ["Exceptions"], "Journal": ["Journal"],
    }  # fmt: skip


def test_control_totals_are_formulas_that_come_to_zero():
    data = build_workbook(source(september())).data
    told = control(opened(data, values=True))
    assert [row[4:] for row in told] == [(0, "agree")] * 8 * 3
    acme = {row[1]: row[2:4] for row in told if row[0] == "EUR"}
    assert acme == {
        "Charges = lines, net": (90, 90),
        "Lines, net = invoices, untaxed": (90, 90),
        "Taxes = invoices, tax": (18, 18),
        "Deductions and credits = invoices, taken off": (-60, -60),
        "Untaxed + tax = total": (108, 108),
        "Total + prepaid = due": (58, 58),
        "Journal, debit = credit": (118, 118),
        "Journal, receivables = due": (58, 58),
    }
    formulas = control(opened(data))
    assert all(str(row[4]).startswith("=ROUND(") for row in formulas)
    assert opened(data, values=True)["Control"]["A2"].value == "All 24 control totals agree."


def test_a_control_total_that_differs_says_so():
    wrong = source(september())
    charges = wrong.charges.with_columns(pl.col("cost") + pl.when(currency="EUR").then(D("0.01")).otherwise(D(0)))
    book = opened(build_workbook(replace(wrong, charges=charges)).data, values=True)
    assert book["Control"]["A2"].value == "Control totals that differ: 1."
    assert [row for row in control(book) if row[5] != "agree"] == [
        ("EUR", "Charges = lines, net", 90.01, 90, pytest.approx(0.01), "DIFFERENT")
    ]


def test_amounts_have_the_decimals_of_their_currency():
    book = opened(build_workbook(source(september())).data)
    formats = {}
    for row in book["Invoices"].iter_rows(min_row=2):
        total = next(c for c in row if book["Invoices"].cell(1, c.column).value == "Total")
        formats[row[7].value] = (total.value, total.number_format)
    assert formats == {
        "EUR": (108, "#,##0.00;[Red]-#,##0.00"),
        "JPY": (6977, "#,##0;[Red]-#,##0"),
        "KWD": (31.205, "#,##0.000;[Red]-#,##0.000"),
    }


def test_lines_have_discounts_and_net_and_the_exact_cost_as_text():
    exact = billed(
        document("2026-09-acme-EUR", line("0.33", cost=D("0.333333333333333333"), rounding=D("-0.003333333333333333")))
    )
    (row,) = table(opened(build_workbook(source(exact)).data)["Lines"])
    assert (row["Exact cost"], row["Amount"], row["Net"]) == ("0.333333333333333333", 0.33, 0.33)
    fee = table(opened(build_workbook(source(september())).data)["Lines"])[1]
    assert (fee["Kind"], fee["Amount"], fee["Discounts"], fee["Net"], fee["Source"]) == ("recurring", 10, -1, 9, "fee")


def test_lines_have_units_as_people_read_them():
    of = billed(document("2026-09-acme-EUR", line("0.75", pricing_unit="1000000 Tokens"), line("1.00")))
    rows = table(opened(build_workbook(source(of)).data)["Lines"])
    assert [row["Unit"] for row in rows] == ["1,000,000 Tokens", "h"]


def test_the_summary_has_last_month_beside_it_and_a_sum_per_currency():
    now = billed(document("2026-09-acme-EUR", line("110.00")), document("2026-09-gulf-EUR", line("5.00")))
    before = billed(document("2026-08-acme-EUR", line("100.00")), document("2026-08-sora-EUR", line("7.00"))).invoices
    sheet = opened(build_workbook(source(now, previous_invoices=before)).data, values=True)["Summary"]
    rows = [(row[0], row[2], *row[5:9]) for row in sheet.iter_rows(min_row=5, values_only=True)]
    assert [row for row in rows if row[1] is not None] == [
        ("Acme", 1, 110, 100, 10, 0.1),
        ("Gulf Trading", 1, 5, 0, 5, None),
        ("空ロボ", 0, 0, 7, -7, -1),
        ("Total EUR", 2, 115, 107, 8, pytest.approx(8 / 107)),
    ]


def test_exceptions_tell_findings_rejected_rows_and_unpriced_usage():
    finding = Finding(Severity.WARNING, "prices.gap", "a hole", "close it", file="book/prices.csv", row=3)
    unpriced = pl.DataFrame(
        [{"billing_account_id": "acme", "account_id": "acme", "sku_id": "gpu", "region": None, "records": 4,
          "first_usage": datetime(2026, 9, 1, tzinfo=UTC), "last_usage": datetime(2026, 9, 2, tzinfo=UTC), "quantity": D("1.5"),
          "usage_unit": "h", "reason": "no price list has a price"}],
        schema=UNPRICED.polars_schema,
    )  # fmt: skip
    built = build_workbook(source(september(), findings=[finding], rejects=REJECTS, unpriced=unpriced))
    rows = table(opened(built.data)["Exceptions"])
    assert [(r["What"], r["Rule"], r["Row"], r["SKU"], r["Quantity"], r["Message"]) for r in rows] == [
        ("finding", "prices.gap", 3, None, None, "a hole"),
        ("rejected row", "usage.sku", 7, None, None, "no such SKU"),
        ("unpriced usage", None, None, "gpu", 1.5, "no price list has a price"),
    ]


def test_corrections_and_adjustments_have_a_sheet_where_there_are_any():
    of = billed(document("2026-09-acme-EUR", line("5.00"), line(
        "-2.00", line_kind="correction", corrects_period="2026-08", corrects_invoice_id="2026-08-acme-EUR")))  # fmt: skip
    (row,) = table(opened(build_workbook(source(of)).data)["Corrections"])
    assert (row["Corrects month"], row["Corrects invoice"], row["Net"]) == ("2026-08", "2026-08-acme-EUR", -2)


HOSTILE = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1+1", '=HYPERLINK("http://x.example")', "http://x.example",
           "mailto:a@x.example", "_x0041_", "<b>&amp;", "{=1}", "\u202eevil", "\x00", "\ufffe", "x" * 40_000, "🧾" * 20_000)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_customer_becomes_a_formula_or_a_link(text):
    of = billed(document("2026-09-acme-EUR", line("1.00", sku_name=text, description=text, account_name=text)))
    built = build_workbook(
        source(of, names={"acme": text}, seller=text, rejects=REJECTS.with_columns(value=pl.lit(text)))
    )
    with zipfile.ZipFile(io.BytesIO(built.data)) as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    formulas = [
        f for name, xml in parts.items() if "worksheets/" in name for f in re.findall(r"<f[^>]*>(.*?)</f>", xml)
    ]
    assert all(re.match(r"ROUND|SUM|IF|C\d+-SUM", formula) for formula in formulas)
    assert not any("<hyperlink" in xml or "relationships/hyperlink" in xml for xml in parts.values())
    (row,) = table(opened(built.data)["Lines"])
    shown = row["SKU name"]
    if len(text) > 16_384:
        assert len(shown.encode("utf-16-le")) // 2 in (32_766, 32_767)
        assert shown.endswith("…")
    else:
        assert shown == {"\t=1+1": " =1+1", "\u202eevil": "evil", "\x00": "�", "\ufffe": "�"}.get(text, text)


def test_text_that_looks_like_a_formula_stays_text_when_it_is_edited():
    of = billed(document("2026-09-acme-EUR", line("1.00", sku_name="=1+1", region="eu")))
    sheet = opened(build_workbook(source(of)).data)["Lines"]
    by_heading = {sheet.cell(1, c.column).value: c for c in sheet[2]}
    assert by_heading["SKU name"].quotePrefix
    assert not by_heading["Region"].quotePrefix


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        ("9999999999999.99", 9999999999999.99),  # 15 digits: what a double keeps for sure
        ("10000000000000.01", "10000000000000.01"),
        ("-10000000000000.01", "-10000000000000.01"),
        ("10000000000000.00", 10000000000000),  # long, but with few digits that count
    ],
)
def test_an_amount_is_a_number_as_long_as_that_is_exact(amount, written):
    of = billed(document("2026-09-acme-EUR", line(amount, tax_rate="0")))
    data = build_workbook(source(of)).data
    (row,) = table(opened(data)["Lines"])
    assert row["Net"] == written
    differences = [row[4:] for row in control(opened(data, values=True))]
    assert differences == [(0, "agree")] * 8


def test_sums_that_doubles_cannot_hold_are_figures_and_no_formulas():
    """Each amount fits into 15 digits, their sum does not."""
    of = billed(document("2026-09-acme-EUR", *[line("9999999999999.99", tax_rate="0")] * 2))
    checks = control(opened(build_workbook(source(of)).data))
    assert {row[1]: row[2] for row in checks}["Lines, net = invoices, untaxed"] == "19999999999999.98"
    assert {row[4] for row in checks} == {0}


def test_tables_that_are_too_long_go_into_parquet_beside_it():
    built = build_workbook(source(september()), most_rows=3)
    assert set(built.beside) == {"workbook-lines.parquet", "workbook-journal.parquet"}
    lines = pl.read_parquet(built.beside["workbook-lines.parquet"])
    assert lines["net_amount"].to_list() == [D("81"), D("9"), D("31.205"), D("6977")]
    book = opened(built.data, values=True)
    assert book["Lines"]["A3"].value.startswith(
        "4 rows, more than a sheet is good for: they are in workbook-lines.parquet"
    )
    assert [row[4:] for row in control(book)] == [(0, "agree")] * 24
    assert any("workbook-journal.parquet" in str(row[0]) for row in book["Control"].iter_rows(values_only=True))


def test_the_limit_is_the_one_that_is_documented():
    page = (Path(__file__).resolve().parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
    assert f"| rows of a table in a workbook | {MOST_ROWS:,}; more go into Parquet" in page


def test_equal_content_gives_equal_bytes_whatever_the_clock_says(monkeypatch):
    first = build_workbook(source(september())).data
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    assert build_workbook(source(september())).data == first
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert "2026-09-30T00:00:00Z" in archive.read("docProps/core.xml").decode()


def test_it_is_ready_to_read_and_to_print():
    book = opened(build_workbook(source(september())).data)
    assert book["Lines"].freeze_panes == "A2"
    for sheet in book:
        assert (sheet.page_setup.paperSize, sheet.page_setup.fitToWidth or 1) == (9, 1)
        assert sheet.sheet_properties.pageSetUpPr.fitToPage
        assert sheet.oddFooter.left.text == "Nordwind && Co · September 2026 · run 2026-09-abc"
    assert book.active.title == "Control"


def test_a_month_without_invoices_still_makes_a_workbook():
    data = build_workbook(source(Billed.empty())).data
    assert opened(data)["Control"]["A2"].value == "There is nothing to compare: no invoices."


# Another program -------------------------------------------------------------------------------------------------------

RECALCULATE = """<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry">
<item oor:path="/org.openoffice.Office.Calc/Formula/Load">
<prop oor:name="OOXMLRecalcMode" oor:op="fuse"><value>0</value></prop></item>
</oor:items>
"""
"""LibreOffice then computes every formula itself, and does not take our word for it."""


@pytest.fixture(scope="module")
def convert(tmp_path_factory):
    """A function: a workbook's bytes → what LibreOffice makes of it, as a workbook, formulas computed by itself."""
    office = shutil.which("soffice") or shutil.which("libreoffice")
    if office is None:
        pytest.skip("LibreOffice is not installed")
    profile = tmp_path_factory.mktemp("profile")
    (profile / "user").mkdir()
    (profile / "user" / "registrymodifications.xcu").write_text(RECALCULATE)

    def run(data: bytes, folder: Path):
        (folder / "in").mkdir()
        (folder / "in" / "book.xlsx").write_bytes(data)
        subprocess.run(
            [office, f"-env:UserInstallation={profile.as_uri()}", "--headless", "--convert-to", "xlsx",
             "--outdir", folder, folder / "in" / "book.xlsx"],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        return opened((folder / "book.xlsx").read_bytes(), values=True)

    return run


@pytest.mark.slow
def test_libreoffice_computes_the_same_totals(convert, tmp_path):
    of = september()
    data = build_workbook(source(of, previous_invoices=of.invoices)).data
    theirs, ours = convert(data, tmp_path), opened(data, values=True)
    assert theirs["Control"]["A2"].value == "All 24 control totals agree."
    assert [row[2:] for row in control(theirs)] == [row[2:] for row in control(ours)]
    for mine, other in zip(ours["Summary"].iter_rows(), theirs["Summary"].iter_rows(), strict=True):
        assert [c.value for c in other] == [c.value for c in mine]
    cells = [c.value for sheet in theirs for row in sheet.iter_rows() for c in row]
    assert not [value for value in cells if isinstance(value, str) and value.startswith(("#", "Err:"))]


@pytest.mark.slow
def test_libreoffice_sees_a_change_in_a_copy(convert, tmp_path):
    """The totals are alive: whoever changes a line in a copy finds the sheet red."""
    book = opened(build_workbook(source(september())).data)
    lines = book["Lines"]
    net = next(c.column for c in lines[1] if c.value == "Net")
    lines.cell(2, net).value += 0.01
    buffer = io.BytesIO()
    book.save(buffer)
    theirs = convert(buffer.getvalue(), tmp_path)
    assert theirs["Control"]["A2"].value == "Control totals that differ: 2."
    assert half_up(D(str(max(abs(row[4]) for row in control(theirs))))) == D("0.01")
