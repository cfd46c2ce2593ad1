"""Checks that a single broken file can't show: overlaps against a naive search, price versions, many rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import combinations
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratemill.book import intervals
from ratemill.book.checks import check_book
from ratemill.book.model import SOURCE_ROW, Book
from ratemill.book.prices import (
    per_unit_prices_are_plain,
    price_is_given,
    prices_do_not_overlap,
    prices_leave_no_hole,
    tiers_agree,
    tiers_are_whole,
)
from ratemill.book.windows import hours_of_the_week, minutes
from ratemill.money import PRICE, QUANTITY
from ratemill.tables.columns import INSTANT

START = datetime(2026, 10, 1, tzinfo=UTC)


def day(number: int | None) -> datetime | None:
    return None if number is None else START + timedelta(days=number)


def book_of_prices(rows: list[dict[str, Any]], windows: pl.DataFrame | None = None) -> Book:
    """Prices with what the rows leave out, one line of the file each, from line 2."""
    prices = pl.DataFrame(
        [
            {"price_id": f"p{index}", "price_list": "public", "sku_id": "s", "currency": "EUR", **row}
            for index, row in enumerate(rows)
        ],
        schema_overrides={
            "valid_from": INSTANT,
            "valid_to": INSTANT,
            "region": pl.String,
            "window": pl.String,
            "up_to": QUANTITY,
            "unit_price": PRICE,
            "flat_fee": PRICE,
            "package_size": QUANTITY,
            "cap": PRICE,
            "minimum": PRICE,
            "attr.tier": pl.String,
        },
    ).with_columns(source_file=pl.lit("book/prices.csv"), source_row=pl.int_range(2, pl.len() + 2, dtype=pl.Int64))
    return Book.of(prices=prices) if windows is None else Book.of(prices=prices, windows=windows)


WINDOWS = pl.DataFrame(
    [
        ("night", "mon tue wed thu fri sat sun", "00:00", "06:00"),
        ("night", "mon tue wed thu fri sat sun", "22:00", "24:00"),
        ("office", "mon tue wed thu fri", "08:00", "18:00"),
        ("weekend", "sat sun", "00:00", "24:00"),
    ],
    schema=["window", "days", "from_time", "to_time"],
    orient="row",
)
MEETING_WINDOWS = {frozenset({"night", "weekend"})}
"""Of the windows above, those that share an hour; worked out by hand."""


def can_hold_together(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """The rule, spelled out: equally specific, and no condition that keeps the two apart."""
    conditions = ("region", "window", "attr.tier")
    if sum(one[name] is not None for name in conditions) != sum(other[name] is not None for name in conditions):
        return False
    for name in conditions:
        if one[name] is None or other[name] is None or one[name] == other[name]:
            continue
        if name == "window" and frozenset({one[name], other[name]}) in MEETING_WINDOWS:
            continue
        return False
    return True


def at_once(one: dict[str, Any], other: dict[str, Any]) -> bool:
    def bounds(row: dict[str, Any]) -> tuple[datetime, datetime]:
        return (
            row["valid_from"] or datetime.min.replace(tzinfo=UTC),
            row["valid_to"] or datetime.max.replace(tzinfo=UTC),
        )

    (start, end), (other_start, other_end) = bounds(one), bounds(other)
    return start < end and other_start < other_end and start < other_end and other_start < end


OPTIONAL_DAY = st.none() | st.integers(0, 8)
PRICE_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "price_list": st.sampled_from(["public", "gold"]),
            "valid_from": OPTIONAL_DAY.map(day),
            "valid_to": OPTIONAL_DAY.map(day),
            "region": st.sampled_from([None, "eu", "us"]),
            "window": st.sampled_from([None, "night", "office", "weekend"]),
            "attr.tier": st.sampled_from([None, "", "a"]),
        }
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(PRICE_ROWS)
def test_overlaps_are_those_of_a_naive_search(rows: list[dict[str, Any]]) -> None:
    book = book_of_prices(rows, WINDOWS)
    naive = {
        frozenset({i, j})
        for (i, one), (j, other) in combinations(enumerate(rows), 2)
        if one["price_list"] == other["price_list"] and can_hold_together(one, other) and at_once(one, other)
    }
    # the later row of each pair: begins later, or stands further down
    order = sorted(range(len(rows)), key=lambda i: (rows[i]["valid_from"] or datetime.min.replace(tzinfo=UTC), i))
    later = {max(pair, key=order.index) for pair in naive}

    found = prices_do_not_overlap(book)

    pairs = {
        frozenset({int(finding.row or 0) - 2, int(finding.message.split("book/prices.csv:")[1].split()[0]) - 2})
        for finding in found
    }
    assert pairs <= naive
    assert {int(finding.row or 0) - 2 for finding in found} == later
    assert len(found) == len(pairs), "a pair is named once"


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("ab"), OPTIONAL_DAY, OPTIONAL_DAY), min_size=1, max_size=8))
def test_holes_are_those_of_a_naive_search(rows: list[tuple[str, int | None, int | None]]) -> None:
    spans = [(key, -1 if start is None else start, 99 if end is None else end) for key, start, end in rows]
    expected = set()
    for key, start, end in spans:
        before = [e for k, s, e in spans if k == key and s < start and s < e]
        if start < end and before and max(before) < start:
            expected.add((key, start))
    frame = pl.DataFrame(
        [(key, day(start), day(end)) for key, start, end in rows],
        schema={"key": pl.String, "valid_from": INSTANT, "valid_to": INSTANT},
        orient="row",
    )
    found = intervals.holes(intervals.with_bounds(frame), ["key"])
    assert {(spans[index][0], spans[index][1]) for index, _ in found.iter_rows()} == expected


# conditions of two prices of one SKU that are valid at the same time → whether they are ambiguous
PAIRS = [
    ({}, {}, True),
    ({}, {"region": "eu"}, False),  # the row for eu is more specific and wins
    ({"region": "eu"}, {"region": "eu"}, True),
    ({"region": "eu"}, {"region": "us"}, False),
    ({"region": "eu"}, {"attr.tier": "gold"}, True),  # both fit a gold resource in eu
    ({"region": "eu", "attr.tier": "gold"}, {"region": "eu", "window": "night"}, True),
    ({"region": "eu", "attr.tier": "gold"}, {"region": "us", "window": "night"}, False),
    ({"window": "night"}, {"window": "office"}, False),  # no hour in common
    ({"window": "night"}, {"window": "weekend"}, True),  # the small hours of Saturday are both
    ({"window": "night", "region": "eu"}, {"window": "weekend", "region": "eu"}, True),
    ({"window": "night", "region": "eu"}, {"window": "weekend", "region": "us"}, False),
    ({"price_list": "gold"}, {}, False),
    ({"currency": "USD"}, {}, False),
    ({"valid_to": day(7)}, {"valid_from": day(7)}, False),  # half-open: adjacent is fine
    ({"valid_to": day(8)}, {"valid_from": day(7)}, True),
    ({"price_id": "p"}, {"price_id": "p", "up_to": Decimal(1)}, False),  # tiers of one price
]


def test_which_prices_are_ambiguous() -> None:
    for one, other, ambiguous in PAIRS:
        found = prices_do_not_overlap(book_of_prices([one, other], WINDOWS))
        assert len(found) == ambiguous, (one, other)


def test_an_overlap_names_both_rows_and_the_order_of_rows_changes_nothing() -> None:
    rows = [{"price_id": f"v{index}", "valid_from": day(index), "valid_to": day(index + 2)} for index in range(4)]
    book = book_of_prices(rows)
    shuffled = Book.of(prices=book.prices.reverse())

    def found(book: Book) -> set[str]:
        return {str(finding) for finding in prices_do_not_overlap(book)}

    assert found(book) == found(shuffled)
    assert len(found(book)) == 3
    assert prices_do_not_overlap(book)[0].row == 3
    assert "book/prices.csv:2" in prices_do_not_overlap(book)[0].message


def test_every_hour_another_price_in_a_large_book() -> None:
    """100 000 adjacent versions are fine; one hour too long is found among them."""
    count = 100_000
    prices = pl.select(index=pl.int_range(count, dtype=pl.Int64)).select(
        price_id=pl.format("h{}", "index"),
        sku_id=pl.lit("s"),
        currency=pl.lit("EUR"),
        valid_from=pl.lit(START) + pl.duration(hours="index"),
        valid_to=pl.lit(START) + pl.duration(hours=pl.col("index") + 1 + (pl.col("index") == 777)),
        unit_price=pl.lit(Decimal("0.01")).cast(PRICE),
    ).with_columns(pl.col("valid_from", "valid_to").cast(INSTANT))  # fmt: skip
    book = Book.of(prices=prices)
    (finding,) = prices_do_not_overlap(book)
    assert "'h778'" in finding.message
    assert "'h777'" in finding.message
    assert prices_leave_no_hole(book) == []


def test_a_hole_is_between_versions_with_the_same_conditions_only() -> None:
    book = book_of_prices(
        [
            {"valid_to": day(3), "region": "eu"},
            {"valid_from": day(5), "region": "eu"},
            {"valid_to": day(3), "region": "us"},
            {"valid_from": day(3), "valid_to": day(9), "region": "us"},
            {"valid_from": day(4), "valid_to": day(6), "region": "us"},  # ends inside the one above
            {"valid_from": day(9), "region": "us"},
        ]
    )
    (finding,) = prices_leave_no_hole(book)
    assert finding.row == 3
    assert "from 2026-10-04T00:00:00Z" in finding.message
    assert "to 2026-10-06T00:00:00Z" in finding.message


def tiers(*bounds: str | None, mode: str = "graduated") -> list[dict[str, Any]]:
    return [{"price_id": "p", "mode": mode, "up_to": None if up_to is None else Decimal(up_to)} for up_to in bounds]


# tiers of a price → rules it breaks, with the lines
TIERS = [
    (tiers("10", "20", None), []),
    (tiers(None, "20", "10", mode="volume"), []),  # the order of the rows is nobody's business
    (tiers("10", "20"), [("prices.tiers.open", 3)]),
    (tiers(None, mode="per_unit"), []),
    (tiers("10", mode="per_unit"), [("prices.tiers.per_unit", 2)]),
    (tiers("10", None, mode="per_unit"), [("prices.tiers.per_unit", 2)]),
]


def test_tier_shapes() -> None:
    for rows, broken in TIERS:
        found = tiers_are_whole(book_of_prices(rows))
        assert [(finding.rule, finding.row) for finding in found] == broken, rows


def test_tiers_of_one_price_agree_on_everything_that_is_the_price() -> None:
    base = {"price_id": "p", "mode": "graduated", "region": "eu", "attr.tier": "a", "valid_from": day(0)}
    rows = [{**base, "up_to": Decimal(10)}, {**base, "up_to": Decimal(20)}]
    assert tiers_agree(book_of_prices(rows)) == []
    for change in ({"region": "us"}, {"region": None}, {"attr.tier": None}, {"valid_from": None}, {"sku_id": "t"}):
        found = tiers_agree(book_of_prices([rows[0], {**rows[1], **change}]))
        assert [(finding.row, finding.column) for finding in found] == [(3, next(iter(change)))], change
        assert "book/prices.csv:2" in found[0].message


# what a price row says besides its unit price → whether per_unit refuses it; with tiers all of it has a meaning
PER_UNIT = [
    ({}, None),
    ({"flat_fee": Decimal("0.000")}, None),  # what an empty cell stands for
    ({"flat_fee": Decimal("0.01")}, "prices.per_unit.flat_fee"),
    ({"package_size": Decimal(1)}, "prices.per_unit.package_size"),  # even of one: it rounds up
    ({"flat_at_zero": True}, "prices.per_unit.flat_at_zero"),
    ({"cap": Decimal(5), "minimum": Decimal(1), "scope": "resource", "tier_reset": True}, None),
]


def test_a_per_unit_price_has_neither_fees_nor_packages() -> None:
    for row, rule in PER_UNIT:
        for mode, expected in (("per_unit", rule), ("graduated", None), ("volume", None)):
            found = per_unit_prices_are_plain(book_of_prices([{"mode": mode, **row}]))
            assert [finding.rule for finding in found] == ([] if expected is None else [expected]), (mode, row)


def test_conditions_of_prices_as_people_read_them() -> None:
    book = book_of_prices(
        [
            {"price_id": "any", "mode": "per_unit"},
            {"price_id": "eu", "mode": "per_unit", "region": "eu"},  # a line names its region itself
            {"price_id": "night", "mode": "per_unit", "window": "night", "region": "eu", "attr.tier": "gold"},
            {"price_id": "steps", "attr.tier": "gold", "mode": "volume", "up_to": Decimal(1)},
            {"price_id": "steps", "attr.tier": "gold", "mode": "volume"},
        ]
    )
    assert book.conditions_of_prices == {"night": "night · gold", "steps": "gold"}


def test_windows_go_with_every_aggregation() -> None:
    """A maximum is shared over the charges of its month, so peak and off-peak hours may price their parts of it."""
    sku = {"service": "S", "category": "Other", "name": "s", "usage_unit": "U", "pricing_unit": "U"}
    skus = pl.DataFrame([{"sku_id": name, "aggregation": name, **sku} for name in ("sum", "max", "mean", "p95")])
    rows = [{"sku_id": name, "window": window} for name in skus["sku_id"] for window in ("office", "weekend")]
    book = Book.of(skus=skus, prices=book_of_prices(rows).prices, windows=WINDOWS)
    assert [f for f in check_book(book) if f.file == "book/prices.csv"] == []


# currency of the account, of the prices, exchange rates → whether the account is warned about
CONVERTED = [
    ("EUR", "EUR", [], False),
    ("CHF", "EUR", [], True),
    ("CHF", "EUR", [("EUR", "CHF")], False),
    ("CHF", "EUR", [("CHF", "EUR")], False),  # turned round
    ("CHF", "EUR", [("EUR", "USD"), ("USD", "CHF")], True),  # no third currency is gone through
]


def test_an_account_without_prices_in_its_currency_needs_exchange_rates() -> None:
    for currency, sold_in, pairs, warned in CONVERTED:
        account = {"account_id": "a", "name": "A", "country": "CH", "currency": currency}
        rates = [{"date": START.date(), "base": b, "quote": q, "rate": Decimal(2), "source": "s"} for b, q in pairs]
        book = Book.of(
            accounts=pl.DataFrame([account]),
            prices=book_of_prices([{"currency": sold_in}]).prices,
            **({"fx_rates": pl.DataFrame(rates).cast({"rate": PRICE})} if rates else {}),
        )
        found = [f for f in check_book(book) if f.rule == "accounts.prices_in_currency"]
        assert bool(found) == warned, (currency, pairs)
        assert not found or "fx_rates converts none" in found[0].message


def test_a_row_that_gives_no_price_is_not_free() -> None:
    given_or_not = ["flat_fee ", "unit_price ", "unit_price flat_fee ", ""]
    book = book_of_prices([{"source_defaults": text} for text in given_or_not])
    assert [finding.row for finding in price_is_given(book)] == [4]


def test_windows_in_minutes_of_the_week() -> None:
    assert [minutes(text) for text in ("00:00", "08:30", "24:00", "24:01", "8:30", "25:00", "")] == [
        0, 510, 1440, None, None, None, None,
    ]  # fmt: skip
    bits = hours_of_the_week(WINDOWS)
    assert bits["night"].bit_count() == 7 * 8 * 60
    assert bits["office"].bit_count() == 5 * 10 * 60
    assert (bits["weekend"] & bits["night"]).bit_count() == 2 * 8 * 60


def test_payers_and_taxes() -> None:
    """Which row of the taxes an account finds: by its code, else by country and state."""
    taxes = pl.DataFrame(
        [
            ("ca", "CA", None, "standard", Decimal(5)),
            ("qc", "CA", "QC", "standard", Decimal("14.975")),
            ("bc", "CA", "BC", "books", Decimal(5)),
            ("de", "DE", None, "standard", Decimal(19)),
        ],
        schema={"tax_code": pl.String, "country": pl.String, "region": pl.String, "category": pl.String, "rate": PRICE},
        orient="row",
    )
    skus = pl.DataFrame(
        {
            "sku_id": ["s", "b"],
            "service": ["S", "S"],
            "category": ["Other", "Other"],
            "name": ["s", "b"],
            "usage_unit": ["U", "U"],
            "pricing_unit": ["U", "U"],
            "tax_category": ["standard", "books"],
        }
    )
    # account, payer, country, state, tax code → findings about taxes
    cases = [
        ("in-bc", None, "CA", "BC", None, []),
        ("in-qc", None, "CA", "QC", None, ["accounts.taxable_category"]),  # no books in QC, nor in all of CA
        ("in-fr", None, "FR", None, None, ["accounts.taxable"]),
        ("in-fr-by-code", None, "FR", None, "de", ["accounts.taxable_category"]),
        ("in-fr-paid", "in-bc", "FR", None, None, []),  # does not pay
        ("no-such-code", None, "CA", "BC", "xx", ["accounts.tax_code"]),
    ]
    accounts = pl.DataFrame(
        [case[:5] for case in cases],
        schema=dict.fromkeys(["account_id", "billing_account_id", "country", "state", "tax_code"], pl.String),
        orient="row",
    ).with_columns(name=pl.lit("N"), currency=pl.lit("EUR"), source_row=pl.int_range(pl.len(), dtype=pl.Int64))
    found = check_book(Book.of(accounts=accounts, skus=skus, taxes=taxes))
    by_account = {
        account: [f.rule for f in found if f.row == row and f.rule.startswith("accounts.tax")]
        for row, account in accounts.select(SOURCE_ROW, "account_id").iter_rows()
    }
    assert by_account == {case[0]: case[5] for case in cases}


def test_an_empty_book_and_a_book_of_unknown_origin_can_be_checked() -> None:
    assert check_book(Book.of()) == []
    book = Book.of(prices=pl.DataFrame({"price_id": ["a", "b"], "sku_id": ["s", "s"], "currency": ["EUR", "EUR"]}))
    assert "another row" in next(f.message for f in check_book(book) if f.rule == "prices.overlap")
