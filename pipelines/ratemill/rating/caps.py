"""Caps and minimums per resource and month, as charges of their own. Rules: docs/how-we-bill.md, "Caps and minimums".

They count over a run of versions as tiers do, so that a price change inside the month brings no second cap: a
version's charges cost at most its cap less what the run's earlier versions came to. The minimum is the one of the run's
last version with charges; it is due where anything was metered.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from ratemill.frames import collect
from ratemill.money import COST_DECIMALS
from ratemill.rating.costs import RESOURCE
from ratemill.rating.integers import divide_half_even, to_decimals, to_integers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratemill.rating.versions import PriceVersions

_TO_COST = 10 ** (COST_DECIMALS - 12)
"""Units of 10^-18 in a unit of 10^-12."""
_ONE = 10**12


class _Part(NamedTuple):
    """What one resource came to under one version."""

    entity: int
    cap: int | None
    minimum: int | None
    cost: int
    converted: int
    is_used: bool
    anchor: int
    exchange_rate: int | None


def differences(charges: pl.DataFrame, versions: PriceVersions) -> pl.DataFrame:
    """Anchor (row of the charge it stands beside), charge_kind (cap or minimum), amount in the payer's currency.

    ``charges``: row (in key order), charge_start, price_id, usage_quantity, cost (in the price's currency), converted
    (in the payer's), exchange_rate, and the columns of RESOURCE: one side, whole runs.
    """
    limits = versions.rows.select("price_id", "run", "place", "cap", "minimum")
    limited = charges.join(limits, on="price_id", how="left", validate="m:1").filter(
        (pl.col("cap").is_not_null() | pl.col("minimum").is_not_null()).any().over("run")
    )
    entity = ["run", *RESOURCE]
    parts = collect(
        limited.lazy()
        .sort("charge_start", "row")
        .group_by(*entity, "place", "cap", "minimum")
        .agg(
            pl.col("cost").sum(),
            pl.col("converted").sum(),
            (pl.col("usage_quantity") > 0).any().alias("is_used"),
            pl.col("row", "exchange_rate").sort_by("charge_start", "row").last(),
        )
    ).sort(*entity, "place")
    columns = [
        parts.select(pl.struct(entity).rle_id())[entity[0]].to_list(),
        *(to_integers(parts[name]) for name in ("cap", "minimum", "cost", "converted")),
        parts["is_used"].to_list(),
        parts["row"].to_list(),
        to_integers(parts["exchange_rate"]),
    ]
    found = [
        difference
        for _, members in groupby((_Part(*row) for row in zip(*columns, strict=True)), key=lambda part: part.entity)
        for difference in _resource_differences(list(members))
    ]
    return pl.DataFrame(
        {
            "anchor": pl.Series([anchor for anchor, _, _ in found], dtype=charges.schema["row"]),
            "charge_kind": pl.Series([kind for _, kind, _ in found], dtype=pl.String),
            "amount": to_decimals([amount for _, _, amount in found], COST_DECIMALS),
        }
    )


def _resource_differences(parts: list[_Part]) -> Iterator[tuple[int, str, int]]:
    """(anchor, kind, amount) of one resource, versions in time order."""
    net = 0
    for part in parts:
        allowed = part.cost if part.cap is None else min(part.cost, max(0, part.cap * _TO_COST - net))
        if allowed < part.cost:
            taken = part.cost - allowed
            # The same part of every charge is taken back, so it is converted at the rates those came to.
            back = part.converted if allowed == 0 else divide_half_even(part.converted * taken, part.cost)
            yield part.anchor, "cap", -back
        net += allowed
    last = parts[-1]
    if last.minimum is not None and any(part.is_used for part in parts) and net < last.minimum * _TO_COST:
        missing = last.minimum * _TO_COST - net
        rate = last.exchange_rate
        yield last.anchor, "minimum", missing if rate is None else divide_half_even(missing * rate, _ONE)
