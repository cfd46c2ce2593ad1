"""What a usage line, or a part of one, costs: from the meter to the exact cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratemill.insight.explain.arithmetic import must_equal, total
from ratemill.insight.explain.cost_steps import (
    cost_steps,
    exact_step,
    exchange_step,
    limit_step,
    limits_of,
    line_limits,
)
from ratemill.insight.explain.price_step import price_step
from ratemill.insight.explain.usage_steps import quantity_step, usage_step
from ratemill.money import ZERO

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from ratemill.insight.explain.costing import Charge
    from ratemill.insight.explain.model import Step
    from ratemill.insight.explain.priced import Priced
    from ratemill.insight.explain.usage import Metered


def derivation(priced: Priced, chosen: Sequence[Charge], metered: Metered, *, most: int) -> list[Step]:
    """Usage, quantity, price, cost, exchange, caps and exact cost of ``chosen`` charges of a line.

    ``most``: rows of a table.

    Raises:
        InvariantError: a charge is not what it is explained as.
    """
    _hold_charges_against_store(priced)
    steps = [
        usage_step(priced, chosen, metered, most=most),
        quantity_step(priced, chosen, metered, most=most),
        price_step(priced, chosen, metered, most=most),
        *cost_steps(priced, chosen, most=most),
    ]
    foreign = [charge for charge in chosen if charge.rate is not None]
    if foreign:
        steps.append(exchange_step(priced, foreign, most=most))
    limits = limits_of(priced, chosen)
    if limits:
        steps.append(limit_step(priced, limits, most=most))
    return [*steps, exact_step(priced, chosen, limits)]


def _hold_charges_against_store(priced: Priced) -> None:
    """Every usage charge of the line costs what it is stored with, and so does every cap and minimum."""
    for charge in priced.mine:
        must_equal(f"the charge of {charge.row['resource_id'] or 'no resource'} at {charge.row['charge_start']}",
                   charge.cost, charge.row["cost"])  # fmt: skip
    stored: dict[tuple[str, str | None], Decimal] = {}
    for row in priced.limits:
        key = (row["charge_kind"], row["resource_id"])
        stored[key] = total((stored.get(key, ZERO), row["cost"]))
    derived = {(limit.kind, limit.entity[2]): limit.amount for limit in line_limits(priced)}
    for key in {*stored, *derived}:
        must_equal(f"the {key[0]} of {key[1] or 'no resource'}", derived.get(key, ZERO), stored.get(key, ZERO))
