"""One figure, five faces: what a line, a tax and an invoice come to is the same number wherever it is read.

A month of four customers is billed and closed, with all that an invoice can have. Then lines are picked at random, and
each figure is read as its readers read it: off the text of the PDF and the page, in the customer's language; from the
XML inside the PDF; from a cell of the workbook; summed over FOCUS rows; by SQL. Nothing is compared as text, and
nothing approximately: ``1 234,56`` is parsed by the rules of its language and must be exactly 1234.56.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import babel.numbers
import duckdb
import lxml.etree
import lxml.html
import openpyxl
import polars as pl
import pypdf
import pytest

from ratemill.documents.facturx import embedded
from ratemill.errors import ExitCode
from ratemill.resources import shipped
from workspaces import PERIOD, hours, make_workspace, run_here

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

SELLER = {
    "tax_id": "FR00123456789", "address": ["1 rue Haute"], "postal_code": "59000", "city": "Lille",
    "bank": {"name": "Example Bank", "iban": "FR1420041010050500013M02606", "bic": "EXMPFRPP"},
}  # fmt: skip
PRINTED = {"pdf": True, "html": True, "einvoice": "required"}
ADDRESS = {"address_line1": "1 Example Street", "postal_code": "12345", "city": "Example"}
ACCOUNTS = [
    ADDRESS | {"account_id": name, "name": title, "country": country, "currency": currency, "language": language} | more
    for name, title, country, currency, language, more in (
        ("acme", "Acme", "FR", "EUR", "en", {}),
        ("globex", "Globex", "DE", "EUR", "de", {"tax_id": "DE123456789"}),
        ("initech", "Initech", "FR", "EUR", "fr", {}),
        ("sora", "空ロボ", "JP", "JPY", "en", {}),
    )
]
TAXES = [
    {"tax_code": "fr", "country": "FR", "rate": "20", "kind": "standard", "note": ""},
    {"tax_code": "eu", "country": "DE", "rate": "0", "kind": "reverse_charge", "note": "Reverse charge."},
    {"tax_code": "jp", "country": "JP", "rate": "0", "kind": "outside_scope", "note": "Not taxable in France."},
]
PRICES = [
    {"price_id": f"{sku}-{currency}", "price_list": "public", "sku_id": sku, "currency": currency.upper()} | price
    for currency, factor in (("eur", Decimal(1)), ("jpy", Decimal("163.7")))
    for sku, prices in {
        "vm": [{"unit_price": f"{Decimal('0.1237') * factor:f}"}],
        "disk": [{"unit_price": f"{Decimal('0.0744') * factor:f}", "cap": f"{Decimal(900) * factor:f}"}],
        "egress": [
            {"mode": "graduated", "up_to": "500", "unit_price": f"{Decimal('0.09') * factor:f}"},
            {"mode": "graduated", "up_to": "", "unit_price": f"{Decimal('0.0717') * factor:f}"},
        ],
    }.items()
    for price in prices
]
TABLES = {
    "accounts": ACCOUNTS,
    "projects": [
        {"project_id": f"{account['account_id']}-{number}", "account_id": account["account_id"], "name": f"Team {number}"}
        for account in ACCOUNTS
        for number in range(12)
    ],
    "prices": PRICES,
    "taxes": TAXES,
    "discounts": [
        {"discount_id": "tenth", "account_id": "acme", "percent": "10", "sku_ids": "vm", "note": "Loyalty"},
        {"discount_id": "third", "account_id": "initech", "percent": "33.3333", "note": "Start-up"},
    ],
    "credits": [
        {"credit_id": "welcome", "account_id": "initech", "amount": "150", "currency": "EUR", "kind": "promotional",
         "granted_on": "2026-01-01", "note": "Welcome"},
        {"credit_id": "ahead", "account_id": "globex", "amount": "1234.56", "currency": "EUR", "kind": "prepaid",
         "granted_on": "2026-01-01", "note": "Paid in advance"},
    ],
    "recurring": [
        {"recurring_id": f"support-{name}", "account_id": name, "description": "Support", "amount": amount,
         "currency": currency}
        for name, amount, currency in (("acme", "1499.99", "EUR"), ("sora", "30000", "JPY"))
    ],
    "commitments": [
        {"commitment_id": "spend", "account_id": "globex", "amount": "20000", "currency": "EUR", "sku_ids": "vm",
         "valid_from": "2026-01-01", "note": "Committed machines"},
    ],
}  # fmt: skip


def usage() -> pl.DataFrame:
    """Each project uses all three SKUs for some hours, in quantities that leave odd amounts."""
    return pl.concat(
        hours(
            account["account_id"], sku, resource=f"{sku}-{number}", count=24, project_id=f"{account['account_id']}-{number}",
            quantity=str((number * 37 + place * 11) % 101 * size + Decimal("0.375")),
        )
        for place, account in enumerate(ACCOUNTS)
        for number in range(12)
        for sku, size in (("vm", 7), ("disk", 4000), ("egress", 1))
    )  # fmt: skip


NOVEMBER = "2026-11"
"""Its first day is drafted, so that there is an export with the credit note that is issued in it."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """October is closed, two lines of acme's invoice are credited in November, and November has drafts."""
    shop = make_workspace(
        tmp_path_factory.mktemp("shop"),
        usage=[usage(), hours(first="2026-11-01T00:00:00Z", project_id="acme-1")],
        book=TABLES,
        config={"seller": SELLER, "output": PRINTED},
    )
    done(shop.run())
    done(shop.close_whatever_is_open())
    (invoice,) = (row for row in invoices(shop) if row["billing_account_id"] == "acme")
    done(shop.command("credit-note", "--invoice", invoice["number"], "--line", "3", "--line", "8", "--reason", "Outage",
                      "--as-of", "2026-11-03T06:00:00Z"))  # fmt: skip
    done(shop.command("run", "--period", NOVEMBER, "--as-of", "2026-11-04T06:00:00Z"))
    return shop


def done(ended):
    assert ended.code == ExitCode.DONE, ended.stderr
    return ended


def ask(shop, text, *parameters) -> list[dict[str, Any]]:
    """Rows of a query on the published database."""
    with duckdb.connect(str(shop.root / "published" / "billing.duckdb"), read_only=True) as published:
        found = published.execute(text, parameters)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def invoices(shop) -> list[dict[str, Any]]:
    """Everything that was issued: four invoices and a credit note."""
    return ask(shop, "SELECT * FROM invoices WHERE status = 'issued' ORDER BY invoice_id")


# ---------------------------------------------------------------------------------------------------------------- faces


@dataclass(frozen=True)
class Face:
    """What one face says of a document; on a credit note, what is credited is negative here, whatever the face shows."""

    amounts: dict[int, Decimal]
    """Number of the line → its amount, before discounts and credits."""
    tax: Decimal
    due: Decimal
    quantities: dict[int, Decimal] | None = None
    """Of lines that have one; none where the face tells it otherwise."""
    prices: dict[int, Decimal] | None = None
    """Of lines with one price."""


def of_pdf(file: Path, language: str, currency: str, sign: int) -> Face:
    """The text of the pages, as a reader copies it: a row of a table is a line of text."""
    labels = json.loads((shipped("templates/invoice/labels") / f"{language}.json").read_text(encoding="utf-8"))
    kinds = tuple(text for name, text in labels.items() if name.startswith("kind_"))
    rows = [
        row.strip() for page in pypdf.PdfReader(file).pages for row in page.extract_text().splitlines() if row.strip()
    ]
    first = next(at for at, row in enumerate(rows) if row in {labels["charges"], labels["credits"]})
    sums = rows.index(labels["tax_summary"])
    figures: dict[int, list[str]] = {}
    for row in rows[first:sums]:
        number, *words = row.split(" ")
        if number.isdecimal():
            figures[int(number)] = words
    after = next(at for at, row in enumerate(rows) if at > sums and row in {labels["notes"], labels["payment"]})
    taxes = [row.split(" ")[-1] for row in rows[sums:after] if row.startswith(kinds) and row[-1].isdigit()]
    due_label = labels["amount_credited" if sign < 0 else "amount_due"]
    (due,) = (row.removeprefix(due_label) for row in rows[sums:] if row.startswith(f"{due_label} "))
    priced = {line: words for line, words in figures.items() if len(words) > 3 and words[-3] in UNITS}
    return Face(
        amounts={line: sign * number_in(words[-1], language) for line, words in figures.items()},
        tax=sign * sum(number_in(text, language) for text in taxes),
        due=sign * money_in(due, language, currency),
        quantities={line: sign * number_in(words[-4], language) for line, words in priced.items()},
        prices={
            line: number_in(words[-2], language) for line, words in priced.items() if words[-2] != labels["varies"]
        },
    )


def of_html(file: Path, language: str, currency: str, sign: int) -> Face:
    page = lxml.html.document_fromstring(file.read_text(encoding="utf-8"))
    rows = {}
    for row in page.xpath("//table[@class='lines']//tr[th[@scope='row']]"):
        number, quantity, _, price, amount = (cell.text_content() for cell in row.xpath("td"))
        rows[int(number)] = (quantity, price, amount)
    taxes = page.xpath("//section[@aria-labelledby='tax-summary']//tbody/tr/td[last()]")
    (due,) = page.xpath("//table[@class='totals']//tr[@class='total']/td")
    return Face(
        amounts={line: sign * number_in(amount, language) for line, (_, _, amount) in rows.items()},
        tax=sign * sum(number_in(cell.text_content(), language) for cell in taxes),
        due=sign * money_in(due.text_content(), language, currency),
        quantities={line: sign * number_in(quantity, language) for line, (quantity, _, _) in rows.items() if quantity},
        prices={line: number_in(price, language) for line, (_, price, _) in rows.items() if price[:1].isdigit()},
    )


def of_xml_in_pdf(file: Path, currency: str, sign: int) -> Face:
    tree = lxml.etree.fromstring(embedded(file.read_bytes()))

    def texts(*path: str, within=tree) -> list[str]:
        return within.xpath("//".join(("descendant::*", *(f"*[local-name()='{name}']" for name in path))) + "/text()")

    lines = tree.xpath("descendant::*[local-name()='IncludedSupplyChainTradeLineItem']")
    (due,), (tax,), (named,) = texts("DuePayableAmount"), texts("TaxTotalAmount"), texts("InvoiceCurrencyCode")
    assert named == currency
    return Face(
        amounts={
            int(texts("LineID", within=line)[0]): sign * Decimal(texts("LineTotalAmount", within=line)[0])
            for line in lines
        },
        tax=sign * Decimal(tax),
        due=sign * Decimal(due),
    )


def of_json(file: Path, sign: int) -> Face:
    told = json.loads(file.read_text(encoding="utf-8"))
    return Face(
        amounts={line["number"]: sign * Decimal(line["amount"]) for line in told["lines"]},
        tax=sign * Decimal(told["totals"]["tax"]),
        due=sign * Decimal(told["totals"]["due"]),
        quantities={line["number"]: sign * Decimal(line["quantity"]) for line in told["lines"] if line["quantity"]},
        prices={line["number"]: Decimal(line["unit_price"]) for line in told["lines"] if line["unit_price"]},
    )


def of_workbook(file: Path, invoice_id: str) -> Face:
    book = openpyxl.load_workbook(file, data_only=True)

    def rows(name: str) -> Iterator[dict[str, Any]]:
        (table,) = (sheet.tables[name] for sheet in book if name in sheet.tables)
        (sheet,) = (sheet for sheet in book if name in sheet.tables)
        head, *body = sheet[table.ref]
        for cells in body:
            row = {heading.value: cell.value for heading, cell in zip(head, cells, strict=True)}
            if row["Invoice"] == invoice_id:
                yield row

    lines = list(rows("Lines"))
    (invoice,) = rows("Invoices")
    return Face(
        amounts={row["Line"]: cell(row["Amount"]) for row in lines},
        tax=cell(invoice["Tax"]),
        due=cell(invoice["Due"]),
        quantities={row["Line"]: cell(row["Quantity"]) for row in lines if row["Quantity"] is not None},
        prices={row["Line"]: cell(row["Unit price"]) for row in lines if row["Unit price"] is not None},
    )


def of_focus(file: Path, invoice_id: str) -> Face:
    """Sums of rows: of a line without what discounts and credits took off, of a document with everything."""
    rows = pl.scan_parquet(file).filter(x_LedgerInvoiceId=invoice_id).collect()
    gross = rows.filter(pl.col("x_ChargeKind") != "credit", pl.col("x_InvoiceLineNumber").is_not_null())
    by_line = gross.group_by("x_InvoiceLineNumber").agg(pl.col("BilledCost").sum() - pl.col("x_DiscountCost").sum())
    taxes = rows.filter(ChargeCategory="Tax")
    return Face(
        dict(by_line.iter_rows()), tax=sum(taxes["BilledCost"], Decimal(0)), due=sum(rows["BilledCost"], Decimal(0))
    )


def of_sql(shop, invoice_id: str) -> Face:
    lines = ask(shop, "SELECT * FROM invoice_lines WHERE invoice_id = ? ORDER BY line_number", invoice_id)
    (row,) = ask(shop, "SELECT tax_amount, due_amount FROM invoices WHERE invoice_id = ?", invoice_id)

    def column(name: str) -> dict[int, Decimal]:
        return {line["line_number"]: line[name] for line in lines if line[name] is not None}

    return Face(
        column("amount"), row["tax_amount"], row["due_amount"], column("pricing_quantity"), column("unit_price")
    )  # fmt: skip


UNITS = {"Hours", "GiB-Months", "GiB"}


def number_in(text: str, language: str) -> Decimal:
    """A number as the language writes it; one that is written otherwise is an error."""
    return babel.numbers.parse_decimal(text.strip(), locale=language, strict=True)


def money_in(text: str, language: str, currency: str) -> Decimal:
    """An amount with its currency before or behind it."""
    parts = text.replace("\u00a0", " ").split()
    assert currency in parts
    return number_in("".join(part for part in parts if part != currency), language)


def cell(value: float | str) -> Decimal:
    """A cell with an amount: a number where a double holds every digit, else the digits as text."""
    return Decimal(str(value))


def shortened(value: Decimal) -> Decimal:
    """As a workbook's file writes quantities and prices, which are no amounts: doubles with 16 digits."""
    return cell(float(f"{float(value):.16g}"))


def export_focus(shop, period: str) -> str:
    options = ["-w", str(shop.root), "-p", period, "--json", "-q"]
    return done(run_here(["export", "focus", *options])).summary["folder"]


@pytest.fixture(scope="module")
def faces(shop) -> dict[str, dict[str, Face]]:
    """invoice_id → name of the face → what it says."""
    languages = {row["account_id"]: row["language"] for row in ACCOUNTS}
    exported = {period: shop.root / export_focus(shop, period) for period in (PERIOD, NOVEMBER)}
    found = {}
    for row in invoices(shop):
        account, currency, invoice_id = row["billing_account_id"], row["currency"], row["invoice_id"]
        month = PERIOD if row["origin"] == "run" else NOVEMBER
        stem = f"{account}-{currency}{invoice_id.removeprefix(f'{PERIOD}-{account}-{currency}')}"
        sign = -1 if row["document"] == "credit_note" else 1
        file = shop.root / "out" / PERIOD / "invoices" / stem
        pdf, html, text = (file.with_name(f"{file.name}.{ending}") for ending in ("pdf", "html", "json"))
        found[invoice_id] = {
            "PDF": of_pdf(pdf, languages[account], currency, sign),
            "HTML": of_html(html, languages[account], currency, sign),
            "XML in the PDF": of_xml_in_pdf(pdf, currency, sign),
            "JSON": of_json(text, sign),
            "workbook": of_workbook(shop.root / "out" / month / "workbook.xlsx", invoice_id),
            "FOCUS": of_focus(exported[month] / "cost_and_usage.parquet", invoice_id),
            "SQL": of_sql(shop, invoice_id),
        }
    return found


# ---------------------------------------------------------------------------------------------------------------- tests


def test_the_month_has_what_could_make_faces_differ(shop):
    """Three languages, two currencies, both signs, grouped thousands, tiers, caps, and all that comes off a line."""
    assert [(row["document"], row["currency"]) for row in invoices(shop)] == [
        ("invoice", "EUR"), ("credit_note", "EUR"), ("invoice", "EUR"), ("invoice", "EUR"), ("invoice", "JPY"),
    ]  # fmt: skip
    (seen,) = ask(shop, """
        SELECT count(*) AS lines, count(DISTINCT line_kind) AS kinds, count(cap_cost) > 0 AS capped,
            count(*) FILTER (line_kind = 'usage' AND unit_price IS NULL) > 0 AS tiered, max(amount) > 10000 AS large,
            min(discount_amount) < 0 AS discounted, min(credit_amount) < 0 AS credited,
            (SELECT min(prepaid_amount) < 0 FROM invoices) AS prepaid
        FROM invoice_lines WHERE invoice_id LIKE '2026-10-%'
    """)  # fmt: skip
    assert seen.pop("lines") > 140
    assert seen.pop("kinds") == 3
    assert set(seen.values()) == {True}, seen


@pytest.mark.parametrize("seed", range(8))
def test_a_line_is_the_same_number_on_every_face(faces, seed):
    chance = random.Random(seed)  # noqa: S311 - a choice of examples
    for _ in range(12):
        invoice_id = chance.choice(sorted(faces))
        said = faces[invoice_id]
        line, exact = chance.choice(sorted(said["SQL"].amounts.items()))
        amounts = {name: face.amounts[line] for name, face in said.items()}
        assert amounts == dict.fromkeys(said, exact), f"line {line} of {invoice_id}"
        for figure in ("quantities", "prices"):
            told = {
                name: figures.get(line) for name, face in said.items() if (figures := getattr(face, figure)) is not None
            }
            once = told["SQL"]
            in_cells = None if once is None else shortened(once)
            expected = dict.fromkeys(("PDF", "HTML", "JSON", "SQL"), once) | {"workbook": in_cells}
            assert told == expected, f"{figure} of line {line} of {invoice_id}"


@pytest.mark.parametrize("figure", ["tax", "due"])
def test_tax_and_the_payable_amount_are_the_same_on_every_face(faces, figure):
    for invoice_id, said in faces.items():
        exact = getattr(said["SQL"], figure)
        assert {name: getattr(face, figure) for name, face in said.items()} == dict.fromkeys(said, exact), invoice_id


def test_every_face_has_every_line_and_no_other(faces):
    for invoice_id, said in faces.items():
        lines = set(said["SQL"].amounts)
        assert {name: set(face.amounts) for name, face in said.items()} == dict.fromkeys(said, lines), invoice_id


def test_a_wrong_digit_is_found(faces):
    """The readers read: no two lines of an invoice are told apart by luck, and a number of another language is none."""
    amounts = faces["2026-10-globex-EUR"]["PDF"].amounts
    assert len(set(amounts.values())) > len(amounts) / 2
    assert number_in("1.234,56", "de") == Decimal("1234.56")
    with pytest.raises(babel.numbers.NumberFormatError):
        number_in("1,234.56", "de")
