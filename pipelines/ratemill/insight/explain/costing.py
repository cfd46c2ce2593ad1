"""What charges cost, computed again charge by charge: tiers, sharing inside a day, exchange, caps and minimums.

Rules: docs/how-we-bill.md, "Tiers", "Caps and minimums". Plain decimals and loops: the other road to what
``rating/costs.py`` and ``rating/caps.py`` compute on whole columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ratemill.insight.explain.arithmetic import (
    InTier,
    cost_in,
    graduated,
    part_of,
    shares,
    times,
    to_cost,
    total,
    volume,
)
from ratemill.money import COST_DECIMALS, ZERO

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date, datetime
    from decimal import Decimal

    from ratemill.insight.explain.prices import Version

ENTITIES: Mapping[str, tuple[str, ...]] = {
    "account": (),
    "project": ("account_id", "project_id"),
    "resource": ("account_id", "project_id", "resource_id", "region"),
}
"""Columns whose usage counts together, of one billing account."""
RESOURCE = ENTITIES["resource"]
Entity = tuple[str | None, ...]


@dataclass
class Charge:
    """A usage charge of the run, and what it comes to again."""

    number: int
    """Place among the charges it was loaded with."""
    row: Mapping[str, Any]
    """Columns of CHARGES."""
    at: tuple[date, int]
    """The moment whose charges take the tiers together: local day, and hour of the month where charges are hourly."""
    price_cost: Decimal = ZERO
    """In the currency of the price."""
    cost: Decimal = ZERO
    """In the currency of the invoice."""

    @property
    def quantity(self) -> Decimal:
        """What is priced."""
        quantity: Decimal = self.row["pricing_quantity"]
        return quantity

    @property
    def price_id(self) -> str:
        """The version that prices it."""
        return str(self.row["price_id"])

    @property
    def rate(self) -> Decimal | None:
        """The exchange rate; none where the price is in the currency of the invoice."""
        rate: Decimal | None = self.row["exchange_rate"]
        return rate

    def entity(self, scope: str) -> Entity:
        """Whose count it takes part in."""
        return tuple(self.row[name] for name in ENTITIES[scope])


@dataclass(frozen=True)
class MomentCost:
    """What an entity used at one moment under one version, and what that adds."""

    at: tuple[date, int]
    before: Decimal
    """Counted before it."""
    quantity: Decimal
    amount: Decimal


@dataclass(frozen=True)
class Walk:
    """One entity under one version: how its quantity walks the tiers."""

    version: Version
    entity: Entity
    before: Decimal
    """Counted by earlier versions of the run."""
    counted_before: bool
    """Whether these had any charge, were it of nothing."""
    quantity: Decimal
    month: Decimal
    """Of all versions of the run: what decides the tier of a volume price."""
    moments: tuple[MomentCost, ...]
    amount: Decimal

    @property
    def reached(self) -> Decimal:
        """Counted at its end."""
        return total((self.before, self.quantity))

    def tiers_at(self, quantity: Decimal) -> list[InTier]:
        """What a quantity counted from nothing costs, tier by tier."""
        price = graduated if self.version.mode == "graduated" else volume
        return price(self.version.tiers, quantity, flat_at_zero=self.version.flat_at_zero)


@dataclass(frozen=True)
class Limit:
    """A cap or minimum of one resource that made a difference."""

    kind: str
    version: Version
    entity: Entity
    cost: Decimal
    """What the resource's charges under the version came to, in the currency of the price."""
    earlier: Decimal
    """What earlier versions of the run came to, after their caps."""
    limit: Decimal
    allowed: Decimal
    """Cap: what the version's charges may come to. Minimum: what all versions come to without it."""
    difference: Decimal
    """In the currency of the price: cap below zero, minimum above."""
    converted: Decimal
    """Cap: what the charges came to in the currency of the invoice."""
    rate: Decimal | None
    amount: Decimal
    """In the currency of the invoice."""


@dataclass
class Costing:
    """Every charge of a run of versions of one billing account, priced again."""

    charges: list[Charge]
    walks: dict[tuple[str, Entity], Walk] = field(default_factory=dict)
    """price_id and entity → walk, of the versions with tiers."""
    limits: list[Limit] = field(default_factory=list)

    def walk_of(self, charge: Charge, version: Version) -> Walk:
        """The walk that a charge is part of."""
        return self.walks[charge.price_id, charge.entity(version.scope)]


def charges_of(rows: Iterator[Mapping[str, Any]], *, moment: Moments) -> list[Charge]:
    """Usage charges in the order of CHARGE_ORDER."""
    return [Charge(number, row, moment.of(row["charge_start"])) for number, row in enumerate(rows)]


@dataclass(frozen=True)
class Moments:
    """What charges of a payer are cut by."""

    zone: Any
    """ZoneInfo of the payer."""
    month_start: datetime
    hourly: bool

    def of(self, start: datetime) -> tuple[date, int]:
        """The moment of a charge by its first instant."""
        hour = int((start - self.month_start).total_seconds() // 3600) if self.hourly else 0
        return start.astimezone(self.zone).date(), hour


def price_again(charges: Sequence[Charge], versions: Mapping[str, Version]) -> Costing:
    """Fill in what each charge costs. All charges of the billing account under a run of versions must be there."""
    costing = Costing(list(charges))
    by_run: dict[int, list[Charge]] = {}
    for charge in charges:
        by_run.setdefault(versions[charge.price_id].run, []).append(charge)
    for members in by_run.values():
        _price_run(members, versions, costing)
    for charge in charges:
        charge.cost = charge.price_cost if charge.rate is None else times(charge.price_cost, charge.rate)
    for members in by_run.values():
        costing.limits += _limits(members, versions)
    return costing


def _price_run(members: Sequence[Charge], versions: Mapping[str, Version], costing: Costing) -> None:
    scopes = set()
    for charge in members:
        version = versions[charge.price_id]
        if version.flat_price is not None:
            charge.price_cost = times(charge.quantity, version.flat_price)
        else:
            scopes.add(version.scope)
    for scope in sorted(scopes):
        entities: dict[Entity, list[Charge]] = {}
        for charge in members:
            entities.setdefault(charge.entity(scope), []).append(charge)
        for entity, counted in entities.items():
            _walk_entity(entity, counted, scope, versions, costing)


def _walk_entity(
    entity: Entity, charges: Sequence[Charge], scope: str, versions: Mapping[str, Version], costing: Costing
) -> None:
    ordered = sorted(charges, key=lambda c: (versions[c.price_id].place, c.at, c.number))
    month = total(charge.quantity for charge in ordered)
    before, counted = ZERO, False
    for _, group in groupby(ordered, key=lambda charge: versions[charge.price_id].place):
        members = list(group)
        version = versions[members[0].price_id]
        quantity = total(charge.quantity for charge in members)
        if version.flat_price is None and version.scope == scope:
            walk = _walked(entity, members, version, before=before, counted=counted, quantity=quantity, month=month)
            costing.walks[version.price_id, entity] = walk
        before, counted = total((before, quantity)), True


def _walked(
    entity: Entity, members: Sequence[Charge], version: Version, *, before: Decimal, counted: bool,
    quantity: Decimal, month: Decimal,
) -> Walk:  # fmt: skip
    days = [(at, list(group)) for at, group in groupby(members, key=lambda charge: charge.at)]
    moments: list[MomentCost] = []
    if version.mode == "graduated":
        reached = before
        paid = _f(version, before) if counted else ZERO
        for at, together in days:
            used = total(charge.quantity for charge in together)
            due = _f(version, total((reached, used)))
            moments.append(MomentCost(at, reached, used, total((due, -paid))))
            _share(together, moments[-1].amount)
            reached, paid = total((reached, used)), due
        amount = total(each.amount for each in moments)
    else:
        whole = cost_in(volume(version.tiers, month, flat_at_zero=version.flat_at_zero))
        amount = part_of(whole, quantity, month, COST_DECIMALS) if month else (ZERO if counted else whole)
        _share(sorted(members, key=lambda charge: charge.number), amount)
        reached = before
        for at, together in days:
            used = total(charge.quantity for charge in together)
            moments.append(MomentCost(at, reached, used, total(charge.price_cost for charge in together)))
            reached = total((reached, used))
    return Walk(version, entity, before, counted, quantity, month, tuple(moments), amount)


def _f(version: Version, quantity: Decimal) -> Decimal:
    return cost_in(graduated(version.tiers, quantity, flat_at_zero=version.flat_at_zero))


def _share(charges: Sequence[Charge], amount: Decimal) -> None:
    parts = shares(amount, [charge.quantity for charge in charges], COST_DECIMALS)
    for charge, part in zip(charges, parts, strict=True):
        charge.price_cost = part


def _limits(members: Sequence[Charge], versions: Mapping[str, Version]) -> Iterator[Limit]:
    if not any(versions[name].has_limit for name in {charge.price_id for charge in members}):
        return
    resources: dict[Entity, list[Charge]] = {}
    for charge in members:
        resources.setdefault(charge.entity("resource"), []).append(charge)
    for entity, charges in resources.items():
        yield from _limits_of(entity, charges, versions)


def _limits_of(entity: Entity, charges: Sequence[Charge], versions: Mapping[str, Version]) -> Iterator[Limit]:
    ordered = sorted(charges, key=lambda charge: (versions[charge.price_id].place, charge.number))
    net = ZERO
    last: Charge | None = None
    for _, group in groupby(ordered, key=lambda charge: versions[charge.price_id].place):
        part = list(group)
        last = max(part, key=lambda charge: (charge.row["charge_start"], charge.number))
        version = versions[last.price_id]
        cost, converted = total(charge.price_cost for charge in part), total(charge.cost for charge in part)
        allowed = cost
        if version.cap is not None:
            allowed = min(cost, max(ZERO, total((version.cap, -net))))
        if allowed < cost and version.cap is not None:
            taken = total((cost, -allowed))
            back = converted if allowed == 0 else part_of(converted, taken, cost, COST_DECIMALS)
            yield Limit("cap", version, entity, cost, net, version.cap, allowed, -taken, converted, last.rate, -back)
        net = total((net, allowed))
    if last is None:
        return
    version = versions[last.price_id]
    used = any(charge.row["usage_quantity"] > 0 for charge in ordered)
    if version.minimum is not None and used and net < version.minimum:
        missing = to_cost(total((version.minimum, -net)))
        amount = missing if last.rate is None else times(missing, last.rate)
        yield Limit("minimum", version, entity, net, ZERO, version.minimum, net, missing, ZERO, last.rate, amount)
