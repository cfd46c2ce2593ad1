"""Another book: what takes the place of what, and how far a raise reaches."""

from __future__ import annotations

from decimal import Decimal

import polars as pl
import pytest

from assembled import make_book
from ratemill.book.model import Book
from ratemill.book.what_if import Raise, changed_book, overlaid, raise_factors, raised_prices, with_sources
from ratemill.tables.book import PRICES, TAXES

D = Decimal


def prices(*rows):
    """Rows of PRICES from a few values each."""
    common = {"price_list": "public", "sku_id": "vm", "currency": "EUR", "mode": "per_unit", "unit_price": "1",
              "flat_fee": "0", "scope": "account", "flat_at_zero": False, "tier_reset": False}  # fmt: skip
    whole = [dict.fromkeys(PRICES.names) | common | row for row in rows]
    for row in whole:
        for name in ("unit_price", "flat_fee", "cap", "minimum", "up_to"):
            row[name] = None if row[name] is None else D(row[name])
    return pl.DataFrame(whole, schema=PRICES.polars_schema)


@pytest.mark.parametrize(
    ("text", "name", "factor"),
    [
        ("storage=5%", "storage", "1.05"),
        ("Block Storage = 5 %", "Block Storage", "1.05"),
        ("vm=-2.5%", "vm", "0.975"),
        ("vm=+0.0000000001", "vm", "1.000000000001"),
        ("a=b=1%", "a=b", "1.01"),
        ("*=-100%", "*", "0"),
    ],
)
def test_a_raise_is_a_name_and_a_percentage(text, name, factor):
    found = Raise.parse(text)
    assert (found.name, found.factor) == (name, D(factor))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("storage", "is no raise"),
        ("storage=five", "is no raise"),
        ("=5%", "is no raise"),
        ("storage=5%%", "is no raise"),
        ("storage=1e2", "is no raise"),
        ("storage=0.00000000001%", "at most 10 decimals"),
        ("storage=-100.1%", "takes off more than the whole price"),
    ],
)
def test_anything_else_is_refused(text, told):
    with pytest.raises(ValueError, match=told):
        Raise.parse(text)


def test_the_more_specific_name_counts():
    """vm and gpu are of the service Machines and the category Compute, disk of Disks and Storage, book of Print."""
    raises = [Raise.parse(text) for text in ("*=1%", "compute=2%", "Machines=3%", "GPU=4%", "storage=5%")]
    assert raise_factors(make_book().skus, raises) == {
        "vm": D("1.03"), "gpu": D("1.04"), "disk": D("1.05"), "book": D("1.01")
    }  # fmt: skip
    assert raise_factors(make_book().skus, raises[1:3]) == {"vm": D("1.03"), "gpu": D("1.03")}
    assert raise_factors(make_book().skus, [Raise.parse("storag=5%")]) == {}


def test_every_amount_of_a_price_is_raised_and_rounded_half_even_at_12_decimals():
    given = prices({"unit_price": "0.10", "flat_fee": "2", "cap": "4", "minimum": "1"},
                   {"sku_id": "gpu", "unit_price": "3"},
                   {"unit_price": "0.000000000010", "cap": "0.000000000030"})  # fmt: skip
    raised = raised_prices(given, {"vm": D("1.05")})
    # 10 × 1.05 = 10.5 and 30 × 1.05 = 31.5 in the last place: the even neighbours are 10 and 32
    assert raised.select("unit_price", "flat_fee", "cap", "minimum").rows() == [
        (D("0.105"), D("2.1"), D("4.2"), D("1.05")),
        (D("3"), D("0"), None, None),
        (D("0.000000000010"), D("0"), D("0.000000000032"), None),
    ]
    assert raised.drop("unit_price", "flat_fee", "cap", "minimum").equals(
        given.drop("unit_price", "flat_fee", "cap", "minimum")
    )


def test_only_the_price_lists_asked_for_are_raised():
    given = prices({"price_list": "public"}, {"price_list": "gold"}, {"price_list": "silver"})
    for lists, expected in (
        ((), ["2", "2", "2"]),
        (("public",), ["2", "1", "1"]),
        (("gold", "silver"), ["1", "2", "2"]),
    ):
        raised = raised_prices(given, {"vm": D(2)}, price_lists=lists)
        assert raised["unit_price"].to_list() == [D(each) for each in expected]


def test_rows_over_others_replace_those_of_the_same_key():
    rows = [{"tax_code": "fr", "country": "FR", "category": name, "rate": D(rate), "kind": "standard"}
            for name, rate in (("standard", 20), ("reduced", 5), ("standard", 21), ("books", 2))]  # fmt: skip
    frame = pl.DataFrame([dict.fromkeys(TAXES.names) | row for row in rows], schema=TAXES.polars_schema)
    old, new = (Book.of(taxes=part).taxes for part in (frame[:2], frame[2:]))
    over = overlaid("taxes", old, new)
    assert over.select("category", "rate").rows() == [("reduced", D(5)), ("standard", D(21)), ("books", D(2))]


def test_a_price_is_replaced_with_all_its_tiers():
    """A tier that only the old version has must not stay beside the new tiers."""
    old = prices(*({"price_id": "p", "mode": "volume", "up_to": bound} for bound in ("10", "20", None)),
                 {"price_id": "q"})  # fmt: skip
    new = prices(*({"price_id": "p", "mode": "volume", "up_to": bound} for bound in ("15", None)))
    old, new = (Book.of(prices=frame).prices for frame in (old, new.with_columns(pl.lit("ssd").alias("attr.disk"))))
    over = overlaid("prices", old, new)
    assert over.select("price_id", "up_to", "attr.disk").rows() == [
        ("q", None, None), ("p", D(15), "ssd"), ("p", None, "ssd")
    ]  # fmt: skip


def test_tables_are_put_in_place_and_then_raised():
    book = make_book()
    table = book.prices.with_columns(unit_price=D(2))
    changed = changed_book(book, {"prices": table}, raises=[Raise.parse("vm=50%")])
    assert changed.prices["unit_price"].to_list() == [D(3)]
    assert changed.taxes is book.taxes
    assert changed.sha256 != book.sha256
    assert changed_book(book, {}).sha256 == book.sha256


def test_rows_without_a_place_are_given_one():
    book = with_sources(make_book(), "run 2026-10-abc")
    assert {*book.skus["source_file"]} == {"skus of run 2026-10-abc"}
    assert book.sha256 == make_book().sha256
