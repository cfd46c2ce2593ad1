"""What must hold of every bill, whatever the prices: asked of the engine alone, by sums that are not the engine's own."""

from __future__ import annotations

import io
import os
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from engine import bill, bill_each
from reference.model import Account, Book, PriceTier, Sku, Tax, Usage, World
from reference.quantity import deduplicate
from reference.rating import rate_month
from strategies import bounds, money, neighbours, quantities, side_by_side, worlds

pytestmark = pytest.mark.slow

D = Decimal
TABLES = ("charges", "unpriced", "invoices", "lines", "tax_lines")
some_worlds = neighbours("everything", most=5).map(side_by_side)
MANY = int(os.environ.get("WORLDS", "0")) // 400
"""`make worlds` asks about more of everything."""
examples = settings(max_examples=max(5, MANY))


def assert_same(one, other, tables=TABLES):
    for name in tables:
        assert_frame_equal(getattr(one, name), getattr(other, name))


# Order, files, repetition --------------------------------------------------------------------------------------------


@given(some_worlds, st.integers(1, 4), st.randoms(use_true_random=False))
@examples
def test_neither_the_order_of_records_nor_their_files_matter(world, files, chance):
    mixed = replace(world, usage=tuple(chance.sample(world.usage, len(world.usage))))
    one, other = bill(world), bill(mixed, files=files, by_day=True)
    assert_same(one, other)
    assert {name: one.facts[name] for name in COUNTED} == {name: other.facts[name] for name in COUNTED}


COUNTED = (
    "rows_in",
    "rows_rejected",
    "rows_duplicate",
    "rows_billed",
    "rows_other_periods",
    "rows_unpriced",
    "charges",
)


@given(some_worlds, st.randoms(use_true_random=False))
@examples
def test_the_order_of_the_books_rows_does_not_matter(world, chance):
    tables = {name: tuple(chance.sample(rows, len(rows))) for name, rows in vars(world.book).items()}
    assert_same(bill(world), bill(replace(world, book=Book(**tables))))


@given(some_worlds)
@examples
def test_the_same_inputs_give_the_same_bytes(world):
    once, again = (_bytes(bill(world)) for _ in range(2))
    assert once == again


def _bytes(engine):
    files = []
    for name in TABLES:
        file = io.BytesIO()
        getattr(engine, name).rechunk().write_parquet(file)
        files.append(file.getvalue())
    return files


# Sums ----------------------------------------------------------------------------------------------------------------


@given(some_worlds)
@examples
def test_every_row_is_billed_rejected_a_duplicate_or_of_another_month(world):
    facts = bill(world).facts
    _, copies, conflicts = deduplicate(world.usage)
    assert facts["rows_in"] == len(world.usage)
    assert (facts["rows_duplicate"], facts["rows_rejected"]) == (len(copies), len(conflicts))
    parts = ("rows_billed", "rows_rejected", "rows_duplicate", "rows_other_periods", "rows_filtered")
    assert sum(facts[name] for name in parts) == len(world.usage)


def added_up(rows, keys, value):
    """Sum of ``value`` per ``keys``, in Python."""
    found = defaultdict(Decimal)
    for row in rows.iter_rows(named=True):
        found[tuple(row[key] for key in keys)] += row[value] or 0
    return {key: total for key, total in found.items() if total}


LEVELS = (
    ["invoice_id"],
    ["invoice_id", "account_id"],
    ["invoice_id", "account_id", "project_id"],
    ["invoice_id", "sku_id"],
    ["invoice_id", "account_id", "project_id", "sku_id", "region", "price_id"],
)


@given(some_worlds)
@examples
def test_charges_add_up_to_lines_and_lines_to_invoices_at_every_level(world):
    engine = bill(world)
    for level in LEVELS:
        assert added_up(engine.charges, level, "cost") == added_up(engine.lines, level, "amount")
    by_invoice = added_up(engine.charges, ["invoice_id"], "cost")
    assert by_invoice == added_up(engine.invoices, ["invoice_id"], "untaxed_amount")
    assert by_invoice == added_up(engine.tax_lines, ["invoice_id"], "base_amount")
    assert added_up(engine.tax_lines, ["invoice_id"], "tax_amount") == added_up(
        engine.invoices, ["invoice_id"], "tax_amount"
    )
    for invoice in engine.invoices.iter_rows(named=True):
        assert invoice["total_amount"] == invoice["due_amount"] == invoice["untaxed_amount"] + invoice["tax_amount"]
    assert engine.charges["invoice_id"].unique().sort().to_list() == engine.invoices["invoice_id"].sort().to_list()


@given(some_worlds)
@examples
def test_charges_hold_all_usage_of_the_month(world):
    """A second road to the quantity: the records that were no duplicates, by SKU, in the months of their payers."""
    engine = bill(world)
    months = [engine, *(bill(replace(world, period=period)) for period in around(world.period))]
    found = defaultdict(Decimal)
    for month in months:
        for frame, column in ((month.charges, "usage_quantity"), (month.unpriced, "quantity")):
            for key, quantity in added_up(frame, ["sku_id"], column).items():
                found[key] += quantity
    kept, _, _ = deduplicate(world.usage)
    metered = defaultdict(Decimal)
    for record in kept:
        metered[record.sku_id,] += record.quantity
    assert {key: total for key, total in metered.items() if total} == dict(found)


def around(period):
    """The months before and after: usage of a month's ends lies there in other zones."""
    year, month = map(int, period.split("-"))
    index = year * 12 + month - 1
    return [f"{other // 12}-{other % 12 + 1:02d}" for other in (index - 1, index + 1)]


# Quantities and prices -----------------------------------------------------------------------------------------------


@given(worlds("everything"), st.data())
@examples
def test_splitting_a_record_changes_no_total(world, data):
    kept, _, _ = deduplicate(world.usage)
    if not kept:
        return
    skus = tuple(replace(sku, record_increment=None) for sku in world.book.skus)
    whole = replace(world, book=replace(world.book, skus=skus), usage=tuple(kept))
    chosen = data.draw(st.sampled_from(kept))
    part = (chosen.quantity * data.draw(st.integers(0, 10)) / 10).quantize(D("1e-12"))
    parts = [
        replace(chosen, quantity=part, record_id="part-1"),
        replace(chosen, quantity=chosen.quantity - part, record_id="part-2"),
    ]
    split = replace(whole, usage=(*(record for record in kept if record is not chosen), *parts))
    assert_same(bill(whole), bill(split), ("charges", "invoices", "lines", "tax_lines"))


@given(worlds("everything"), st.sampled_from([D(0), D("0.5"), D(3)]))
@examples
def test_a_tighter_cap_never_raises_a_bill(world, cap):
    # In one currency: where a rate moves between two versions, less of the one can leave more of a dearer other.
    prices = tuple(replace(row, minimum=None) for row in world.book.prices)
    tighter = tuple(replace(row, cap=cap if row.cap is None else min(row.cap, cap)) for row in prices)
    before, after = (
        bill(replace(world, book=replace(world.book, prices=rows, fx_rates=()))) for rows in (prices, tighter)
    )
    for of_before, of_after in zip(unrounded(before), unrounded(after), strict=True):
        assert of_after <= of_before


def unrounded(engine):
    """Exact cost of each invoice."""
    costs = added_up(engine.charges.filter(pl.col("charge_kind") != "rounding"), ["invoice_id"], "cost")
    return [costs.get((invoice_id,), D(0)) for invoice_id in engine.invoices["invoice_id"]]


@st.composite
def graduated_prices(draw):
    """Tiers of any bounds, prices, fees and packages."""
    closed = sorted(draw(st.lists(bounds(), unique=True, max_size=2)))
    return [
        PriceTier(
            price_id="p",
            sku_id="s",
            mode="graduated",
            up_to=up_to,
            unit_price=draw(money()),
            flat_fee=draw(money()),
            package_size=draw(st.none() | bounds()),
        )
        for up_to in [*closed, None]
    ]


@given(graduated_prices(), st.lists(quantities(), min_size=2, max_size=12))
@settings(max_examples=max(10, MANY))
def test_a_graduated_price_costs_more_the_more_is_used(tiers, amounts):
    worlds_of_one = [plain_world(tiers, amount) for amount in sorted(amounts)]
    costs = [unrounded(engine)[0] for engine in bill_each(worlds_of_one)]
    assert costs == sorted(costs)
    assert all(cost >= 0 for cost in costs)


def plain_world(prices, *amounts):
    book = Book(
        accounts=(Account(account_id="a"),),
        skus=(Sku(sku_id="s"),),
        prices=tuple(prices),
        taxes=(Tax(tax_code="none", country="US", rate=D(0), kind="outside_scope"),),
    )
    start = datetime(2026, 10, 5, tzinfo=UTC)
    usage = tuple(
        Usage(account_id="a", sku_id="s", usage_start=start.replace(hour=hour), quantity=amount)
        for hour, amount in enumerate(amounts)
    )
    return World(book=book, usage=usage, period="2026-10")


@given(graduated_prices(), st.lists(quantities(), min_size=2, max_size=6), st.sampled_from(["day", "hour"]))
@settings(max_examples=max(10, MANY))
def test_how_a_month_is_cut_does_not_change_what_tiers_cost(tiers, amounts, detail):
    """Charges of days and of hours add up to F of the month's quantity, to the 18th place."""
    parts = replace(plain_world(tiers, *amounts), detail=detail)
    whole = plain_world(tiers, sum(amounts))
    (of_parts,), (of_whole,) = (unrounded(engine) for engine in bill_each([parts, whole]))
    assert of_parts == of_whole


def test_laws_are_not_empty():
    """The worlds above have bills: a law about nothing holds of anything."""
    found = []

    @given(some_worlds)
    @settings(max_examples=8, database=None, derandomize=True)
    def count(world):
        found.append(len(rate_month(world).charges))

    count()
    assert sum(1 for charges in found if charges) >= 4
    with pytest.raises(AssertionError):
        assert_same(
            bill(plain_world([PriceTier(price_id="p", sku_id="s", unit_price=D(1))], D(1))),
            bill(plain_world([PriceTier(price_id="p", sku_id="s", unit_price=D(2))], D(1))),
        )
