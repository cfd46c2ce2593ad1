"""``ratemill explain``: what it is asked, what it answers, and that it never answers anything else than was billed."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import fields
from decimal import Decimal

import duckdb
import polars as pl
import pytest

from ratemill.documents.environment import make_environment
from ratemill.documents.explain import (
    ExplainPage,
    PageStep,
    PageTable,
    explain_page,
    render_explanation,
    render_text,
)
from ratemill.errors import ExitCode, InvariantError
from ratemill.insight.explain.arithmetic import Operand as Of
from ratemill.insight.explain.arithmetic import must_equal, shown, spread, work
from ratemill.insight.explain.model import Column, Explanation, Step, Table, largest_first
from ratemill.insight.explain.prices import Rates, Sought, candidates, versions_of
from ratemill.io.book_files import read_book
from ratemill.resources import shipped
from workspaces import BOOK, PERIOD, TinyWorkspace, hours, make_workspace

D = Decimal

# Workings --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("working", "formula"),
    [
        (
            work("product", Of(D(744), unit="Hours"), Of(D("0.05")), unit="EUR", at_least=2),
            "744.00 Hours × 0.05 = 37.20 EUR",
        ),
        (work("sum", Of(D(100), "line"), Of(D(-20), "discounts"), unit="EUR", at_least=2),
         "100.00 (line) \N{MINUS SIGN} 20.00 (discounts) = 80.00 EUR"),
        (work("percent", D("141.43"), Of(D(20), unit="%"), unit="EUR", places=2, rounding="half-up", at_least=2),
         "141.43 × 20 % = 28.29 EUR, rounded half up at 2 decimals"),
        (work("round", D("37.195"), unit="EUR", places=2, rounding="half-up"),
         "37.195 → 37.2 EUR, rounded half up at 2 decimals"),
        (work("quotient", D(10), D(4), places=12, rounding="half-even"), "10 ÷ 4 = 2.5"),
        (work("pro_rata", D(10), D(180), D(280), places=2, rounding="up", at_least=2),
         "10.00 × 180.00 ÷ 280.00 = 6.43, rounded up at 2 decimals"),
        (work("quotient", Of(D(2_500_000), "used", "Tokens"), D(1_000_000), unit="1000000 Tokens"),
         "2,500,000 Tokens (used) ÷ 1,000,000 = 2.5 × 1,000,000 Tokens"),
        (work("product", Of(D("2.5"), unit="1000000 Tokens"), Of(D("0.3"), unit="EUR per 1000000 Tokens"), unit="EUR"),
         "2.5 × 1,000,000 Tokens × 0.3 EUR per 1,000,000 Tokens = 0.75 EUR"),
        (work("whole_steps", D("0.3"), D("0.25")), "0.3 in whole 0.25 = 0.5"),
        (work("smallest", Of(D(75), "amount"), Of(D(50), "left")), "the smallest of 75 (amount), 50 (left) = 50"),
    ],
)  # fmt: skip
def test_a_working_shows_its_operands_and_how_it_was_rounded(working, formula):
    assert working.formula == formula
    assert working.recomputed() == working.result


def test_numbers_are_shown_with_all_their_digits():
    assert [shown(D(text)) for text in ("1234567.8900", "-0.00", "1E+3", "0.000000000000000001")] == [
        "1,234,567.89", "0", "1,000", "0.000000000000000001",
    ]  # fmt: skip
    assert shown(D("1.5"), 2) == "1.50"


def test_an_amount_is_spread_by_largest_remainder():
    # 10 % off three lines of 0.05 are 0.02: 0.00666… each, so the first two get a cent
    assert [part.share for part in spread(D("0.02"), [D("0.05")] * 3, 2)] == [D("0.01"), D("0.01"), D("0.00")]


def test_a_figure_that_is_not_the_stored_one_is_refused():
    with pytest.raises(InvariantError, match=r"line 3 is explained as 10\.01, and 10 is stored; nothing is shown"):
        must_equal("line 3", D("10.01"), D("10.00"))


def explained(step):
    return Explanation("line", "Line 1", "x:1", "2026-10", "run", is_draft=True, figure=D(1), unit="EUR", at_least=2,
                       figure_is="", steps=(step,))  # fmt: skip


def test_a_step_whose_result_is_not_what_its_operands_come_to_is_refused():
    right = work("sum", D(1), D(2), name="cost")
    wrong = type(right)("sum", right.operands, D(4), name="cost")
    explained(Step("cost", "Cost", workings=(right,))).prove()
    with pytest.raises(InvariantError, match="cost is 4, and its operands come to 3"):
        explained(Step("outer", "Outer", steps=(Step("cost", "Cost", workings=(wrong,)),))).prove()


def test_a_long_table_has_its_largest_rows_and_adds_up():
    columns = (Column("Resource"), Column("Cost", is_number=True, adds_up=True))
    table = largest_first(columns, [(f"r{n}", D(n)) for n in range(1, 101)], most=3, by=1, thing="resources")
    assert [row[0] for row in table.rows] == ["r100", "r99", "r98"]
    assert table.others == ("and 97 more resources", D(5050 - 297))
    assert table.total == ("Total", D(5050))
    table.prove()
    with pytest.raises(InvariantError, match="Cost of a table"):
        Table(columns, table.rows, table.others, ("Total", D(1))).prove()


# Prices ----------------------------------------------------------------------------------------------------------------


def test_each_price_that_did_not_apply_says_why(tmp_path):
    rows = [
        {"price_id": "contract", "price_list": "acme", "currency": "EUR", "region": "eu"},
        {"price_id": "contract-any", "price_list": "acme", "currency": "EUR"},
        {"price_id": "plan", "price_list": "plan", "currency": "EUR"},
        {"price_id": "public", "price_list": "public", "currency": "EUR"},
        {"price_id": "dollars", "price_list": "public", "currency": "USD"},
        {"price_id": "dinars", "price_list": "public", "currency": "KWD"},
        {"price_id": "asia", "price_list": "public", "currency": "EUR", "region": "asia"},
        {"price_id": "windows", "price_list": "public", "currency": "EUR", "attr.os": "windows"},
        {"price_id": "before", "price_list": "public", "currency": "EUR", "region": "eu", "valid_to": "2026-10-01"},
        {"price_id": "later", "price_list": "public", "currency": "EUR", "region": "eu", "valid_from": "2026-11-01"},
    ]
    book = book_with(tmp_path, [{"sku_id": "vm", "unit_price": "1"} | row for row in rows])
    instant = hours(first="2026-10-05T10:00:00Z")["usage_start"][0]
    sought = Sought(instant, "UTC", ("acme", "public"), "EUR", "eu", {"os": "linux"})
    found = candidates(versions_of(book, "vm"), sought, Rates(book.fx_rates), zone="UTC")
    assert [(each.version.price_id, each.verdict) for each in found] == [
        ("contract", "applies: list acme comes first, most conditions of its list"),
        ("contract-any", "fewer conditions (none against 1)"),
        ("public", "list public comes after acme"),
        ("dollars", "list public comes after acme"),
        ("windows", "for attr.os windows only"),
        ("asia", "for region asia only"),
        ("before", "no longer valid from 2026-10-01 on"),
        ("later", "not valid before 2026-11-01"),
        ("plan", "list plan is not searched for this account"),
        ("dinars", "in KWD, and no exchange rate to EUR by that day"),
    ]
    assert [each.version.price_id for each in found if each.won] == ["contract"]


def book_with(tmp_path, prices):
    rates = [{"date": "2026-10-01", "base": "EUR", "quote": "USD", "rate": "1.1", "source": "a bank"}]
    shop = make_workspace(tmp_path / "prices", book={"prices": prices, "fx_rates": rates})
    book, findings = read_book(shop.root / "book", time_zone="UTC")
    assert book is not None, findings
    return book


# The command -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Acme has two machines, a discount, a fee and an adjustment; a resource is called globex as well."""
    accounts = [row | {"name": name} for row, name in zip(BOOK["accounts"], ("Acme Tools", "Globex"), strict=True)]
    workspace = make_workspace(
        tmp_path_factory.mktemp("explain") / "shop",
        usage={
            "a.parquet": pl.concat([hours(resource_name="web"), hours(resource="vm-2", count=12, resource_name="db")]),
            "b.parquet": pl.concat([hours(sku="egress", resource="globex"), hours("globex", "vm", resource="vm-3")]),
        },
        book={
            "accounts": accounts,
            "discounts": [
                {"discount_id": "autumn", "account_id": "acme", "percent": "10", "note": "Autumn",
                 "valid_from": "2026-10-01", "sku_ids": "vm"}
            ],
            "recurring": [
                {"recurring_id": "support", "account_id": "acme", "description": "Support", "amount": "31",
                 "valid_from": "2026-10-30"}
            ],
            "adjustments": [
                {"adjustment_id": "sorry", "account_id": "acme", "period": PERIOD, "amount": "-1", "reason": "Outage",
                 "author": "Inès"}
            ],
        },
    )  # fmt: skip
    ended = workspace.run()
    assert ended.code == ExitCode.DONE, ended
    return workspace


def ask(shop, what, *options):
    return shop.command("explain", what, *options)


def texts(summary):
    """Every sentence, and every formula."""
    for step in summary["steps"]:
        yield from step["says"]
        yield from (working["text"] for working in step["workings"])
        yield from texts(step)


def test_a_line_from_the_meter_to_the_invoice(shop):
    ended = ask(shop, f"{PERIOD}-acme-EUR:1")
    assert ended.code == ExitCode.DONE, ended
    told = ended.summary
    assert (told["kind"], told["figure"], told["unit"]) == ("line", "3.6000", "EUR")
    # vm-1 for 24 hours and vm-2 for 12
    assert [step["name"] for step in told["steps"]] == [
        "usage", "quantity", "price", "cost", "exact", "rounding", "discount", "net", "tax", "total",
    ]  # fmt: skip
    said = list(texts(told))
    assert "36 records of usage, 36 Hours in all." in said
    assert "36 Hours × 0.1 EUR per Hours = 3.6 EUR" in said
    assert "Autumn (autumn)." in said
    usage = told["steps"][0]["tables"][0]
    assert [row[0] for row in usage["rows"]] == ["web (vm-1)", "db (vm-2)"]


def test_a_line_by_its_id_in_the_focus_export(shop):
    assert ask(shop, f"{PERIOD}-acme-EUR/1/usage").summary["subject"] == f"{PERIOD}-acme-EUR:1"


def test_fees_and_adjustments_say_where_they_come_from(shop):
    lines = {line: list(texts(ask(shop, f"{PERIOD}-acme-EUR:{line}").summary)) for line in (3, 4)}
    assert "31.00 EUR (a month) × 2 (days it is valid) ÷ 31 (days of the month) = 2.00 EUR" in lines[3]
    assert "Adjustment sorry, decided by Inès: “Outage”." in lines[4]


def test_a_charge_down_to_its_records(shop):
    told = ask(shop, f"{PERIOD}-acme-EUR:1#2").summary
    table = told["steps"][0]["tables"][0]
    assert [column["heading"] for column in table["columns"]][:3] == ["Hour", "File", "Row"]
    assert len(table["rows"]) == 12
    assert table["rows"][0][:3] == ["2026-10-01 00:00", "usage/a.parquet", "25"]
    assert told["figure"] == "1.200000000000000000"


def test_an_account_by_id_or_name_and_a_resource_by_id_or_name(shop):
    for what, figure in (("acme", "total"), ("Acme Tools", "total"), ("vm-2", "1.2"), ("db", "1.2")):
        told = ask(shop, what, "--period", PERIOD).summary
        if figure == "total":
            assert (told["kind"], told["subject"]) == ("account", "account:acme")
        else:
            assert (told["kind"], Decimal(told["figure"])) == ("resource", D(figure))


def test_an_invoice_knows_its_month_and_lines_are_taken_apart_on_request(shop):
    told = ask(shop, f"{PERIOD}-acme-EUR", "--lines", "2").summary
    (largest,) = [step for step in told["steps"] if step["name"] == "largest"]
    assert len(largest["steps"]) == 2
    assert told["steps"][0]["name"] == "lines"
    assert told["asks"][0]["command"] == f"ratemill explain {PERIOD}-acme-EUR:1 --period {PERIOD}"


def test_text_for_people_is_not_wider_than_a_page(shop):
    ended = shop.command("explain", f"{PERIOD}-acme-EUR:1", json=False)
    assert ended.stdout.startswith("Line 1  VM, small, vm-eur\n3.60 EUR  line 1 of invoice 2026-10-acme-EUR")
    assert max(map(len, ended.stdout.splitlines())) <= 100


def test_page_stands_alone(shop, tmp_path):
    page = tmp_path / "why.html"
    ended = shop.command("explain", f"{PERIOD}-acme-EUR", "--html", str(page), json=False)
    assert ended.stdout == f"{page}\n"
    html = page.read_text(encoding="utf-8")
    assert "36 Hours × 0.1 EUR per Hours = 3.6 EUR" in html
    assert not re.search(r"https?://|<script|src=", html)


@pytest.mark.parametrize(
    ("what", "options", "told"),
    [
        (
            "globex",
            ["-p", PERIOD],
            "names 2 things → say which: account:globex (account Globex), resource:globex (of acme)",
        ),
        ("acmee", ["-p", PERIOD], "no invoice, line, account or resource of 2026-10 is called 'acmee'; near it: acme"),
        ("vm-22", ["-p", PERIOD], "near it: vm-2"),
        ("acme", [], "is no invoice and no line of one; for an account or a resource, say of which month"),
        ("acme", ["-p", "2026-09"], "2026-09 has no run yet → run: ratemill run --period 2026-09"),
        (f"{PERIOD}-acme-EUR:9", [], "has no line 9: it has 4"),
        (f"{PERIOD}-acme-EUR:1#7", [], "has 2 charges, and 7 is none → #1 to #2"),
        (f"{PERIOD}-acme-EUR:4#1", [], "is not made of usage charges"),
        (f"{PERIOD}-acme-EUR", ["-p", "2026-11"], f"is of {PERIOD}, not of 2026-11 → --period {PERIOD}"),
        ("account:globexx", ["-p", PERIOD], "no account of 2026-10 is called 'account:globexx'; near it: globex"),
    ],
)
def test_what_can_not_be_explained_says_what_can(shop, what, options, told):
    ended = ask(shop, what, *options)
    assert ended.code == ExitCode.USAGE, ended
    assert told in ended.summary["error"]


@pytest.mark.slow
def test_usage_that_came_after_the_run_is_told_of_and_the_charges_that_were_kept_count(shop, tmp_path):
    """A file is delivered again with half the quantities, another one is new; nothing was run since."""
    copy = TinyWorkspace(shutil.copytree(shop.root, tmp_path / "late"))
    copy.write_usage("a.parquet", pl.concat([hours(quantity="0.5"), hours(resource="vm-2", count=12)]))
    copy.write_usage("c.parquet", hours(resource="vm-9", count=7))
    assert copy.command("load").code == ExitCode.DONE
    told = ask(copy, f"{PERIOD}-acme-EUR:1").summary
    usage, quantity = told["steps"][0], told["steps"][1]
    kept, late = usage["says"]
    assert kept == (
        "The usage of today is not what was billed: 24 Hours in 36 records today, 36 Hours in the charges that were"
        " kept. The figures below are those of the charges."
    )
    assert late == "Today there are 7 records more, 7 Hours, that came after the run."
    assert [table["title"] for table in usage["tables"]] == ["", "Files of today"]
    assert quantity["says"] == ["Priced as metered: 36 Hours."]
    assert told["figure"] == "3.6000"


def test_nothing_is_changed(shop):
    before = (shop.root / "state" / "warehouse.duckdb").read_bytes()
    ask(shop, f"{PERIOD}-acme-EUR")
    assert (shop.root / "state" / "warehouse.duckdb").read_bytes() == before


def test_an_explanation_that_would_disagree_is_not_given(shop, tmp_path):
    """Somebody wrote another amount into the warehouse: the derivation does not come to it, so there is none."""
    copy = TinyWorkspace(shutil.copytree(shop.root, tmp_path / "copy"))
    with duckdb.connect(str(copy.root / "state" / "warehouse.duckdb")) as connection:
        connection.execute(
            "UPDATE billing.invoice_lines SET cost = 3.61, amount = 3.61, rounding = 0 WHERE amount = 3.6"
        )
    ended = ask(copy, f"{PERIOD}-acme-EUR:1")
    assert ended.code == ExitCode.INTERNAL
    assert "is explained as 3.6, and 3.61 is stored; nothing is shown" in ended.summary["error"]
    assert json.dumps(ended.summary).count("steps") == 0


# The page --------------------------------------------------------------------------------------------------------------

README_PART = (shipped("templates") / "README.md").read_text(encoding="utf-8").partition("\n## Explanations\n")[2]


@pytest.mark.parametrize("page_class", [ExplainPage, PageStep, PageTable])
def test_the_readme_of_the_templates_tells_every_field(page_class):
    section = re.search(rf"^### {page_class.__name__}\b.*?$(.*?)(?=^##|\Z)", README_PART, re.MULTILINE | re.DOTALL)
    rows = [row.strip("|").split("|")[0].strip() for row in section[1].splitlines() if row.startswith("|")]
    assert rows[2:] == [field.name for field in fields(page_class)]


def test_names_are_no_markup(shop):
    step = Step("cost", "<b>Cost</b>", ("<script>alert(1)</script>",),
                (Table((Column("<i>x</i>"),), (("<u>y</u>",),)),))  # fmt: skip
    page = explain_page(explained(step), seller="<s>Seller</s>")
    html = render_explanation(page, make_environment(None))
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 1
    assert not re.search(r"<[biu]>|<s>", html)


def test_names_steer_no_terminal():
    text = render_text(explained(Step("cost", "Cost", ("a \x1b[2J machine \u202e",))))
    assert "\x1b" not in text
    assert "\u202e" not in text
