"""Checks of discounts, commitments, credits, fees and adjustments that a single broken file can't show."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import combinations
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratemill.book.checks import check_book
from ratemill.book.deals import (
    amounts_fit_their_currency,
    credits_reach_an_invoice,
    currencies_of_deals_are_invoiced,
    discounts_are_one_of_percent_and_amount,
)
from ratemill.book.model import Book
from ratemill.book.scopes import (
    commitments_do_not_overlap,
    commitments_share_no_month,
    projects_exist,
    scoped_skus_are_named_once,
    scopes_match_something,
)
from ratemill.findings import Finding, Severity
from ratemill.money import PRICE
from ratemill.tables.book import ADJUSTMENTS, COMMITMENTS, CREDITS, DISCOUNTS, RECURRING

if TYPE_CHECKING:
    from ratemill.tables.columns import Table

START = datetime(2026, 10, 1, tzinfo=UTC)


def day(number: int | None) -> datetime | None:
    return None if number is None else START + timedelta(days=number)


SKUS = pl.DataFrame(
    [
        ("vm", "Machines", "Compute"),
        ("gpu", "Machines", "Compute"),
        ("disk", "Volumes", "Storage"),
        ("snapshot", "Volumes", "Storage"),
    ],
    schema=["sku_id", "service", "category"],
    orient="row",
).with_columns(name=pl.col("sku_id"), usage_unit=pl.lit("h"), pricing_unit=pl.lit("h"))
ACCOUNTS = pl.DataFrame(
    [
        ("acme", None, "FR", "EUR", "Europe/Paris"),
        ("acme-lab", "acme", "FR", "EUR", None),
        ("hana", None, "JP", "JPY", "Asia/Tokyo"),
        ("sahil", None, "KW", "KWD", None),
    ],
    schema=["account_id", "billing_account_id", "country", "currency", "time_zone"],
    orient="row",
).with_columns(name=pl.col("account_id"))
PROJECTS = pl.DataFrame(
    [("rover", "acme-lab"), ("site", "acme"), ("shop", "hana")], schema=["project_id", "account_id"], orient="row"
).with_columns(name=pl.col("project_id"))

NEEDED: dict[str, dict[str, Any]] = {
    "discounts": {"note": "Discount"},
    "commitments": {"account_id": "acme", "amount": Decimal(100), "currency": "EUR", "note": "Commitment"},
    "credits": {
        "account_id": "acme", "amount": Decimal(100), "currency": "EUR", "kind": "promotional", "granted_on": START,
        "note": "Credit",
    },
    "recurring": {"account_id": "acme", "description": "Fee", "amount": Decimal(10)},
    "adjustments": {
        "account_id": "acme", "period": "2026-10", "amount": Decimal(10), "reason": "Reason", "author": "Jo Example",
    },
}  # fmt: skip
TABLES: dict[str, Table] = {table.name: table for table in (DISCOUNTS, COMMITMENTS, CREDITS, RECURRING, ADJUSTMENTS)}


def book_of(*, projects: bool = True, **tables: list[dict[str, Any]]) -> Book:
    """A book with rows of deals, each with what it leaves out, one line of its file each, from line 2."""
    frames = {name: _rows(TABLES[name], rows) for name, rows in tables.items()}
    if projects:
        frames["projects"] = PROJECTS
    return Book.of(accounts=ACCOUNTS, skus=SKUS, **frames)


def _rows(table: Table, given_rows: list[dict[str, Any]]) -> pl.DataFrame:
    rows = [{table.key[0]: f"d{index}", **NEEDED[table.name], **row} for index, row in enumerate(given_rows)]
    types = {name: dtype for name, dtype in table.polars_schema.items() if any(name in row for row in rows)}
    source = {"source_file": f"book/{table.name}.csv"}
    numbered = [row | source | {"source_row": line} for line, row in enumerate(rows, start=2)]
    return pl.DataFrame(numbered, schema_overrides=types)


def told(findings: list[Finding]) -> list[tuple[str, int | None]]:
    return [(finding.rule, finding.row) for finding in findings]


# ------------------------------------------------------------------------------------------------------------ scopes

# a scope → whether some SKU fits it
SCOPES: list[tuple[dict[str, str], bool]] = [
    ({}, True),
    ({"category": "Compute"}, True),
    ({"category": "Networking"}, False),  # a category, but none of these SKUs is in it
    ({"service": "Volumes"}, True),
    ({"category": "Compute", "service": "Volumes"}, False),
    ({"sku_ids": "disk  vm"}, True),
    ({"sku_ids": "disk", "service": "Machines"}, False),
    ({"sku_ids": "disk vm", "service": "Machines"}, True),
    ({"service": "Machines", "excludes": "vm"}, True),
    ({"service": "Machines", "excludes": "vm gpu"}, False),
    ({"excludes": "vm gpu disk snapshot"}, True),  # fees for no SKU are left
    ({"region": "moon"}, True),  # regions are what usage says
]


def test_which_scopes_fit_something() -> None:
    for scope, fits in SCOPES:
        for table in ("discounts", "commitments", "credits"):
            found = scopes_match_something(book_of(**{table: [scope]}))
            assert told(found) == ([] if fits else [(f"{table}.matches_nothing", 2)]), scope
            assert all(finding.severity is Severity.WARNING for finding in found)


def test_a_scope_that_names_what_is_unknown_is_told_about_that_alone() -> None:
    for scope in ({"sku_ids": "wm"}, {"service": "Machine"}, {"sku_ids": "disk", "excludes": "wm"}):
        assert scopes_match_something(book_of(discounts=[scope])) == []
        assert len(check_book(book_of(discounts=[{"percent": Decimal(5), **scope}]))) == len(check_book(book_of())) + 1


# account and project of a discount → whether usage of that project can be the account's, or paid by it
PROJECTS_OF = [
    ("acme", "site", True),
    ("acme", "rover", True),  # acme pays for it
    ("acme-lab", "rover", True),
    ("acme-lab", "site", False),
    ("hana", "rover", False),
    (None, "rover", True),
]


def test_a_project_is_of_the_account_or_of_one_it_pays_for() -> None:
    for account, project, fits in PROJECTS_OF:
        found = scopes_match_something(book_of(discounts=[{"account_id": account, "project_id": project}]))
        assert told(found) == ([] if fits else [("discounts.project_of_account", 2)]), (account, project)


def test_without_a_list_of_projects_each_is_what_usage_says() -> None:
    row = {"project_id": "anything"}
    assert told(projects_exist(book_of(discounts=[row], recurring=[row]))) == [
        ("discounts.project_id", 2),
        ("recurring.project_id", 2),
    ]
    assert projects_exist(book_of(projects=False, discounts=[row], recurring=[row])) == []


def test_a_sku_is_named_once_and_each_second_time_is_told() -> None:
    rows = [
        {"sku_ids": "vm gpu vm disk disk disk"},
        {"sku_ids": "vm", "excludes": "gpu"},
        {"sku_ids": "vm gpu", "excludes": "gpu vm"},
    ]
    assert told(scoped_skus_are_named_once(book_of(credits=rows))) == [
        ("credits.sku_ids_twice", 2),
        ("credits.sku_ids_twice", 2),
        ("credits.included_and_excluded", 4),
        ("credits.included_and_excluded", 4),
    ]


# ------------------------------------------------------------------------------------------------------- commitments

# two commitments of acme → whether the same usage would count towards both
PAIRS: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({}, {}, True),
    ({}, {"account_id": "hana", "currency": "JPY"}, False),
    ({"valid_to": day(31)}, {"valid_from": day(31)}, False),  # half-open: the one follows the other
    ({"valid_to": day(32)}, {"valid_from": day(31)}, True),
    ({"valid_from": day(5), "valid_to": day(5)}, {}, False),  # of no validity: told elsewhere
    ({"category": "Compute"}, {"category": "Storage"}, False),
    ({"category": "Compute"}, {"service": "Machines"}, True),
    ({"sku_ids": "vm disk"}, {"sku_ids": "gpu snapshot"}, False),
    ({"sku_ids": "vm disk"}, {"category": "Storage"}, True),
    ({"sku_ids": "vm disk"}, {"category": "Storage", "excludes": "disk"}, False),
    ({"category": "Networking"}, {"category": "Networking"}, False),  # nothing counts towards either
    ({"project_id": "site"}, {"project_id": "rover"}, False),
    ({"project_id": "site"}, {}, True),  # usage of the site counts towards both
    ({"project_id": "site"}, {"region": "eu"}, True),
    ({"project_id": "site", "region": "us"}, {"region": "eu"}, False),
    ({"project_id": "site", "region": "us"}, {"region": "us", "category": "Compute"}, True),
]


def test_which_commitments_count_the_same_usage() -> None:
    for one, other, overlaps in PAIRS:
        found = commitments_do_not_overlap(book_of(commitments=[one, other]))
        assert len(found) == overlaps, (one, other)


def test_a_year_that_begins_before_the_last_has_ended_is_told_with_both_rows() -> None:
    rows = [{"valid_from": day(0), "valid_to": day(60)}, {"valid_from": day(30)}]
    (finding,) = commitments_do_not_overlap(book_of(commitments=rows))
    assert finding.place == "book/commitments.csv:3, column valid_from"
    assert "commitment 'd1' (2026-10-31T00:00:00Z to open)" in finding.message
    assert "commitment 'd0' at book/commitments.csv:2 (2026-10-01T00:00:00Z to 2026-11-30T00:00:00Z)" in finding.message


# zone of the account, where one year ends and the next begins → whether that is inside a local month
BORDERS = [
    ("Europe/Paris", "2026-11-01T00:00+01:00", False),
    ("Europe/Paris", "2026-10-15T00:00+02:00", True),
    ("Europe/Paris", "2026-11-01T11:59+01:00", False),  # a day counts by its noon
    ("Europe/Paris", "2026-11-01T12:01+01:00", True),
    ("Europe/Paris", "2026-10-31T12:00+01:00", True),
    ("Europe/Paris", "2026-10-31T12:01+01:00", False),
    ("America/Los_Angeles", "2026-11-01T00:00+01:00", False),  # midnight of the workspace is the afternoon before
    ("Asia/Tokyo", "2026-11-01T00:00+01:00", False),
    (None, "2026-11-01T00:00+00:00", False),
    (None, "2026-11-02T00:00+00:00", True),
]


def test_commitments_that_meet_inside_a_month_count_its_usage_twice() -> None:
    for zone, border, inside in BORDERS:
        at = datetime.fromisoformat(border).astimezone(UTC)
        book = book_of(commitments=[{"valid_to": at}, {"valid_from": at}])
        zoned = replace(book, accounts=book.accounts.with_columns(time_zone=pl.lit(zone, dtype=pl.String)))
        assert commitments_do_not_overlap(zoned) == []
        found = commitments_share_no_month(zoned, time_zone="UTC")
        assert told(found) == ([("commitments.same_month", 3)] if inside else []), (zone, border)
    overlapping = book_of(commitments=[{}, {}])
    assert commitments_share_no_month(overlapping, time_zone="UTC") == [], "an overlap is told once"


OPTIONAL_DAY = st.none() | st.integers(0, 6)
COMMITMENT_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "account_id": st.sampled_from(["acme", "acme", "sahil"]),
            "valid_from": OPTIONAL_DAY.map(day),
            "valid_to": OPTIONAL_DAY.map(day),
            "category": st.sampled_from([None, "Compute", "Storage"]),
            "sku_ids": st.sampled_from([None, "vm", "vm disk", "gpu snapshot"]),
            "excludes": st.sampled_from([None, None, "vm", "gpu disk"]),
            "project_id": st.sampled_from([None, "site", "rover"]),
            "region": st.sampled_from([None, "eu", "us"]),
        }
    ),
    min_size=2,
    max_size=6,
)


def fits(row: dict[str, Any], sku: dict[str, Any]) -> bool:
    return (
        row["category"] in (None, sku["category"])
        and (row["sku_ids"] is None or sku["sku_id"] in row["sku_ids"].split())
        and sku["sku_id"] not in (row["excludes"] or "").split()
    )


def count_the_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """The rule, spelled out: an hour of some SKU, project and region that is of both."""
    start, end = START - timedelta(days=99), START + timedelta(days=99)
    last_start = max(row["valid_from"] or start for row in (one, other))
    first_end = min(row["valid_to"] or end for row in (one, other))
    return (
        one["account_id"] == other["account_id"]
        and last_start < first_end
        and all((row["valid_from"] or start) < (row["valid_to"] or end) for row in (one, other))
        and any(fits(one, sku) and fits(other, sku) for sku in SKUS.iter_rows(named=True))
        and all(one[name] is None or other[name] in (None, one[name]) for name in ("project_id", "region"))
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(COMMITMENT_ROWS)
def test_overlaps_are_those_of_a_naive_search(rows: list[dict[str, Any]]) -> None:
    naive = {frozenset(pair) for pair in combinations(range(len(rows)), 2) if count_the_same(*(rows[i] for i in pair))}
    # the later row of each pair: begins later, or stands further down
    order = sorted(range(len(rows)), key=lambda i: (rows[i]["valid_from"] or datetime.min.replace(tzinfo=UTC), i))
    later = {max(pair, key=order.index) for pair in naive}

    found = commitments_do_not_overlap(book_of(commitments=rows))

    pairs = {
        frozenset({int(f.row or 0) - 2, int(f.message.split("book/commitments.csv:")[1].split()[0]) - 2}) for f in found
    }
    assert pairs <= naive
    assert {int(f.row or 0) - 2 for f in found} == later
    assert len(found) == len(pairs), "a pair is named once"


# ------------------------------------------------------------------------------------------------------------- money

# percent, amount, currency → what is wrong
ONE_OF_THE_TWO = [
    ("5", None, None, None),
    (None, "5", "EUR", None),
    (None, None, None, "discounts.percent_or_amount"),
    (None, None, "EUR", "discounts.percent_or_amount"),
    ("5", "5", "EUR", "discounts.percent_or_amount"),
    ("5", "5", None, "discounts.percent_or_amount"),
    (None, "5", None, "discounts.currency_of_amount"),
    ("5", None, "EUR", "discounts.currency_of_percent"),
]


def test_a_discount_is_a_percent_or_an_amount() -> None:
    for percent, amount, currency, wrong in ONE_OF_THE_TWO:
        row = {"percent": percent and Decimal(percent), "amount": amount and Decimal(amount), "currency": currency}
        found = discounts_are_one_of_percent_and_amount(book_of(discounts=[row]))
        assert told(found) == ([(wrong, 2)] if wrong else []), row


# table, account, currency → severity, if it is not what the payer is invoiced in
CURRENCIES: list[tuple[str, str | None, str | None, str | None]] = [
    ("credits", "acme", "EUR", None),
    ("credits", "acme", "JPY", "error"),
    ("credits", "acme", "KWD", None),  # a fee of acme is invoiced in it
    ("commitments", "acme", "EUR", None),
    ("commitments", "acme", "KWD", "error"),  # usage is not
    ("commitments", "hana", "EUR", "error"),
    ("discounts", "acme-lab", "EUR", None),  # what acme is invoiced in, which pays for it
    ("discounts", "acme-lab", "JPY", "error"),
    ("discounts", None, "JPY", None),
    ("discounts", None, "USD", "error"),
    ("recurring", "acme", None, None),
    ("recurring", "acme-lab", "EUR", None),
    ("recurring", "hana", "EUR", "warning"),
    ("adjustments", "hana", "EUR", "warning"),
    ("adjustments", "hana", "JPY", None),
    ("adjustments", "hana", "XXQ", None),  # no currency at all: told elsewhere
    ("credits", "nobody", "EUR", None),  # no account: told elsewhere
]


def test_amounts_are_in_a_currency_that_is_invoiced() -> None:
    fee = {"recurring_id": "in-kwd", "account_id": "acme-lab", "currency": "KWD"}
    for table, account, currency, severity in CURRENCIES:
        row = {"account_id": account, "amount": Decimal(100), "currency": currency}
        tables: dict[str, list[dict[str, Any]]] = {
            table: [row],
            "recurring": [row, fee] if table == "recurring" else [fee],
        }
        found = [f for f in currencies_of_deals_are_invoiced(book_of(**tables)) if "'in-kwd'" not in f.message]
        assert [(f.rule, f.severity) for f in found] == (
            [(f"{table}.currency_of_payer", severity)] if severity else []
        ), (table, account, currency)


# amount, currency → whether the currency has the decimals
DECIMALS = [
    ("10", "JPY", True),
    ("10.00", "JPY", True),  # written with decimals, and none of them counts
    ("10.5", "JPY", False),
    ("10.05", "EUR", True),
    ("10.005", "EUR", False),
    ("10.005", "KWD", True),
    ("10.0005", "KWD", False),
    ("-10.005", "EUR", False),
    ("10.5", "XXQ", True),  # no currency at all: told elsewhere
]


def test_amounts_have_the_decimals_of_their_currency() -> None:
    for amount, currency, fitting in DECIMALS:
        found = amounts_fit_their_currency(book_of(adjustments=[{"amount": Decimal(amount), "currency": currency}]))
        assert told(found) == ([] if fitting else [("adjustments.amount_decimals", 2)]), (amount, currency)


def test_a_fee_without_a_currency_has_the_decimals_of_the_payers() -> None:
    for account, fitting in (("acme-lab", True), ("hana", False), ("sahil", True)):
        found = amounts_fit_their_currency(book_of(recurring=[{"account_id": account, "amount": Decimal("9.90")}]))
        assert told(found) == ([] if fitting else [("recurring.amount_decimals", 2)]), account
    (finding,) = amounts_fit_their_currency(book_of(recurring=[{"account_id": "hana", "amount": Decimal("9.90")}]))
    assert "JPY has no decimals" in finding.message


# ----------------------------------------------------------------------------------------------------------- credits

# account, granted, expires → whether a month ends in between, where the account is
MONTH_ENDS = [
    ("acme", "2026-10-01T00:00+02:00", "2026-11-01T00:00+01:00", True),
    ("acme", "2026-10-01T00:00+02:00", "2026-10-31T00:00+01:00", False),  # the trap: October's last day is not in it
    ("acme", "2026-10-31T23:59+01:00", "2026-11-01T00:00+01:00", True),
    ("acme", "2026-11-01T00:00+01:00", "2026-11-30T23:59+01:00", False),
    ("acme", "2026-10-05T00:00+02:00", None, True),
    ("hana", "2026-10-01T00:00+09:00", "2026-11-01T00:00+09:00", True),
    ("hana", "2026-10-01T00:00+09:00", "2026-10-31T00:00+09:00", False),
    ("sahil", "2026-10-01T00:00+00:00", "2026-10-31T23:00+00:00", False),  # no zone of its own: the workspace's
    ("acme", "2026-10-05T00:00+02:00", "2026-10-05T00:00+02:00", True),  # of no validity: told elsewhere
    ("nobody", "2026-10-05T00:00+02:00", "2026-10-06T00:00+02:00", True),  # no account: told elsewhere
]


def test_a_credit_must_see_the_end_of_a_month() -> None:
    for account, granted, expires, reached in MONTH_ENDS:
        row = {
            "account_id": account,
            "granted_on": datetime.fromisoformat(granted).astimezone(UTC),
            "expires_on": expires and datetime.fromisoformat(expires).astimezone(UTC),
        }
        found = credits_reach_an_invoice(book_of(credits=[row]), time_zone="UTC")
        assert told(found) == ([] if reached else [("credits.never_at_a_month_end", 2)]), row


# ------------------------------------------------------------------------------------------------------------- taxes


def test_lines_that_are_for_no_sku_need_a_standard_tax() -> None:
    """A book that sells books alone, at a rate of their own, can't bill a support fee."""
    skus = SKUS.with_columns(tax_category=pl.lit("books"))
    taxes = pl.DataFrame(
        [("FR", "FR", "books", Decimal(5))],
        schema={"tax_code": pl.String, "country": pl.String, "category": pl.String, "rate": PRICE},
        orient="row",
    )
    accounts = ACCOUNTS.filter(pl.col("account_id") == "acme")

    def warned(**tables: list[dict[str, Any]]) -> list[str]:
        deals = {name: book_of(**tables).frame(name) for name in tables}
        found = check_book(Book.of(accounts=accounts, skus=skus, taxes=taxes, **deals))
        return [finding.rule for finding in found if finding.rule.startswith("accounts.taxable")]

    assert warned() == []
    assert warned(recurring=[{"sku_id": "vm"}], adjustments=[{"sku_id": "vm"}]) == []
    for table in ("recurring", "adjustments", "commitments"):
        assert warned(**{table: [{}]}) == ["accounts.taxable_category"], table


def test_every_mistake_of_a_table_is_told_in_one_pass() -> None:
    row = {
        "account_id": "nobody", "project_id": "nowhere", "service": "Nothing", "sku_ids": "wm wm", "excludes": "wm",
        "percent": Decimal(5), "amount": Decimal("5.005"), "currency": "EUR", "valid_from": day(2), "valid_to": day(1),
    }  # fmt: skip
    found = check_book(book_of(discounts=[row]))
    assert {finding.rule.removeprefix("discounts.") for finding in found if finding.row == 2} == {
        "account_id", "project_id", "service", "sku_ids", "sku_ids_twice", "included_and_excluded", "excludes",
        "percent_or_amount", "amount_decimals", "validity",
    }  # fmt: skip
