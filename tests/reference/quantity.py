"""From records to quantities: who is a duplicate, what a record counts, what a month's hours add up to."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING

from reference.exact import ZERO, exactly, to_quantity, total, whole_steps
from reference.model import HOURS_IN_MONTH, Sku, Usage

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping


def identity(record: Usage) -> Hashable:
    """What makes two records the same one: the meter's own id, else what, where and when was metered.

    Two records that both have an id are the same exactly where the ids are; a record with an id is never the same as
    one without. The account is the one the meter wrote, before any project move is looked up.
    """
    return ("id", record.record_id) if record.record_id is not None else ("where and when", *_place(record))


def _place(record: Usage) -> tuple[Hashable, ...]:
    return (
        record.account_id,
        record.project_id,
        record.resource_id,
        record.sku_id,
        record.region,
        record.usage_start,
        record.tags_text,
    )


def _values(record: Usage) -> Hashable:
    """What two copies must agree on. The resource's name is a label and may differ; attributes can change the price."""
    attributes = tuple(sorted(record.attributes.items()))
    return (*_place(record), record.quantity, record.end, record.unit, attributes)


def deduplicate(usage: Iterable[Usage]) -> tuple[list[Usage], list[Usage], list[Usage]]:
    """(kept, copies, conflicts): of equal records one is kept; records that contradict each other are all left out.

    The kept copy is the one with the least resource name (any name before none), so that it does not depend on the
    order of files.
    """
    groups: dict[Hashable, list[Usage]] = defaultdict(list)
    for record in usage:
        groups[identity(record)].append(record)
    kept: list[Usage] = []
    copies: list[Usage] = []
    conflicts: list[Usage] = []
    for group in groups.values():
        if len({_values(record) for record in group}) > 1:
            conflicts.extend(group)
            continue
        first, *others = sorted(group, key=lambda record: (record.resource_name is None, record.resource_name or ""))
        kept.append(first)
        copies.extend(others)
    return kept, copies, conflicts


@exactly
def billable(record: Usage, sku: Sku) -> Decimal:
    """What one record counts for pricing: its quantity, each record rounded up to whole increments."""
    if sku.record_increment is None:
        return record.quantity
    return whole_steps(record.quantity, sku.record_increment) * sku.record_increment


def units_per_pricing_unit(sku: Sku, hours_in_month: int) -> Decimal:
    """The divisor: a number from the book, or the real hours of the billing account's local month."""
    if sku.units_per_pricing_unit == HOURS_IN_MONTH:
        return Decimal(hours_in_month)
    return Decimal(sku.units_per_pricing_unit)


@exactly
def pricing_quantity(quantity: Decimal, sku: Sku, hours_in_month: int) -> Decimal:
    """Usage units turned into pricing units, half-even at 12 places."""
    return to_quantity(quantity / units_per_pricing_unit(sku, hours_in_month))


@exactly
def aggregate(by_hour: Mapping[int, Decimal], aggregation: str, hours_in_month: int) -> Decimal:
    """What one series of a month counts, from its billable quantity in each hour that had a record.

    A *series* is (billing account, account, project, resource, SKU, region, tags), all price versions together. The
    hours are the real hours of the billing account's local month, counted from its first instant (hour 0); a record
    counts in the hour its usage_start lies in, and records of one hour add up. Hours without a record count 0.

    - ``sum``: everything.
    - ``max``: the largest hour.
    - ``mean``: everything / real hours of the month, half-even at 12 places.
    - ``p95``: nearest rank: of the N hours sorted upwards the one numbered ceil(0.95·N). Of 744 hours the 37 largest
      are forgiven and the 38th largest counts; a series with 37 hours of usage or less counts 0.

    How it reaches the charges: for ``sum`` each charge converts its own billable quantity. For the others the series'
    quantity is converted to pricing units once, and then shared over the series' charges (local day × price version,
    as for ``sum``) pro rata to their billable quantities, at 12 places, the remainder to the largest charge, ties by
    key order. So a charge's usage_quantity always is what was metered; the priced quantities of a series add up to
    the month's figure exactly; a price that changes inside the month, a time window or a change of the public price
    alone splits the figure and never bills it twice; and from there on tiers, caps and lines know nothing of
    aggregation. Usage without a price keeps its share, unbilled, until a price is found.
    """
    values = sorted(by_hour.values(), reverse=True)
    match aggregation:
        case "sum":
            return total(values)
        case "max":
            return max(values, default=ZERO)
        case "mean":
            return to_quantity(total(values) / hours_in_month)
        case "p95":
            rank_from_below = -(-95 * hours_in_month // 100)
            forgiven = hours_in_month - rank_from_below
            return values[forgiven] if forgiven < len(values) else ZERO
        case _:
            raise ValueError(f"no aggregation {aggregation!r}")
