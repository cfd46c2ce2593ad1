"""Workbooks and price pages of whole workspaces: made with a run, exported on demand, the same to the digit."""

from __future__ import annotations

import io
import json
from decimal import Decimal

import openpyxl
import pytest

from ratemill.errors import ExitCode
from workspaces import ADDRESSED, PERIOD, make_workspace, month_of_usage, run_here

NEXT_DAY = "2026-11-03T07:00:00Z"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A month that was run, with price pages."""
    made = make_workspace(
        tmp_path_factory.mktemp("books") / "shop", usage=month_of_usage(), config={"output": {"prices": True}}
    )
    ended = made.run()
    assert ended.code == ExitCode.DONE, ended.stderr
    return made


def export(shop, what, *options):
    return run_here(["export", what, "--workspace", str(shop.root), *options, "--json", "--quiet"])


def rows(data, sheet):
    """Rows of the table on a sheet, by heading."""
    head, *body = openpyxl.load_workbook(io.BytesIO(data), data_only=True)[sheet].iter_rows(values_only=True)
    return [dict(zip(head, row, strict=True)) for row in body]


@pytest.mark.slow
def test_the_workbook_of_a_run_says_what_its_invoices_say(shop):
    data = (shop.root / "out" / PERIOD / "workbook.xlsx").read_bytes()
    invoice = shop.invoice("acme")
    (register,) = [row for row in rows(data, "Invoices") if row["Account"] == "acme"]
    assert Decimal(str(register["Total"])) == Decimal(invoice["totals"]["total"])
    lines = [row for row in rows(data, "Lines") if row["Payer"] == "acme"]
    assert [(row["Line"], Decimal(str(row["Net"])), row["Exact cost"]) for row in lines] == [
        (line["number"], Decimal(line["net"]), line["cost"]) for line in invoice["lines"]
    ]
    assert openpyxl.load_workbook(io.BytesIO(data), data_only=True)["Control"]["A2"].value.endswith("totals agree.")


def test_an_export_has_the_same_bytes_and_goes_where_it_is_told(shop, tmp_path):
    ended = export(shop, "workbook", "--period", PERIOD)
    assert ended.code == ExitCode.DONE, ended.stderr
    assert ended.summary["files"] == [f"exports/workbook-{PERIOD}.xlsx"]
    made = (shop.root / "exports" / f"workbook-{PERIOD}.xlsx").read_bytes()
    assert made == (shop.root / "out" / PERIOD / "workbook.xlsx").read_bytes()
    assert export(shop, "workbook", "--period", PERIOD, "--to", str(tmp_path / "x" / "oct.xlsx")).code == ExitCode.DONE
    assert (tmp_path / "x" / "oct.xlsx").read_bytes() == made


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--period", "2026-09"], "2026-09 has no invoices to export → run: ratemill run --period 2026-09"),
        (
            ["--period", PERIOD, "--to", "book.csv"],
            "book.csv is no name of a workbook → name a file that ends in .xlsx",
        ),
    ],
)
def test_what_cannot_be_exported_is_told(shop, options, words):
    ended = export(shop, "workbook", *options)
    assert ended.code == ExitCode.USAGE
    assert words in ended.stderr


def test_price_files_of_a_run_are_those_of_the_end_of_the_month(shop):
    folder = shop.root / "out" / PERIOD / "prices"
    assert {path.name for path in folder.iterdir()} >= {"public-EUR.html", "public.csv", "public.json"}
    assert json.loads((folder / "public.json").read_text())["at"] == "2026-10-31T23:59:59.999999Z"


def test_prices_of_a_day_for_everybody_and_for_one(shop, tmp_path):
    ended = export(shop, "prices", "--at", "2026-10-15", "--to", str(tmp_path))
    assert ended.code == ExitCode.DONE, ended.stderr
    assert json.loads((tmp_path / "public.json").read_text())["at"] == "2026-10-15T00:00:00Z"
    assert export(shop, "prices", "--account", "acme", "--at", "2026-10-15T12:00:00+02:00").code == ExitCode.DONE
    mine = json.loads((shop.root / "exports" / "prices" / "acme-EUR.json").read_text())
    assert (mine["account_id"], mine["at"]) == ("acme", "2026-10-15T10:00:00Z")
    invoiced = {line["sku_id"]: line["unit_price"] for line in shop.invoice("acme")["lines"]}
    offered = {offer["sku_id"]: offer["steps"][0]["unit_price"] for offer in mine["offers"] if not offer["conditions"]}
    assert invoiced.items() <= offered.items()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--account", "nobody"], "--account: the book has no account 'nobody' → see book/accounts.csv"),
        (["--at", "tomorrow"], "--at: 'tomorrow' is no instant; write it as 2026-11-01T03:00:00Z, or a day"),
        (["--at", "2026-10-15T12:00:00"], "is no instant"),
    ],
)
def test_prices_of_nobody_and_of_never_are_refused(shop, options, words):
    ended = export(shop, "prices", *options)
    assert ended.code == ExitCode.USAGE
    assert words in ended.stderr


@pytest.mark.slow
def test_without_workbook_and_prices_a_run_writes_neither(tmp_path):
    shop = make_workspace(tmp_path / "shop", usage=month_of_usage(), config={"output": {"workbook": False}})
    assert shop.run().code == ExitCode.DONE
    assert {path.name for path in (shop.root / "out" / PERIOD).iterdir()} == {"invoices", "manifest.json"}


@pytest.mark.slow
def test_credit_notes_by_hand_are_in_the_export_of_the_month_they_were_issued_in(tmp_path):
    """Issued in November, about October: the journal of November needs it, whatever November's usage is."""
    usage = [month_of_usage(), month_of_usage("2026-11-01T00:00:00Z", 720)]
    shop = make_workspace(tmp_path / "shop", usage=usage, book={"accounts": ADDRESSED})
    assert shop.run().code == ExitCode.DONE
    closed = shop.close()
    assert closed.code == ExitCode.DONE, closed.stderr
    noted = shop.command("credit-note", "--invoice", "2026-00001", "--amount", "0.10", "--reason", "Outage",
                         "--as-of", NEXT_DAY)  # fmt: skip
    assert noted.code == ExitCode.DONE, noted.stderr
    november = shop.command("run", "--period", "2026-11", "--as-of", "2026-12-01T06:00:00Z")
    assert november.code == ExitCode.DONE, november.stderr
    assert export(shop, "workbook", "--period", "2026-11").code == ExitCode.DONE
    data = (shop.root / "exports" / "workbook-2026-11.xlsx").read_bytes()
    by_hand = [row for row in rows(data, "Invoices") if row["Made by"] == "hand"]
    assert [(row["Document"], row["Untaxed"]) for row in by_hand] == [("credit_note", -0.10)]
    entry = [row for row in rows(data, "Journal") if row["Invoice"] == by_hand[0]["Invoice"]]
    assert sum(row["Debit"] - row["Credit"] for row in entry) == pytest.approx(0)
    told = openpyxl.load_workbook(io.BytesIO(data), data_only=True)["Control"]["A2"].value
    assert told.startswith("All ")
    assert (shop.root / "out" / "2026-11" / "workbook.xlsx").read_bytes() == data
