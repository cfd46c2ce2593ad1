"""What is taken off an invoice: discounts, then discounts of commitments, then promotional credits; then who has paid.

Everything here is in minor units of the invoice's currency: an amount is taken off lines in whole cents (or yen), which
add up to it exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from reference.exact import MINOR_UNITS, ZERO, exactly, total
from reference.lines import Document, OpenLine, shortfall_line
from reference.model import CommitmentMonth, Credit, CreditDraw, Deduction, Discount, month_days

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from reference.model import Commitment, Scope

Base: TypeAlias = tuple[OpenLine, "Decimal"]
"""A line, and how much of it counts."""


def in_scope(scope: Scope, line: OpenLine) -> bool:
    """Whether a discount, commitment or credit is for the line: all conditions that are given hold.

    A line for no SKU has no category or service to ask for, and cannot be left out by its SKU.
    """
    row = line.row
    return (
        (scope.category is None or scope.category == row.category)
        and (scope.service is None or scope.service == row.service)
        and (not scope.sku_ids or row.sku_id in scope.sku_ids)
        and (scope.project_id is None or scope.project_id == row.project_id)
        and (scope.region is None or scope.region == row.region)
        and row.sku_id not in scope.excludes
    )


@exactly
def spread(amount: Decimal, bases: Sequence[Decimal], currency: str) -> list[Decimal]:
    """``amount`` in whole minor units pro rata to ``bases``, by largest remainder; of equal ones the first gets more."""
    places = MINOR_UNITS[currency]
    whole = total(bases)
    parts, remainders = [], []
    for base in bases:
        part, remainder = divmod(amount.scaleb(places) * base, whole)
        parts.append(part)
        remainders.append(remainder)
    missing = int(amount.scaleb(places) - total(parts))
    by_remainder = sorted(range(len(bases)), key=lambda place: (-remainders[place], place))
    for place in by_remainder[:missing]:
        parts[place] += 1
    return [part.scaleb(-places) for part in parts]


@dataclass(frozen=True)
class Deductions:
    """What was taken off the lines of one invoice so far, in order."""

    document: Document
    rows: list[Deduction] = field(default_factory=list)

    @exactly
    def take_off(
        self, kind: str, source: Discount | Commitment | Credit, amount: Decimal, bases: Sequence[Base]
    ) -> Decimal:
        """Take ``amount`` off the lines pro rata to their bases, never more off one than is left of it.

        Returns:
            What was taken off. Each share that is not 0 becomes a deduction; they have one number.
        """
        if amount <= 0:
            return ZERO
        number = self.rows[-1].deduction_number + 1 if self.rows else 1
        shares = spread(amount, [base for _, base in bases], self.document.currency)
        found = []
        for (line, _), share in zip(bases, shares, strict=True):
            taken = min(share, line.net)
            if taken > 0:
                line.taken[kind] += taken
                found.append(
                    Deduction(
                        invoice_id=self.document.invoice_id,
                        deduction_number=number,
                        line_number=line.row.line_number,
                        kind=kind,
                        source_id=_id_of(source),
                        description=source.note,
                        percent=_percent_of(source),
                        amount=-taken,
                    )
                )
        self.rows.extend(found)
        return ZERO - total([row.amount for row in found])


def _id_of(source: Discount | Commitment | Credit) -> str:
    match source:
        case Discount():
            return source.discount_id
        case Credit():
            return source.credit_id
        case _:
            return source.commitment_id


def _percent_of(source: Discount | Commitment | Credit) -> Decimal | None:
    match source:
        case Discount():
            return source.percent
        case Credit():
            return None
        case _:
            return source.discount_percent


# Discounts -----------------------------------------------------------------------------------------------------------


@exactly
def discount(document: Document, lines: Sequence[OpenLine], deductions: Deductions) -> None:
    """Apply every discount: percents before amounts, each by priority, then id.

    A percent takes its part of the bases, rounded half-up once. An amount takes itself, or what there is.
    """
    rows = sorted(document.world.book.discounts, key=lambda row: (row.percent is None, row.priority, row.discount_id))
    for row in rows:
        if row.percent is None and row.currency != document.currency:
            continue
        bases = [(line, base) for line in lines if (base := discount_base(document, row, line)) > 0]
        if not bases:
            continue
        if row.percent is not None:
            amount = document.money(total([base for _, base in bases]) * row.percent / 100)
        else:
            assert row.amount is not None
            amount = min(row.amount, total([min(base, line.net) for line, base in bases]))
        deductions.take_off("discount", row, amount, bases)


def discount_base(document: Document, row: Discount, line: OpenLine) -> Decimal:
    """What a discount's percent is taken of, and what it is spread by: 0 on lines it is not for.

    compound, and every amount: what is left of the line. additive: what it was before. Of usage only the part whose charges
    start in the discount's time: the line's amount in proportion to their exact cost (a cap is a charge below 0, so the
    part may seem to exceed the whole, or to be below nothing: then it is the whole, or nothing).
    Other lines have the discount where it is valid at the tax point.
    """
    account = document.world.book.account(line.row.account_id)
    if (
        line.row.line_kind not in ("usage", "recurring")
        or line.net <= 0
        or row.account_id not in (None, account.account_id, document.payer.account_id)
        or not in_scope(row, line)
    ):
        return ZERO
    additive = row.mode == "additive" and row.percent is not None
    whole = line.row.amount if additive else line.net
    if line.row.line_kind != "usage":
        return whole if document.holds_at_tax_point(row.valid_from, row.valid_to) else ZERO
    inside = total(
        [
            charge.cost
            for charge in line.charges
            if (row.valid_from is None or row.valid_from <= charge.charge_start)
            and (row.valid_to is None or charge.charge_start < row.valid_to)
        ]
    )
    return max(ZERO, min(whole, document.money(whole * inside / line.row.cost)))


# Commitments ---------------------------------------------------------------------------------------------------------


def commitments_of(document: Document) -> list[Commitment]:
    """Commitments of the payer in the currency that come to anything this month, by id."""
    return sorted(
        (
            row
            for row in document.world.book.commitments
            if (row.account_id, row.currency) == (document.payer.account_id, document.currency)
            and document.prorated(row.amount, document.days(row.valid_from, row.valid_to)) > 0
        ),
        key=lambda row: row.commitment_id,
    )


@exactly
def commit(document: Document, usage: Sequence[OpenLine]) -> tuple[list[CommitmentMonth], list[OpenLine]]:
    """(what each commitment comes to, lines for what was committed to but not used).

    Committed is the amount for the days on which the commitment is valid. Eligible is the amount of the month's usage
    lines in its scope, before discounts. The discount is not known yet.
    """
    months, shortfalls = [], []
    for row in commitments_of(document):
        days = document.days(row.valid_from, row.valid_to)
        committed = document.prorated(row.amount, days)
        eligible = total([line.row.amount for line in usage if in_scope(row, line)])
        shortfall = max(ZERO, committed - eligible)
        if shortfall > 0:
            shortfalls.append(shortfall_line(document, row, shortfall))
        months.append(
            CommitmentMonth(
                invoice_id=document.invoice_id,
                commitment_id=row.commitment_id,
                currency=document.currency,
                committed_amount=committed,
                days=len(days),
                days_in_month=len(month_days(document.world.period)),
                eligible_amount=eligible,
                shortfall_amount=shortfall,
                discount_amount=ZERO,
                description=row.note,
            )
        )
    return months, shortfalls


@exactly
def commitment_discount(
    document: Document, month: CommitmentMonth, lines: Sequence[OpenLine], deductions: Deductions
) -> Decimal:
    """Take off the committed amount times its discount: of eligible usage and of its shortfall, as far as they go."""
    row = next(row for row in document.world.book.commitments if row.commitment_id == month.commitment_id)
    bases = [
        (line, line.net)
        for line in lines
        if line.net > 0
        and (
            (line.row.line_kind == "usage" and in_scope(row, line))
            or (line.row.line_kind == "commitment" and line.row.source_id == row.commitment_id)
        )
    ]
    amount = document.money(month.committed_amount * row.discount_percent / 100)
    amount = min(amount, total([base for _, base in bases]))
    return deductions.take_off("commitment", row, amount, bases)


# Credits -------------------------------------------------------------------------------------------------------------


def credits_of(document: Document, kind: str) -> list[Credit]:
    """Credits of the payer that can be used at the tax point: those that expire first, then by id."""
    return sorted(
        (
            row
            for row in document.world.book.credits
            if (row.account_id, row.currency, row.kind) == (document.payer.account_id, document.currency, kind)
            and document.holds_at_tax_point(row.granted_on, row.expires_on)
        ),
        key=lambda row: ((1,) if row.expires_on is None else (0, row.expires_on), row.credit_id),
    )


@exactly
def balance_of(document: Document, row: Credit) -> Decimal:
    """What earlier months have left of a credit."""
    return row.amount - document.world.credits_drawn.get(row.credit_id, ZERO)


@exactly
def use_promotional(document: Document, lines: Sequence[OpenLine], deductions: Deductions) -> list[CreditDraw]:
    """Take promotional credits off the lines they are for, at most what is left of those, and of the whole invoice."""
    draws = []
    for row in credits_of(document, "promotional"):
        bases = [(line, line.net) for line in lines if line.net > 0 and in_scope(row, line)]
        untaxed = total([line.net for line in lines])
        amount = min(balance_of(document, row), total([base for _, base in bases]), untaxed)
        taken = deductions.take_off("credit", row, amount, bases)
        draws += draw(document, row, taken)
    return draws


@exactly
def use_prepaid(document: Document, due: Decimal) -> list[CreditDraw]:
    """Pay what is due from prepaid credits, as far as they go."""
    draws = []
    for row in credits_of(document, "prepaid"):
        amount = max(ZERO, min(balance_of(document, row), due))
        due -= amount
        draws += draw(document, row, amount)
    return draws


def draw(document: Document, row: Credit, amount: Decimal) -> list[CreditDraw]:
    """The ledger's row, if anything was used."""
    if amount <= 0:
        return []
    before = balance_of(document, row)
    return [
        CreditDraw(
            invoice_id=document.invoice_id,
            credit_id=row.credit_id,
            kind=row.kind,
            currency=row.currency,
            balance_before=before,
            amount=amount,
            balance_after=before - amount,
            description=row.note,
        )
    ]
