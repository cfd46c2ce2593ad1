"""From charges to draft invoices: rounded lines, what rounding changed, tax per rate, totals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar
from zoneinfo import ZoneInfo

from reference.exact import ZERO, exactly, to_money, total
from reference.model import (
    Account,
    Book,
    BookError,
    Charge,
    Invoice,
    InvoiceLine,
    Tax,
    TaxLine,
    World,
    month_end,
)

if TYPE_CHECKING:
    from datetime import date, datetime
    from decimal import Decimal

K = TypeVar("K", bound=Hashable)


def invoice_id(period: str, billing_account_id: str, currency: str) -> str:
    """Identity of an invoice: one per billing account and currency."""
    return f"{period}-{billing_account_id}-{currency}"


@exactly
def invoice_month(
    world: World, charges: Sequence[Charge]
) -> tuple[list[Invoice], list[InvoiceLine], list[TaxLine], list[Charge]]:
    """(invoices, lines, tax lines, rounding charges) of a month's charges."""
    invoices: list[Invoice] = []
    lines: list[InvoiceLine] = []
    tax_lines: list[TaxLine] = []
    rounding: list[Charge] = []
    for (payer, currency), mine in _by(charges, [(c.billing_account_id, c.currency) for c in charges]):
        own_lines, own_rounding = _lines(world, world.book.account(payer), mine)
        own_taxes = _taxes(world, world.book.account(payer), currency, own_lines)
        untaxed = total([line.amount for line in own_lines])
        tax = total([line.tax_amount for line in own_taxes])
        invoices.append(
            Invoice(
                invoice_id=invoice_id(world.period, payer, currency),
                period=world.period,
                billing_account_id=payer,
                currency=currency,
                lines=len(own_lines),
                list_amount=total([line.cost if line.list_cost is None else line.list_cost for line in own_lines]),
                untaxed_amount=untaxed,
                tax_amount=tax,
                total_amount=untaxed + tax,
                due_amount=untaxed + tax,
                rounding=total([line.rounding for line in own_lines]),
            )
        )
        lines += own_lines
        tax_lines += own_taxes
        rounding += own_rounding
    return invoices, lines, tax_lines, rounding


def _by(charges: Sequence[Charge], keys: Sequence[K]) -> list[tuple[K, list[Charge]]]:
    """Charges by key, keys in order, nulls first."""
    groups: dict[K, list[Charge]] = defaultdict(list)
    for key, charge in zip(keys, charges, strict=True):
        groups[key].append(charge)
    return sorted(groups.items(), key=lambda item: [(part is not None, part or "") for part in item[0]])  # type: ignore[attr-defined]


def _lines(world: World, payer: Account, charges: Sequence[Charge]) -> tuple[list[InvoiceLine], list[Charge]]:
    """One line per (account, project, SKU, region, price version), and its rounding as a charge.

    Lines stand in order of account, project, service, SKU, region, first day, price version, nulls first. A line's
    list_cost is empty where a charge has no public price; the invoice's list_amount counts such a line at its cost.
    A line's amount is its cost rounded half-up once. What that added (or took) is a charge of kind ``rounding`` where
    it is not 0, so that charges add up to lines at every level; it has no resource, day or public price of its own.
    """
    lines: list[InvoiceLine] = []
    rounding: list[Charge] = []
    keys = [(c.account_id, c.project_id, c.sku_id, c.region, c.price_id) for c in charges]
    for key, mine in _by(charges, keys):
        account_id, project_id, sku_id, region, price_id = key
        cost = total([charge.cost for charge in mine])
        amount = to_money(cost, mine[0].currency)
        usage = [charge for charge in mine if charge.charge_kind == "usage"]
        unit_prices = {charge.contracted_unit_price for charge in usage}
        list_costs = [charge.list_cost for charge in mine]
        sku = world.book.sku(sku_id)
        zone = payer.time_zone or world.time_zone
        line = InvoiceLine(
            invoice_id=mine[0].invoice_id,
            line_number=0,
            account_id=account_id,
            account_name=world.book.account(account_id).name,
            project_id=project_id,
            project_name=_project_name(world.book, account_id, project_id, max(c.charge_start for c in usage)),
            service=sku.service,
            category=sku.category,
            sku_id=sku_id,
            sku_name=sku.name,
            region=region,
            price_id=price_id,
            first_day=_local_day(min(c.charge_start for c in usage), zone),
            last_day=max(charge.local_day for charge in usage if charge.local_day is not None),
            pricing_quantity=total([charge.pricing_quantity or ZERO for charge in usage]),
            pricing_unit=sku.pricing_unit,
            unit_price=unit_prices.pop() if len(unit_prices) == 1 else None,
            list_cost=None if None in list_costs else total([value for value in list_costs if value is not None]),
            cost=cost,
            amount=amount,
            rounding=amount - cost,
            tax_code=find_tax(world, payer, sku.tax_category).tax_code,
            tax_category=sku.tax_category,
        )
        lines.append(line)
        if line.rounding != 0:
            rounding.append(_rounding_charge(line, mine))
    lines.sort(key=_place_on_invoice)
    return [replace(line, line_number=number) for number, line in enumerate(lines, start=1)], rounding


def _place_on_invoice(line: InvoiceLine) -> list[tuple[bool, str | date]]:
    key = (
        line.account_id, line.project_id, line.service, line.sku_id, line.region, line.first_day, line.price_id,
    )  # fmt: skip
    return [(value is not None, value if value is not None else "") for value in key]


def _rounding_charge(line: InvoiceLine, charges: Sequence[Charge]) -> Charge:
    return replace(
        charges[0],
        resource_id=None,
        resource_name=None,
        tags=None,
        charge_start=min(charge.charge_start for charge in charges),
        charge_end=max(charge.charge_end for charge in charges),
        charge_kind="rounding",
        list_price_id=None,
        usage_quantity=None,
        usage_unit=None,
        pricing_quantity=None,
        pricing_unit=None,
        list_unit_price=None,
        contracted_unit_price=None,
        list_cost=ZERO,
        contracted_cost=ZERO,
        cost=line.rounding,
        local_day=None,
        exchange_rate=None,
        list_exchange_rate=None,
    )


def _project_name(book: Book, account_id: str, project_id: str | None, instant: datetime) -> str | None:
    """The latest name the project had at this account by the line's last usage; None for one that was never there.

    The name that another account gave it after a move (or before) is none of this account's business.
    """
    names = [
        (project.valid_from is not None, project.valid_from or instant, project.name)
        for project in book.projects
        if (project.project_id, project.account_id) == (project_id, account_id)
        and (project.valid_from is None or project.valid_from <= instant)
    ]
    return max(names)[2] if names else None


def _local_day(instant: datetime, zone: str) -> date:
    return instant.astimezone(ZoneInfo(zone)).date()


def find_tax(world: World, payer: Account, category: str) -> Tax:
    """The tax row of a payer and a tax category at the tax point: the last instant of the payer's local month.

    By the payer's tax_code where it has one, else by its country; a row for its state comes before one for any state.

    Raises:
        BookError: when there is none, or more than one.
    """
    end = month_end(world.period, payer.time_zone or world.time_zone)
    rows = [
        tax
        for tax in world.book.taxes
        if tax.category == category
        and (tax.tax_code == payer.tax_code if payer.tax_code is not None else tax.country == payer.country)
        and (tax.valid_from is None or tax.valid_from < end)
        and (tax.valid_to is None or tax.valid_to >= end)
    ]
    own = [tax for tax in rows if tax.region is not None and tax.region == payer.state]
    found = own or [tax for tax in rows if tax.region is None]
    if len(found) != 1:
        raise BookError(f"{payer.account_id} has {len(found)} taxes of category {category}")
    return found[0]


@exactly
def _taxes(world: World, payer: Account, currency: str, lines: Sequence[InvoiceLine]) -> list[TaxLine]:
    """Per (tax code, category, rate): tax rounded half-up once, on the sum of the lines."""
    groups: dict[tuple[str, str, Decimal], tuple[Tax, list[InvoiceLine]]] = {}
    for line in lines:
        tax = find_tax(world, payer, line.tax_category)
        groups.setdefault((tax.tax_code, tax.category, tax.rate), (tax, []))[1].append(line)
    found: list[TaxLine] = []
    for (code, category, rate), (tax, mine) in sorted(groups.items(), key=lambda item: item[0]):
        base = total([line.amount for line in mine])
        found.append(
            TaxLine(
                invoice_id=mine[0].invoice_id,
                tax_code=code,
                category=category,
                kind=tax.kind,
                rate=rate,
                base_amount=base,
                tax_amount=to_money(base * rate / 100, currency),
                note=tax.note,
            )
        )
    return found
