"""Who may see what: scopes of members, and every published table as far as each of them may see it.

The world: Acme pays for itself, its lab and its shop; Globex for itself. The project ``rover`` moved from Acme to its
lab on 15 October; ``site`` was Globex's, then Acme's. Both customers have resources that are called and tagged alike.
"""

from __future__ import annotations

import ast
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path

import hypothesis
import polars as pl
import pytest
from hypothesis import strategies as st

import ratemill.tables.runs
from ratemill.book.model import Book
from ratemill.insight.access import (
    NOBODY,
    OF_MANAGERS,
    RULES,
    Grant,
    Ledger,
    Level,
    Scope,
    Seen,
    scope_of,
    tables_of,
    visible,
)
from ratemill.steps.export_member import TABLES
from ratemill.tables.book import BOOK_TABLES, EVERY_BOOK_TABLE
from ratemill.tables.charges import CHARGES
from ratemill.tables.columns import Table
from ratemill.tables.focus import COST_AND_USAGE
from ratemill.tables.invoices import INVOICE_DEDUCTIONS, INVOICE_LINES, INVOICES, TAX_LINES

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 2, 6, tzinfo=UTC)
FOCUS = COST_AND_USAGE["1.4"]
DEFINED: dict[str, Table] = {
    **TABLES,
    **{table.name: table for table in vars(ratemill.tables.runs).values() if isinstance(table, Table)},
}


def rows(table, *given):
    """Rows of a table; what is not said is empty, or the first thing that fits."""
    usual = {column.name: None if column.nullable else _anything(column) for column in table.columns}
    return pl.DataFrame([usual | row for row in given], schema=table.polars_schema)


def _anything(column):
    if column.one_of:
        return column.one_of[0]
    if column.dtype == pl.String:
        return "-"
    if column.dtype == pl.Boolean:
        return False
    if column.dtype == pl.Date:
        return NOW.date()
    if isinstance(column.dtype, pl.Datetime):
        return NOW
    return Decimal(0) if isinstance(column.dtype, pl.Decimal) else 0


ACCOUNTS = [
    {"account_id": "acme", "tax_id": "FR-ACME", "price_lists": "gold"},
    {"account_id": "acme-lab", "billing_account_id": "acme", "tax_id": "FR-LAB"},
    {"account_id": "acme-shop", "billing_account_id": "acme", "price_lists": "shop"},
    {"account_id": "globex", "tax_id": "DE-GLOBEX", "price_lists": "steel", "country": "DE", "currency": "USD"},
]
PROJECTS = [
    {"project_id": "rover", "account_id": "acme", "valid_to": datetime(2026, 10, 15, tzinfo=UTC)},
    {"project_id": "rover", "account_id": "acme-lab", "valid_from": datetime(2026, 10, 15, tzinfo=UTC)},
    {"project_id": "site", "account_id": "globex", "valid_to": datetime(2026, 10, 15, tzinfo=UTC)},
    {"project_id": "site", "account_id": "acme", "valid_from": datetime(2026, 10, 15, tzinfo=UTC)},
]
PRICES = [
    {"price_id": f"{price_list}-vm", "price_list": price_list, "sku_id": "vm", "window": window}
    for price_list, window in (("public", None), ("gold", "peak"), ("shop", None), ("steel", "night"))
] + [{"price_id": "steel-press", "price_list": "steel", "sku_id": "press"}]
# (payer, account, project, sku, what it is)
LINES = [
    ("acme", "acme", "rover", "vm", "usage"),
    ("acme", "acme", None, "vm", "usage"),
    ("acme", "acme", None, None, "commitment"),
    ("acme", "acme", "site", "vm", "usage"),
    ("acme", "acme-lab", "rover", "vm", "usage"),
    ("acme", "acme-lab", None, None, "recurring"),
    ("acme", "acme-shop", None, "vm", "usage"),
    ("globex", "globex", "site", "press", "usage"),
    ("globex", "globex", None, "press", "usage"),
]
EVERYTHING = range(len(LINES))


def members(*given):
    columns = ("principal", "role", "organization_id", "account_id", "project_id", "valid_from", "valid_to")
    return [dict(zip(columns, (*row, *[None] * 7), strict=False)) for row in given]


@cache
def frames():
    """Every table of the book but the members, who are different in each test."""
    tables = {"accounts": ACCOUNTS, "projects": PROJECTS, "prices": PRICES}
    tables["skus"] = [{"sku_id": sku, "category": "Compute"} for sku in ("vm", "press")]
    tables["windows"] = [{"window": name} for name in ("peak", "night")]
    tables["taxes"] = [{"tax_code": code, "country": country} for code, country in (("fr", "-"), ("de", "DE"))]
    tables["fx_rates"] = [{"base": "USD", "quote": "-", "rate": Decimal(1)}]
    tables["discounts"] = [
        {"discount_id": "acme-5", "account_id": "acme"},
        {"discount_id": "steel-9", "account_id": "globex"},
        {"discount_id": "autumn"},
        {"discount_id": "press-only", "sku_ids": "press"},
        {"discount_id": "site-only", "project_id": "site"},
    ]
    tables["credits"] = [
        {"credit_id": account, "account_id": account, "amount": Decimal(1)} for account in ("acme", "globex")
    ]
    tables["recurring"] = [
        {"recurring_id": "lab-fee", "account_id": "acme-lab"},
        {"recurring_id": "acme-fee", "account_id": "acme"},
        {"recurring_id": "steel-fee", "account_id": "globex"},
    ]
    tables["adjustments"] = [
        {"adjustment_id": "rover", "account_id": "acme", "project_id": "rover", "author": "Jo", "invoice_ref": "R-1"},
        {"adjustment_id": "steel", "account_id": "globex", "author": "Jo"},
    ]
    tables["budgets"] = [
        {"budget_id": "acme", "account_id": "acme", "amount": Decimal(1)},
        {"budget_id": "rover", "project_id": "rover", "amount": Decimal(1)},
        {"budget_id": "steel", "account_id": "globex", "amount": Decimal(1)},
        {"budget_id": "all", "amount": Decimal(1)},
    ]
    return {table.name: rows(table, *tables.get(table.name, ())) for table in EVERY_BOOK_TABLE}


def book_of(*given):
    """The book with these members."""
    members_table = next(table for table in EVERY_BOOK_TABLE if table.name == "members")
    return Book(**{**frames(), "members": rows(members_table, *members(*given))})


LEDGER_LINES = rows(
    INVOICE_LINES,
    *(
        {
            "invoice_id": f"2026-10-{payer}", "line_number": number, "account_id": account, "project_id": project,
            "sku_id": sku, "line_kind": kind, "price_id": None if sku is None else f"{PRICES_OF[payer]}-{sku}",
            "tax_code": "fr" if payer == "acme" else "de", "corrects_invoice_id": "2026-09-globex",
        }
        for PRICES_OF in [{"acme": "gold", "globex": "steel"}]
        for number, (payer, account, project, sku, kind) in enumerate(LINES)
    ),
)  # fmt: skip
LEDGER_INVOICES = rows(
    INVOICES,
    {"invoice_id": "2026-10-acme", "billing_account_id": "acme", "corrects_invoice_id": "2026-09-acme"},
    {"invoice_id": "2026-09-acme", "billing_account_id": "acme"},
    {"invoice_id": "2026-10-globex", "billing_account_id": "globex"},
    {"invoice_id": "2026-09-globex", "billing_account_id": "globex"},
)
LEDGER_CHARGES = rows(
    CHARGES,
    *(
        {"billing_account_id": payer, "account_id": account, "project_id": project, "sku_id": sku, "source_id": str(n)}
        for n, (payer, account, project, sku, _) in enumerate(LINES)
    ),
)
LEDGER_FOCUS = rows(
    FOCUS,
    *(
        {
            "BillingAccountId": payer, "SubAccountId": account, "x_ProjectId": project, "ChargeDescription": str(n),
            "x_LedgerInvoiceId": f"2026-10-{payer}", "x_InvoiceLineNumber": n,
        }
        for n, (payer, account, project, _, _) in enumerate(LINES)
    ),
    {"BillingAccountId": "acme", "x_LedgerInvoiceId": "2026-10-acme", "ChargeDescription": "tax"},
)  # fmt: skip
PAIRS = {
    "charges": LEDGER_CHARGES,
    "focus_cost_and_usage": LEDGER_FOCUS,
    "invoices": LEDGER_INVOICES,
    "invoice_lines": LEDGER_LINES,
    "invoice_deductions": rows(
        INVOICE_DEDUCTIONS,
        *({"invoice_id": f"2026-10-{line[0]}", "line_number": n, "source_id": str(n)} for n, line in enumerate(LINES)),
    ),
    "tax_lines": rows(TAX_LINES, {"invoice_id": "2026-10-acme"}, {"invoice_id": "2026-10-globex"}),
}


def seen_by(scope, *given):
    return Seen(scope, Ledger(LEDGER_INVOICES, LEDGER_LINES, book_of(*given)))


def shown(table, seen):
    frame = PAIRS.get(table)
    if frame is None:
        frame = seen.ledger.book.frame(table).select(TABLES[table].names)
    return visible(table, frame, seen)


def reader(*given, role="billing_reader"):
    """What somebody sees who has one row of members.csv for each of ``given``."""
    mine = [("me", role, *row) for row in given]
    return seen_by(scope_of("me", book=book_of(*mine), at=NOW), *mine)


def which(frame, column):
    return sorted(frame[column].to_list(), key=str)


ORGANIZATION = ("acme",)
ACCOUNT = (None, "acme-lab")
PROJECT = (None, None, "rover")


# ------------------------------------------------------------------------------------------------------------- scopes


def test_a_row_holds_from_its_first_instant_to_before_its_last():
    day = datetime(2026, 11, 1, tzinfo=UTC)
    book = book_of(("me", "billing_reader", "acme", None, None, day, datetime(2026, 12, 1, tzinfo=UTC)))
    assert not scope_of("me", book=book, at=datetime(2026, 10, 31, 23, tzinfo=UTC)).grants
    assert scope_of("me", book=book, at=day).organizations == {"acme"}
    assert not scope_of("me", book=book, at=datetime(2026, 12, 1, tzinfo=UTC)).grants


def test_names_are_compared_as_they_are_written():
    book = book_of(("me@example.com", "billing_reader", "acme"))
    for other in ("ME@example.com", "me@example.com ", "me", "", "%", "me@example.com\x00"):
        assert not scope_of(other, book=book, at=NOW).grants


def test_nothing_is_not_everything():
    """A row without a scope, should it ever get past the checks, gives nothing; and such a grant can't be made."""
    assert not scope_of("me", book=book_of(("me", "billing_reader")), at=NOW).grants
    with pytest.raises(ValueError, match="not a grant of everything"):
        Grant("billing_reader")
    with pytest.raises(ValueError, match="whose"):
        Grant("billing_reader", project_id="rover")


def test_a_project_alone_is_that_of_the_one_who_pays_for_it():
    (grant,) = reader(PROJECT).scope.grants
    assert (grant.organization_id, grant.project_id, grant.level) == ("acme", "rover", Level.PROJECT)
    assert not reader((None, None, "site")).scope.grants, "Globex had it, then Acme: whose is meant?"
    assert not reader((None, None, "unheard-of")).scope.grants


def test_without_grants_nothing_is_seen_of_any_table():
    nobody = seen_by(Scope("stranger", ()))
    assert tables_of(nobody.scope) == []
    for table in RULES:
        if table in PAIRS or table in {one.name for one in EVERY_BOOK_TABLE}:
            public = {"prices", "skus"} if table in ("prices", "skus") else set()
            assert table in public or shown(table, nobody).is_empty(), table


# ------------------------------------------------------------------------------------------------------------- tables

SEEN = {  # lines of LINES by their number
    ORGANIZATION: [0, 1, 2, 3, 4, 5, 6],
    ACCOUNT: [4, 5],
    (None, "acme"): [0, 1, 3],  # not the commitment: its shortfall tells what the others used
    PROJECT: [0, 4],
    (None, "acme", "rover"): [0],  # until it moved
    ("acme", None, "site"): [3],
    ("globex", None, "site"): [7],
    ("globex", "globex"): [7],  # no project is no project of a project reader; see below
}


@pytest.mark.parametrize("given", [given for given in SEEN if given != ("globex", "globex")], ids=str)
@pytest.mark.parametrize("table", ["charges", "focus_cost_and_usage", "invoice_lines", "invoice_deductions"])
def test_lines_and_charges_are_seen_by_what_they_are_billed_to(table, given):
    column = {"charges": "source_id", "focus_cost_and_usage": "ChargeDescription", "invoice_lines": "line_number"}
    found = which(shown(table, reader(given)), column.get(table, "line_number"))
    expected = [str(n) for n in SEEN[given]] if column.get(table, "line_number") != "line_number" else SEEN[given]
    if table == "focus_cost_and_usage" and given == ORGANIZATION:
        expected = sorted([*expected, "tax"])
    assert found == expected


def test_an_account_reader_of_a_payer_that_pays_for_itself_alone_sees_its_lines():
    assert which(shown("invoice_lines", reader((None, "globex"))), "line_number") == [7, 8]


@pytest.mark.parametrize("table", ["invoices", "tax_lines"])
def test_invoices_and_their_totals_are_the_organizations(table):
    for given in (ACCOUNT, (None, "acme"), PROJECT):
        assert shown(table, reader(given)).is_empty()
        assert table not in tables_of(reader(given).scope)
    assert set(shown(table, reader(ORGANIZATION))["invoice_id"]) <= {"2026-10-acme", "2026-09-acme"}


def test_the_invoice_of_somebody_else_is_not_named_by_a_correction():
    """It can't be there; if it ever is, it does not leave."""
    assert shown("invoice_lines", reader(ORGANIZATION))["corrects_invoice_id"].to_list() == [None] * 7
    corrected = dict(shown("invoices", reader(ORGANIZATION)).select("invoice_id", "corrects_invoice_id").iter_rows())
    assert corrected == {"2026-10-acme": "2026-09-acme", "2026-09-acme": None}


def test_tax_ids_and_terms_are_shown_for_own_accounts_only():
    tax_ids = {given: dict(shown("accounts", reader(given)).select("account_id", "tax_id").iter_rows())
               for given in (ORGANIZATION, ACCOUNT, PROJECT)}  # fmt: skip
    assert tax_ids == {
        ORGANIZATION: {"acme": "FR-ACME", "acme-lab": "FR-LAB", "acme-shop": None},
        ACCOUNT: {"acme-lab": "FR-LAB"},
        PROJECT: {"acme": None, "acme-lab": None},
    }
    of_project = shown("accounts", reader(PROJECT))
    empty = {name for name in of_project.columns if of_project[name].null_count() == of_project.height}
    assert {"tax_id", "legal_name", "address_line1", "email", "price_lists", "buyer_reference"} <= empty


def test_an_account_that_has_another_payer_by_now_is_not_shown_with_it():
    """Acme's old lines name an account that Globex pays for today; its row would say so."""
    moved = [row | ({"billing_account_id": "globex"} if row["account_id"] == "acme-shop" else {}) for row in ACCOUNTS]
    seen = reader(ORGANIZATION)
    book = book_of()
    ledger = Ledger(
        seen.ledger.invoices, seen.ledger.lines, Book(**{**{t.name: book.frame(t.name) for t in EVERY_BOOK_TABLE},
                                                         "accounts": rows(TABLES["accounts"], *moved)})
    )  # fmt: skip
    assert 6 in shown("invoice_lines", Seen(seen.scope, ledger))["line_number"]
    assert which(visible("accounts", rows(TABLES["accounts"], *moved), Seen(seen.scope, ledger)), "account_id") == [
        "acme", "acme-lab",
    ]  # fmt: skip


PRICE_LISTS = {
    ORGANIZATION: ["gold-vm", "public-vm", "shop-vm"],
    ACCOUNT: ["gold-vm", "public-vm"],  # its payer's list
    (None, "acme-shop"): ["gold-vm", "public-vm", "shop-vm"],  # gold: its one line was priced with it
    PROJECT: ["gold-vm", "public-vm"],
    ("globex",): ["public-vm", "steel-press", "steel-vm"],
}


@pytest.mark.parametrize("given", PRICE_LISTS, ids=str)
def test_prices_are_public_or_ones_own(given):
    seen = reader(given)
    assert which(shown("prices", seen), "price_id") == PRICE_LISTS[given]
    assert which(shown("skus", seen), "sku_id") == (["press", "vm"] if given == ("globex",) else ["vm"])
    assert which(shown("windows", seen), "window") == (["night"] if given == ("globex",) else ["peak"])
    assert which(shown("taxes", seen), "tax_code") == (["de"] if given == ("globex",) else ["fr"])


def test_deals_are_the_organizations():
    assert which(shown("discounts", reader(ORGANIZATION)), "discount_id") == ["acme-5", "autumn", "site-only"]
    assert which(shown("discounts", reader(("globex",))), "discount_id") == [
        "autumn", "press-only", "site-only", "steel-9",
    ]  # fmt: skip
    assert which(shown("credits", reader(ORGANIZATION)), "credit_id") == ["acme"]
    for given in (ACCOUNT, PROJECT):
        assert not {"discounts", "commitments", "credits", "credit_ledger"} & {*tables_of(reader(given).scope)}
        assert shown("discounts", reader(given)).is_empty()


def test_fees_and_adjustments_are_shown_without_who_decided():
    assert which(shown("recurring", reader(ORGANIZATION)), "recurring_id") == ["acme-fee", "lab-fee"]
    assert which(shown("recurring", reader(ACCOUNT)), "recurring_id") == ["lab-fee"]
    of_project = shown("adjustments", reader(PROJECT))
    assert of_project.select("adjustment_id", "author", "invoice_ref").rows() == [("rover", None, None)]
    assert shown("adjustments", reader(ORGANIZATION)).select("author", "invoice_ref").rows() == [(None, "R-1")]


def test_budgets_are_for_managers():
    for given, expected in ((ORGANIZATION, ["acme", "rover"]), (PROJECT, ["rover"]), (ACCOUNT, [])):
        assert shown("budgets", reader(given)).is_empty()
        assert not {*OF_MANAGERS} & {*tables_of(reader(given).scope)}
        manager = reader(given, role="billing_manager")
        assert which(shown("budgets", manager), "budget_id") == expected
        assert {*OF_MANAGERS} < {*tables_of(manager.scope)}


def test_grants_add_up_and_are_managed_one_by_one():
    mine = [("me", "billing_reader", "acme"), ("me", "billing_manager", "globex", None, "site")]
    seen = seen_by(scope_of("me", book=book_of(*mine), at=NOW), *mine)
    assert which(shown("invoice_lines", seen), "line_number") == [0, 1, 2, 3, 4, 5, 6, 7]
    assert seen.scope.managed().projects == {"site"}
    assert not seen.scope.managed().organizations


# -------------------------------------------------------------------------------------------------------- default deny


def published_tables():
    """Names of every table that the step of publishing adds to the database, read off its source."""
    tree = ast.parse((ROOT / "pipelines/ratemill/steps/publish.py").read_text(encoding="utf-8"))
    constants = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id.isupper()
    }  # fmt: skip
    module = __import__("ratemill.steps.publish", fromlist=["publish"])
    found = set()
    for name in constants:
        value = getattr(module, name, None)
        tables = value if isinstance(value, tuple) else value.values() if isinstance(value, dict) else (value,)
        found |= {table.name for table in tables if isinstance(table, Table)}
    return found


def test_every_published_table_has_a_rule():
    """A new table is shown to nobody until somebody thought about who may see what of it, and wrote it down."""
    published = published_tables()
    assert {"charges", "invoices", "runs", "focus_cost_and_usage"} <= published
    assert published - RULES.keys() - NOBODY.keys() == set(), "say who sees it: ratemill/insight/access.py"
    assert not RULES.keys() & NOBODY.keys()
    assert {table.name for table in BOOK_TABLES} <= RULES.keys()


def test_a_table_without_a_rule_is_shown_to_nobody():
    with pytest.raises(KeyError):
        visible("runs", pl.DataFrame(), reader(ORGANIZATION))


def test_every_rule_is_of_a_table_and_columns_that_there_are():
    assert RULES.keys() == TABLES.keys()
    for name, rule in RULES.items():
        assert all(not TABLES[name][column].nullable for column in rule.hides)


def test_the_rules_are_told_as_they_are():
    """The tables of docs/security.md, "Who may see what", are those of the code."""
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    section = text.split("## Who may see what\n", 1)[1].split("\n## ", 1)[0]
    cells = [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"
    ]
    told = {row[0]: tuple(row[1:]) for row in cells}
    for name, rule in RULES.items():
        assert told[name] == tuple(words or "\u2013" for words in (rule.organization, rule.account, rule.project)), name
    for name, why in NOBODY.items():
        assert told[name] == (why,), name
    assert len(told) == len(RULES) + len(NOBODY) + 2  # the headings, and the rules below them


# ----------------------------------------------------------------------------------------------------------- every scope

GRANTS = st.builds(
    lambda role, organization, account, project: (role, organization, account, project),
    st.sampled_from(["billing_reader", "billing_manager"]),
    st.sampled_from([None, "acme", "globex"]),
    st.sampled_from([None, "acme", "acme-lab", "acme-shop", "globex"]),
    st.sampled_from([None, "rover", "site"]),
).filter(lambda row: any(row[1:]))


def granted(line, row):
    """Whether a row of members.csv gives a line; written down once more, as plain as can be."""
    payer, account, project, sku, _ = line
    _, organization, wanted_account, wanted_project = row
    if wanted_project and not organization and not wanted_account:
        if wanted_project == "site":
            return False  # of two customers
        organization = "acme"
    for wanted, value in ((organization, payer), (wanted_account, account), (wanted_project, project)):
        if wanted and wanted != value:
            return False
    whole = not wanted_account and not wanted_project
    return whole or not (account == payer and project is None and sku is None)


@hypothesis.settings(max_examples=60)
@hypothesis.given(given_rows=st.lists(GRANTS, max_size=4))
def test_every_scope_sees_what_its_rows_give_and_nothing_else(given_rows):
    mine = [("me", *row) for row in given_rows]
    seen = seen_by(scope_of("me", book=book_of(*mine), at=NOW), *mine)
    expected = [n for n in EVERYTHING if any(granted(LINES[n], row) for row in given_rows)]
    assert which(shown("invoice_lines", seen), "line_number") == expected
    assert which(shown("charges", seen), "source_id") == [str(n) for n in expected]
    of_lines = shown("focus_cost_and_usage", seen).filter(pl.col("ChargeDescription") != "tax")
    assert which(of_lines, "ChargeDescription") == [str(n) for n in expected]
    whole = {row[1] for row in given_rows if row[1] and not row[2] and not row[3]}
    assert set(shown("invoices", seen)["billing_account_id"]) <= whole
    foreign = {"acme", "globex"} - {LINES[n][0] for n in expected} - whole
    told = set(shown("accounts", seen)["account_id"]) | set(shown("accounts", seen)["billing_account_id"].drop_nulls())
    if not any(row[2] in ("acme", "acme-lab", "acme-shop", "globex") for row in given_rows):
        assert not told & foreign


@hypothesis.settings(max_examples=40)
@hypothesis.given(given_rows=st.lists(GRANTS, max_size=3), more=GRANTS)
def test_a_grant_more_never_shows_less(given_rows, more):
    """And what two grants show is what each of them shows: there is nothing that only both together open."""
    few, single, both = (
        seen_by(scope_of("me", book=book_of(*mine), at=NOW), *mine)
        for mine in (
            [("me", *row) for row in given_rows],
            [("me", *more)],
            [("me", *row) for row in [*given_rows, more]],
        )
    )
    for table, key in (("charges", "source_id"), ("invoices", "invoice_id"), ("prices", "price_id"),
                       ("discounts", "discount_id"), ("accounts", "account_id")):  # fmt: skip
        one, other, together = (set(shown(table, seen)[key]) for seen in (few, single, both))
        assert one | other == together, table
