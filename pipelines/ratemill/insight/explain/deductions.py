"""Discounts, discounts of commitments and promotional credits of one invoice, taken off again one after the other.

Rules: docs/how-we-bill.md, "Discounts", "Commitments", "Credits", "Spreading". Plain decimals, line by line: the other
road to what ``invoicing/`` computes for all invoices together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ratemill.insight.explain.arithmetic import Operand as Of
from ratemill.insight.explain.arithmetic import (
    Spread,
    Working,
    must_equal,
    part_of,
    round_down,
    shown,
    spread,
    total,
    work,
)
from ratemill.money import ZERO

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

Row = Mapping[str, Any]
_DISCOUNTED = ("usage", "recurring")


@dataclass(frozen=True)
class Base:
    """A line that a deduction is taken off."""

    line_number: int
    left: Decimal
    """What former deductions left of it."""
    base: Decimal
    """What the deduction is on: all that is left, the undiscounted amount, or the part that validity covers."""
    covered: Decimal | None
    """Exact cost of the charges that start while a discount is valid, where it is not valid all month."""
    spread: Spread
    taken: Decimal


@dataclass(frozen=True)
class Deducted:
    """One deduction of an invoice, computed again."""

    number: int
    kind: str
    source_id: str
    name: str
    percent: Decimal | None
    whole: Working
    """What is taken off the invoice in all."""
    bases: Mapping[int, Base]
    """line_number → its part."""
    base_total: Decimal
    facts: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Deals:
    """Rows of the book that deduct, by id."""

    discounts: Mapping[str, Row]
    commitments: Mapping[str, Row]
    credits: Mapping[str, Row]


def taken_again(
    invoice: Row,
    lines: Sequence[Row],
    deductions: Sequence[Row],
    *,
    deals: Deals,
    committed: Mapping[str, Row],
    drawn: Mapping[str, Row],
    covered: Mapping[tuple[str, int], Decimal],
    tax_point: datetime,
    places: int,
) -> list[Deducted]:
    """The deductions of an invoice in their order, each held against what every line had taken off.

    Args:
        invoice: row of INVOICES.
        lines: its lines, by number.
        deductions: its rows of INVOICE_DEDUCTIONS.
        deals: the book's discounts, commitments and credits.
        committed: commitment_id → row of COMMITMENT_LEDGER.
        drawn: credit_id → row of CREDIT_LEDGER.
        covered: discount_id and line_number → exact cost while the discount is valid, of discounts for part of a month.
        tax_point: last instant of the payer's month.
        places: decimals of the currency.

    Raises:
        InvariantError: a line had another share taken off.
    """
    left = {line["line_number"]: line["amount"] for line in lines}
    found: list[Deducted] = []
    for number in sorted({row["deduction_number"] for row in deductions}):
        rows = [row for row in deductions if row["deduction_number"] == number]
        first = rows[0]
        deduction = _again(
            first, invoice, lines, left, deals=deals, committed=committed, drawn=drawn, covered=covered,
            tax_point=tax_point, places=places,
        )  # fmt: skip
        stored = {row["line_number"]: -row["amount"] for row in rows}
        for line_number in {*stored, *deduction.bases}:
            base = deduction.bases.get(line_number)
            what = f"what {first['kind']} {first['source_id']} takes off line {line_number}"
            must_equal(what, base.taken if base else ZERO, stored.get(line_number, ZERO))
            left[line_number] = total((left[line_number], -stored.get(line_number, ZERO)))
        found.append(deduction)
    return found


def _again(
    first: Row, invoice: Row, lines: Sequence[Row], left: Mapping[int, Decimal], *, deals: Deals,
    committed: Mapping[str, Row], drawn: Mapping[str, Row], covered: Mapping[tuple[str, int], Decimal],
    tax_point: datetime, places: int,
) -> Deducted:  # fmt: skip
    kind, source = first["kind"], first["source_id"]
    row = {"discount": deals.discounts, "commitment": deals.commitments, "credit": deals.credits}[kind][source]
    open_lines = [line for line in lines if left[line["line_number"]] > 0]
    parts: dict[int, tuple[Decimal, Decimal | None]] = {}
    for line in open_lines:
        if not _concerns(kind, row, line, invoice, tax_point):
            continue
        on_amount = kind == "discount" and row["mode"] == "additive" and row["percent"] is not None
        whole = line["amount"] if on_amount else left[line["line_number"]]
        inside = covered.get((source, line["line_number"])) if kind == "discount" else None
        base = whole if inside is None else _covered_part(whole, inside, line["cost"], places)
        if base > 0:
            parts[line["line_number"]] = (base, inside)
    base_total = total(base for base, _ in parts.values())
    untaxed = total(left.values())
    whole_working, facts = _whole(
        kind, row, base_total, untaxed, committed=committed.get(source), drawn=drawn.get(source), places=places,
        currency=invoice["currency"],
    )  # fmt: skip
    spreads = spread(whole_working.result, [base for base, _ in parts.values()], places) if parts else []
    bases = {
        number: Base(number, left[number], base, inside, each, min(each.share, left[number]))
        for (number, (base, inside)), each in zip(parts.items(), spreads, strict=True)
    }
    return Deducted(first["deduction_number"], kind, source, first["description"], first["percent"], whole_working,
                    bases, base_total, facts)  # fmt: skip


def _concerns(kind: str, row: Row, line: Row, invoice: Row, tax_point: datetime) -> bool:
    """Whether a deduction is for a line that has something left."""
    if kind == "commitment":
        own_shortfall = line["line_kind"] == "commitment" and line["source_id"] == row["commitment_id"]
        return own_shortfall or (line["line_kind"] == "usage" and in_scope(row, line))
    if kind == "credit":
        return in_scope(row, line)
    if line["line_kind"] not in _DISCOUNTED or not in_scope(row, line):
        return False
    if row["account_id"] not in (None, line["account_id"], invoice["billing_account_id"]):
        return False
    begun = row["valid_from"] is None or row["valid_from"] <= tax_point
    ended = row["valid_to"] is not None and tax_point >= row["valid_to"]
    return line["line_kind"] == "usage" or (begun and not ended)


def in_scope(row: Row, line: Row) -> bool:
    """Whether all that the scope of a row of the book names holds for a line."""
    for name in ("category", "service", "project_id", "region"):
        if row[name] is not None and row[name] != line[name]:
            return False
    listed = row["sku_ids"]
    if listed is not None and line["sku_id"] not in listed.split():
        return False
    return row["excludes"] is None or line["sku_id"] not in row["excludes"].split()


def _covered_part(base: Decimal, inside: Decimal, cost: Decimal, places: int) -> Decimal:
    if not cost:
        return ZERO
    return part_of(base, min(max(inside, ZERO), cost), cost, places, "half-up")


def _whole(
    kind: str, row: Row, base_total: Decimal, untaxed: Decimal, *, committed: Row | None, drawn: Row | None,
    places: int, currency: str,
) -> tuple[Working, tuple[str, ...]]:  # fmt: skip
    """What a deduction comes to on the whole invoice."""
    shared: dict[str, Any] = {"unit": currency, "at_least": places}
    if kind == "discount" and row["percent"] is not None:
        return work(
            "percent", Of(base_total, "what it is on"), Of(row["percent"], unit="%"), name="off the invoice",
            places=places, rounding="half-up", **shared,
        ), ()  # fmt: skip
    if kind == "discount":
        return work(
            "smallest", Of(row["amount"], "amount of the discount"), Of(base_total, "what it can be taken off"),
            name="off the invoice", **shared,
        ), ()  # fmt: skip
    if kind == "commitment":
        promised = committed["committed_amount"] if committed else ZERO
        percent = work("percent", promised, row["discount_percent"], places=places, rounding="half-up").result
        said = f"{shown(row['discount_percent'])} % of {shown(promised, places)} {currency}"
        return work(
            "smallest", Of(percent, said), Of(base_total, "what it can be taken off"), name="off the invoice", **shared
        ), ()  # fmt: skip
    balance = drawn["balance_before"] if drawn else ZERO
    available = round_down(balance, places)
    return work(
        "smallest", Of(available, "left of the credit"), Of(base_total, "lines it may pay"),
        Of(untaxed, "untaxed amount of the invoice"), name="off the invoice", **shared,
    ), ()  # fmt: skip
