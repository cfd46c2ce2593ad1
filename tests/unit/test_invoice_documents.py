"""Invoices as documents: what a customer, a spreadsheet and a machine get from the rows of the invoice tables."""

from __future__ import annotations

import ast
import csv
import inspect
import io
import json
import os
import pickle
import re
import subprocess
import sys
import unicodedata
from dataclasses import fields, is_dataclass, replace
from datetime import date
from decimal import ROUND_HALF_UP, Decimal, localcontext
from html.parser import HTMLParser
from itertools import pairwise

import jinja2
import polars as pl
import pypdf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratemill.config import Bank, Seller
from ratemill.documents import environment as environment_module
from ratemill.documents import formats, model
from ratemill.documents.environment import make_environment, render
from ratemill.documents.filenames import safe_name
from ratemill.documents.html import render_invoice_html
from ratemill.documents.invoice import build_invoice
from ratemill.documents.invoice_files import invoice_stem, render_invoice_files
from ratemill.documents.labels import wording
from ratemill.documents.pdf import InvoicePdf
from ratemill.documents.tabular import invoice_json, lines_csv
from ratemill.errors import InvariantError, UsageError
from ratemill.money import PRICE, minor_unit_decimals
from ratemill.period import BillingPeriod
from ratemill.resources import shipped
from ratemill.tables.book import ACCOUNTS, TAX_KINDS
from ratemill.tables.invoices import BILLING_TABLES, DEDUCTION_KINDS, INVOICE_LINES, INVOICES, LINE_KINDS, Billed

PERIOD = BillingPeriod(2026, 10)
SELLER = Seller(
    name="Northwind Cloud",
    legal_name="Northwind Cloud SAS",
    address=("12 rue des Ateliers", "75011 Paris"),
    country="FR",
    tax_id="FR00123456789",
    registration="RCS Paris 123 456 789",
    email="billing@northwind.example",
    bank=Bank(name="Banque Exemple", iban="FR0012345678901234567890189", bic="EXMPFRPP"),
)
ACME = dict.fromkeys(ACCOUNTS.names) | {
    "account_id": "acme",
    "name": "Acme Robotics",
    "legal_name": "Acme Robotics GmbH",
    "address_line1": "Hafenstr. 4",
    "postal_code": "20457",
    "city": "Hamburg",
    "country": "DE",
    "tax_id": "DE000000000",
    "currency": "EUR",
    "time_zone": "Europe/Berlin",
}
STANDARD_20 = {"tax_code": "FR", "kind": "standard", "rate": Decimal(20), "note": None}
REVERSE_CHARGE = {
    "tax_code": "EU-B2B",
    "kind": "reverse_charge",
    "rate": Decimal(0),
    "note": "Reverse charge: VAT is to be accounted for by the recipient, Art. 196 Directive 2006/112/EC.",
}


def exactly(function):
    """The function without rounding to the 28 digits that Decimal has by itself."""

    def wide(*args, **kwargs):
        with localcontext(prec=80):
            return function(*args, **kwargs)

    return wide


def line(service, name, quantity, unit, price, **other):
    """A line as a price list would give it; ``other`` are columns of INVOICE_LINES."""
    return {"service": service, "sku_name": name, "pricing_quantity": Decimal(quantity), "pricing_unit": unit,
            "unit_price": Decimal(price)} | other  # fmt: skip


ISSUED = {
    "status": "issued",
    "number": "NW-2026-000123",
    "issue_date": date(2026, 11, 2),
    "due_date": date(2026, 12, 2),
}
REVIEWED = [
    line("Virtual machines", "Standard instance, 4 vCPU", "1488", "instance hour", "0.1624", region="eu-paris-1"),
    line("Virtual machines", "Standard instance, 2 vCPU", "312.5", "instance hour", "0.0812", region="eu-paris-1",
         last_day=date(2026, 10, 14)),
    line("Object storage", "Stored data", "1843.203125", "GB month", "0.0115"),
    line("Networking", "Outbound traffic", "5021.7", "GB", "0.05", project_id="lab", project_name="Laboratory"),
    line("Support", "Standard support", "1", "month", "29", project_id=None, project_name=None),
]  # fmt: skip
"""By hand: 1488×0.1624 = 241.6512 → 241.65; 312.5×0.0812 = 25.375 → 25.38; 1843.203125×0.0115 = 21.1968359375 → 21.20;
5021.7×0.05 = 251.085 → 251.09; 29. Sum 568.32; 20 % of it 113.664 → 113.66; total 681.98."""


def amount_line(kind, description, amount, **other):
    """A line that is for no quantity."""
    return {"line_kind": kind, "description": description, "amount": Decimal(amount), "sku_id": None, "sku_name": None,
            "service": None, "category": None, "price_id": None, "project_id": None, "project_name": None,
            "list_cost": None} | other  # fmt: skip


def deduction(kind, source, name, shares, *, percent=None):
    """Rows of INVOICE_DEDUCTIONS of one discount, commitment or credit; ``shares``: line number → amount."""
    return [
        {"kind": kind, "source_id": source, "description": name, "percent": percent and Decimal(percent),
         "line_number": number, "amount": Decimal(amount)}
        for number, amount in shares.items()
    ]  # fmt: skip


@exactly
def billed(
    lines, /, *, taxes=(STANDARD_20,), account=ACME, currency="EUR", deductions=(), prepaid=(), promotional=(),
    commitments=(), suffix="", **invoice,
):  # fmt: skip
    """One invoice as invoicing hands it over, added up the plain way. ``prepaid``: (credit, name, before, used)."""
    cent = Decimal(1).scaleb(-minor_unit_decimals(currency))
    invoice_id = f"{PERIOD}-{account['account_id']}-{currency}{suffix}"
    taken = [
        row | {"invoice_id": invoice_id, "deduction_number": number}
        for number, rows in enumerate(deductions, 1)
        for row in rows
    ]
    rows = []
    for number, given_line in enumerate(lines, 1):
        is_fee = "amount" in given_line
        cost = given_line["amount"] if is_fee else given_line["pricing_quantity"] * given_line["unit_price"]
        amount = cost.quantize(cent, ROUND_HALF_UP)
        shares = {
            f"{kind}_amount": sum(
                (row["amount"] for row in taken if (row["line_number"], row["kind"]) == (number, kind)), Decimal(0)
            )
            for kind in ("discount", "commitment", "credit")
        }
        rows.append(
            {
                "line_kind": "usage",
                "account_id": account["account_id"],
                "account_name": account["name"],
                "project_id": "shop",
                "project_name": "Web shop",
                "category": "Compute",
                "sku_id": f"sku-{number}",
                "region": None,
                "price_id": f"price-{number}",
                "first_day": PERIOD.first_day,
                "last_day": PERIOD.last_day,
                "list_cost": cost * 2,
                "tax_code": taxes[0]["tax_code"] if taxes else "",
                "tax_category": "standard",
                "tax_rate": taxes[0]["rate"] if taxes else Decimal(0),
            }
            | given_line
            | shares
            | {
                "invoice_id": invoice_id,
                "line_number": number,
                "cost": cost,
                "amount": amount,
                "rounding": amount - cost,
                "net_amount": amount + sum(shares.values()),
            }
        )
    sums = {f"{kind}_amount": sum((row[f"{kind}_amount"] for row in rows), Decimal(0)) for kind in ("discount",
            "commitment", "credit")}  # fmt: skip
    subtotal = sum((row["amount"] for row in rows), Decimal(0))
    untaxed = subtotal + sum(sums.values())
    tax_rows = [
        {"category": "standard"} | tax | {"invoice_id": invoice_id, "base_amount": untaxed,
               "tax_amount": (untaxed * tax["rate"] / 100).quantize(cent, ROUND_HALF_UP)}
        for tax in taxes
    ]  # fmt: skip
    total = untaxed + sum((row["tax_amount"] for row in tax_rows), Decimal(0))
    ledger = [
        {"invoice_id": invoice_id, "credit_id": credit, "kind": kind, "currency": currency, "description": name,
         "balance_before": Decimal(before), "amount": Decimal(used), "balance_after": Decimal(before) - Decimal(used)}
        for kind, entries in (("prepaid", prepaid), ("promotional", promotional))
        for credit, name, before, used in entries
    ]  # fmt: skip
    paid = -sum((row["amount"] for row in ledger if row["kind"] == "prepaid"), Decimal(0))
    row = dict.fromkeys(INVOICES.names) | {
        "invoice_id": invoice_id, "document": "credit_note" if total < 0 else "invoice", "period": str(PERIOD),
        "billing_account_id": account["account_id"], "currency": currency, "status": "draft", "origin": "run",
        "lines": len(rows), "list_amount": untaxed, "subtotal_amount": subtotal, **sums, "untaxed_amount": untaxed,
        "tax_amount": total - untaxed, "total_amount": total, "prepaid_amount": paid, "due_amount": total + paid,
        "rounding": sum((r["rounding"] for r in rows), Decimal(0)), "run_id": "2026-10-3f9ac2d81b07",
    }  # fmt: skip
    promised = [each | {"invoice_id": invoice_id, "currency": currency} for each in commitments]
    frames = ([row | invoice], rows, taken, tax_rows, ledger, promised)
    return Billed(
        *(pl.DataFrame(rows, schema=table.polars_schema) for table, rows in zip(BILLING_TABLES, frames, strict=True))
    )


def document(lines=REVIEWED, /, *, account=ACME, logo=None, originals=None, **other):
    return build_invoice(
        billed(lines, account=account, **other), account=account, seller=SELLER, period=PERIOD, logo=logo,
        originals=originals,
    )  # fmt: skip


FULL = {
    "lines": [
        *REVIEWED[:3],
        amount_line("recurring", "Premium support", "250", project_id="shop", project_name="Web shop",
                    first_day=date(2026, 10, 17)),
        amount_line("adjustment", "Goodwill for the outage of 3 October", "-20"),
        amount_line("commitment", "Yearly agreement 2026", "211.77"),
    ],
    "deductions": [
        deduction("discount", "autumn", "Autumn promotion", {1: "-24.17", 2: "-2.54"}, percent="10"),
        deduction("discount", "loyal", "Loyalty discount", {1: "-8.16", 2: "-0.86", 3: "-0.79", 4: "-9.38"}),
        deduction("commitment", "yearly", "Yearly agreement 2026", {1: "-24.16", 2: "-2.54", 3: "-2.12", 6: "-21.18"},
                  percent="10"),
        deduction("credit", "welcome", "Welcome credit", {1: "-40.00", 4: "-60.00"}),
    ],
    "promotional": [("welcome", "Welcome credit", "300", "100")],
    "prepaid": [("top-up", "Top-up of 1 September", "500", "400")],
    "commitments": [
        {"commitment_id": "yearly", "description": "Yearly agreement 2026", "committed_amount": Decimal(500),
         "eligible_amount": Decimal("288.23"), "shortfall_amount": Decimal("211.77"), "discount_amount": Decimal(-50),
         "days": 31, "days_in_month": 31},
    ],
    **ISSUED,
}  # fmt: skip
"""By hand: 241.65 + 25.38 + 21.20 + 250 - 20 + 211.77 = 730.00; off it 26.71 + 19.19 + 50.00 + 100.00 = 195.90;
untaxed 534.10, tax 106.82, total 640.92, prepaid 400.00, due 240.92. The commitment: 500 - 288.23 = 211.77, 10 % of 500."""
ORIGINALS = {
    "2026-09-acme-EUR": {"number": "NW-2026-000098", "issue_date": date(2026, 10, 2)},
    "2026-08-acme-EUR": {"number": "NW-2026-000081", "issue_date": date(2026, 9, 2)},
}


def correction(month, name, quantity, price, **other):
    """A correction line: the difference of quantity at its price."""
    first, last = BillingPeriod(2026, month).first_day, BillingPeriod(2026, month).last_day
    return line("Virtual machines", name, quantity, "instance hour", price, line_kind="correction",
                corrects_period=f"2026-{month:02}", corrects_invoice_id=f"2026-{month:02}-acme-EUR", first_day=first,
                last_day=last) | other  # fmt: skip


CORRECTED = {
    "lines": [
        *REVIEWED[:2],
        correction(8, "Standard instance, 4 vCPU", "-12", "0.1624", region="eu-paris-1"),
        correction(9, "Standard instance, 4 vCPU", "48", "0.1624", region="eu-paris-1", last_day=date(2026, 9, 2)),
        correction(9, "Stored data", "10", "0.0115", service="Object storage", project_id="lab",
                   project_name="Laboratory"),
    ],
}  # fmt: skip
"""-12 × 0.1624 = -1.9488 → -1.95; 48 × 0.1624 = 7.7952 → 7.80; 0.115 → 0.12."""
CREDITED = {
    "lines": [
        correction(9, "Standard instance, 4 vCPU", "-744", "0.1624", region="eu-paris-1"),
        correction(9, "Stored data", "100", "0.0115", service="Object storage"),
    ],
    "suffix": "-credit-2026-09",
    "corrects_invoice_id": "2026-09-acme-EUR",
    **ISSUED,
    "number": "CN-2026-000004",
    "due_date": None,
}
"""-744 × 0.1624 = -120.8256 → -120.83; 1.15: -119.68, tax -23.936 → -23.94, total -143.62."""
YEN = {
    "lines": [
        line("Compute", "Small", "744", "hour", "12.345"),
        amount_line("recurring", "Support", "3000"),
    ],
    "currency": "JPY",
    "account": ACME | {"account_id": "sakura", "name": "Sakura Design", "legal_name": None, "country": "JP",
                       "address_line1": "1-2-3 Jingumae, Shibuya-ku", "postal_code": "150-0001", "city": "Tokyo",
                       "time_zone": "Asia/Tokyo", "tax_id": None},
    "taxes": ({"tax_code": "JP", "kind": "standard", "rate": Decimal(10), "note": None},),
    "deductions": [deduction("discount", "loyal", "Loyalty", {1: "-918", 2: "-300"}, percent="10")],
}  # fmt: skip
"""9184.68 → 9185; 12185 - 1218 = 10967; tax 1096.7 → 1097; 12064."""
DINAR = {
    "lines": [line("Compute", "Small", "744", "hour", "0.0125"), line("Storage", "Space", "10.5", "GB", "0.003")],
    "currency": "KWD",
    "account": ACME | {"account_id": "gulf", "name": "Gulf Freight", "legal_name": None, "country": "KW",
                       "address_line1": "Block 4, Street 12", "postal_code": None, "city": "Kuwait City",
                       "time_zone": "Asia/Kuwait", "tax_id": None},
    "taxes": ({"tax_code": "OUT", "kind": "outside_scope", "rate": Decimal(0), "note": "Outside the scope of VAT."},),
    "prepaid": [("deposit", "Deposit", "50", "9.332")],
}  # fmt: skip
"""9.300 + 0.0315 → 0.032 = 9.332, all of it prepaid: nothing is due."""


@pytest.fixture(scope="module")
def shipped_templates():
    return make_environment()


@pytest.fixture(scope="module")
def pdf(shipped_templates):
    return InvoicePdf(shipped_templates, system_fonts=False)


def pdf_text(content: bytes) -> str:
    """All text of a PDF, white space and invisible break points taken out, because lines break anywhere."""
    pages = pypdf.PdfReader(io.BytesIO(content)).pages
    return squeezed("".join(page.extract_text() for page in pages))


def squeezed(text: str) -> str:
    return re.sub(r"[\s\u200b\xad]+", "", unicodedata.normalize("NFKC", text))


class _Page(HTMLParser):
    """Text and tags of a page, as a browser would see them."""

    def __init__(self, page):
        super().__init__()
        self.text, self.tags, self.attributes = "", [], []
        self.feed(page)

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]


# --- the document --------------------------------------------------------------------------------------------------


def test_lines_are_grouped_by_account_project_and_service_with_sums_made_by_hand():
    invoice = document()
    (account,) = invoice.accounts
    assert [(p.name, p.subtotal) for p in account.projects] == [
        ("Web shop", Decimal("288.23")),
        ("Laboratory", Decimal("251.09")),
        ("", Decimal("29.00")),
    ]
    assert [(s.name, s.subtotal) for s in account.projects[0].services] == [
        ("Virtual machines", Decimal("267.03")),
        ("Object storage", Decimal("21.20")),
    ]
    assert account.subtotal == invoice.totals.untaxed == Decimal("568.32")
    assert (invoice.totals.tax, invoice.totals.total) == (Decimal("113.66"), Decimal("681.98"))
    assert [each.number for each in invoice.lines()] == [1, 2, 3, 4, 5]


def test_lines_in_any_order_give_the_same_document():
    shuffled = Billed(*(frame.reverse() for _, frame in billed(REVIEWED).frames()))
    shuffled = build_invoice(shuffled, account=ACME, seller=SELLER, period=PERIOD)
    assert shuffled == document()


@pytest.mark.parametrize(
    ("field", "wrong", "word"),
    [
        ("untaxed_amount", Decimal("568.33"), "untaxed amount"),
        ("tax_amount", Decimal("113.67"), "tax"),
        ("total_amount", Decimal("681.99"), "total"),
        ("rounding", Decimal(0), "rounding"),
        ("lines", 6, "lines"),
        ("subtotal_amount", Decimal(569), "subtotal"),
        ("discount_amount", Decimal(-1), "discounts"),
        ("commitment_amount", Decimal(-1), "commitment discounts"),
        ("credit_amount", Decimal(-1), "credits"),
        ("prepaid_amount", Decimal(-1), "prepaid credits"),
        ("due_amount", Decimal(681), "amount due"),
    ],
)
def test_a_document_that_does_not_add_up_is_never_made(field, wrong, word):
    with pytest.raises(InvariantError, match=f"give {word} .*{wrong}"):
        document(**{field: wrong})


def ledger_document(case):
    given = dict(case)
    return document(given.pop("lines"), originals=ORIGINALS, **given)


def test_the_way_from_the_lines_to_what_is_due():
    invoice = ledger_document(FULL)
    totals = invoice.totals
    assert (totals.subtotal, totals.discount, totals.commitment, totals.credit) == (
        Decimal("730.00"), Decimal("-45.90"), Decimal("-50.00"), Decimal("-100.00"),
    )  # fmt: skip
    assert (totals.untaxed, totals.tax, totals.total) == (Decimal("534.10"), Decimal("106.82"), Decimal("640.92"))
    assert (totals.prepaid, totals.due) == (Decimal("-400.00"), Decimal("240.92"))
    assert [(each.name, each.amount, each.balance_left) for each in invoice.deductions] == [
        ("Autumn promotion", Decimal("-26.71"), None),
        ("Loyalty discount", Decimal("-19.19"), None),
        ("Yearly agreement 2026", Decimal("-50.00"), None),
        ("Welcome credit", Decimal("-100.00"), Decimal(200)),
    ]
    assert [(each.name, each.amount, each.balance_left) for each in invoice.prepaid] == [
        ("Top-up of 1 September", Decimal(-400), Decimal(100))
    ]
    first = next(invoice.lines())
    assert (first.amount, first.discount, first.commitment, first.credit, first.net) == (
        Decimal("241.65"), Decimal("-32.33"), Decimal("-24.16"), Decimal("-40.00"), Decimal("145.16"),
    )  # fmt: skip


def test_fees_adjustments_and_shortfalls_have_sections_of_their_own_behind_the_usage():
    (account,) = ledger_document(FULL).accounts
    assert [project.name for project in account.projects] == ["Web shop"]
    assert [(section.kind, section.subtotal, section.lines[0].description) for section in account.others] == [
        ("recurring", Decimal(250), "Premium support"),
        ("adjustment", Decimal(-20), "Goodwill for the outage of 3 October"),
        ("commitment", Decimal("211.77"), "Yearly agreement 2026"),
    ]
    assert account.subtotal == Decimal(730)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({1: "-2.00", 9: "-1.00", 10: "1.00"}, "discount of line 9, which is not there"),
        ({2: "-2.00"}, "discount of line 1"),
    ],
)
def test_a_deduction_that_is_not_what_its_lines_say_is_never_shown(rows, words):
    given = billed(REVIEWED, deductions=[deduction("discount", "d", "D", {1: "-2.00"})])
    other = billed(REVIEWED, deductions=[deduction("discount", "d", "D", rows)]).deductions
    with pytest.raises(InvariantError, match=words):
        build_invoice(replace(given, deductions=other), account=ACME, seller=SELLER, period=PERIOD)


def test_corrections_name_the_month_and_the_invoice_that_they_correct():
    invoice = ledger_document(CORRECTED)
    assert [(each.period, each.original.number, each.subtotal) for each in invoice.corrections] == [
        ("2026-08", "NW-2026-000081", Decimal("-1.95")),
        ("2026-09", "NW-2026-000098", Decimal("7.92")),
    ]
    assert [line.part_of_month for line in invoice.corrections[1].lines] == [
        (date(2026, 9, 1), date(2026, 9, 2)),
        None,  # the whole of September
    ]
    (account,) = invoice.accounts
    assert sum((each.subtotal for each in invoice.corrections), account.subtotal) == invoice.totals.subtotal


def test_a_correction_does_not_say_the_month_of_its_section_again():
    said = correction(9, "Stored data", "10", "0.0115", description="Correction of 2026-09: 10 GB more")
    (line,) = document([said]).lines()
    assert (line.description, line.remark) == ("Stored data", "10 GB more")


def test_a_correction_of_a_price_shows_no_quantity_and_none_says_that_its_price_varies(shipped_templates):
    price = correction(9, "Stored data", "0", "0") | {"unit_price": Decimal(0)}
    given = billed([price, correction(9, "Snapshots", "3", "1")])
    priceless = given.lines.with_columns(unit_price=pl.lit(None, dtype=PRICE))
    built = build_invoice(replace(given, lines=priceless), account=ACME, seller=SELLER, period=PERIOD)
    assert [(line.quantity, line.unit) for line in built.lines()] == [(None, ""), (Decimal(3), "instance hour")]
    assert "varies" not in render_invoice_html(built, shipped_templates)


def test_a_correction_of_a_payer_who_got_no_invoice_names_the_month_alone(shipped_templates):
    (section,) = document([correction(9, "Stored data", "10", "0.01", corrects_invoice_id=None)]).corrections
    assert (section.period, section.original) == ("2026-09", None)
    page = render_invoice_html(
        document([correction(9, "Stored data", "10", "0.01", corrects_invoice_id=None)]), shipped_templates
    )
    assert '<th scope="rowgroup" colspan="5" class="text">September 2026</th>' in page


def test_a_credit_note_shows_what_it_credits_as_positive(shipped_templates, pdf):
    """The tables have it negative: 2026-10's invoices and credit notes add up."""
    given = dict(CREDITED)
    assert billed(given.pop("lines"), **given).invoices["due_amount"].to_list() == [Decimal("-143.62")]
    note = ledger_document(CREDITED)
    assert (note.totals.untaxed, note.totals.tax, note.totals.due) == (
        Decimal("119.68"), Decimal("23.94"), Decimal("143.62"),
    )  # fmt: skip
    assert [(line.quantity, line.amount) for line in note.lines()] == [
        (Decimal(744), Decimal("120.83")),
        (Decimal(-100), Decimal("-1.15")),
    ]
    assert not note.payment.is_owed
    page = " ".join(_Page(render_invoice_html(note, shipped_templates)).text.split())
    for text in (squeezed(page), pdf_text(pdf.render(note))):
        for words in ("Credit note", "Amount credited", "EUR 143.62", "Corrects invoice", "NW-2026-000098",
                      "October 2, 2026", "Nothing to pay: this amount is credited to you."):  # fmt: skip
            assert squeezed(words) in text
        assert "IBAN" not in text
        assert "Amountdue" not in text


def test_reasons_of_a_credit_stand_beside_what_is_credited():
    (line,) = document([REVIEWED[0] | {"description": "Outage of 3 October"}]).lines()
    assert (line.description, line.remark) == ("Standard instance, 4 vCPU", "Outage of 3 October")
    fee = amount_line("recurring", "Support of the web shop", "5", sku_id="support", sku_name="Standard support")
    (line,) = document([fee]).lines()
    assert (line.description, line.remark) == ("Support of the web shop", "Standard support")


@pytest.mark.parametrize(
    ("language", "cap", "minimum"),
    [
        ("en", "monthly cap reached", "monthly minimum"),
        ("de", "Monatshöchstbetrag erreicht", "Monatsmindestbetrag"),
        ("fr", "plafond mensuel atteint", "minimum mensuel"),
    ],
)
def test_a_line_says_that_a_cap_or_a_minimum_made_its_amount(shipped_templates, pdf, language, cap, minimum):
    """Else 744 × 0.0074 would not be what the line says."""
    lines = [
        line("Machines", "Machine", "744", "hour", "0.0074", cap_cost=Decimal("-0.5328")),
        line("Machines", "Tiny machine", "1", "hour", "0.0074", minimum_cost=Decimal("0.9926")),
        line("Machines", "Other machine", "100", "hour", "0.0074"),
    ]
    built = document(lines, account=ACME | {"language": language})
    page = render_invoice_html(built, shipped_templates)
    for text in (squeezed(_Page(page).text), pdf_text(pdf.render(built))):
        rows = [text.partition(squeezed(name))[2][:60] for name in ("Machine", "Tiny machine", "Other machine")]
        said = [(squeezed(cap) in row, squeezed(minimum) in row.split("hour")[0]) for row in rows]
        assert said == [(True, False), (False, True), (False, False)]
    told = json.loads(invoice_json(built))["lines"]
    assert [(row["cap"], row["minimum"]) for row in told] == [("-0.5328", None), (None, "0.9926"), (None, None)]


def test_prepaid_credit_that_covers_everything_is_said(shipped_templates, pdf):
    invoice = ledger_document(DINAR)
    assert (invoice.totals.total, invoice.totals.due) == (Decimal("9.332"), Decimal(0))
    words = "Nothing to pay: prepaid credit covers the total."
    assert words in render_invoice_html(invoice, shipped_templates)
    assert squeezed(words) in pdf_text(pdf.render(invoice))


def test_yen_are_discounted_in_whole_yen():
    totals = ledger_document(YEN).totals
    assert (totals.subtotal, totals.discount, totals.untaxed, totals.tax, totals.due) == (
        12185,
        -1218,
        10967,
        1097,
        12064,
    )


@pytest.mark.parametrize(("lines", "pages"), [(1, 1), (20, 1), (22, 2), (32, 2), (36, 2)])
def test_no_page_of_a_pdf_holds_a_few_lines_alone(pdf, lines, pages):
    """Sums and payment move to the next page together, where they do not fit below the lines."""
    invoice = document([line("Compute", f"Product {n}", "1", "hour", "1") for n in range(lines)], **ISSUED)
    read = [squeezed(page.extract_text()) for page in pypdf.PdfReader(io.BytesIO(pdf.render(invoice))).pages]
    assert len(read) == pages
    together = ("Taxsummary", "Totals", "Payableby", "IBAN", "Howthiswascomputed")
    assert [all(words in text for words in together) for text in read] == [False] * (pages - 1) + [True]


@pytest.mark.parametrize(
    ("invoice_id", "stem"),
    [
        ("2026-10-acme-EUR", "invoices/acme-EUR"),
        ("2026-10-acme-EUR-credit-2026-09", "invoices/acme-EUR-credit-2026-09"),
        ("2026-10-acme-EUR-debit-2026-09", "invoices/acme-EUR-debit-2026-09"),
        ("something else", "invoices/acme-EUR-something-else-"),
    ],
)
def test_documents_of_one_payer_have_files_of_their_own(invoice_id, stem):
    assert invoice_stem(invoice_id, "2026-10", "acme", "EUR").startswith(stem)


def test_sums_wider_than_28_digits_stay_exact():
    huge = [line("Compute", "Huge", "1", "hour", "99999999999999999999999999.01") for _ in range(3)]
    assert document(huge).accounts[0].subtotal == Decimal("299999999999999999999999997.03")


def test_the_due_date_is_the_one_given_at_issue():
    """Terms that the book changes later must not move it."""
    issued = document(status="issued", number="N-1", issue_date=date(2026, 11, 2), due_date=date(2026, 12, 2),
                      account=ACME | {"payment_terms_days": 7})  # fmt: skip
    assert issued.payment.due_date == date(2026, 12, 2)
    assert document().payment.due_date is None


def test_a_saving_is_shown_only_when_every_line_has_a_public_price():
    assert document().totals.saving == sum(each.cost for each in document().lines())  # public prices are double
    assert document([*REVIEWED[1:], REVIEWED[0] | {"list_cost": None}]).totals.saving is None
    assert document([REVIEWED[0] | {"list_cost": Decimal(0)}]).totals.saving is None


def test_each_tax_note_is_there_once():
    exempt = {"tax_code": "EX", "kind": "exempt", "rate": Decimal(0), "note": REVERSE_CHARGE["note"]}
    assert document([], taxes=(REVERSE_CHARGE, exempt)).notes == (REVERSE_CHARGE["note"],)


def test_iban_is_written_in_groups_of_four():
    assert document().payment.iban == "FR00 1234 5678 9012 3456 7890 189"


# --- the reviewed invoice, as files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["html", "json", "csv"])
def test_files_of_the_reviewed_invoice(golden, shipped_templates, ending):
    files = dict(render_invoice_files(document(), billed(REVIEWED).lines, shipped_templates, None))
    assert sorted(files) == [f"invoices/acme-EUR.{each}" for each in ("csv", "html", "json")]
    golden(f"invoice/acme-EUR.{ending}", files[f"invoices/acme-EUR.{ending}"])


LEDGER = {"full": FULL, "corrected": CORRECTED, "credit-note": CREDITED, "yen": YEN, "dinar": DINAR}


@pytest.mark.parametrize("name", LEDGER)
def test_files_of_ledger_documents(golden, shipped_templates, name):
    """Golden files without the style sheet, which has no content."""
    given = dict(LEDGER[name])
    lines = given.pop("lines")
    files = render_invoice_files(
        document(lines, originals=ORIGINALS, **given), billed(lines, **given).lines, shipped_templates, None
    )
    for file, content in files:
        kept = re.sub(rb"(?s)<style>.*?</style>", b"<style></style>", content)
        golden(f"invoice/ledger-{name}/{file.removeprefix('invoices/')}", kept)


def test_pdf_is_one_of_the_files_when_wanted_and_html_can_be_left_out(shipped_templates, pdf):
    files = render_invoice_files(document(), billed(REVIEWED).lines, shipped_templates, pdf, html=False)
    names = [name for name, _ in files]
    assert names == ["invoices/acme-EUR.json", "invoices/acme-EUR.csv", "invoices/acme-EUR.pdf"]


def test_html_is_one_accessible_page_that_fetches_nothing(shipped_templates):
    page = _Page(render_invoice_html(document(), shipped_templates))
    assert ("html", "lang", "en") in page.attributes
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert not [a for a in page.attributes if a[1] in {"href", "src"} and not a[2].startswith("data:")]
    assert page.tags.count("h1") == page.tags.count("main") == page.tags.count("caption") == 1
    headers = [a for a in page.attributes if a[0] == "th" and a[1] == "scope"]
    assert len(headers) == page.tags.count("th")
    assert "prefers-color-scheme: dark" in page.text
    assert "@media print" in page.text


def test_only_a_draft_says_that_it_is_one(shipped_templates, pdf):
    issued = document(**ISSUED)
    notice = wording(shipped_templates, "invoice", "en").labels["draft_notice"]
    assert notice in render_invoice_html(document(), shipped_templates)
    assert squeezed(notice) in pdf_text(pdf.render(document()))
    page = render_invoice_html(issued, shipped_templates)
    assert "draft" not in page.lower()
    assert "draft" not in pdf_text(pdf.render(issued)).lower()
    assert "NW-2026-000123" in page
    assert "Payable by December 2, 2026." in page


@pytest.mark.parametrize(
    "label",
    [
        *(f"kind_{kind}" for kind in TAX_KINDS),
        *(f"lines_{kind}" for kind in LINE_KINDS if kind != "correction"),
        *(f"deduction_{kind}" for kind in DEDUCTION_KINDS),
    ],
)
def test_every_kind_has_its_words_in_every_language(label):
    for file in (shipped("templates") / "invoice" / "labels").glob("*.json"):
        assert json.loads(file.read_text(encoding="utf-8"))[label]


def test_reverse_charge_is_named_and_its_note_is_printed(shipped_templates, pdf):
    invoice = document(taxes=(REVERSE_CHARGE,))
    text = _Page(render_invoice_html(invoice, shipped_templates)).text
    for words in ("Reverse charge ", REVERSE_CHARGE["note"]):
        assert words in text
        assert squeezed(words) in pdf_text(pdf.render(invoice))


def test_yen_have_no_decimals_but_their_prices_may(shipped_templates, pdf):
    invoice = document([line("Compute", "Small", "744", "hour", "12.345")], currency="JPY")
    assert json.loads(invoice_json(invoice))["totals"]["total"] == "11022"  # 9184.68 → 9185, tax 1837
    text = _Page(render_invoice_html(invoice, shipped_templates)).text
    for shown in ("JPY\u00a011,022", "12.345"):
        assert shown in text
        assert squeezed(shown) in pdf_text(pdf.render(invoice))


def test_nothing_to_pay_is_said_instead_of_bank_details(shipped_templates, pdf):
    empty = document([])
    text = _Page(render_invoice_html(empty, shipped_templates)).text
    assert "There are no charges." in text
    assert "Nothing to pay." in text
    assert "IBAN" not in text
    assert squeezed("Nothing to pay.") in pdf_text(pdf.render(empty))


# --- JSON and CSV ----------------------------------------------------------------------------------------------------


def test_json_is_canonical_and_keeps_every_digit():
    content = invoice_json(document())
    assert content.endswith(b"}\n")
    read = json.loads(content)
    assert content == (json.dumps(read, ensure_ascii=False, sort_keys=True, indent=2) + "\n").encode()
    assert [each["amount"] for each in read["lines"]] == ["241.65", "25.38", "21.20", "251.09", "29.00"]
    assert read["lines"][2]["cost"] == "21.1968359375"
    assert sum(Decimal(each["amount"]) for each in read["lines"]) == Decimal(read["totals"]["untaxed"])
    assert not re.search(rb": -?\d+\.\d", content), "a decimal must be text, else readers make it a float"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\0", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_text_cell_of_the_csv_starts_a_formula(start):
    name = f"{start}1+1"
    lines = billed([line("Compute", name, "-2", "hour", "0.5", project_name=f"a{start}b")]).lines
    (row,) = csv.DictReader(io.StringIO(lines_csv(lines).decode("utf-8-sig"), newline=""))
    assert row["sku_name"] == f"'{name}"
    assert row["project_name"] == f"a{start}b"
    assert (row["pricing_quantity"], row["amount"], row["unit_price"]) == ("-2", "-1", "0.5")


def test_csv_reads_back_as_the_same_numbers():
    lines = billed(REVIEWED).lines
    read = pl.read_csv(lines_csv(lines), schema_overrides={"pricing_quantity": pl.String, "amount": pl.String})
    assert read.columns == INVOICE_LINES.names
    for column in ("pricing_quantity", "amount"):
        assert [Decimal(text) for text in read[column]] == lines[column].to_list()


# --- PDF ---------------------------------------------------------------------------------------------------------------


RENDER = """
import pickle, sys
from ratemill.documents.environment import make_environment
from ratemill.documents.pdf import InvoicePdf
sys.stdout.buffer.write(InvoicePdf(make_environment()).render(pickle.load(sys.stdin.buffer)))
"""


def test_pdf_bytes_are_equal_in_another_process_with_other_settings(pdf):
    settings = {"PYTHONHASHSEED": "1", "TZ": "Asia/Kathmandu", "LANG": "C", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", RENDER],
        env=os.environ | settings,
        input=pickle.dumps(document()),
        capture_output=True,
        check=True,
    )
    assert done.stdout == pdf.render(document())


def test_pdf_is_tagged_archivable_and_dated_with_the_end_of_the_period(pdf):
    reader = pypdf.PdfReader(io.BytesIO(pdf.render(document())))
    metadata = reader.metadata
    assert metadata.creation_date.isoformat() == "2026-10-31T23:00:00+00:00"  # midnight in Berlin
    assert metadata.title == "Draft invoice 2026-10-acme-EUR · Acme Robotics GmbH"
    xmp = reader.trailer["/Root"]["/Metadata"].get_object().get_data().decode()
    assert "<pdfaid:part>3</pdfaid:part>" in xmp
    assert "<pdfuaid:part>1</pdfuaid:part>" in xmp
    assert reader.trailer["/Root"]["/MarkInfo"]["/Marked"]


def test_pdf_of_300_lines_repeats_its_header_and_numbers_its_pages(pdf):
    lines = [
        line(f"Service {number // 10 % 3}", f"Product {number}", "1", "hour", "1", account_id=f"division-{number // 100}",
             account_name=f"Division {number // 100}", project_id=f"p{number // 30}", project_name=f"P {number // 30}")
        for number in range(300)
    ]  # fmt: skip
    invoice = document(lines)
    assert invoice.has_several_accounts
    pages = [squeezed(page.extract_text()) for page in pypdf.PdfReader(io.BytesIO(pdf.render(invoice))).pages]
    assert len(pages) > 5
    for number, text in enumerate(pages, 1):
        assert f"Page{number}of{len(pages)}" in text
        if "Product" in text:
            assert "UnitpriceAmount(EUR)" in text
            assert "AccountDivision" in text  # the group goes on: its heading comes again
    whole = "".join(pages)
    assert all(f"Product{number}1hour" in whole for number in range(300))


def test_a_page_carries_what_its_lines_come_to_over_to_the_next(pdf):
    invoice = document([line("Compute", f"Product {number}", "1", "hour", "1") for number in range(100)])
    pages = [squeezed(page.extract_text()) for page in pypdf.PdfReader(io.BytesIO(pdf.render(invoice))).pages]
    assert len(pages) >= 3
    shown = 0
    for number, text in enumerate(pages):
        brought = re.search(r"Broughtforward([\d.]+)", text)
        carried = re.search(r"Carriedforward([\d.]+)", text)
        lines_here = len(re.findall(r"Product\d+1hour", text))
        assert (brought is not None) == (0 < shown < 100), f"page {number + 1}"
        assert brought is None or brought[1] == f"{shown}.00"
        shown += lines_here
        assert (carried is not None) == (lines_here > 0 and shown < 100), f"page {number + 1}"
        assert carried is None or carried[1] == f"{shown}.00"
    assert shown == 100


def test_text_of_a_pdf_can_be_searched_and_copied(pdf):
    """Long words may break anywhere, by nothing that would be copied along with the letters."""
    name = "eu-west-1/xw-" + "0123456789abcdef" * 4
    text = "".join(
        page.extract_text()
        for page in pypdf.PdfReader(io.BytesIO(pdf.render(document([line("Compute", name, "1", "hour", "1")])))).pages
    )
    assert not {character for character in text if unicodedata.category(character) == "Cf"}
    assert "".join(text.split()).count(name) == 1
    assert "within 30 days" in text


def test_an_invoice_of_one_page_carries_nothing_over(pdf):
    assert "forward" not in pdf_text(pdf.render(document()))


def test_pdf_spells_out_characters_that_no_font_has(pdf):
    text = pdf_text(pdf.render(document([line("Compute", "a😀b 日", "1", "hour", "1")])))
    assert "aU+1F600b" in text
    assert "U+65E5" in text


def test_fonts_in_the_users_templates_folder_are_used(tmp_path):
    fonts = tmp_path / "fonts"
    fonts.mkdir()
    (fonts / "broken.ttf").write_bytes(b"no font")
    assert InvoicePdf(make_environment(tmp_path), system_fonts=False)._font_folders[1] == str(fonts)
    assert InvoicePdf(make_environment(tmp_path), system_fonts=False).render(document())


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="10"><rect width="40" height="10" fill="#0b5c6b"/></svg>'


def test_logo_is_inside_both_documents(shipped_templates, pdf):
    invoice = document(logo=model.Logo.from_file("logo.svg", SVG))
    assert 'src="data:image/svg+xml;base64,' in render_invoice_html(invoice, shipped_templates)
    assert pdf.render(invoice) != pdf.render(document())
    with pytest.raises(UsageError, match=r"logo\.gif is neither an SVG nor a PNG"):
        model.Logo.from_file("logo.gif", b"GIF89a")


# --- hostile names -----------------------------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "{{ cycler.__init__ }} {% raw %}",
    "../../etc/passwd",
    "=cmd|'/c calc'!A0",
    '#eval("1+1") #read("/etc/passwd")',
    "*bold* _it_ `code` = head",
    "$math$ @ref <label> \\ // [x]",
    "$days $currency ${pages}",
    "x" * 400,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_as_they_are_and_do_nothing(shipped_templates, pdf, name):
    account = ACME | {"name": name, "legal_name": name, "account_id": name, "city": name, "tax_id": name}
    lines = [line(name, name, "1", name, "1", region=name, project_id=name, project_name=name)]
    invoice = document(lines, account=account, taxes=(STANDARD_20 | {"note": name},), number=name, run_id=name)
    page = _Page(render_invoice_html(invoice, shipped_templates))
    harmless = _Page(render_invoice_html(document(lines[:1], account=ACME, number="1"), shipped_templates))
    assert name in page.text
    assert set(page.tags) <= set(harmless.tags) | {"p"}
    assert not [a for a in page.attributes if a[1].startswith("on") or a[1] == "src"]
    text = pdf_text(pdf.render(invoice))
    assert text.count(squeezed(name)) >= 8
    assert json.loads(invoice_json(invoice))["customer"]["name"] == name


def test_text_that_hides_or_turns_around_what_is_read_is_not_printed(shipped_templates, pdf):
    invoice = document([line("Compute", "evil\u202e00.1\u0007\ue000\nname", "1", "hour", "1")])
    text = _Page(render_invoice_html(invoice, shipped_templates)).text
    assert "evil00.1\ufffd\ufffd name" in text
    assert "evil00.1" in pdf_text(pdf.render(invoice))
    assert "\\u202e" in json.dumps(json.loads(invoice_json(invoice)))  # machines get what was metered


@given(st.text(max_size=40))
def test_any_text_at_all_can_be_rendered(text):
    shown = formats.clean_text(text)
    assert not [c for c in shown if unicodedata.category(c) in {"Cc", "Cs", "Co"}]
    assert formats.clean_text(shown) == shown


# --- templates -----------------------------------------------------------------------------------------------------------


def test_a_users_template_extends_the_shipped_one_it_replaces(tmp_path):
    (tmp_path / "invoice").mkdir()
    (tmp_path / "invoice" / "invoice.html.j2").write_text(
        '{% extends "shipped/invoice/invoice.html.j2" %}'
        "{% block content %}{{ super() }}<p>Call us, {{ invoice.customer.name }}.</p>{% endblock %}",
        encoding="utf-8",
    )
    page = render_invoice_html(document(account=ACME | {"legal_name": "A & B"}), make_environment(tmp_path))
    assert "<p>Call us, A &amp; B.</p>" in page
    assert "Outbound traffic" in page


def test_a_users_style_replaces_the_shipped_one_in_the_shipped_page(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "style.css").write_text("body { color: rebeccapurple; }", encoding="utf-8")
    page = render_invoice_html(document(), make_environment(tmp_path))
    assert "rebeccapurple" in page
    assert "--series-1" not in page


def test_a_users_pdf_template_replaces_the_shipped_one(tmp_path):
    (tmp_path / "invoice").mkdir()
    (tmp_path / "invoice" / "invoice.typ").write_text(
        '#set document(title: "x")\n#let d = json(bytes(sys.inputs.data))\nMine: #d.invoice.totals.due',
        encoding="utf-8",
    )
    own = InvoicePdf(make_environment(tmp_path), system_fonts=False)
    assert pdf_text(own.render(document())) == "Mine:681.98"


BROKEN_PDF_TEMPLATES = {
    "#let d = (": ["invoice/invoice.typ:1", "unclosed"],
    "\n#nonsense": ["invoice/invoice.typ:2", "unknown variable: nonsense"],
    '#read("/etc/passwd")': ["invoice/invoice.typ:1", "file not found"],
    '#read("../../secret")': ["invoice/invoice.typ:1"],
    '#import "@preview/tablex:0.0.9": *': ["typst package", "network"],
}


@pytest.mark.parametrize(("source", "words"), BROKEN_PDF_TEMPLATES.items())
def test_a_wrong_pdf_template_is_explained_with_its_place(tmp_path, source, words):
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    folder = tmp_path / "templates" / "invoice"
    folder.mkdir(parents=True)
    (folder / "invoice.typ").write_text(source, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        InvoicePdf(make_environment(tmp_path / "templates"), system_fonts=False).render(document())
    for word in words:
        assert word in str(caught.value)


BROKEN_TEMPLATES = {
    "\n{{ invoice.totall }}": ["invoice/invoice.html.j2:2", "totall", "templates/README.md"],
    "{% if %}": ["invoice/invoice.html.j2:1"],
    "{{ invoice.__class__.__mro__ }}": ["invoice/invoice.html.j2:1", "unsafe"],
    "{{ ().__class__ }}": ["invoice/invoice.html.j2:1", "unsafe"],
    "{% include '../secret' %}": ["../secret", "not found"],
    "\n\n{{ invoice.currency | amount }}": ["invoice/invoice.html.j2:3", "TypeError"],
    "{{ labels.payable_within | fill }}": ["invoice/invoice.html.j2:1", "days"],
    "{{ [1, 2] | random }}": ["random"],
    "{{ lipsum() }}": ["lipsum"],
    "{% set _ = invoice.notes.append(1) %}": ["invoice/invoice.html.j2:1"],
}


@pytest.mark.parametrize(("source", "words"), BROKEN_TEMPLATES.items())
def test_a_wrong_page_template_is_explained_with_its_place(tmp_path, source, words):
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    folder = tmp_path / "templates" / "invoice"
    folder.mkdir(parents=True)
    (folder / "invoice.html.j2").write_text(source, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        render_invoice_html(document(), make_environment(tmp_path / "templates"))
    for word in words:
        assert word in str(caught.value)


def test_a_bug_outside_templates_is_not_blamed_on_the_user():
    environment = make_environment()
    environment.loader = jinja2.DictLoader({"t": "{{ 1 / 0 }}"})
    with pytest.raises(ZeroDivisionError):
        render(environment, "t")


@pytest.mark.parametrize("name", ["x.html.j2", "x.html", "x.svg", "x", "x.css", "x.j2"])
def test_everything_but_plain_text_is_escaped(tmp_path, name):
    (tmp_path / name).write_text("{{ value }}", encoding="utf-8")
    (tmp_path / "x.txt.j2").write_text("{{ value }}", encoding="utf-8")
    assert render(make_environment(tmp_path), name, value="<b>") == "&lt;b&gt;"
    assert render(make_environment(tmp_path), "x.txt.j2", value="<b>") == "<b>"


# --- languages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "title", "total"),
    [
        (None, "Draft invoice", "EUR\u00a0681.98"),
        ("de", "Rechnungsentwurf", "681,98\u00a0EUR"),
        ("de-AT", "Rechnungsentwurf", "EUR\u00a0681,98"),
        ("fr-FR", "Projet de facture", "681,98\u00a0EUR"),
        ("ja", "Draft invoice", "EUR\u00a0681.98"),  # no words, so no figures of it either
        ("klingon", "Draft invoice", "EUR\u00a0681.98"),
    ],
)
def test_words_and_figures_are_of_one_language(shipped_templates, pdf, language, title, total):
    invoice = document(account=ACME | {"language": language})
    text = _Page(render_invoice_html(invoice, shipped_templates)).text
    printed = pdf_text(pdf.render(invoice))
    for words in (title, total):
        assert words in text
        assert squeezed(words) in printed


@pytest.mark.parametrize(
    ("language", "unit"), [("en", "1,000,000 Tokens"), ("de", "1.000.000 Tokens"), ("fr", "1\u202f000\u202f000 Tokens")]
)
def test_people_read_a_unit_as_they_read_figures_and_machines_as_the_book_has_it(
    shipped_templates, pdf, language, unit
):
    built = document([line("AI", "Model", "2.5", "1000000 Tokens", "0.30")], account=ACME | {"language": language})
    assert squeezed(unit) in squeezed(_Page(render_invoice_html(built, shipped_templates)).text)
    assert squeezed(unit) in pdf_text(pdf.render(built))
    assert [row["unit"] for row in json.loads(invoice_json(built))["lines"]] == ["1000000 Tokens"]


def test_every_shipped_language_has_every_label_with_the_same_places_to_fill_in():
    files = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in (shipped("templates") / "invoice" / "labels").glob("*.json")
    }
    english = files.pop("en")
    assert files
    for language, labels in files.items():
        for name, words in english.items():
            assert sorted(re.findall(r"\$\w+", labels[name])) == sorted(re.findall(r"\$\w+", words)), (language, name)


CHOSEN_BY_DATA = ("kind_", "lines_", "deduction_")
"""How the names of labels begin that templates put together: kinds of taxes, of lines, and of deductions."""


def test_every_label_is_used_by_both_invoice_templates():
    labels = wording(make_environment(), "invoice", "en").labels
    folder = shipped("templates") / "invoice"
    only_in = {"month": {"charges_caption", "credits_caption"}, "pages": {"page", "carried_forward", "brought_forward"}}
    for file, excused in (("invoice.html.j2", only_in["pages"]), ("invoice.typ", only_in["month"])):
        source = (folder / file).read_text(encoding="utf-8")
        used = set(re.findall(r"labels\.(\w+)", source)) - {"at"}
        assert used == {name for name in labels if not name.startswith(CHOSEN_BY_DATA)} - excused


def test_a_users_language_may_leave_labels_out_but_not_misspell_them(tmp_path):
    folder = tmp_path / "invoice" / "labels"
    folder.mkdir(parents=True)
    (folder / "es.json").write_text('{"title": "Factura", "draft_title": "Borrador"}', encoding="utf-8")
    environment = make_environment(tmp_path)
    words = wording(environment, "invoice", "es-MX")
    assert (words.language, words.labels["title"], words.labels["notes"]) == ("es-MX", "Factura", "Notes")
    for content, expected in (
        ('{"titel": "Factura"}', "label titel; did you mean title?"),
        ("[]", "expected one JSON object"),
        ('{"title": 1}', "expected one JSON object"),
        ("{", "not valid JSON"),
    ):
        (folder / "es.json").write_text(content, encoding="utf-8")
        with pytest.raises(UsageError, match=re.escape(expected)):
            wording(make_environment(tmp_path), "invoice", "es")


# --- formats -------------------------------------------------------------------------------------------------------------


def test_numbers_keep_every_digit_they_have():
    assert formats.format_quantity(Decimal("12345678901234567890123456.123456789012")) == (
        "12,345,678,901,234,567,890,123,456.123456789012"
    )
    assert formats.format_quantity(Decimal("744.000000000000")) == "744"
    assert formats.format_unit_price(Decimal("0.000000000125"), "EUR") == "0.000000000125"
    assert formats.format_unit_price(Decimal("3.5000"), "KWD") == "3.500"
    assert formats.format_exact(Decimal("-0.009999000000000000")) == "-0.009999"


@pytest.mark.parametrize(
    ("unit", "language", "shown"),
    [("1000000 Tokens", "en", "1,000,000 Tokens"), ("1000000 Tokens", "de", "1.000.000 Tokens"),
     ("1000000 Tokens", "fr", "1\u202f000\u202f000 Tokens"), ("1000000 Tokens", "hi", "10,00,000 Tokens"),
     ("100 Requests", "en", "100 Requests"), ("Hours", "en", "Hours"), ("Gigabyte Hours", "de", "Gigabyte Hours"),
     ("Tokens of 2026", "en", "Tokens of 2026"), ("0001 Units", "en", "0001 Units"), ("2026", "en", "2026"),
     ("1000.5 Units", "en", "1000.5 Units"), ("1" * 400 + " Units", "en", "1" * 400 + " Units"), ("", "en", "")],
)  # fmt: skip
def test_a_number_in_front_of_a_unit_is_grouped(unit, language, shown):
    assert formats.format_unit(unit, language) == shown


@pytest.mark.parametrize(
    ("value", "currency", "shown"),
    [("1234567.5", "EUR", "1,234,567.50"), ("2.5", "JPY", "3"), ("-0.000", "EUR", "0.00"), ("-0.004", "EUR", "0.00"),
     ("0.005", "EUR", "0.01"), ("1.0005", "KWD", "1.001")],
)  # fmt: skip
def test_amounts_have_the_decimals_of_their_currency(value, currency, shown):
    assert formats.format_amount(Decimal(value), currency) == shown


@pytest.mark.parametrize(
    ("language", "percent", "amount", "day"),
    [
        ("en", "7.7%", "1,234,567.50", "October 31, 2026"),
        ("en-GB", "7.7%", "1,234,567.50", "31 October 2026"),
        ("de", "7,7\u00a0%", "1.234.567,50", "31. Oktober 2026"),
        ("fr", "7,7\u00a0%", "1\u202f234\u202f567,50", "31 octobre 2026"),
        ("hi", "7.7%", "12,34,567.50", "31 अक्टूबर 2026"),
        ("../x", "7.7%", "1,234,567.50", "October 31, 2026"),
    ],
)
def test_formats_follow_the_language(language, percent, amount, day):
    assert formats.format_percent(Decimal("7.700000000000"), language) == percent
    assert formats.format_amount(Decimal("1234567.5"), "EUR", language) == amount
    assert formats.format_day(date(2026, 10, 31), language) == day


@given(st.decimals(min_value=-(10**25), max_value=10**25, places=12))
def test_a_quantity_reads_back_as_itself(value):
    assert Decimal(formats.format_quantity(value).replace(",", "")) == value
    assert Decimal(formats.plain(value)) == value


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_what_is_no_number_is_never_printed(value):
    with pytest.raises(ValueError, match="no number"):
        formats.format_quantity(Decimal(value))


# --- file names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identifier", "start"),
    [
        ("acme", "acme"), ("acme-2.eu_west", "acme-2.eu_west"), ("Acme", "acme-"), ("../../etc", "etc-"), ("", "account-"),
        ("..", "account-"), ("😀", "account-"), ("株式会社", "account-"), ("=1+1", "1-1-"), ("a/b\\c:d", "a-b-c-d-"),
        ("CON", "con-"), ("nul.txt", "nul.txt-"), ("Müller & Söhne", "muller-sohne-"), ("x" * 500, "x" * 60 + "-"),
        (" a", "a-"), ("a\0b", "a-b-"), ("a..b", "a.b-"), (".hidden", "hidden-"),
    ],
)  # fmt: skip
def test_file_names_are_readable_and_safe(identifier, start):
    assert safe_name(identifier).startswith(start)


@given(st.lists(st.text(max_size=80), unique=True, max_size=10))
def test_different_identifiers_get_different_names_even_where_case_is_ignored(identifiers):
    names = [safe_name(identifier) for identifier in identifiers]
    # The names themselves are identifiers too: one made to look like another's hash must not meet it.
    names += [safe_name(name) for name in names if name not in identifiers]
    assert len({name.casefold() for name in names}) >= len(identifiers)
    assert len({safe_name(i).casefold() for i in {*identifiers, *names}}) == len({*identifiers, *names})
    for name in names:
        assert re.fullmatch(r"[a-z0-9_][a-z0-9._-]*", name)
        assert len(name) <= 77
        assert ".." not in name
        assert not name.endswith(".")


# --- documentation -----------------------------------------------------------------------------------------------------------

README = (shipped("templates") / "README.md").read_text(encoding="utf-8")
DOCUMENTED = {
    cls.__name__: cls
    for _, cls in inspect.getmembers(model, is_dataclass)
    if cls.__module__ == model.__name__ and cls is not model.Shown
}


def readme_table(heading: str) -> dict[str, list[str]]:
    """First cell → other cells, of the table under the ``###`` heading that starts with ``heading``."""
    section = re.search(rf"^### {heading}\b.*?$(.*?)(?=^##|\Z)", README, re.MULTILINE | re.DOTALL)
    assert section, f"templates/README.md has no section on {heading}"
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")] for row in section[1].splitlines() if row.startswith("|")
    ]
    return {cells[0]: cells[1:] for cells in rows[2:]}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_readme_tells_every_field_its_filter_and_its_meaning(name):
    cls = DOCUMENTED[name]
    how = model.shown_as(cls)
    assert readme_table(name) == {
        each.name: [how.get(each.name, ""), meaning]
        for each, meaning in zip(fields(cls), field_docstrings(cls), strict=True)
    }


def field_docstrings(cls) -> list[str]:
    body = ast.parse(inspect.getsource(cls)).body[0].body
    return [
        ast.literal_eval(after.value).replace("``", "`")
        for statement, after in pairwise(body)
        if isinstance(statement, ast.AnnAssign)
    ]


def test_the_readme_has_no_section_on_a_type_that_is_gone():
    invoice_part = README.partition("\n## Invoice\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^### (\w+)", invoice_part, re.MULTILINE)) == set(DOCUMENTED)


def test_the_readme_lists_every_filter_and_variable():
    filters = README.partition("| filter | use | gives |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| (\w+) \|", filters, re.MULTILINE)) == set(environment_module.FILTERS)
    variables = README.partition("| variable | meaning |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| (\w+) \|", variables, re.MULTILINE)) == {"invoice", "labels", "language", "direction"}


def test_a_line_says_what_its_price_is_for_and_when_there_are_several_prices(shipped_templates, pdf):
    """Two prices of one SKU must be told apart; a line of several prices shows none of them."""
    machines = [line("Machines", "Machine", "10", "hour", "0.50"), line("Machines", "Machine", "5", "hour", "0.25")]
    given = billed([*machines, line("Network", "Traffic", "100", "GiB", "0.3456")])
    tiered = given.lines.with_columns(unit_price=pl.when(pl.col("sku_name") != "Traffic").then("unit_price"))
    built = build_invoice(
        replace(given, lines=tiered), account=ACME, seller=SELLER, period=PERIOD,
        conditions={"price-1": "peak · windows", "price-2": "off-peak", "price-9": "of another invoice"},
    )  # fmt: skip
    page = squeezed(render_invoice_html(built, shipped_templates))
    for text in (page, pdf_text(pdf.render(built))):
        assert text.index("peak·windows") < text.index("off-peak") < text.index("varies")
        assert text.count("varies") == 1
        assert "0.3456" not in text
        assert "anotherinvoice" not in text


def test_templates_use_only_fields_that_exist(shipped_templates):
    """Every branch of both templates: an issued invoice with everything, and a draft with next to nothing."""
    full = document(
        [*REVIEWED, REVIEWED[0] | {"account_id": "sub", "account_name": "Sub", "unit_price": Decimal(1)}],
        taxes=(REVERSE_CHARGE,), **ISSUED,
        account=ACME | {"email": "a@b.example"}, logo=model.Logo.from_file("l.svg", SVG),
    )  # fmt: skip
    tiered = replace(full.accounts[0].projects[0].services[0].lines[0], unit_price=None)
    assert model.as_text(tiered, currency="EUR", language="en")["unit_price"] is None
    for invoice in (
        full,
        *(ledger_document(case) for case in LEDGER.values()),
        document([], account=ACME | {"payment_terms_days": 0}),
        document(account=ACME | {"payment_terms_days": 0}),
    ):
        assert render_invoice_html(invoice, shipped_templates)
        assert InvoicePdf(shipped_templates, system_fonts=False).render(invoice)
