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

from engine import RATED_KINDS, bill, bill_each
from reference.exact import MINOR_UNITS, to_money
from reference.model import Account, Book, Commitment, Credit, Discount, PriceTier, Sku, Tax, Usage, World
from reference.quantity import deduplicate
from reference.rating import rate_month
from strategies import bounds, money, neighbours, quantities, side_by_side, worlds

pytestmark = pytest.mark.slow

D = Decimal
TABLES = ("charges", "unpriced", "invoices", "lines", "deductions", "tax_lines", "credits", "commitments")
some_worlds = neighbours("everything", most=5).map(side_by_side)
some_deals = neighbours("deals", most=5).map(side_by_side)
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


@given(some_worlds | some_deals, st.randoms(use_true_random=False))
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
OF_LINES = {
    "amount": [*RATED_KINDS, "rounding", "recurring", "adjustment", "correction"],
    "discount_amount": ["discount"],
    "commitment_amount": ["commitment"],
    "credit_amount": ["credit"],
}
"""Columns of lines, and the kinds of charges that add up to them; shortfalls are of the kind of their discount."""


@given(some_worlds | some_deals)
@examples
def test_charges_add_up_to_lines_and_lines_to_invoices_at_every_level(world):
    engine = bill(world)
    for level in LEVELS:
        assert added_up(engine.charges, level, "cost") == added_up(engine.lines, level, "net_amount")
    shortfall = pl.when(pl.col("line_kind") == "commitment").then("amount").otherwise(D(0))
    lines = engine.lines.with_columns(
        amount=pl.col("amount") - shortfall, commitment_amount=pl.col("commitment_amount") + shortfall
    )
    for name, kinds in OF_LINES.items():
        of_kinds = engine.charges.filter(pl.col("charge_kind").is_in(kinds))
        assert added_up(of_kinds, LEVELS[-1], "cost") == added_up(lines, LEVELS[-1], name)
    for kind in ("discount", "commitment", "credit"):
        taken, keys = engine.deductions.filter(kind=kind), ["invoice_id", "line_number"]
        assert added_up(taken, keys, "amount") == added_up(engine.lines, keys, f"{kind}_amount")
    by_invoice = added_up(engine.charges, ["invoice_id"], "cost")
    assert by_invoice == added_up(engine.invoices, ["invoice_id"], "untaxed_amount")
    assert by_invoice == added_up(engine.tax_lines, ["invoice_id"], "base_amount")
    assert added_up(engine.tax_lines, ["invoice_id"], "tax_amount") == added_up(
        engine.invoices, ["invoice_id"], "tax_amount"
    )
    prepaid = added_up(engine.credits.filter(kind="prepaid"), ["invoice_id"], "amount")
    for invoice in engine.invoices.iter_rows(named=True):
        off = [invoice[name] for name in ("discount_amount", "commitment_amount", "credit_amount", "prepaid_amount")]
        assert max(off) <= 0
        assert invoice["untaxed_amount"] == invoice["subtotal_amount"] + sum(off[:3])
        assert invoice["total_amount"] == invoice["untaxed_amount"] + invoice["tax_amount"]
        assert invoice["due_amount"] == invoice["total_amount"] + invoice["prepaid_amount"]
        assert invoice["prepaid_amount"] == -prepaid.get((invoice["invoice_id"],), 0)
        assert (invoice["document"] == "credit_note") == (invoice["total_amount"] < 0)
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
    """Exact cost of the usage on each invoice."""
    costs = added_up(engine.charges.filter(pl.col("charge_kind").is_in(RATED_KINDS)), ["invoice_id"], "cost")
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


# Discounts, commitments, credits -------------------------------------------------------------------------------------


def with_deals(world, **tables):
    """The world with these discounts, commitments and credits and no others."""
    deals = {"discounts": (), "commitments": (), "credits": ()} | tables
    return replace(world, book=replace(world.book, **deals), credits_drawn={}, corrections=())


def of_invoices(engine, name):
    return dict(engine.invoices.select("invoice_id", name).iter_rows())


def minor_unit(invoice_id):
    return D(1).scaleb(-MINOR_UNITS[invoice_id[-3:]])


PERCENTS = st.sampled_from([D(100), D(50), D("12.5"), D("33.333333333333"), D("0.5")])


@given(some_deals, PERCENTS)
@examples
def test_a_percent_off_everything_is_a_percent_off_what_is_taxed(world, percent):
    """Off everything but adjustments, which are no price of anything: rounded once, before tax, spread to the cent."""
    everything = with_deals(world, discounts=(Discount(discount_id="d", percent=percent),))
    engine = bill(everything)
    assert_frame_equal(engine.lines.select(OWN), bill(with_deals(world)).lines.select(OWN))
    discounted = engine.lines.filter(pl.col("line_kind") != "adjustment")
    for (invoice_id,), base in added_up(discounted, ["invoice_id"], "amount").items():
        currency = invoice_id[-3:]
        assert of_invoices(engine, "discount_amount")[invoice_id] == -to_money(base * percent / 100, currency)
    for line in discounted.iter_rows(named=True):
        exact = line["amount"] * percent / 100
        assert abs(exact + line["discount_amount"]) < D("1.5") * minor_unit(line["invoice_id"])
    for tax in engine.tax_lines.iter_rows(named=True):
        mine = engine.lines.filter(invoice_id=tax["invoice_id"], tax_code=tax["tax_code"], tax_category=tax["category"])
        net = sum(mine["amount"]) + sum(mine["discount_amount"])
        assert tax["base_amount"] == net
        assert tax["tax_amount"] == to_money(net * tax["rate"] / 100, tax["invoice_id"][-3:])


OWN = ["invoice_id", "line_number", "line_kind", "account_id", "sku_id", "source_id", "cost", "amount", "rounding"]


@given(some_deals, PERCENTS)
@examples
def test_a_discount_in_two_halves_takes_the_same(world, percent):
    """One discount for all SKUs, or one each for two disjoint sets of them.

    Each of the three is rounded once, so the sums differ by at most one minor unit. A line's share is within one and a
    half of its exact part, so it hardly ever changes by more than one.
    """
    skus = tuple(sku.sku_id for sku in world.book.skus)
    halves = [half for half in (skus[::2], skus[1::2]) if half]
    whole = bill(with_deals(world, discounts=(Discount(discount_id="d", percent=percent, sku_ids=skus),)))
    parts = tuple(
        Discount(discount_id=f"d{number}", percent=percent, sku_ids=half) for number, half in enumerate(halves)
    )
    split = bill(with_deals(world, discounts=parts))
    other = of_invoices(split, "discount_amount")
    for invoice_id, discount in of_invoices(whole, "discount_amount").items():
        assert abs(discount - other[invoice_id]) <= minor_unit(invoice_id)
    for one, two in zip(whole.lines.iter_rows(named=True), split.lines.iter_rows(named=True), strict=True):
        assert one["amount"] == two["amount"]
        assert abs(one["discount_amount"] - two["discount_amount"]) <= 2 * minor_unit(one["invoice_id"])


@given(some_deals, st.data())
@examples
def test_a_higher_commitment_never_lowers_a_bill(world, data):
    payers = [row for row in world.book.accounts if row.billing_account_id is None]
    amounts = st.integers(0, 10**8)
    less, more = [], []
    for payer in payers:
        low, high = sorted(data.draw(st.tuples(amounts, amounts)))
        for found, units in ((less, low + 1), (more, high + 1)):
            amount = D(units).scaleb(-MINOR_UNITS[payer.currency])
            row = Commitment(
                commitment_id="c" + payer.account_id,
                account_id=payer.account_id,
                amount=amount,
                currency=payer.currency,
            )
            found.append(row)
    kept = {"discounts": world.book.discounts}
    before, after = (bill(with_deals(world, commitments=tuple(rows), **kept)) for rows in (less, more))
    for name in ("untaxed_amount", "due_amount"):
        lower, higher = of_invoices(before, name), of_invoices(after, name)
        assert set(lower) <= set(higher)
        assert all(lower[invoice_id] <= higher[invoice_id] for invoice_id in lower)
    for month in after.commitments.iter_rows(named=True):
        assert month["eligible_amount"] + month["shortfall_amount"] >= month["committed_amount"]


@given(some_deals, st.data())
@examples
def test_a_bigger_credit_never_raises_what_is_due(world, data):
    payers = [row for row in world.book.accounts if row.billing_account_id is None]
    amounts = st.integers(0, 10**8)
    less, more = [], []
    for payer in payers:
        kind = data.draw(st.sampled_from(["promotional", "prepaid"]))
        low, high = sorted(data.draw(st.tuples(amounts, amounts)))
        for found, units in ((less, low + 1), (more, high + 1)):
            found.append(
                Credit(
                    credit_id="c" + payer.account_id,
                    account_id=payer.account_id,
                    amount=D(units).scaleb(-MINOR_UNITS[payer.currency]),
                    currency=payer.currency,
                    kind=kind,
                    granted_on=datetime(2020, 1, 1, tzinfo=UTC),
                )
            )
    kept = {"discounts": world.book.discounts, "commitments": world.book.commitments}
    none, before, after = (bill(with_deals(world, credits=tuple(rows), **kept)) for rows in ((), less, more))
    dues = [of_invoices(engine, "due_amount") for engine in (none, before, after)]
    for invoice_id, without in dues[0].items():
        assert dues[2][invoice_id] <= dues[1][invoice_id] <= without
        assert dues[2][invoice_id] >= min(without, 0)
    for row in after.credits.iter_rows(named=True):
        assert 0 < row["amount"] == row["balance_before"] - row["balance_after"] <= row["balance_before"]


def test_laws_are_not_empty():
    """The worlds above have bills: a law about nothing holds of anything."""
    found = []

    @given(some_worlds)
    @settings(max_examples=8, database=None, derandomize=True)
    def count(world):
        found.append(len(rate_month(world).charges))

    count()
    assert sum(1 for charges in found if charges) >= 4
    taken = []

    @given(some_deals)
    @settings(max_examples=20, database=None, derandomize=True)
    def count_deductions(world):
        taken.extend(row.kind for row in rate_month(world).deductions)

    count_deductions()
    assert set(taken) == {"discount", "commitment", "credit"}
    with pytest.raises(AssertionError):
        assert_same(
            bill(plain_world([PriceTier(price_id="p", sku_id="s", unit_price=D(1))], D(1))),
            bill(plain_world([PriceTier(price_id="p", sku_id="s", unit_price=D(2))], D(1))),
        )
