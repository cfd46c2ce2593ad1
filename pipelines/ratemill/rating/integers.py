"""Arithmetic that needs more than 38 digits on the way: Python's integers, and one rounding at the end.

Polars' decimals have 38 digits, which products of a cost and a quantity exceed. Groups and sums are Polars' business;
what is left (a tier walk, a share pro rata) is done here, in units of the last decimal place.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

DIGITS = 38
_LIMIT = 10**DIGITS


def to_integers(values: pl.Series) -> list[int | None]:
    """A decimal column in units of its last place: 1.5 at scale 12 is 1500000000000."""
    integers: list[int | None] = values.to_physical().to_list()
    return integers


def to_decimals(integers: Sequence[int | None], scale: int) -> pl.Series:
    """The decimal column at ``scale`` whose last places are ``integers``.

    Raises:
        OverflowError: when one has more than 38 digits.
    """
    # Polars would tell it in three ways, by size; one of them a TypeError.
    known = [value for value in integers if value is not None]
    largest = max(max(known, default=0), -min(known, default=0))
    if largest >= _LIMIT:
        raise OverflowError(f"{largest} units of 10^-{scale} have more than {DIGITS} digits")
    whole = pl.Series(integers, dtype=pl.Int128).to_frame("value")
    unit = pl.lit(f"0.{'0' * (scale - 1)}1").cast(pl.Decimal(DIGITS, scale))
    # An integer as a decimal of scale 0, times one unit of the last place: exact.
    return whole.select((pl.col("value").cast(pl.Decimal(DIGITS, 0)) * unit).cast(pl.Decimal(DIGITS, scale)))["value"]


def divide_half_even(numerator: int, denominator: int) -> int:
    """Numerator ÷ denominator (above 0) as the nearest integer, ties to the even one."""
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    if twice > denominator or (twice == denominator and quotient % 2):
        quotient += 1
    return quotient


def shares(amount: int, weights: Sequence[int]) -> list[int]:
    """``amount`` shared pro rata to ``weights`` (at least 0), each share half-even; the shares add up to it exactly.

    What rounding left over goes to the largest weight, the first of equals. Without any weight the first gets all.
    """
    whole = sum(weights)
    if len(weights) == 1 or whole == 0:
        return [amount, *([0] * (len(weights) - 1))]
    parts = []
    for weight in weights:  # as divide_half_even, without a call for every charge
        quotient, rest = divmod(amount * weight, whole)
        twice = 2 * rest
        parts.append(quotient + (twice > whole or (twice == whole and quotient % 2 == 1)))
    parts[weights.index(max(weights))] += amount - sum(parts)
    return parts


def share_out(groups: pl.Series, amounts: pl.Series, weights: pl.Series) -> pl.Series:
    """Each group's amount shared over its rows pro rata to their weights; see :func:`shares`.

    Rows of a group follow one another, in the order that decides ties, and repeat the group's amount. The result has
    the scale of ``amounts``; weights are at least 0.
    """
    parts: list[int | None] = []
    amount_of, weight_of = to_integers(amounts), to_integers(weights)
    start = 0
    for _, members in groupby(groups.to_list()):
        end = start + sum(1 for _ in members)
        parts += shares(amount_of[start] or 0, [weight or 0 for weight in weight_of[start:end]])
        start = end
    scale = amounts.dtype.scale if isinstance(amounts.dtype, pl.Decimal) else 0
    return to_decimals(parts, scale)
