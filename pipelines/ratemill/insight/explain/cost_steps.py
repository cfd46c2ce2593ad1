"""Of a usage line: tiers, exchange, caps and minimums, up to the exact cost. Rules: docs/how-we-bill.md, "Tiers"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratemill.errors import InvariantError
from ratemill.insight.explain.arithmetic import (
    InTier,
    Working,
    cost_in,
    divided,
    exact_product,
    measured,
    must_equal,
    shown,
    times,
    total,
    work,
)
from ratemill.insight.explain.arithmetic import Operand as Of
from ratemill.insight.explain.model import Cell, Column, Step, Table, largest_first
from ratemill.insight.explain.priced import charge_name, counted, entity_name, moment_name, resource_name
from ratemill.insight.explain.prices import Rates
from ratemill.money import COST_DECIMALS, ZERO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from decimal import Decimal

    from ratemill.insight.explain.costing import Charge, Limit, Walk
    from ratemill.insight.explain.priced import Priced


def cost_steps(priced: Priced, chosen: Sequence[Charge], *, most: int) -> list[Step]:
    """What the quantity costs, in the currency of its price."""
    version = priced.version
    if version.flat_price is not None:
        return [_flat(priced, chosen, version.flat_price, most=most)]
    walks: dict[tuple[str | None, ...], list[Charge]] = {}
    for charge in chosen:
        walks.setdefault(charge.entity(version.scope), []).append(charge)
    if len(walks) == 1:
        ((_, members),) = walks.items()
        return [_walk_step(priced, priced.costing.walk_of(members[0], version), members, most=most)]
    return [_several_walks(priced, walks, most=most)]


def _flat(priced: Priced, chosen: Sequence[Charge], price: Decimal, *, most: int) -> Step:
    currency = priced.version.currency
    quantity = total(charge.quantity for charge in chosen)
    cost = total(charge.price_cost for charge in chosen)
    product = exact_product(
        Of(quantity, unit=priced.unit), Of(price, unit=f"{currency} per {priced.unit}"), name="cost", unit=currency
    )
    says: list[str] = []
    workings: list[Working] = [product] if product.result == cost else []
    if not workings:
        says.append(
            f"{counted(len(chosen), 'charge')} × {shown(price, 2)} {currency}, each rounded half to even at 18"
            " decimals."
        )
    tables = []
    if len({charge.row["resource_id"] for charge in chosen}) > 1 or not workings:
        tables.append(_resource_costs(priced, chosen, most=most))
    elif len(chosen) > 1 and len({charge.at for charge in chosen}) > 1 and len(chosen) <= most + 1:
        tables.append(_day_costs(priced, chosen, most=most))
    return Step("cost", "Cost", tuple(says), tuple(tables), tuple(workings))


def _resource_costs(priced: Priced, chosen: Iterable[Charge], *, most: int) -> Table:
    sums: dict[tuple[str | None, str | None], tuple[Decimal, Decimal]] = {}
    for charge in chosen:
        key = (charge.row["resource_id"], charge.row["resource_name"])
        quantity, cost = sums.get(key, (ZERO, ZERO))
        sums[key] = (total((quantity, charge.quantity)), total((cost, charge.price_cost)))
    rows: list[tuple[Cell, ...]] = [(resource_name(*key), quantity, cost) for key, (quantity, cost) in sums.items()]
    return largest_first(_quantity_and_cost("Resource", priced), rows, most=most, by=2, thing="resources")


def _day_costs(priced: Priced, chosen: Iterable[Charge], *, most: int) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (charge_name(priced, charge), charge.quantity, charge.price_cost) for charge in chosen
    ]
    return largest_first(_quantity_and_cost("Charge", priced), rows, most=most, by=2, thing="charges",
                         key=lambda _: 0)  # fmt: skip


def _quantity_and_cost(heading: str, priced: Priced) -> tuple[Column, ...]:
    return (Column(heading), Column(f"Quantity, {priced.unit_shown}", is_number=True, adds_up=True),
            Column(f"Cost, {priced.version.currency}", is_number=True, at_least=2, adds_up=True))  # fmt: skip


def _several_walks(priced: Priced, walks: Mapping[tuple[str | None, ...], Sequence[Charge]], *, most: int) -> Step:
    """Tiers that count for each project or resource by itself: all of them as a table, the largest one in full."""
    version = priced.version
    rows: list[tuple[Cell, ...]] = []
    largest: tuple[Decimal, Walk | None, Sequence[Charge]] = (ZERO, None, ())
    for members in walks.values():
        walk = priced.costing.walk_of(members[0], version)
        cost = total(charge.price_cost for charge in members)
        rows.append((entity_name(walk), total(charge.quantity for charge in members), cost))
        if largest[1] is None or abs(cost) > largest[0]:
            largest = (abs(cost), walk, members)
    table = largest_first(_quantity_and_cost(version.scope.capitalize(), priced), rows, most=most, by=2,
                          thing=f"{version.scope}s")  # fmt: skip
    if largest[1] is None:
        raise InvariantError("a line without a charge has no tiers to walk")
    inner = _walk_step(priced, largest[1], largest[2], most=most)
    shown_one = Step(
        "cost", f"The largest, {entity_name(largest[1])}", inner.says, inner.tables, inner.workings, inner.steps
    )
    return Step("cost", "Cost", (f"Each {version.scope} takes the tiers for itself.",), (table,), (), (shown_one,))


def _walk_step(priced: Priced, walk: Walk, members: Sequence[Charge], *, most: int) -> Step:
    """How one entity's quantity walks the tiers, and which part of it ``members`` are."""
    version = walk.version
    graduated = version.mode == "graduated"
    step = _graduated_step(priced, walk) if graduated else _volume_step(priced, walk)
    quantity = total(charge.quantity for charge in members)
    if quantity == walk.quantity and total(charge.price_cost for charge in members) == walk.amount:
        return step
    cost = total(charge.price_cost for charge in members)
    by_moment: dict[Any, list[Charge]] = {}
    for charge in members:
        by_moment.setdefault(charge.at, []).append(charge)
    rows: list[tuple[Cell, ...]] = [
        (
            moment_name(priced, each.at), each.before, each.quantity, each.amount,
            total(charge.quantity for charge in by_moment[each.at]),
            total(charge.price_cost for charge in by_moment[each.at]),
        )
        for each in walk.moments
        if each.at in by_moment
    ]  # fmt: skip
    moment = "hour" if priced.hourly else "day"
    currency = version.currency
    columns = (
        Column(moment.capitalize()), Column("Counted before", is_number=True), Column("Used by all", is_number=True),
        Column(f"Adds, {currency}", is_number=True, at_least=2), Column("Used here", is_number=True, adds_up=True),
        Column(f"Share, {currency}", is_number=True, at_least=2, adds_up=True),
    )  # fmt: skip
    said = (
        f"Charges take the tiers {moment} by {moment}: what a {moment} adds is shared in proportion to quantity."
        if graduated
        else "The amount is shared over all charges in proportion to quantity."
    )
    share = Step(
        "share", "The part that is on this line", (f"The tiers are walked by all usage together. {said}",),
        (largest_first(columns, rows, most=max(most, 31), by=5, thing=f"{moment}s", key=lambda _: 0),),
        (work("sum", Of(cost), name="cost of the part", unit=currency, at_least=2),),
    )  # fmt: skip
    must_equal("the part of a tier walk", total(charge.price_cost for each in by_moment.values() for charge in each),
               cost)  # fmt: skip
    return Step(step.name, step.title, step.says, step.tables, step.workings, (*step.steps, share))


def _graduated_step(priced: Priced, walk: Walk) -> Step:
    currency = walk.version.currency
    after, paid = walk.tiers_at(walk.reached), walk.tiers_at(walk.before) if walk.counted_before else []
    says = []
    if walk.before:
        says.append(
            f"{measured(walk.before, priced.unit)} were counted by earlier versions of the price; the count goes on"
            f" with {shown(walk.quantity)} more to {shown(walk.reached)}."
        )
    elif walk.version.scope == "account":
        says.append(f"{measured(walk.quantity, priced.unit)} of all usage of the account that pays.")
    else:
        says.append(f"{measured(walk.quantity, priced.unit)}.")
    tables = [_tiers_priced(priced, after, currency, "What the tiers come to" if not paid else
                            f"Tiers up to {shown(walk.reached)}")]  # fmt: skip
    cost_after = cost_in(after)
    workings = [_tier_sum(after, currency, f"cost of {measured(walk.reached, priced.unit)}")]
    must_equal("tiers", workings[0].result, cost_after)
    if paid:
        tables.append(_tiers_priced(priced, paid, currency, f"Of these counted before: {shown(walk.before)}"))
        workings.append(_tier_sum(paid, currency, f"cost of {measured(walk.before, priced.unit)}"))
        workings.append(
            work("sum", Of(workings[0].result), Of(-workings[1].result), name="cost", unit=currency, at_least=2)
        )
    must_equal("a tier walk", workings[-1].result, walk.amount)
    return Step("cost", "Cost", tuple(says), tuple(tables), tuple(workings))


def _tier_sum(parts: Sequence[InTier], currency: str, name: str) -> Working:
    return work("sum", *(Of(part.cost) for part in parts), name=name, unit=currency, places=COST_DECIMALS,
                rounding="half-even", at_least=2)  # fmt: skip


def _volume_step(priced: Priced, walk: Walk) -> Step:
    currency = walk.version.currency
    parts = walk.tiers_at(walk.month)
    says = [f"The month's {measured(walk.month, priced.unit)} decide the tier."]
    workings = [_tier_sum(parts, currency, f"cost of {measured(walk.month, priced.unit)}")]
    if walk.month and walk.quantity != walk.month:
        says.append(f"{shown(walk.quantity)} of them are under this version of the price.")
        workings.append(
            work("pro_rata", Of(workings[0].result, unit=currency), Of(walk.quantity), Of(walk.month), name="cost",
                 unit=currency, places=COST_DECIMALS, rounding="half-even")
        )  # fmt: skip
        must_equal("a volume price", workings[-1].result, walk.amount)
    elif walk.month:
        must_equal("a volume price", workings[0].result, walk.amount)
    return Step("cost", "Cost", tuple(says), (_tiers_priced(priced, parts, currency, ""),), tuple(workings))


def _tiers_priced(priced: Priced, parts: Sequence[InTier], currency: str, title: str) -> Table:
    has_package = any(part.tier.package_size is not None for part in parts)
    has_fee = any(part.tier.flat_fee for part in parts)
    columns = [
        Column("Above", is_number=True), Column("Up to", is_number=True),
        Column(f"In it, {priced.unit_shown}", is_number=True, adds_up=True),
    ]  # fmt: skip
    if has_package:
        columns.append(Column("Packages", is_number=True))
    columns.append(Column(f"× {currency}", is_number=True, at_least=2))
    if has_fee:
        columns.append(Column("+ flat fee", is_number=True, at_least=2))
    columns.append(Column(f"Cost, {currency}", is_number=True, at_least=2, adds_up=True))
    rows: list[tuple[Cell, ...]] = []
    for part in parts:
        tier = part.tier
        cells: list[Cell] = [tier.lower, tier.up_to if tier.up_to is not None else "and more", part.part]
        if has_package:
            cells.append(_packages(part))
        cells.append(tier.unit_price)
        if has_fee:
            cells.append(tier.flat_fee)
        rows.append((*cells, part.cost))
    last: tuple[Cell, ...] | None = None
    if len(rows) > 1:
        cells = [None] * len(columns)
        cells[0] = "Together"
        cells[2], cells[-1] = total(part.part for part in parts), total(part.cost for part in parts)
        last = tuple(cells)
    return Table(tuple(columns), tuple(rows), None, last, title)


def _packages(part: InTier) -> Cell:
    if part.tier.package_size is None:
        return None
    whole = work("whole_steps", part.part, part.tier.package_size).result
    count = divided(whole, part.tier.package_size, 0)
    return f"{shown(count)} of {shown(part.tier.package_size)}"


# ------------------------------------------------------------------------------------- 5 exchange, caps, exact cost


def exchange_step(priced: Priced, chosen: Sequence[Charge], *, most: int) -> Step:
    """Cost in the price's currency → the invoice's, at the rate of each day."""
    currency, of = priced.currency, priced.version.currency
    rates = Rates(priced.book.fx_rates)
    sums: dict[tuple[Decimal, str], list[Any]] = {}
    for charge in chosen:
        day = charge.at[0]
        known = rates.find(of, currency, day)
        if charge.rate is None:
            continue
        must_equal(f"the exchange rate of {day}", known.value if known else ZERO, charge.rate)
        if known is None:
            raise InvariantError(f"no exchange rate of {day}")
        written = f"{known.written}, {known.day}" + (", turned round" if known.is_inverse else "")
        entry = sums.setdefault((charge.rate, f"{written} ({known.source})"), [day, day, ZERO, ZERO])
        entry[0], entry[1] = min(entry[0], day), max(entry[1], day)
        entry[2], entry[3] = total((entry[2], charge.price_cost)), total((entry[3], charge.cost))
    rows: list[tuple[Cell, ...]] = [
        (f"{first}" if first == last else f"{first} … {last}", written, rate, cost, converted)
        for (rate, written), (first, last, cost, converted) in sums.items()
    ]
    columns = (
        Column("Days"), Column("Rate in the book"), Column("Rate", is_number=True),
        Column(f"Cost, {of}", is_number=True, at_least=2, adds_up=True),
        Column(f"Cost, {currency}", is_number=True, at_least=2, adds_up=True),
    )  # fmt: skip
    says = [f"Each charge is converted at the rate of its local day, else of the latest day before ({priced.zone})."]
    workings = []
    if len(sums) == 1:
        (((rate, _), (_, _, cost, converted)),) = sums.items()
        product = exact_product(Of(cost, unit=of), Of(rate), name="converted", unit=currency)
        if product.result == converted:
            workings.append(product)
    for charge in chosen:
        if charge.rate is not None:
            must_equal("a converted cost", times(charge.price_cost, charge.rate), charge.cost)
    table = largest_first(columns, rows, most=max(most, 31), by=4, thing="rates", key=lambda row: row[0])
    return Step("exchange", f"{of} into {currency}", tuple(says), (table,), tuple(workings))


def limit_step(priced: Priced, limits: Sequence[Limit], *, most: int) -> Step:
    """Caps and minimums that made a difference."""
    kinds = sorted({limit.kind for limit in limits})
    of, currency = priced.version.currency, priced.currency
    facts: list[tuple[Column, Callable[[Limit], Cell]]] = [
        (Column("Resource"), lambda limit: resource_name(limit.entity[2], None)),
        (Column("Limit"), lambda limit: limit.kind),
        (_money(f"Came to, {of}"), lambda limit: limit.cost),
    ]
    if any(limit.earlier for limit in limits):
        facts.append((_money("Earlier versions"), lambda limit: limit.earlier))
    facts += [
        (_money("Cap or minimum"), lambda limit: limit.limit),
        (_money(f"Difference, {of}", adds_up=True), lambda limit: limit.difference),
    ]
    if of != currency:
        facts.append((_money(f"Difference, {currency}", adds_up=True), lambda limit: limit.amount))
    columns = [column for column, _ in facts]
    rows = [tuple(fact(limit) for _, fact in facts) for limit in limits]
    table = largest_first(columns, rows, most=most, by=len(columns) - 1, thing="resources")
    largest = max(limits, key=lambda limit: abs(limit.amount))
    workings = list(_limit_workings(largest, of, currency))
    said = {
        "cap": "A resource costs no more than the cap in a month, whatever versions of the price it had.",
        "minimum": "A resource that was used costs no less than the minimum in a month.",
    }
    says = [said[kind] for kind in kinds]
    if len(limits) > 1:
        says.append(f"Worked out for {resource_name(largest.entity[2], None)}:")
    return Step("limit", " and ".join(kind.capitalize() for kind in kinds), tuple(says), (table,), tuple(workings))


def _money(heading: str, *, adds_up: bool = False) -> Column:
    return Column(heading, is_number=True, at_least=2, adds_up=adds_up)


def _limit_workings(limit: Limit, of: str, currency: str) -> Iterable[Working]:
    shared: dict[str, Any] = {"unit": of, "at_least": 2}
    if limit.kind == "minimum":
        missing = work("sum", Of(limit.limit, "minimum"), Of(-limit.cost, "came to"), name="missing", **shared)
        yield missing
        must_equal("a minimum", missing.result, limit.difference)
        if limit.rate is not None:
            yield exact_product(Of(missing.result, unit=of), Of(limit.rate), name="converted", unit=currency)
        return
    left = limit.limit
    if limit.earlier:
        room = work("sum", Of(limit.limit, "cap"), Of(-limit.earlier, "earlier versions"), name="left of the cap",
                    **shared)  # fmt: skip
        yield room
        left = max(ZERO, room.result)
    taken = work("sum", Of(left, "cap"), Of(-limit.cost, "came to"), name="taken back", **shared)
    yield taken
    must_equal("a cap", taken.result, limit.difference)
    if limit.rate is not None and limit.allowed != 0:
        back = work("pro_rata", Of(-limit.converted, unit=currency), Of(-limit.difference), Of(limit.cost),
                    name="converted alike", unit=currency, places=COST_DECIMALS, rounding="half-even")  # fmt: skip
        yield back
        must_equal("a converted cap", back.result, limit.amount)


def exact_step(priced: Priced, chosen: Sequence[Charge], limits: Sequence[Limit]) -> Step:
    """Usage with caps and minimums."""
    operands = [Of(total(charge.cost for charge in chosen), "usage")]
    for kind in ("cap", "minimum"):
        amounts = [limit.amount for limit in limits if limit.kind == kind]
        if amounts:
            operands.append(Of(total(amounts), kind))
    exact = work("sum", *operands, name="exact cost", unit=priced.currency, at_least=priced.places)
    return Step("exact", "Exact cost", (), (), (exact,))


def line_limits(priced: Priced) -> list[Limit]:
    """Caps and minimums that are charges of this line."""
    line = priced.line
    mine = (line["account_id"], line["project_id"])
    return [
        limit
        for limit in priced.costing.limits
        if limit.version.price_id == line["price_id"]
        and (limit.entity[0], limit.entity[1]) == mine
        and limit.entity[3] == line["region"]
    ]


def limits_of(priced: Priced, chosen: Sequence[Charge]) -> list[Limit]:
    """Caps and minimums of the resources of ``chosen``, where all of a resource's charges are in it."""
    numbers = {charge.number for charge in chosen}
    partly = {charge.row["resource_id"] for charge in priced.mine if charge.number not in numbers}
    resources = {charge.row["resource_id"] for charge in chosen} - partly
    return [limit for limit in line_limits(priced) if limit.entity[2] in resources]
