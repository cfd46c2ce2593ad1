"""F(Q): what a quantity costs under one price version, counted from nothing. Rules: docs/how-we-bill.md, "Tiers".

Quantities, prices and fees are integers in units of 10^-12; costs come out in units of 10^-18. The exact cost has 24
decimals and is rounded half-even once.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from ratemill.rating.integers import divide_half_even

if TYPE_CHECKING:
    from collections.abc import Sequence

_ONE = 10**12
"""1 in units of 10^-12."""
_TO_COST = 10**6
"""Units of 10^-24 in a unit of 10^-18."""


class Tier(NamedTuple):
    """A stretch of quantity: above the former tier's bound, up to and including its own."""

    up_to: int | None
    """None: open, the last tier."""
    unit_price: int
    """Of one pricing unit, or of one package where there is a package size."""
    flat_fee: int
    package_size: int | None

    def cost(self, part: int) -> int:
        """Of a part of the quantity, in units of 10^-24, with the flat fee; a started package counts whole."""
        if self.package_size is None:
            return self.flat_fee * _ONE + part * self.unit_price
        return self.flat_fee * _ONE + -(-part // self.package_size) * _ONE * self.unit_price


class Tiers:
    """The tiers of one price version, in order."""

    def __init__(self, tiers: Sequence[Tier], *, flat_at_zero: bool) -> None:
        """``flat_at_zero``: the first flat fee is due without usage."""
        self._tiers = tiers
        self._at_zero = tiers[0].flat_fee * _TO_COST if flat_at_zero else 0
        self._lower = [0]
        self._below = [0]
        for tier in tiers:
            if tier.up_to is not None:
                self._below.append(self._below[-1] + tier.cost(tier.up_to - self._lower[-1]))
                self._lower.append(tier.up_to)

    def graduated(self, quantity: int) -> int:
        """Each tier entered adds its flat fee and the price of the part of the quantity that lies in it."""
        if quantity <= 0:
            return self._at_zero
        number = bisect_left(self._lower, quantity) - 1
        return divide_half_even(
            self._below[number] + self._tiers[number].cost(quantity - self._lower[number]), _TO_COST
        )

    def volume(self, quantity: int) -> int:
        """The tier that the quantity falls in (bounds inclusive) prices all of it, plus its flat fee."""
        if quantity <= 0:
            return self._at_zero
        return divide_half_even(self._tiers[bisect_left(self._lower, quantity) - 1].cost(quantity), _TO_COST)
