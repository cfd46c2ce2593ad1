"""F(Q) in integers: what a quantity costs under one price version. Bills with tiers: test_engine_cases.py."""

from decimal import Decimal

import pytest

from ratemill.rating.tiers import Tier, Tiers

ONE = 10**12
"""1, in the units of quantities, prices and fees."""


def units(text):
    return None if text is None else int(Decimal(text) * ONE)


def tiers(*rows):
    """(up to, unit price, flat fee, package size) each."""
    return [Tier(units(up_to), units(unit), units(flat), units(package)) for up_to, unit, flat, package in rows]


def cost(text):
    return int(Decimal(text) * 10**18)


FEES = tiers(("10", "10", "2", None), (None, "5", "3", None))
PACKAGES = tiers(("10", "0", "0", None), ("25", "3", "0", "10"), (None, "7", "1", "4"))

COSTS = [  # (tiers, quantity, graduated, volume, why)
    (FEES, "0", "0", "0", "nothing used, nothing due"),
    (FEES, "0.000000000001", "2.00000000001", "2.00000000001", "the smallest quantity enters the first tier"),
    (FEES, "10", "102", "102", "a bound is inclusive"),
    (FEES, "10.000000000001", "105.000000000005", "53.000000000005", "just above it, the next tier's fee is due"),
    (FEES, "12", "115", "63", "102 + 3 + 2 × 5; or 3 + 12 × 5"),
    (PACKAGES, "10", "0", "0", "a free allowance"),
    (PACKAGES, "10.5", "3", "6", "a started package is a whole one: 0.5 in one of 10; or 10.5 in two"),
    (PACKAGES, "25", "6", "9", "15 in two packages; or 25 in three"),
    (PACKAGES, "26", "14", "50", "6 + 1 + one package of 4; or 1 + seven packages"),
]


@pytest.mark.parametrize(("rows", "quantity", "graduated", "volume", "why"), COSTS)
def test_costs(rows, quantity, graduated, volume, why):
    priced = Tiers(rows, flat_at_zero=False)
    assert priced.graduated(units(quantity)) == cost(graduated), why
    assert priced.volume(units(quantity)) == cost(volume), why


@pytest.mark.parametrize("mode", [Tiers.graduated, Tiers.volume])
def test_the_first_fee_is_due_at_zero_only_where_the_price_says_so(mode):
    due, free = Tiers(FEES, flat_at_zero=True), Tiers(FEES, flat_at_zero=False)
    assert (mode(due, 0), mode(free, 0)) == (cost("2"), 0)
    assert mode(due, ONE) == mode(free, ONE) == cost("12")


ROUNDED = [  # (price, quantity, cost): 24 decimals become 18, half-even
    ("0.000000000001", "0.0000005", "0"),
    ("0.000000000001", "0.0000015", "0.000000000000000002"),
    ("0.000000000001", "0.000000500001", "0.000000000000000001"),
    ("0.333333333333", "0.333333333333", "0.111111111110888889"),
]


@pytest.mark.parametrize(("price", "quantity", "expected"), ROUNDED)
def test_a_cost_is_rounded_once_half_even(price, quantity, expected):
    priced = Tiers(tiers((None, price, "0", None)), flat_at_zero=False)
    assert priced.graduated(units(quantity)) == cost(expected)
    assert priced.volume(units(quantity)) == cost(expected)


def test_two_tiers_are_rounded_together_and_not_apart():
    rows = tiers(("0.0000005", "0.000000000001", "0", None), (None, "0.000000000001", "0", None))
    assert Tiers(rows, flat_at_zero=False).graduated(units("0.000001")) == cost("0.000000000000000001")
