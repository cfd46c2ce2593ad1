"""Of a usage line: which price applied. Rules: docs/how-we-bill.md, "Price version"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratemill.errors import InvariantError
from ratemill.insight.explain.arithmetic import shown
from ratemill.insight.explain.model import Cell, Column, Step, Table
from ratemill.insight.explain.priced import clock
from ratemill.insight.explain.prices import (
    Candidate,
    Rates,
    Sought,
    Version,
    candidates,
    condition_text,
    lists_of,
    validity,
    windows_at,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratemill.insight.explain.costing import Charge
    from ratemill.insight.explain.priced import Priced
    from ratemill.insight.explain.usage import Metered


_CANDIDATES = 8
"""Prices that are told why they did not apply; one may have dozens in other currencies."""


def price_step(priced: Priced, chosen: Sequence[Charge], metered: Metered, *, most: int) -> Step:
    """Which lists were searched, which version applied, and why none of the others."""
    line = priced.line
    first = min(chosen, key=lambda charge: (charge.row["charge_start"], charge.number))
    attributes = metered.attributes.get(first.number)
    lists, whose = lists_of(priced.book, line["account_id"], first.row["billing_account_id"])
    instant = first.row["charge_start"]
    sought = Sought(
        instant, priced.zone, lists, priced.currency, line["region"], attributes,
        windows_at(priced.book, instant, priced.zone),
    )  # fmt: skip
    found = candidates(priced.versions, sought, Rates(priced.book.fx_rates), zone=priced.default_zone)
    asks_attributes = any(name.startswith("attr.") for v in priced.versions.values() for name, _ in v.conditions)
    if attributes is None and asks_attributes:
        found = [_with_winner(candidate, line["price_id"]) for candidate in found]
    winner = next((candidate for candidate in found if candidate.won), None)
    if winner is None or winner.version.price_id != line["price_id"]:
        other = winner.version.price_id if winner else "none"
        raise InvariantError(
            f"price {line['price_id']} was billed for line {line['line_number']}, and the search finds {other}; nothing"
            " is shown"
        )
    says = [_searched(lists, whose), f"Looked up for {clock(priced.zone, instant)}, the first usage of the line."]
    if attributes is None and asks_attributes:
        says.append("The attributes that the meter said then are no longer there; they are taken from the price.")
    version = winner.version
    says.append(_told(priced, version))
    tables = [_candidate_table(priced, found, most=most)]
    if version.flat_price is None:
        tables.append(_tier_table(priced, version))
    return Step("price", "Price", tuple(says), tuple(tables))


def _with_winner(candidate: Candidate, price_id: str) -> Candidate:
    won = candidate.version.price_id == price_id and candidate.applies
    return Candidate(candidate.version, candidate.applies, candidate.verdict, won)


def _searched(lists: Sequence[str], whose: str) -> str:
    if len(lists) == 1:
        return f"Price lists searched: {lists[0]}."
    return f"Price lists searched, the first with a price that applies decides: {', '.join(lists)}" + (
        f" (of {whose})." if whose else "."
    )


def _told(priced: Priced, version: Version) -> str:
    conditions = condition_text(version)
    mode = {"graduated": "each tier prices the part of the quantity in it",
            "volume": "the tier that the month's quantity ends in prices all of it"}.get(version.mode, "")  # fmt: skip
    price = version.flat_price
    told = [
        f"{shown(price, 2)} {version.currency} per {priced.unit_shown}" if price is not None else version.currency,
        f"list {version.price_list}",
        f"valid {validity(version, priced.default_zone)}",
        *([conditions] if conditions else []),
    ]
    if price is None:
        told.append(f"{version.mode}: {mode}")
    if version.mode != "per_unit":
        told.append(f"counted over each {version.scope} and month")
    if version.tier_reset:
        told.append("starts a count of its own")
    for limit, amount in (("cap", version.cap), ("minimum", version.minimum)):
        if amount is not None:
            told.append(f"{limit} {shown(amount, 2)} per resource and month")
    return f"{version.price_id}: {'; '.join(told)}."


def _candidate_table(priced: Priced, found: Sequence[Candidate], *, most: int) -> Table:
    def row(candidate: Candidate) -> tuple[Cell, ...]:
        version = candidate.version
        return (
            f"{'▸ ' if candidate.won else '  '}{version.price_id}",
            version.price_list,
            version.currency,
            validity(version, priced.default_zone),
            candidate.verdict,
        )

    most = min(most, _CANDIDATES)
    kept = len(found) if len(found) <= most + 1 else most
    others = (f"and {len(found) - kept:,} more prices of the SKU", *([None] * 4)) if kept < len(found) else None
    columns = tuple(Column(name, is_whole=name != "Why") for name in ("Price", "List", "Currency", "Valid", "Why"))
    return Table(columns, tuple(row(candidate) for candidate in found[:kept]), others)


def _tier_table(priced: Priced, version: Version) -> Table:
    has_fee = any(tier.flat_fee for tier in version.tiers) or version.flat_at_zero
    has_package = any(tier.package_size for tier in version.tiers)
    columns = [Column("Above", is_number=True), Column("Up to", is_number=True),
               Column(f"{version.currency} per {priced.unit_shown if not has_package else 'unit or package'}",
                      is_number=True, at_least=2)]  # fmt: skip
    if has_package:
        columns.append(Column(f"Package, {priced.unit_shown}", is_number=True))
    if has_fee:
        columns.append(Column("Flat fee", is_number=True, at_least=2))
    rows: list[tuple[Cell, ...]] = []
    for tier in version.tiers:
        row: list[Cell] = [tier.lower, tier.up_to if tier.up_to is not None else "and more", tier.unit_price]
        row += [tier.package_size] if has_package else []
        row += [tier.flat_fee] if has_fee else []
        rows.append(tuple(row))
    return Table(tuple(columns), tuple(rows))
