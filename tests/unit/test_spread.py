"""Shares by largest remainder: tables of worked examples, and the laws for any rows."""

from decimal import Decimal
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratemill.invoicing.spread import minor_units, percent_of, spread, to_amount, to_whole
from ratemill.money import AMOUNT, PRICE

SPREADS = [  # (total, bases, shares, why)
    (100, [100, 100, 100], [34, 33, 33], "33.3 each; the unit that is left goes to the first line"),
    (101, [100, 100, 100], [34, 34, 33], "two are left: the first two lines"),
    (1, [5, 5, 5, 5], [1, 0, 0, 0], "less than a unit each"),
    (2, [5, 5, 5, 5], [1, 1, 0, 0], "half a unit each: all remainders are equal"),
    (10, [100, 200, 300], [2, 3, 5], "1.67, 3.33, 5: the largest remainder is the first's"),
    (10, [300, 200, 100], [5, 3, 2], "5, 3.33, 1.67: the same whatever the line number"),
    (9, [1, 8], [1, 8], "everything"),
    (0, [1, 8], [0, 0], "nothing"),
    (7, [7], [7], "alone"),
    (1, [1, 10**20], [0, 1], "a line of next to nothing gets nothing"),
    (10**22, [10**23 - 1, 1], [10**22, 0], "products of 45 digits on the way: 9999999999999999999999.9 and 0.1"),
    (10**23 + 1, [5 * 10**22, 5 * 10**22 + 1], [5 * 10**22, 5 * 10**22 + 1], "the whole of the largest amounts"),
]  # fmt: skip


def rows_of(*groups):
    """(total, bases) per group as a frame."""
    rows = [
        {"group": f"invoice-{number:03}", "line_number": line, "base": base, "total": total}
        for number, (total, bases) in enumerate(groups)
        for line, base in enumerate(bases, start=1)
    ]
    schema = {"group": pl.String, "line_number": pl.Int32, "base": pl.Int128, "total": pl.Int128}
    return pl.DataFrame(rows, schema=schema)


def shares(frame):
    return spread(frame).sort("group", "line_number")["share"].to_list()


@pytest.mark.parametrize(("total", "bases", "expected", "why"), SPREADS)
def test_an_amount_is_spread_by_largest_remainder(total, bases, expected, why):
    assert shares(rows_of((total, bases))) == expected, why


def test_every_invoice_is_spread_for_itself_in_one_go():
    groups = [(total, bases) for total, bases, _, _ in SPREADS]
    assert shares(rows_of(*groups)) == [share for _, _, expected, _ in SPREADS for share in expected]


def test_without_rows_there_is_nothing_to_spread():
    assert spread(rows_of()).columns == [*rows_of().columns, "share"]


def test_amounts_beyond_every_decimal_are_refused():
    with pytest.raises(OverflowError, match="decimal amounts"):
        spread(rows_of((1, [10**24])))


amounts = st.integers(1, 10**4) | st.integers(1, 10**14) | st.integers(1, 10**22)


@st.composite
def spreads(draw):
    bases = draw(st.lists(amounts, min_size=1, max_size=12))
    return draw(st.integers(0, sum(bases)) | st.just(sum(bases))), bases


@settings(max_examples=150, deadline=None)
@given(st.lists(spreads(), min_size=1, max_size=4))
def test_shares_add_up_lie_next_to_the_exact_share_and_are_never_above_the_base(groups):
    found = iter(shares(rows_of(*groups)))
    for total, bases in groups:
        mine = [next(found) for _ in bases]
        assert sum(mine) == total
        for share, base in zip(mine, bases, strict=True):
            assert abs(share - Fraction(total * base, sum(bases))) < 1
            assert 0 <= share <= base


@settings(max_examples=80, deadline=None)
@given(st.lists(spreads(), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(groups, random):
    frame = rows_of(*groups)
    order = list(range(frame.height))
    random.shuffle(order)
    assert shares(frame[order]) == shares(frame)


@settings(max_examples=80, deadline=None)
@given(spreads())
def test_a_larger_base_never_gets_less(group):
    total, bases = group
    mine = shares(rows_of((total, bases)))
    for first, base in enumerate(bases):
        for second, other in enumerate(bases):
            if base > other:
                assert mine[first] >= mine[second]


PERCENTS = [  # (base in minor units, percent, result)
    (100, "10", 10), (105, "10", 11), (104, "10", 10), (5, "10", 1), (4, "10", 0), (1, "100", 1), (0, "50", 0),
    (3, "33.333333333333", 1), (10**24 - 1, "100", 10**24 - 1), (3, "0.000000000001", 0), (1, "50", 1), (3, "50", 2),
]  # fmt: skip


@pytest.mark.parametrize(("base", "percent", "expected"), PERCENTS)
def test_a_half_of_a_minor_unit_is_rounded_up(base, percent, expected):
    frame = pl.DataFrame({"base": [base], "percent": [Decimal(percent)]}, schema={"base": pl.Int128, "percent": PRICE})
    assert frame.select(percent_of(pl.col("base"), pl.col("percent"))).item() == expected


MINOR_UNITS = [("JPY", "105", 105), ("EUR", "1.05", 105), ("KWD", "0.105", 105), ("CLF", "0.0105", 105),
               ("EUR", "-1.05", -105), ("JPY", "7.9", 7)]  # fmt: skip


@pytest.mark.parametrize(("currency", "amount", "whole"), MINOR_UNITS)
def test_amounts_are_counted_in_the_minor_unit_of_their_currency(currency, amount, whole):
    frame = pl.DataFrame({"currency": [currency], "amount": [Decimal(amount)]}, schema_overrides={"amount": AMOUNT})
    counted = frame.join(minor_units(frame["currency"]), on="currency").with_columns(whole=to_whole("amount"))
    assert counted["whole"].to_list() == [whole]
    back = counted.select(to_amount("whole"))
    assert back.dtypes == [AMOUNT]
    if amount != "7.9":
        assert back.item() == Decimal(amount)
