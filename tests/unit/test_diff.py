"""What changed between two runs: every difference has an effect and a cause, and the effects add up."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from ratemill.book.model import Book
from ratemill.insight.diff import InputChanges, Run, RunDiff, changed_inputs, changed_rows, compare_runs
from ratemill.tables.book import ACCOUNTS, BOOK_TABLES, DISCOUNTS, PRICES
from ratemill.tables.charges import CHARGES

D = Decimal
FIRST = datetime(2026, 10, 1, tzinfo=UTC)


def charge(resource: str | None = "vm-1", day: int = 1, **values: Any) -> dict[str, Any]:
    """24 hours of a VM at 0.10."""
    start = FIRST + timedelta(days=day - 1)
    row = {
        "period": "2026-10", "billing_account_id": "acme", "account_id": "acme", "sku_id": "vm",
        "resource_id": resource, "charge_start": start, "charge_end": start + timedelta(days=1),
        "charge_kind": "usage", "price_id": "vm-1", "usage_quantity": D(24), "usage_unit": "Hours",
        "pricing_quantity": D(24), "pricing_unit": "Hours", "currency": "EUR", "contracted_unit_price": D("0.10"),
        "contracted_cost": D("2.40"), "cost": D("2.40"), "run_id": "r", "invoice_id": "i",
    }  # fmt: skip
    return dict.fromkeys(CHARGES.names) | row | {name: exact(value) for name, value in values.items()}


def exact(value: Any) -> Any:
    """Texts of digits as decimals, for short tables."""
    return D(value) if isinstance(value, str) and value.lstrip("-").replace(".", "", 1).isdigit() else value


def deduction(kind: str, source: str, cost: str, **values: Any) -> dict[str, Any]:
    return charge(None, charge_kind=kind, source_id=source, cost=cost, usage_quantity=None, contracted_unit_price=None,
                  contracted_cost="0", **values)  # fmt: skip


def inputs(**changed: Any) -> dict[str, Any]:
    return {
        "usage": {"usage/a.parquet": "aa", "usage/b.parquet": "bb"},
        "usage_elsewhere": [],
        "record_ids": [0, None],
        "book": {table.name: "0" for table in BOOK_TABLES},
        "credits": "0",
        "configuration": "0",
        "rating_configuration": "0",
        "code": "0.1.0",
        "ledger": "0",
        "corrections": {},
    } | changed


def books(*tables: str) -> dict[str, Any]:
    """Inputs in which these tables have other rows."""
    return {"book": inputs()["book"] | dict.fromkeys(tables, "1")}


def price(price_id: str = "vm-1", unit_price: str = "0.10", **values: Any) -> dict[str, Any]:
    return {"price_id": price_id, "price_list": "public", "sku_id": "vm", "currency": "EUR", "mode": "per_unit",
            "unit_price": D(unit_price), "flat_fee": D(0), "scope": "account", "flat_at_zero": False,
            "tier_reset": False} | values  # fmt: skip


def prices(*rows: dict[str, Any]) -> pl.DataFrame:
    extra = {name: pl.String for row in rows for name in row if name.startswith("attr.")}
    return pl.DataFrame([dict.fromkeys(PRICES.names) | row for row in rows], schema={**PRICES.polars_schema, **extra})


def discounts(percent: str) -> pl.DataFrame:
    row = {"discount_id": "spring", "percent": D(percent), "mode": "compound", "priority": 100, "note": "Spring"}
    return pl.DataFrame([dict.fromkeys(DISCOUNTS.names) | row], schema=DISCOUNTS.polars_schema)


def accounts(*zones: str | None) -> pl.DataFrame:
    rows = [
        {"account_id": name, "name": name, "country": "FR", "currency": "EUR", "time_zone": zone}
        for name, zone in zip(("acme", "globex"), zones, strict=True)
    ]
    return pl.DataFrame([dict.fromkeys(ACCOUNTS.names) | row for row in rows], schema=ACCOUNTS.polars_schema)


def run(charges: list[dict[str, Any]], told: dict[str, Any] | None = None, **tables: pl.DataFrame) -> Run:
    frame = pl.DataFrame(charges, schema=CHARGES.polars_schema)
    book = Book.of(**({"accounts": accounts(None, None), "prices": prices(price())} | tables))
    return Run(frame.lazy(), inputs() if told is None else inputs(**told), book)


def compare(before: Run, after: Run) -> RunDiff:
    """The differences, proven to add up and to be the other way round the other way round."""
    found = compare_runs(before, after, default_zone="UTC")
    back = compare_runs(after, before, default_zone="UTC")
    assert found.totals["difference"].to_list() == [-value for value in back.totals["difference"]]
    for currency, difference in found.totals.select("currency", "difference").iter_rows():
        for frame in (found.groups, found.charges):
            assert frame.filter(currency=currency)["effect"].sum() == difference
    return found


def causes(found: RunDiff) -> list[tuple[str, str, str]]:
    """Cause, effect, detail of each group."""
    return [
        (cause, f"{effect.normalize():f}", detail)
        for cause, effect, detail in found.groups.select("cause", "effect", "detail").iter_rows()
    ]


OTHER_FILE = {"usage": {"usage/a.parquet": "aa", "usage/b.parquet": "b2", "usage/c.parquet": "cc"}}
FILES = "usage/b.parquet: changed; usage/c.parquet: new"
TWO_PRICES = {"prices": prices(price(), price("vm-2", "0.20"))}

CASES = {
    # name: (charges before, charges after, inputs after, tables before, tables after, causes)
    "nothing": ([charge()], [charge()], {}, {}, {}, []),
    "more usage": (
        [charge()], [charge(usage_quantity="36", cost="3.60")], OTHER_FILE, {}, {}, [("usage", "1.2", FILES)],
    ),
    "new resource": ([charge()], [charge(), charge("vm-2")], OTHER_FILE, {}, {}, [("usage", "2.4", FILES)]),
    "resource that is gone": ([charge(), charge("vm-2")], [charge()], OTHER_FILE, {}, {}, [("usage", "-2.4", FILES)]),
    "dearer price": (
        [charge()], [charge(contracted_unit_price="0.15", cost="3.60")],
        books("prices"), {}, {"prices": prices(price(unit_price="0.15"))},
        [("price", "1.2", "vm-1: unit_price 0.1 → 0.15")],
    ),
    "another price version": (
        [charge()], [charge(price_id="vm-2", contracted_unit_price="0.20", cost="4.80")],
        books("prices"), {}, TWO_PRICES, [("price", "2.4", "vm-1 → vm-2: 0.1 → 0.2")],
    ),
    "price with another name only": (
        [charge()], [charge(price_id="vm-2")],
        books("prices"), {}, {"prices": prices(price("vm-2"))}, [("price", "0", "vm-1 → vm-2")],
    ),
    "usage that had no price": (
        [], [charge()], books("prices"), {"prices": prices()}, {}, [("price", "2.4", "no price → vm-1")],
    ),
    "cap of a price": (
        [charge()], [charge(), deduction("cap", None, "-0.40")],
        books("prices"), {}, {"prices": prices(price(cap=D(2)))}, [("cap", "-0.4", "")],
    ),
    "price and usage": (  # 36 hours at 0.20 after 24 at 0.10: 12 hours at the former price, the rest is the price
        [charge()], [charge(usage_quantity="36", contracted_unit_price="0.20", cost="7.20")],
        OTHER_FILE | books("prices"), {}, {"prices": prices(price(unit_price="0.20"))},
        [("price", "3.6", "vm-1: unit_price 0.1 → 0.2"), ("usage", "1.2", FILES)],
    ),
    "tiers that other usage moved": (
        [charge(), charge("vm-2")],
        [charge(cost="2.00"), charge("vm-2", usage_quantity="48", cost="4.80")],
        OTHER_FILE, {}, {}, [("usage", "2", FILES)],
    ),
    "exchange rate": (
        [charge(exchange_rate="1.1")], [charge(exchange_rate="1.2", contracted_unit_price="0.12", cost="2.88")],
        books("fx_rates"), {}, {}, [("exchange rate", "0.48", "")],
    ),
    "project that moved": (
        [charge(project_id="p")], [charge(project_id="p", billing_account_id="globex", account_id="globex")],
        books("projects"), {}, {}, [("move", "-2.4", "to globex"), ("move", "2.4", "from acme")],
    ),
    "resource that moved to another project": (
        [charge(project_id="p")], [charge(project_id="q")],
        OTHER_FILE, {}, {}, [("move", "0", "from project p; to project q")],
    ),
    "payer that changed": (
        [charge()], [charge(billing_account_id="globex")],
        books("accounts"), {}, {}, [("move", "-2.4", "to payer globex"), ("move", "2.4", "from payer acme")],
    ),
    "same resource under other tags is no move": (
        [charge(tags='{"a":"1"}')], [charge(tags='{"a":"2"}')], OTHER_FILE, {}, {}, [("usage", "0", FILES)],
    ),
    "discount that changed": (
        [charge(), deduction("discount", "spring", "-0.24")], [charge(), deduction("discount", "spring", "-0.12")],
        books("discounts"), {"discounts": discounts("10")}, {"discounts": discounts("5")},
        [("discount", "0.12", "spring: percent 10 → 5")],
    ),
    "discount of more usage": (
        [charge(), deduction("discount", "spring", "-0.24")],
        [charge(usage_quantity="48", cost="4.80"), deduction("discount", "spring", "-0.48")],
        OTHER_FILE, {"discounts": discounts("10")}, {"discounts": discounts("10")},
        [("usage", "2.4", FILES), ("discount", "-0.24", "spring: what it applies to changed")],
    ),
    "commitment, credit, fee and adjustment": (
        [charge()],
        [charge(), deduction("commitment", "c1", "5"), deduction("credit", "k1", "-3"),
         deduction("recurring", "f1", "2"), deduction("adjustment", "a1", "-1")],
        books("commitments", "recurring", "adjustments") | {"credits": "1"}, {}, {},
        [("commitment", "5", "c1: what it applies to changed"), ("credit", "-3", "k1: what it applies to changed"),
         ("recurring", "2", "f1: what it applies to changed"), ("adjustment", "-1", "a1: what it applies to changed")],
    ),
    "correction of a closed month": (
        [charge()], [charge(), deduction("correction", None, "1", corrects_period="2026-09")],
        {"corrections": {"2026-09": "k"}}, {}, {}, [("correction", "1", "of 2026-09")],
    ),
    "rounding": (
        [charge(cost="2.404"), deduction("rounding", None, "-0.004")],
        [charge(cost="2.406", usage_quantity="25"), deduction("rounding", None, "0.004")],
        OTHER_FILE, {}, {}, [("rounding", "0.008", ""), ("usage", "0.002", FILES)],
    ),
    "SKU with another divisor": (
        [charge()], [charge(pricing_quantity="12", cost="1.20")], books("skus"), {}, {}, [("book", "-1.2", "skus")],
    ),
    "account that was added to the book": (
        [], [charge()], books("accounts"), {}, {}, [("book", "2.4", "accounts")],
    ),
    "configuration": (
        [charge()], [charge(cost="2.41")],
        {"configuration": "1", "rating_configuration": "1"}, {}, {}, [("configuration", "0.01", "")],
    ),
    "another version": ([charge()], [charge(cost="2.41")], {"code": "0.2.0"}, {}, {}, [("code", "0.01", "0.1.0 → 0.2.0")]),
    "nothing that is known of": ([charge()], [charge(cost="2.41")], {}, {}, {}, [("unknown", "0.01", "")]),
    "records of the same id in another month": (
        [charge(), charge("vm-2")], [charge()], {"record_ids": [1, "x"]}, {}, {}, [("usage", "-2.4", "")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_difference_has_a_cause(name):
    before, after, told, tables_before, tables_after, expected = CASES[name]
    assert causes(compare(run(before, **tables_before), run(after, told, **tables_after))) == expected


def test_charges_are_counted_as_added_removed_and_changed():
    found = compare(
        run([charge(), charge("old"), charge("same"), charge("usd", currency="USD", cost="1")]),
        run([charge(usage_quantity="25", cost="2.5"), charge("new"), charge("newer"), charge("same"),
             charge("usd", currency="USD", cost="1")], OTHER_FILE),
    )  # fmt: skip
    assert found.totals.to_dicts() == [
        {"currency": "EUR", "before": D("7.2"), "after": D("9.7"), "difference": D("2.5"), "added": 2, "removed": 1,
         "changed": 1},
        {"currency": "USD", "before": D(1), "after": D(1), "difference": D(0), "added": 0, "removed": 0, "changed": 0},
    ]  # fmt: skip
    assert dict(found.charges.select("resource_id", "status").iter_rows()) == {
        "new": "added", "newer": "added", "old": "removed", "vm-1": "changed"
    }  # fmt: skip


def test_largest_difference_comes_first_whatever_its_sign():
    found = compare(
        run([charge(), charge("a", sku_id="disk", cost="9")]),
        run([charge(usage_quantity="25", cost="2.5"), charge("b", account_id="globex", cost="4")], OTHER_FILE),
    )
    assert found.groups.select("account_id", "sku_id", "effect").rows() == [
        ("acme", "disk", D(-9)), ("globex", "vm", D(4)), ("acme", "vm", D("0.1"))
    ]  # fmt: skip


def test_day_that_begins_later_is_the_same_day():
    """A charge starts with its first record; that an earlier one came late makes no other charge of it."""
    start = FIRST + timedelta(hours=20)
    found = compare(run([charge(usage_quantity="4", cost="0.4", charge_start=start)]), run([charge()], OTHER_FILE))
    assert found.charges.select("status", "day", "quantity_before", "quantity_after", "effect").rows() == [
        ("changed", date(2026, 10, 1), D(4), D(24), D(2))
    ]


def test_days_are_those_of_the_payer():
    """14:00 and 15:00 UTC are one day in UTC, and two in Tokyo."""
    rows = [charge(charge_start=FIRST + timedelta(hours=14)), charge(charge_start=FIRST + timedelta(hours=15))]
    tables = {"accounts": accounts("Asia/Tokyo", None)}
    found = compare(run([], **tables), run(rows, OTHER_FILE, **tables))
    assert found.charges["day"].to_list() == [date(2026, 10, 1), date(2026, 10, 2)]
    assert compare(run([]), run(rows, OTHER_FILE)).charges["day"].to_list() == [date(2026, 10, 1)]


def test_prices_of_one_day_are_one_row_that_names_them():
    before = [charge(), charge(price_id="vm-2", contracted_unit_price="0.20", usage_quantity="1", cost="0.20")]
    after = [charge(), charge(price_id="vm-2", contracted_unit_price="0.20", usage_quantity="2", cost="0.40")]
    (row,) = compare(run(before), run(after, OTHER_FILE)).charges.to_dicts()
    assert (row["price_ids_after"], row["unit_price_after"], row["quantity_after"]) == ("vm-1 vm-2", None, D(26))


def test_nothing_against_nothing():
    found = compare(run([]), run([]))
    assert (found.totals.height, found.groups.height, found.charges.height) == (0, 0, 0)


@pytest.mark.parametrize(
    ("after", "told"),
    [
        ({}, []),
        (OTHER_FILE, ["usage/b.parquet: changed", "usage/c.parquet: new"]),
        ({"usage": {"usage/a.parquet": "aa"}}, ["usage/b.parquet: gone"]),
        ({"usage": {"usage/a.parquet": "aa", "usage/renamed.parquet": "bb"}}, []),
        (books("prices", "accounts"), ["book: accounts", "book: prices"]),
        ({"credits": "1"}, ["book: credits"]),
        ({"record_ids": [1, "x"]}, ["records of the same record_id in files of other months"]),
        ({"configuration": "1"}, ["ratemill.toml"]),
        ({"code": "0.2.0"}, ["ratemill 0.1.0 → 0.2.0"]),
        ({"corrections": {"2026-09": "k"}}, ["earlier periods: what was closed, drawn on credits, or corrected"]),
    ],
)
def test_inputs_that_differ_are_told_in_words(after, told):
    assert changed_inputs(inputs(), inputs(**after)).sentences() == told
    assert (changed_inputs(inputs(), inputs(**after)) == InputChanges()) == (not told)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ([price()], [price()], {}),
        ([price()], [price(unit_price="0.2")], {"vm-1": "unit_price 0.1 → 0.2"}),
        ([price()], [price(cap=D(5), region="eu")], {"vm-1": "region (none) → eu, cap (none) → 5"}),
        ([price()], [], {"vm-1": "gone"}),
        ([], [price()], {"vm-1": "new"}),
        ([price(up_to=D(10)), price()], [price(up_to=D(10)), price(up_to=D(20)), price()], {"vm-1": "2 rows → 3 rows"}),
        (
            [price(up_to=D(10)), price(unit_price="0.05")],
            [price(up_to=D(10)), price(unit_price="0.04")],
            {"vm-1": "unit_price 0.05 → 0.04"},
        ),
        ([price(**{"attr.os": "linux"})], [price(**{"attr.os": "windows"})], {"vm-1": "attr.os linux → windows"}),
        ([price()], [price(**{"attr.os": "linux"})], {"vm-1": "attr.os (none) → linux"}),
    ],
)
def test_rows_of_the_book_are_compared_by_their_id(before, after, told):
    assert changed_rows("prices", prices(*before), prices(*after)) == told
