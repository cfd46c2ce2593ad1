"""What charges cost: per unit, graduated, volume. Rules: docs/how-we-bill.md, "Tiers".

Charges have two prices, the one that applied and the public one; both *sides* are computed by the same functions, in
the currency of that side's price.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from ratemill.frames import collect
from ratemill.money import COST, COST_DECIMALS, exact_cost
from ratemill.rating.integers import divide_half_even, share_out, to_decimals, to_integers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ratemill.rating.versions import PriceVersions

RESOURCE = ["billing_account_id", "account_id", "project_id", "resource_id", "region"]
ENTITIES = {
    "account": ["billing_account_id"],
    "project": ["billing_account_id", "account_id", "project_id"],
    "resource": RESOURCE,
}
"""Whose usage tiers of a scope count together. Usage outside of any project (or resource) counts as one of them."""


def side_costs(charges: pl.DataFrame, versions: PriceVersions) -> pl.DataFrame:
    """row, cost for every charge.

    ``charges``: row (in key order), price_id, moment, pricing_quantity, and the columns of RESOURCE. All charges of a
    billing account under a run of versions must be there.
    """
    priced = charges.join(
        versions.rows.select("price_id", "mode", "scope", "run", "place", "unit_price"),
        on="price_id",
        how="left",
        validate="m:1",
    )
    per_unit = priced.filter(pl.col("mode") == "per_unit").select(
        "row", cost=exact_cost(pl.col("pricing_quantity"), pl.col("unit_price"))
    )
    tiered = priced.filter((pl.col("mode") != "per_unit").any().over("run"))
    parts = [per_unit, *_tiered_costs(tiered, versions)]
    return pl.concat([part.select("row", pl.col("cost").cast(COST)) for part in parts])


def _tiered_costs(tiered: pl.DataFrame, versions: PriceVersions) -> Iterator[pl.DataFrame]:
    """row, cost of the charges with tiers, scope by scope; ``tiered`` holds their runs' other charges as well."""
    for scope, entity in ENTITIES.items():
        counts = (pl.col("mode") != "per_unit") & (pl.col("scope") == scope)
        together = tiered.filter(counts.any().over("run"))
        if together.height:
            yield _scope_costs(together.with_columns(counts=counts), ["run", *entity], versions)


def _scope_costs(charges: pl.DataFrame, entity: list[str], versions: PriceVersions) -> pl.DataFrame:
    """row, cost of the charges whose version ``counts`` in this scope."""
    key = [*entity, "place", "moment"]
    steps = collect(
        charges.lazy().group_by(*key, "price_id", "mode", "counts").agg(pl.col("pricing_quantity").sum())
    ).sort(key)
    walked = _walk(steps, entity, versions)
    shared = (
        charges.filter("counts")
        .join(walked, on=key, how="left", nulls_equal=True, validate="m:1")
        .sort("share_group", "row")
    )
    return shared.select("row").with_columns(
        cost=share_out(shared["share_group"], shared["amount"], shared["pricing_quantity"])
    )


class _Step(NamedTuple):
    """What an entity used at one moment under one version."""

    number: int
    entity: int
    place: int
    price_id: str
    mode: str
    counts: bool
    quantity: int


def _walk(steps: pl.DataFrame, entity: list[str], versions: PriceVersions) -> pl.DataFrame:
    """``steps`` (sorted by entity, place, moment) with amount, and share_group: steps that share one amount."""
    numbered = steps.with_columns(
        entity=pl.struct(entity).rle_id(),
        number=pl.int_range(pl.len()),
        quantity=pl.Series(to_integers(steps["pricing_quantity"]), dtype=pl.Int128),
    )
    amounts: list[int | None] = [None] * steps.height
    groups: list[int] = list(range(steps.height))
    rows = (
        _Step(*row)
        for row in numbered.select("number", "entity", "place", "price_id", "mode", "counts", "quantity").iter_rows()
    )
    for _, members in groupby(rows, key=lambda step: step.entity):
        for group, step_numbers, amount in _entity_amounts(list(members), versions):
            for number in step_numbers:
                amounts[number], groups[number] = amount, group
    return steps.select(*entity, "place", "moment").with_columns(
        amount=to_decimals(amounts, COST_DECIMALS), share_group=pl.Series(groups, dtype=pl.Int64)
    )


def _entity_amounts(steps: list[_Step], versions: PriceVersions) -> Iterator[tuple[int, list[int], int]]:
    """(group, numbers of its steps, amount) of one entity under one run of versions, in time order.

    graduated: each moment pays what it adds, F(after) - F(before). Earlier versions of the run have counted already;
    where nothing was counted before, not even zero, the start is 0.
    volume: the version's part of what the whole month costs under it, F(month) × part ÷ month, so that an unchanged
    price that is written as two versions changes no bill. Of a month of zeros only the first version is due.
    """
    month = sum(step.quantity for step in steps)
    counted, anything_counted = 0, False
    for _, group in groupby(steps, key=lambda step: step.place):
        members = list(group)
        first, part = members[0], sum(step.quantity for step in members)
        if first.counts:
            tiers = versions.tiers[first.price_id]
            if first.mode == "graduated":
                paid = tiers.graduated(counted) if anything_counted else 0
                reached = counted
                for step in members:
                    reached += step.quantity
                    due = tiers.graduated(reached)
                    yield step.number, [step.number], due - paid
                    paid = due
            else:
                whole = tiers.volume(month)
                amount = divide_half_even(whole * part, month) if month else (0 if anything_counted else whole)
                yield first.number, _numbers(members), amount
        counted, anything_counted = counted + part, True


def _numbers(steps: Iterable[_Step]) -> list[int]:
    return [step.number for step in steps]
