"""From charges to draft invoices: lines, what is taken off them, tax per rate, totals, and the charges this adds.

The order: discounts, discounts of commitments, promotional credits, tax, prepaid credits.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from reference.exact import ZERO, exactly, total
from reference.ledger import Deductions, commit, commitment_discount, discount, use_prepaid, use_promotional
from reference.lines import Document, OpenLine, adjustment_lines, correction_lines, fee_lines, numbered, usage_lines
from reference.model import (
    Adjustment,
    Charge,
    CommitmentMonth,
    CreditDraw,
    Deduction,
    Invoice,
    InvoiceLine,
    Recurring,
    TaxLine,
    World,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal


@dataclass(frozen=True)
class Invoiced:
    """What invoices consist of, and the charges they add to those of usage."""

    invoices: list[Invoice] = field(default_factory=list)
    lines: list[InvoiceLine] = field(default_factory=list)
    deductions: list[Deduction] = field(default_factory=list)
    tax_lines: list[TaxLine] = field(default_factory=list)
    credits: list[CreditDraw] = field(default_factory=list)
    commitments: list[CommitmentMonth] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)

    def extend(self, other: Invoiced) -> None:
        for name, rows in vars(self).items():
            rows.extend(getattr(other, name))


@exactly
def invoice_month(world: World, charges: Sequence[Charge]) -> Invoiced:
    """The month's invoices: one per payer and currency that anything is billed in."""
    found = Invoiced()
    for document in documents(world, charges):
        mine = [
            charge
            for charge in charges
            if (charge.billing_account_id, charge.currency) == (document.payer.account_id, document.currency)
        ]
        found.extend(_invoice(document, mine))
    return found


def documents(world: World, charges: Sequence[Charge]) -> list[Document]:
    """Every payer and currency that something could be billed in, in order."""
    book = world.book
    pairs = {(charge.billing_account_id, charge.currency) for charge in charges}
    pairs |= {(row.account_id, row.currency) for row in book.commitments}
    pairs |= {(row.billing_account_id, row.currency) for row in world.corrections}
    rows: list[Recurring | Adjustment] = [*book.recurring, *book.adjustments]
    for row in rows:
        payer = book.payer_of(book.account(row.account_id))
        pairs.add((payer.account_id, row.currency or payer.currency))
    return [Document(world, book.account(payer), currency) for payer, currency in sorted(pairs)]


def _invoice(document: Document, charges: Sequence[Charge]) -> Invoiced:
    """One invoice; nothing at all where there is no line."""
    usage = usage_lines(document, charges)
    months, shortfalls = commit(document, usage)
    lines = numbered(
        [*usage, *fee_lines(document), *adjustment_lines(document), *shortfalls, *correction_lines(document)]
    )
    if not lines:
        return Invoiced()
    deductions = Deductions(document)
    discount(document, lines, deductions)
    months = [
        replace(month, discount_amount=ZERO - commitment_discount(document, month, lines, deductions))
        for month in months
    ]
    draws = use_promotional(document, lines, deductions)
    closed = [line.closed() for line in lines]
    taxes = _taxes(document, lines)
    untaxed, tax = total([line.net_amount for line in closed]), total([line.tax_amount for line in taxes])
    prepaid = use_prepaid(document, untaxed + tax)
    paid = total([row.amount for row in prepaid])
    invoice = Invoice(
        invoice_id=document.invoice_id,
        document="credit_note" if untaxed + tax < 0 else "invoice",
        period=document.world.period,
        billing_account_id=document.payer.account_id,
        currency=document.currency,
        lines=len(closed),
        list_amount=list_amount(closed),
        subtotal_amount=total([line.amount for line in closed]),
        discount_amount=total([line.discount_amount for line in closed]),
        commitment_amount=total([line.commitment_amount for line in closed]),
        credit_amount=total([line.credit_amount for line in closed]),
        untaxed_amount=untaxed,
        tax_amount=tax,
        total_amount=untaxed + tax,
        prepaid_amount=ZERO - paid,
        due_amount=untaxed + tax - paid,
        rounding=total([line.rounding for line in closed]),
    )
    return Invoiced(
        [invoice],
        closed,
        deductions.rows,
        taxes,
        sorted([*draws, *prepaid], key=lambda row: row.credit_id),
        months,
        added_charges(lines, deductions.rows),
    )


def list_amount(lines: Sequence[InvoiceLine]) -> Decimal:
    """Cost of usage at public prices; a line that has none counts at its cost."""
    usage = [line for line in lines if line.line_kind == "usage"]
    return total([line.cost if line.list_cost is None else line.list_cost for line in usage])


def added_charges(lines: Sequence[OpenLine], deductions: Sequence[Deduction]) -> list[Charge]:
    """Charges that make charges add up to net amounts: fees and the like, rounding of lines, and every deduction."""
    found = [charge for line in lines if line.row.line_kind != "usage" for charge in line.charges]
    found += [line.added_charge("rounding", line.row.rounding, None) for line in lines if line.row.rounding != 0]
    by_number = {line.row.line_number: line for line in lines}
    found += [by_number[row.line_number].added_charge(row.kind, row.amount, row.source_id) for row in deductions]
    return found


@exactly
def _taxes(document: Document, lines: Sequence[OpenLine]) -> list[TaxLine]:
    """Per (tax code, category, rate): tax rounded half-up once, on the sum of the lines' net amounts."""
    groups: dict[tuple[str, str, Decimal], list[OpenLine]] = defaultdict(list)
    for line in lines:
        groups[line.tax.tax_code, line.tax.category, line.tax.rate].append(line)
    found: list[TaxLine] = []
    for (code, category, rate), mine in sorted(groups.items(), key=lambda item: item[0]):
        base = total([line.net for line in mine])
        found.append(
            TaxLine(
                invoice_id=document.invoice_id,
                tax_code=code,
                category=category,
                kind=mine[0].tax.kind,
                rate=rate,
                base_amount=base,
                tax_amount=document.money(base * rate / 100),
                note=mine[0].tax.note,
            )
        )
    return found
