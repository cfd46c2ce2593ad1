"""Exact decimals: the four roundings of the contract, and nothing else that rounds.

The working precision is 150 digits. No sum or product of values with at most 38 digits reaches it, and a quotient of
such values that is no tie is further from one than 150 digits can hide, so a division followed by one rounding rounds
once in effect.
"""

from __future__ import annotations

from decimal import (
    ROUND_CEILING,
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    localcontext,
)
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

P = ParamSpec("P")
R = TypeVar("R")

ZERO = Decimal(0)
EXACT = Context(prec=150, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])

QUANTITY_PLACES = 12
COST_PLACES = 18
LARGEST_COST = Decimal(10) ** 20
"""A DECIMAL(38,18) holds amounts below this."""

MINOR_UNITS = {"USD": 2, "EUR": 2, "GBP": 2, "CHF": 2, "JPY": 0, "KWD": 3}
"""Decimals of the minor unit, ISO 4217, for the currencies that tests use."""


def exactly(function: Callable[P, R]) -> Callable[P, R]:
    """Run ``function`` with the working precision, whatever the caller's decimal context is."""

    @wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        with localcontext(EXACT):
            return function(*args, **kwargs)

    return inner


@exactly
def half_even(value: Decimal, places: int) -> Decimal:
    """``value`` rounded to ``places`` decimals, ties to the even neighbour; never a negative zero."""
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN) + ZERO


@exactly
def half_up(value: Decimal, places: int) -> Decimal:
    """``value`` rounded to ``places`` decimals, ties away from zero; never a negative zero."""
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP) + ZERO


def to_quantity(value: Decimal) -> Decimal:
    """A quantity: half-even at 12 places."""
    return half_even(value, QUANTITY_PLACES)


def to_cost(value: Decimal) -> Decimal:
    """An exact cost: half-even at 18 places.

    Raises:
        OverflowError: where a DECIMAL(38,18) could not hold it.
    """
    if abs(value) >= LARGEST_COST:
        raise OverflowError(f"{value} does not fit a DECIMAL(38,18)")
    return half_even(value, COST_PLACES)


def to_money(value: Decimal, currency: str) -> Decimal:
    """Money on an invoice: half-up at the currency's minor unit."""
    return half_up(value, MINOR_UNITS[currency])


@exactly
def whole_steps(value: Decimal, step: Decimal) -> Decimal:
    """How many whole steps cover ``value``: every started one counts."""
    return (value / step).to_integral_value(ROUND_CEILING)


@exactly
def total(values: Sequence[Decimal]) -> Decimal:
    """Exact sum."""
    return sum(values, ZERO)


@exactly
def shares(amount: Decimal, weights: Sequence[Decimal], places: int) -> list[Decimal]:
    """``amount`` shared pro rata to ``weights``, each share half-even at ``places``; they add up to it exactly.

    What rounding left over goes to the share with the largest weight, the first of equals. Without any weight the
    first share takes everything. ``amount`` itself has at most ``places`` decimals.
    """
    whole = total(weights)
    if whole == 0:
        parts = [ZERO for _ in weights]
    else:
        parts = [half_even(amount * weight / whole, places) for weight in weights]
    largest = max(range(len(weights)), key=lambda index: (weights[index], -index))
    parts[largest] += amount - total(parts)
    return parts
