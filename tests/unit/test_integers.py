"""Arithmetic beyond 38 digits: shares, ties, and the way in and out of decimal columns."""

from decimal import Decimal

import polars as pl
import pytest

from ratemill.rating.integers import divide_half_even, share_out, shares, to_decimals, to_integers

QUOTIENTS = [  # (numerator, denominator, nearest)
    (5, 2, 2), (7, 2, 4), (-5, 2, -2), (-7, 2, -4), (6, 4, 2), (10, 4, 2), (1, 3, 0), (2, 3, 1), (-1, 3, 0), (-2, 3, -1),
    (0, 7, 0), (10**80 + 1, 2, 5 * 10**79), (10**80 + 3, 2, 5 * 10**79 + 2),
]  # fmt: skip


@pytest.mark.parametrize(("numerator", "denominator", "nearest"), QUOTIENTS)
def test_ties_go_to_the_even_neighbour(numerator, denominator, nearest):
    assert divide_half_even(numerator, denominator) == nearest


SHARES = [  # (amount, weights, shares, why)
    (100, [1, 1, 1], [34, 33, 33], "what is left goes to the first of equals"),
    (10, [1, 2, 3], [2, 3, 5], "1.67, 3.33, 5"),
    (100, [1, 1, 4], [17, 17, 66], "too much was given away: the largest gives it back"),
    (-100, [1, 1, 1], [-34, -33, -33], "a refund is shared like a payment"),
    (5, [1, 1], [3, 2], "two halves of 2.5 are 2 each; the first takes the rest"),
    (7, [0, 3, 0], [0, 7, 0], "no weight, no share"),
    (7, [0, 0, 0], [7, 0, 0], "without any weight the first takes all"),
    (7, [5], [7], "alone"),
    (0, [1, 2], [0, 0], "nothing to share"),
    (10**38 - 1, [10**26, 10**26], [5 * 10**37 - 1, 5 * 10**37], "products of 64 digits on the way"),
]


@pytest.mark.parametrize(("amount", "weights", "expected", "why"), SHARES)
def test_shares_add_up(amount, weights, expected, why):
    assert shares(amount, weights) == expected, why
    assert sum(expected) == amount


def test_groups_of_rows_share_their_own_amount():
    rows = pl.DataFrame(
        {
            "group": [4, 4, 4, 9, 7, 7],
            "amount": ["1.00", "1.00", "1.00", "5.00", None, None],
            "weight": ["1.5", "1.5", "0", "2", "1", "1"],
        }
    ).with_columns(pl.col("amount").cast(pl.Decimal(38, 2)), pl.col("weight").cast(pl.Decimal(38, 12)))
    shared = share_out(rows["group"], rows["amount"], rows["weight"])
    assert shared.dtype == pl.Decimal(38, 2)
    assert shared.to_list() == [Decimal(text) for text in ("0.50", "0.50", "0", "5.00", "0", "0")]


LARGEST = 10**38 - 1


@pytest.mark.parametrize("scale", [12, 18])
def test_columns_and_integers_are_the_same_numbers(scale):
    numbers = [0, 1, -1, 5 * 10**scale, LARGEST, -LARGEST, None]
    column = to_decimals(numbers, scale)
    assert column.dtype == pl.Decimal(38, scale)
    assert to_integers(column) == numbers
    assert column.to_list()[3] == 5
    assert to_decimals([], scale).dtype == pl.Decimal(38, scale)


@pytest.mark.parametrize("number", [LARGEST + 1, -LARGEST - 1, 2**127 - 1, 2**127, -(2**127) - 1, 2**128, 10**60])
def test_more_than_38_digits_raise_and_never_wrap(number):
    with pytest.raises(OverflowError, match="more than 38 digits"):
        to_decimals([number], 18)
