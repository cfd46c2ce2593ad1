"""Arithmetic that shows its operands, in plain decimals.

On purpose a second road to the figures of a bill: nothing here calls the code that billed them (``rating/``,
``invoicing/``), whose rules it repeats in the words of docs/how-we-bill.md. Who has only the operands of a
:class:`Working` can compute its result again, by hand or from the JSON.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import (
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    localcontext,
)
from typing import TYPE_CHECKING, Any, Literal

from ratemill.errors import InvariantError
from ratemill.money import COST_DECIMALS, ZERO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_EXACT = Context(prec=150, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
"""No product of values with 38 digits reaches 150, and no quotient of such values that is no tie looks like one."""
HUNDRED = Decimal(100)

Operation = Literal["sum", "product", "quotient", "pro_rata", "percent", "round", "whole_steps", "smallest", "largest"]
Rounding = Literal["", "half-even", "half-up", "down", "up"]
_MINUS = "\N{MINUS SIGN}"
_SIZE_OF_A_UNIT = re.compile(r"(?:^|(?<= per ))[1-9][0-9]{3,17}(?= )")
_MODES = {"half-even": ROUND_HALF_EVEN, "half-up": ROUND_HALF_UP, "down": ROUND_FLOOR, "up": ROUND_CEILING}


@dataclass(frozen=True)
class Operand:
    """A number that goes into a working."""

    value: Decimal
    name: str = ""
    """What it is; empty where the number says it."""
    unit: str = ""
    is_count: bool = False
    """Whether it is a number of things, days for example: shown without decimals where amounts have some."""


@dataclass(frozen=True)
class Working:
    """One piece of arithmetic: operands, what is done with them, and what comes out."""

    operation: Operation
    operands: tuple[Operand, ...]
    result: Decimal
    unit: str = ""
    """Of the result: a currency, or a unit of quantity."""
    name: str = ""
    """What the result is."""
    places: int | None = None
    """Decimals it is rounded to; none: exact."""
    rounding: Rounding = ""
    at_least: int = 0
    """Decimals that amounts are shown with at least; the result is never shown with fewer than it has."""

    def recomputed(self) -> Decimal:
        """The result, from the operands alone."""
        with localcontext(_EXACT):
            value = self._exactly()
            return value if self.places is None else _rounded(value, self.places, self.rounding)

    @property
    def is_rounded(self) -> bool:
        """Whether rounding made a difference."""
        with localcontext(_EXACT):
            return self._exactly() != self.result

    def _exactly(self) -> Decimal:
        return _OPERATIONS[self.operation]([operand.value for operand in self.operands])

    @property
    def formula(self) -> str:
        """``744 Hours × 0.05 EUR per Hours = 37.20 EUR``, and how it was rounded where that made a difference."""
        values = [self._shown(operand) for operand in self.operands]
        if self.operation == "sum":
            left = values[0] + "".join(
                f" {_MINUS if operand.value < 0 else '+'} {self._shown(operand).removeprefix('-')}"
                for operand in self.operands[1:]
            )
        else:
            left = _WRITTEN[self.operation](values)
        result = measured(self.result, self.unit, self.at_least)
        if self.operation == "round":
            return f"{left} → {result}{self._how()}"
        if self.operation == "sum" and len(values) == 1 and not self.operands[0].name:
            return result + self._how()
        return f"{left} = {result}{self._how()}"

    def _how(self) -> str:
        if not self.is_rounded:
            return ""
        mode = {"half-even": "half to even", "half-up": "half up"}.get(self.rounding, self.rounding)
        return f", rounded {mode} at {self.places} decimals"

    def _shown(self, operand: Operand) -> str:
        name = f" ({operand.name})" if operand.name else ""
        at_least = 0 if operand.is_count or operand.unit == "%" else self.at_least
        return f"{measured(operand.value, operand.unit, at_least)}{name}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON; decimals stay decimals."""
        return {
            "name": self.name,
            "operation": self.operation,
            "operands": [{"name": o.name, "value": o.value, "unit": o.unit} for o in self.operands],
            "places": self.places,
            "rounding": self.rounding,
            "result": self.result,
            "unit": self.unit,
            "text": self.formula,
        }


def _product(values: Sequence[Decimal]) -> Decimal:
    result = Decimal(1)
    for value in values:
        result *= value
    return result


def _whole_steps(values: Sequence[Decimal]) -> Decimal:
    quantity, step = values
    return (quantity / step).to_integral_value(ROUND_CEILING) * step


_OPERATIONS: dict[str, Callable[[Sequence[Decimal]], Decimal]] = {
    "sum": lambda values: sum(values, ZERO),
    "product": _product,
    "quotient": lambda values: values[0] / values[1],
    "pro_rata": lambda values: values[0] * values[1] / values[2],
    "percent": lambda values: values[0] * values[1] / HUNDRED,
    "round": lambda values: values[0],
    "whole_steps": _whole_steps,
    "smallest": min,
    "largest": max,
}


_WRITTEN: dict[str, Callable[[Sequence[str]], str]] = {
    "product": " × ".join,
    "quotient": " ÷ ".join,
    "pro_rata": lambda values: f"{values[0]} × {values[1]} ÷ {values[2]}",
    "percent": " × ".join,
    "round": lambda values: values[0],
    "whole_steps": lambda values: f"{values[0]} in whole {values[1]}",
    "smallest": lambda values: f"the smallest of {', '.join(values)}",
    "largest": lambda values: f"the largest of {', '.join(values)}",
}


def work(
    operation: Operation,
    *operands: Operand | Decimal,
    name: str = "",
    unit: str = "",
    places: int | None = None,
    rounding: Rounding = "",
    at_least: int = 0,
) -> Working:
    """A working and its result."""
    named = tuple(operand if isinstance(operand, Operand) else Operand(operand) for operand in operands)
    unknown = Working(operation, named, ZERO, unit, name, places, rounding, at_least)
    return Working(operation, named, unknown.recomputed(), unit, name, places, rounding, at_least)


def exact_product(*factors: Operand | Decimal, name: str = "", unit: str = "") -> Working:
    """An exact cost: a product rounded half-even once at 18 places."""
    return work("product", *factors, name=name, unit=unit, places=COST_DECIMALS, rounding="half-even")


def must_equal(what: str, derived: Decimal, stored: Decimal | None) -> None:
    """Refuse an explanation that comes to another figure than was billed.

    Raises:
        InvariantError: naming the figure and both values.
    """
    if stored is None or derived != stored:
        told = "nothing" if stored is None else shown(stored)
        raise InvariantError(f"{what} is explained as {shown(derived)}, and {told} is stored; nothing is shown")


# ------------------------------------------------------------------------------------------------- rounding, sharing


def _rounded(value: Decimal, places: int, rounding: str) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-places), _MODES[rounding]) + ZERO


def half_even(value: Decimal, places: int) -> Decimal:
    """``value`` at ``places`` decimals, ties to the even neighbour."""
    with localcontext(_EXACT):
        return _rounded(value, places, "half-even")


def round_down(value: Decimal, places: int) -> Decimal:
    """``value`` cut off at ``places`` decimals, below zero away from it."""
    with localcontext(_EXACT):
        return value.quantize(Decimal(1).scaleb(-places), ROUND_FLOOR)


def to_cost(value: Decimal) -> Decimal:
    """An exact cost: half-even at 18 places."""
    return half_even(value, COST_DECIMALS)


def times(left: Decimal, right: Decimal) -> Decimal:
    """An exact cost of two factors: the product half-even at 18 places."""
    with localcontext(_EXACT):
        return _rounded(left * right, COST_DECIMALS, "half-even")


def divided(value: Decimal, divisor: Decimal, places: int) -> Decimal:
    """A quotient, half-even at ``places``."""
    with localcontext(_EXACT):
        return _rounded(value / divisor, places, "half-even")


def part_of(amount: Decimal, part: Decimal, whole: Decimal, places: int, rounding: Rounding = "half-even") -> Decimal:
    """Amount × part ÷ whole, rounded once."""
    with localcontext(_EXACT):
        return _rounded(amount * part / whole, places, rounding)


def total(values: Iterable[Decimal]) -> Decimal:
    """The exact sum."""
    with localcontext(_EXACT):
        return sum(values, ZERO)


def shares(amount: Decimal, weights: Sequence[Decimal], places: int) -> list[Decimal]:
    """``amount`` pro rata to ``weights``, each share half-even; what that leaves goes to the largest, first of equals.

    Without any weight the first gets all.
    """
    with localcontext(_EXACT):
        whole = sum(weights, ZERO)
        if len(weights) == 1 or whole == 0:
            return [amount, *([ZERO] * (len(weights) - 1))]
        parts = [_rounded(amount * weight / whole, places, "half-even") for weight in weights]
        parts[weights.index(max(weights))] += amount - sum(parts, ZERO)
        return parts


@dataclass(frozen=True)
class Spread:
    """One row's share of an amount that is spread by largest remainder."""

    share: Decimal
    rounded_up: bool
    """Whether it got one of the smallest units that rounding down left over."""


def spread(amount: Decimal, bases: Sequence[Decimal], places: int) -> list[Spread]:
    """``amount`` over rows pro rata to ``bases``: rounded down, the rest one by one to the largest remainders.

    Of equal remainders the first row's comes first. Amount and bases have at most ``places`` decimals, bases are above
    zero.
    """
    with localcontext(_EXACT):
        unit = Decimal(1).scaleb(-places)
        whole = sum(bases, ZERO)
        in_units = int(amount / unit)
        numerators = [in_units * int(base / unit) for base in bases]
        denominator = int(whole / unit)
        down = [numerator // denominator for numerator in numerators]
        order = sorted(range(len(bases)), key=lambda row: (-(numerators[row] % denominator), row))
        lucky = set(order[: in_units - sum(down)])
        return [Spread((down[row] + (row in lucky)) * unit, row in lucky) for row in range(len(bases))]


# -------------------------------------------------------------------------------------------------------------- tiers


@dataclass(frozen=True)
class Tier:
    """A stretch of quantity: above the former tier's bound, up to and including its own."""

    lower: Decimal
    up_to: Decimal | None
    """None: open, the last tier."""
    unit_price: Decimal
    """Of one unit, or of one package where there is a package size."""
    flat_fee: Decimal
    package_size: Decimal | None

    def price(self, part: Decimal) -> Decimal:
        """The price of a part of the quantity, without the flat fee; a started package counts whole. Not rounded."""
        with localcontext(_EXACT):
            if self.package_size is None:
                return part * self.unit_price
            return (part / self.package_size).to_integral_value(ROUND_CEILING) * self.unit_price


@dataclass(frozen=True)
class InTier:
    """What a quantity costs in one tier."""

    tier: Tier
    part: Decimal
    """The quantity that is priced here."""
    cost: Decimal
    """Not rounded."""


def graduated(tiers: Sequence[Tier], quantity: Decimal, *, flat_at_zero: bool) -> list[InTier]:
    """Each tier that is entered prices the part of the quantity in it, and adds its flat fee."""
    if quantity == 0:
        return [InTier(tiers[0], ZERO, tiers[0].flat_fee)] if flat_at_zero else []
    parts = []
    with localcontext(_EXACT):
        for tier in tiers:
            if quantity > tier.lower:
                part = (quantity if tier.up_to is None else min(quantity, tier.up_to)) - tier.lower
                parts.append(InTier(tier, part, tier.flat_fee + tier.price(part)))
    return parts


def volume(tiers: Sequence[Tier], quantity: Decimal, *, flat_at_zero: bool) -> list[InTier]:
    """The tier that the quantity ends in prices all of it, plus its flat fee."""
    if quantity == 0:
        return [InTier(tiers[0], ZERO, tiers[0].flat_fee)] if flat_at_zero else []
    tier = next(tier for tier in tiers if tier.up_to is None or quantity <= tier.up_to)
    with localcontext(_EXACT):
        return [InTier(tier, quantity, tier.flat_fee + tier.price(quantity))]


def cost_in(parts: Sequence[InTier]) -> Decimal:
    """F(Q): what the tiers come to, half-even at 18 places once."""
    with localcontext(_EXACT):
        return _rounded(sum((part.cost for part in parts), ZERO), COST_DECIMALS, "half-even")


# ------------------------------------------------------------------------------------------------------------ showing


def shown(value: Decimal, at_least: int = 0) -> str:
    """A number with all its digits: thousands apart, no zeros at the end beyond ``at_least`` decimals, no exponent."""
    text = f"{value:,f}"
    whole, _, decimals = text.partition(".")
    decimals = decimals.rstrip("0").ljust(at_least, "0")
    text = f"{whole}.{decimals}" if decimals else whole
    return text.removeprefix("-") if not value else text


def shown_unit(unit: str) -> str:
    """A unit, or a currency per unit, with thousands apart: ``EUR per 1,000,000 Tokens``."""
    return _SIZE_OF_A_UNIT.sub(lambda size: shown(Decimal(size[0])), unit)


def measured(value: Decimal, unit: str, at_least: int = 0) -> str:
    """A number and its unit: ``744 Hours``, and of a unit with a number of its own ``2.5 × 1,000,000 Tokens``."""
    if not unit:
        return shown(value, at_least)
    return f"{shown(value, at_least)}{' × ' if unit[0].isdecimal() else ' '}{shown_unit(unit)}"
