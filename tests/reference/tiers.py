"""F(Q): what a quantity costs under one price version, from nothing.

Published with examples in "How we bill"; the examples run in tests/unit/test_reference.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reference.exact import ZERO, exactly, to_cost, whole_steps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal


@dataclass(frozen=True, kw_only=True)
class Tier:
    """A stretch of quantity: above the former tier's bound, up to and including its own (None: open)."""

    up_to: Decimal | None = None
    unit_price: Decimal = ZERO
    """Price of one pricing unit, or of one package where there is a package size."""
    flat_fee: Decimal = ZERO
    package_size: Decimal | None = None

    def price(self, part: Decimal) -> Decimal:
        """Price of a part of the quantity, without the flat fee; every started package counts."""
        sold = part if self.package_size is None else whole_steps(part, self.package_size)
        return sold * self.unit_price


@exactly
def graduated(tiers: Sequence[Tier], quantity: Decimal, *, flat_at_zero: bool = False) -> Decimal:
    """Each tier prices the part of the quantity that lies in it; a flat fee is due once its tier is entered.

    A tier is entered by a quantity above its lower bound. At quantity 0 only ``flat_at_zero`` enters the first one.
    """
    cost = tiers[0].flat_fee if quantity == 0 and flat_at_zero else ZERO
    lower = ZERO
    for tier in tiers:
        if quantity > lower:
            part = (quantity if tier.up_to is None else min(quantity, tier.up_to)) - lower
            cost += tier.flat_fee + tier.price(part)
        if tier.up_to is None:
            break
        lower = tier.up_to
    return to_cost(cost)


@exactly
def volume(tiers: Sequence[Tier], quantity: Decimal, *, flat_at_zero: bool = False) -> Decimal:
    """The tier that the quantity falls in prices all of it, plus its flat fee; bounds are inclusive.

    At quantity 0 the first tier's flat fee is due only with ``flat_at_zero``.
    """
    tier = next(tier for tier in tiers if tier.up_to is None or quantity <= tier.up_to)
    if quantity == 0:
        return to_cost(tier.flat_fee if flat_at_zero else ZERO)
    return to_cost(tier.flat_fee + tier.price(quantity))


def tiers_are_valid(tiers: Sequence[Tier]) -> bool:
    """Bounds rise, only the last tier is open: what the book check asks for."""
    bounds = [tier.up_to for tier in tiers]
    closed = [bound for bound in bounds[:-1] if bound is not None]
    return bounds[-1] is None and len(closed) == len(bounds) - 1 and sorted(set(closed)) == closed
