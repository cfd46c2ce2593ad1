"""Budgets by worked examples: what counts, gross, net and taxed, thresholds, and days of the past."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratemill.book.budgets import thresholds_of
from ratemill.book.model import Book
from ratemill.insight import budgets
from ratemill.insight.budgets import Span, counted, crossings, expected_figure, figure, spending, standing, until
from ratemill.money import percent_of_amount, rounded_amount
from ratemill.period import BillingPeriod
from ratemill.tables.book import BOOK_TABLES
from ratemill.tables.charges import CHARGES
from ratemill.tables.invoices import INVOICE_LINES

D = Decimal
OCTOBER = BillingPeriod(2026, 10)
SKUS = pl.DataFrame(
    {
        "sku_id": ["vm", "gpu", "disk"],
        "service": ["Compute", "Compute", "Block Storage"],
        "category": ["Compute", "Compute", "Storage"],
    }
)


def charge(cost: str, **other) -> dict:
    """A charge of acme for one hour of a machine on 15 October; what is not said is usual."""
    return {
        "period": "2026-10", "invoice_id": "2026-10-acme-EUR", "billing_account_id": "acme", "account_id": "acme",
        "sku_id": "vm", "currency": "EUR", "charge_kind": "usage", "cost": D(cost), "contracted_cost": D(cost),
        "charge_start": datetime(2026, 10, 15, 12, tzinfo=UTC), "charge_end": datetime(2026, 10, 15, 13, tzinfo=UTC),
    } | other  # fmt: skip


def taxed(sku_id: str | None, rate: str, code: str = "fr", invoice_id: str = "2026-10-acme-EUR") -> dict:
    """What a line of an invoice says of its SKU's tax."""
    return {
        "invoice_id": invoice_id,
        "sku_id": sku_id,
        "tax_code": code,
        "tax_category": "standard",
        "tax_rate": D(rate),
    }


TAXES = [taxed("vm", "20"), taxed("gpu", "20"), taxed("disk", "5.5", "fr-low"), taxed(None, "20")]


def spent(*charges: dict, lines=TAXES, zones=None) -> pl.DataFrame:
    frame = pl.DataFrame([{n: row.get(n) for n in CHARGES.names} for row in charges], schema=CHARGES.polars_schema)
    of_lines = pl.DataFrame(
        [{name: row.get(name) for name in INVOICE_LINES.names} for row in lines], schema=INVOICE_LINES.polars_schema
    )
    return spending(frame.lazy(), lines=of_lines, skus=SKUS, zones=zones)


def budget(**values) -> dict:
    """A row of the book: 100 EUR a month for everything, unless something else is said."""
    given = {"budget_id": "b", "amount": D(100), "currency": "EUR"} | values
    typed = {name: [value] for name, value in given.items()}
    schema = {name: dtype for name, dtype in Book.of().budgets.schema.items() if name in given}
    return Book.of(budgets=pl.DataFrame(typed, schema=schema)).budgets.row(0, named=True)


def amount(rows: pl.DataFrame, measure: str = "net", span: Span | None = None, **scope) -> Decimal:
    row = budget(**scope)
    return figure(counted(rows, row, span or Span.of(OCTOBER, row["period"])), measure, row["currency"])


# ------------------------------------------------------------------------------------------------------- what is counted

MONTH = spent(
    charge("10", project_id="web", region="eu", tags='{"env":"live","team":"a"}'),
    charge("5", account_id="acme-lab", project_id="lab", tags='{"env":"ci"}'),
    charge("3", sku_id="gpu", region="us"),
    charge("2", sku_id="disk"),
    charge("7", sku_id=None, charge_kind="recurring"),  # a fee that is for no SKU
    charge("40", billing_account_id="globex", account_id="globex", invoice_id="2026-10-globex-EUR"),
    charge("1000", currency="JPY"),
    charge("60", period="2026-11"),
)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({}, "67"),  # everybody's, in its currency and month
        ({"account_id": "acme"}, "27"),  # what acme pays for, its lab included
        ({"account_id": "acme-lab"}, "5"),
        ({"account_id": "acme", "service": "Compute"}, "18"),  # a fee has no service
        ({"category": "Storage"}, "2"),
        ({"account_id": "acme", "sku_ids": "gpu disk"}, "5"),
        ({"account_id": "acme", "excludes": "vm"}, "12"),  # nor is it of an excluded SKU
        ({"project_id": "web"}, "10"),
        ({"region": "us"}, "3"),
        ({"tag_key": "env"}, "15"),
        ({"tag_key": "env", "tag_value": "ci"}, "5"),
        ({"tag_key": "team", "tag_value": "b"}, "0"),
        ({"tag_key": "env", "region": "us"}, "0"),  # all that is given must hold
        ({"currency": "JPY"}, "1000"),
        ({"period": "quarter"}, "127"),  # November is in the same quarter
    ],
)
def test_what_counts_towards_a_budget(scope, expected):
    assert amount(MONTH, **scope) == D(expected)


def test_nothing_counts_towards_a_budget_of_a_month_without_charges():
    assert amount(spent(), measure="taxed") == D("0.00")


# --------------------------------------------------------------------------------------------------- gross, net, taxed

DISCOUNTED = spent(
    charge("100.004"),
    charge("-0.004", charge_kind="rounding"),
    charge("20", sku_id="disk"),
    charge("30", sku_id=None, charge_kind="commitment"),  # a shortfall is a line of the invoice
    charge("-10", charge_kind="discount"),
    charge("-5", charge_kind="commitment"),  # what a commitment takes off
    charge("-1", sku_id="disk", charge_kind="credit"),
)


def test_gross_is_before_and_net_after_what_is_taken_off():
    assert amount(DISCOUNTED, "gross") == D("150.00")
    assert amount(DISCOUNTED, "net") == D("134.00")


def test_taxed_adds_the_tax_of_each_rate():
    # 20 % of 100 - 10 - 5 + 30 = 23.00; 5.5 % of 20 - 1 = 1.045, half-up 1.05
    assert amount(DISCOUNTED, "taxed") == D("158.05")


def test_tax_is_rounded_once_per_invoice_and_rate():
    lines = [taxed("vm", "20", invoice_id=name) for name in ("a", "b")]
    rows = spent(charge("0.02", invoice_id="a"), charge("0.02", invoice_id="b"), lines=lines)
    assert amount(rows, "taxed") == D("0.04")  # twice 0.004; of the sum it would be 0.008, rounded 0.01
    assert amount(spent(charge("0.02"), charge("0.02")), "taxed") == D("0.05")


# ------------------------------------------------------------------------------------------------------------ thresholds


def test_thresholds_are_percents_and_amounts_lowest_first():
    found = thresholds_of("100% 50% 150 33.3333%", D(200))
    assert [(one.text, one.limit) for one in found] == [
        ("33.3333%", D("66.6666")), ("50%", D(100)), ("150", D(150)), ("100%", D(200)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spent_so_far", "reached"),
    [("49.99", []), ("50", ["50%"]), ("99.99", ["50%", "80%"]), ("100", ["50%", "80%", "100%"]), ("-3", [])],
)
def test_a_threshold_is_reached_at_its_amount(spent_so_far, reached):
    row = budget(thresholds="80% 50% 100%")
    found = standing(row, Span.of(OCTOBER, "month"), actual=D(spent_so_far))
    assert [one.text for one in found.reached] == reached


def test_percent_is_rounded_down_so_that_all_is_all():
    row = budget(amount=D(3))
    assert standing(row, Span.of(OCTOBER, "month"), actual=D("2.9999")).percent == D("99.9")
    assert standing(row, Span.of(OCTOBER, "month"), actual=D(3)).percent == D(100)


def test_basis_forecast_looks_at_what_is_expected():
    looks_ahead = standing(budget(basis="forecast"), Span.of(OCTOBER, "month"), actual=D(40), expected=D(120))
    assert (looks_ahead.figure, looks_ahead.actual, looks_ahead.reached[-1].text) == (D(120), D(40), "100%")
    by_now = standing(budget(basis="actual"), Span.of(OCTOBER, "month"), actual=D(40), expected=D(120))
    assert (by_now.figure, by_now.reached) == (D(40), ())


# --------------------------------------------------------------------------------------------------------------- expected

FORECAST = pl.DataFrame(
    {
        "period": ["2026-10"] * 2, "billing_account_id": ["acme"] * 2, "account_id": ["acme"] * 2,
        "project_id": ["web", None], "service": ["Compute"] * 2, "category": ["Compute"] * 2, "sku_id": ["vm", "gpu"],
        "region": [None, None], "tags": [None, None], "currency": ["EUR"] * 2, "forecast_cost": [D(200), D(60)],
    },
    schema_overrides={"region": pl.String, "tags": pl.String},
)  # fmt: skip
TOTALS = pl.DataFrame(
    {
        "billing_account_id": ["acme", "globex"], "currency": ["EUR", "EUR"], "subtotal_amount": [D(270), D(9)],
        "untaxed_amount": [D(250), D(9)], "total_amount": [D(300), D("10.80")],
    }
)  # fmt: skip
HALF_WAY = spent(
    charge("100", project_id="web"),
    charge("-10", project_id="web", charge_kind="discount"),
    charge("30", sku_id="gpu"),
    charge("10", sku_id=None, charge_kind="recurring"),
)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({"account_id": "acme"}, "250"),  # as its expected invoice says
        ({"account_id": "acme", "measure": "gross"}, "270"),
        ({"account_id": "acme", "measure": "taxed"}, "300"),
        ({}, "259"),  # of everybody: all expected invoices
        ({"project_id": "web", "measure": "gross"}, "200"),
        ({"project_id": "web"}, "180"),  # a tenth is taken off so far
        ({"project_id": "web", "measure": "taxed"}, "216"),
        ({"sku_ids": "gpu"}, "60"),
    ],
)
def test_what_a_running_month_is_expected_to_end_with(scope, expected):
    row = budget(**scope)
    assert expected_figure(HALF_WAY, FORECAST, TOTALS, row, Span.of(OCTOBER, "month")) == D(expected)


# -------------------------------------------------------------------------------------------------------- days, and spans


def test_what_is_for_several_days_counts_in_equal_parts():
    month = {
        "charge_start": datetime(2026, 9, 30, 22, tzinfo=UTC),
        "charge_end": datetime(2026, 10, 31, 23, tzinfo=UTC),
    }
    rows = spent(charge("31", charge_kind="recurring", **month), charge("100"), zones={"acme": "Europe/Paris"})
    assert rows.select("first", "last").rows() == [
        (date(2026, 10, 1), date(2026, 10, 31)), (date(2026, 10, 15), date(2026, 10, 15)),
    ]  # fmt: skip
    by_day = {day: amount(until(rows, date(2026, 10, day))) for day in (1, 14, 15, 31)}
    assert by_day == {1: D(1), 14: D(14), 15: D(115), 31: D(131)}


def test_days_are_those_of_who_pays():
    late = {
        "charge_start": datetime(2026, 10, 15, 15, tzinfo=UTC),
        "charge_end": datetime(2026, 10, 15, 16, tzinfo=UTC),
    }
    rows = spent(charge("1", **late), zones={"acme": "Asia/Tokyo"})
    assert rows["first"].to_list() == [date(2026, 10, 16)]


def test_crossings_are_the_first_days():
    row = budget(thresholds="50% 100%")
    days = [date(2026, 10, day) for day in (1, 2, 3, 4)]
    # On the 3rd a credit comes in; that the 4th is above the half again is no second crossing.
    found = crossings(row, Span.of(OCTOBER, "month"), list(zip(days, map(D, (20, 50, 45, 60)), strict=True)))
    assert [(one.threshold.text, one.day, one.figure) for one in found] == [("50%", date(2026, 10, 2), D(50))]


@pytest.mark.parametrize(
    ("length", "label", "first", "last"),
    [
        ("month", "2026-11", "2026-11", "2026-11"),
        ("quarter", "2026-Q4", "2026-10", "2026-12"),
        ("year", "2026", "2026-01", "2026-12"),
    ],
)
def test_spans(length, label, first, last):
    span = Span.of(BillingPeriod(2026, 11), length)
    assert (span.label, str(span.months[0]), str(span.months[-1])) == (label, first, last)


def test_a_budget_is_for_the_spans_that_begin_while_it_is_valid():
    schema = Book.of().budgets.schema
    rows = {
        "budget_id": ["old", "new", "year"], "amount": [D(1)] * 3, "currency": ["EUR"] * 3,
        "period": ["month", "month", "year"],
        "valid_from": [None, datetime(2026, 10, 31, 23, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)],
        "valid_to": [datetime(2026, 10, 31, 23, tzinfo=UTC), None, None],
    }  # fmt: skip
    frame = Book.of(budgets=pl.DataFrame(rows, schema={name: schema[name] for name in rows})).budgets
    found = budgets.spans_of(frame, [OCTOBER, OCTOBER.shift(1)], time_zone="Europe/Paris")
    assert [(row["budget_id"], span.label) for row, span in found] == [("new", "2026-11"), ("old", "2026-10")]


# ----------------------------------------------------------------------------------------------------------------- money


@given(st.decimals("-1e15", "1e15", places=4), st.decimals("0", "1000", places=4))
def test_percent_of_an_amount_is_exact(value, percent):
    assert percent_of_amount(value, percent) * 100 == value * percent


@pytest.mark.parametrize(
    ("value", "currency", "expected"),
    [("2.345", "EUR", "2.35"), ("-2.345", "EUR", "-2.35"), ("2.5", "JPY", "3"), ("0.0005", "KWD", "0.001")],
)
def test_amounts_are_rounded_to_what_can_be_paid(value, currency, expected):
    assert rounded_amount(D(value), currency) == D(expected)


def test_watching_is_no_part_of_what_is_billed_with():
    """The hash of a book, and so the identity of a run, is the same whatever is watched and whoever is told."""
    row = {"budget_id": ["b"], "amount": [D(1)], "currency": ["EUR"]}
    schema = Book.of().budgets.schema
    watched = Book.of(
        budgets=pl.DataFrame(row, schema={name: schema[name] for name in row}),
        subscriptions=pl.DataFrame({"subscription_id": ["s"], "address": ["a@example.com"]}),
    )
    assert watched.sha256 == Book.of().sha256
    assert not {"budgets", "subscriptions"} & {table.name for table in BOOK_TABLES}
