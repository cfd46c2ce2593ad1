"""F(Q): what a quantity costs under one price version, counted from nothing. Rules: docs/how-we-bill.md, "Tiers".

Quantities, prices and fees are integers in units of 10^-12; costs come out in units of 10^-18. The exact cost has 24
decimals and is rounded half-even once.
"""

from __future__ import annotations

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

    def price(self, part: int) -> int:
        """Price of a part of the quantity in units of 10^-24, without the flat fee; a started package counts whole."""
        if self.package_size is None:
            return part * self.unit_price
        return -(-part // self.package_size) * _ONE * self.unit_price


def graduated_cost(tiers: Sequence[Tier], quantity: int, *, flat_at_zero: bool) -> int:
    """Each tier entered adds its flat fee and the price of the part of the quantity that lies in it."""
    cost = tiers[0].flat_fee * _ONE if quantity == 0 and flat_at_zero else 0
    lower = 0
    for tier in tiers:
        if quantity <= lower:
            break
        upper = quantity if tier.up_to is None else min(quantity, tier.up_to)
        cost += tier.flat_fee * _ONE + tier.price(upper - lower)
        lower = upper if tier.up_to is None else tier.up_to
    return divide_half_even(cost, _TO_COST)


def volume_cost(tiers: Sequence[Tier], quantity: int, *, flat_at_zero: bool) -> int:
    """The tier that the quantity falls in (bounds inclusive) prices all of it, plus its flat fee."""
    if quantity == 0:
        return tiers[0].flat_fee * _TO_COST if flat_at_zero else 0
    tier = next(tier for tier in tiers if tier.up_to is None or quantity <= tier.up_to)
    return divide_half_even(tier.flat_fee * _ONE + tier.price(quantity), _TO_COST)
