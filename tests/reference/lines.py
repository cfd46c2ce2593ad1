"""What an invoice bills: usage, recurring fees, adjustments, and commitments that were not used up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar
from zoneinfo import ZoneInfo

from reference.exact import ZERO, exactly, to_money, total
from reference.model import (
    Account,
    Book,
    BookError,
    Charge,
    InvoiceLine,
    Tax,
    World,
    month_days,
    month_end,
    month_start,
    noon,
)

if TYPE_CHECKING:
    from datetime import date, datetime
    from decimal import Decimal

    from reference.model import Commitment, Recurring

K = TypeVar("K", bound=Hashable)

STANDARD = "standard"
LINE_KINDS = ("usage", "recurring", "adjustment", "commitment", "correction")


@dataclass(frozen=True)
class Document:
    """An invoice in the making: who pays, in which currency, and when its month is."""

    world: World
    payer: Account
    currency: str

    @property
    def invoice_id(self) -> str:
        return invoice_id(self.world.period, self.payer.account_id, self.currency)

    @property
    def zone(self) -> str:
        return self.payer.time_zone or self.world.time_zone

    @property
    def start(self) -> datetime:
        return month_start(self.world.period, self.zone)

    @property
    def end(self) -> datetime:
        return month_end(self.world.period, self.zone)

    @property
    def tax_point(self) -> datetime:
        """The last instant of the month."""
        return self.end - timedelta(microseconds=1)

    def money(self, amount: Decimal) -> Decimal:
        return to_money(amount, self.currency)

    def holds_at_tax_point(self, first: datetime | None, end: datetime | None) -> bool:
        return (first is None or first <= self.tax_point) and (end is None or self.tax_point < end)

    def days(self, first: datetime | None, end: datetime | None) -> list[date]:
        """Local days of the month that count: those whose noon is not before ``first`` and before ``end``."""
        return [
            day
            for day in month_days(self.world.period)
            if (first is None or first <= noon(day, self.zone)) and (end is None or noon(day, self.zone) < end)
        ]

    def prorated(self, amount: Decimal, days: Sequence[date]) -> Decimal:
        """The part of a month's amount that so many of its days come to."""
        return self.money(amount * len(days) / len(month_days(self.world.period)))

    def pays_for(self, account: Account) -> bool:
        return self.world.book.payer_of(account).account_id == self.payer.account_id


@dataclass(eq=False)
class OpenLine:
    """A line from which things are still taken off."""

    row: InvoiceLine
    charges: list[Charge]
    """The charges that its amount is for: several of usage, one of everything else. Rounding is not among them."""
    tax: Tax
    taken: dict[str, Decimal] = field(default_factory=lambda: defaultdict(lambda: ZERO))
    """By kind of deduction: what it took off, as a positive amount."""
    corrected_kind: str | None = None
    """Of a correction: the kind of line that it corrects."""

    @property
    def net(self) -> Decimal:
        """What is left of the amount."""
        return self.row.amount - total(list(self.taken.values()))

    def closed(self) -> InvoiceLine:
        """The line with its shares."""
        return replace(
            self.row,
            discount_amount=ZERO - self.taken["discount"],
            commitment_amount=ZERO - self.taken["commitment"],
            credit_amount=ZERO - self.taken["credit"],
            net_amount=self.net,
        )

    def added_charge(self, kind: str, cost: Decimal, source_id: str | None) -> Charge:
        """A charge about the line as a whole: it has no resource, day or price of its own."""
        return replace(
            self.charges[0],
            resource_id=None,
            resource_name=None,
            tags=None,
            charge_start=min(charge.charge_start for charge in self.charges),
            charge_end=max(charge.charge_end for charge in self.charges),
            charge_kind=kind,
            list_price_id=None,
            usage_quantity=None,
            usage_unit=None,
            pricing_quantity=None,
            pricing_unit=None,
            list_unit_price=None,
            contracted_unit_price=None,
            list_cost=ZERO,
            contracted_cost=ZERO,
            cost=cost,
            source_id=source_id,
            local_day=None,
            exchange_rate=None,
            list_exchange_rate=None,
        )


def invoice_id(period: str, billing_account_id: str, currency: str) -> str:
    """Identity of an invoice: one per billing account and currency."""
    return f"{period}-{billing_account_id}-{currency}"


def numbered(lines: Sequence[OpenLine]) -> list[OpenLine]:
    """Lines by account; usage first, then fees, adjustments, shortfalls and corrections; in each by what they are for."""
    ordered = sorted(lines, key=_place_on_invoice)
    for number, line in enumerate(ordered, start=1):
        line.row = replace(line.row, line_number=number)
    return ordered


def _place_on_invoice(line: OpenLine) -> list[tuple[bool, str | int | date]]:
    row = line.row
    key = (
        row.account_id, LINE_KINDS.index(row.line_kind), row.project_id, row.service, row.sku_id, row.region,
        row.first_day, row.price_id, row.corrects_period, line.corrected_kind, row.source_id,
    )  # fmt: skip
    return [(value is not None, value if value is not None else "") for value in key]


# Usage ---------------------------------------------------------------------------------------------------------------


@exactly
def usage_lines(document: Document, charges: Sequence[Charge]) -> list[OpenLine]:
    """One line per (account, project, SKU, region, price version).

    A line's list_cost is empty where a charge has no public price. Its amount is its cost rounded half-up once. What
    that added (or took) is a charge of kind ``rounding`` where it is not 0, so that charges add up to lines at every
    level.
    """
    world = document.world
    lines: list[OpenLine] = []
    keys = [(c.account_id, c.project_id, c.sku_id, c.region, c.price_id) for c in charges]
    for key, mine in by(charges, keys):
        account_id, project_id, sku_id, region, price_id = key
        assert sku_id is not None
        cost = total([charge.cost for charge in mine])
        amount = document.money(cost)
        usage = [charge for charge in mine if charge.charge_kind == "usage"]
        unit_prices = {charge.contracted_unit_price for charge in usage}
        list_costs = [charge.list_cost for charge in mine]
        sku = world.book.sku(sku_id)
        tax = find_tax(document, sku.tax_category)
        line = InvoiceLine(
            invoice_id=document.invoice_id,
            line_kind="usage",
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
            first_day=min(c.charge_start for c in usage).astimezone(ZoneInfo(document.zone)).date(),
            last_day=max(charge.local_day for charge in usage if charge.local_day is not None),
            pricing_quantity=total([charge.pricing_quantity or ZERO for charge in usage]),
            pricing_unit=sku.pricing_unit,
            unit_price=unit_prices.pop() if len(unit_prices) == 1 else None,
            list_cost=None if None in list_costs else total([value for value in list_costs if value is not None]),
            cost=cost,
            amount=amount,
            rounding=amount - cost,
            net_amount=amount,
            tax_code=tax.tax_code,
            tax_category=tax.category,
            tax_rate=tax.rate,
        )
        lines.append(OpenLine(line, mine, tax))
    return lines


def by(charges: Sequence[Charge], keys: Sequence[K]) -> list[tuple[K, list[Charge]]]:
    """Charges by key, keys in order, nulls first."""
    groups: dict[K, list[Charge]] = defaultdict(list)
    for key, charge in zip(keys, charges, strict=True):
        groups[key].append(charge)
    return sorted(groups.items(), key=lambda item: [(part is not None, part or "") for part in item[0]])  # type: ignore[attr-defined]


def _project_name(book: Book, account_id: str, project_id: str | None, instant: datetime) -> str | None:
    """The latest name the project had at this account by an instant; None for one that was never there.

    Of usage that is the line's last, of anything else the tax point.

    The name that another account gave it after a move (or before) is none of this account's business.
    """
    names = [
        (project.valid_from is not None, project.valid_from or instant, project.name)
        for project in book.projects
        if (project.project_id, project.account_id) == (project_id, account_id)
        and (project.valid_from is None or project.valid_from <= instant)
    ]
    return max(names)[2] if names else None


# Fees, adjustments, shortfalls ---------------------------------------------------------------------------------------


@exactly
def fee_lines(document: Document) -> list[OpenLine]:
    """Recurring fees: the month's amount for the days on which the fee is valid. No such day: no line."""
    book, found = document.world.book, []
    for fee in book.recurring:
        account = book.account(fee.account_id)
        days = document.days(fee.valid_from, fee.valid_to)
        if document.pays_for(account) and (fee.currency or document.payer.currency) == document.currency and days:
            amount = document.prorated(fee.amount, days)
            found.append(
                _line(
                    document, "recurring", fee.recurring_id, account, amount, days=days, validity=fee,
                    project_id=fee.project_id, sku_id=fee.sku_id, description=fee.description,
                )
            )  # fmt: skip
    return found


@exactly
def adjustment_lines(document: Document) -> list[OpenLine]:
    """Adjustments of the period, with their sign."""
    book, found = document.world.book, []
    for row in book.adjustments:
        account = book.account(row.account_id)
        currency = row.currency or document.payer.currency
        if document.pays_for(account) and currency == document.currency and row.period == document.world.period:
            found.append(
                _line(
                    document, "adjustment", row.adjustment_id, account, row.amount, days=document.days(None, None),
                    project_id=row.project_id, sku_id=row.sku_id, description=row.reason,
                )
            )  # fmt: skip
    return found


def shortfall_line(document: Document, commitment: Commitment, amount: Decimal) -> OpenLine:
    """What a commitment is billed for usage that was not made: at the account that pays, for no SKU."""
    return _line(
        document, "commitment", commitment.commitment_id, document.payer, amount, validity=commitment,
        days=document.days(commitment.valid_from, commitment.valid_to), description=commitment.note,
    )  # fmt: skip


@exactly
def correction_lines(document: Document) -> list[OpenLine]:
    """What closed months were billed wrongly, as of those months: with their tax, for their time."""
    book, found = document.world.book, []
    for row in document.world.corrections:
        if (row.billing_account_id, row.currency) != (document.payer.account_id, document.currency):
            continue
        line = _line(
            document, "correction", row.source_id, book.account(row.account_id), row.amount,
            days=[row.first_day, row.last_day], project_id=row.project_id, sku_id=row.sku_id,
            description=row.description,
            month=replace(document, world=replace(document.world, period=row.corrects_period)),
        )  # fmt: skip
        line.row = replace(
            line.row,
            region=row.region,
            price_id=row.price_id,
            corrects_period=row.corrects_period,
            corrects_invoice_id=row.corrects_invoice_id,
            pricing_quantity=row.pricing_quantity,
            pricing_unit=row.pricing_unit,
            tax_code=row.tax_code,
            tax_category=row.tax_category,
            tax_rate=row.tax_rate,
        )
        line.corrected_kind = row.corrected_kind
        line.charges = [
            replace(charge, region=row.region, price_id=row.price_id, corrects_period=row.corrects_period)
            for charge in line.charges
        ]
        line.tax = Tax(
            tax_code=row.tax_code,
            country=document.payer.country,
            category=row.tax_category,
            kind=row.tax_kind,
            rate=row.tax_rate,
            note=row.tax_note,
        )
        found.append(line)
    return found


def _line(
    document: Document,
    kind: str,
    source_id: str | None,
    account: Account,
    amount: Decimal,
    *,
    days: Sequence[date],
    validity: Recurring | Commitment | None = None,
    project_id: str | None = None,
    sku_id: str | None = None,
    description: str | None = None,
    month: Document | None = None,
) -> OpenLine:
    """A line that is no usage, with its charge: for the month, cut to the validity of the row it comes from.

    ``month``: what the line is for, where that is another month than the one it is billed in.
    """
    month = month or document
    book = document.world.book
    sku = book.sku(sku_id) if sku_id is not None else None
    tax = find_tax(document, sku.tax_category if sku else STANDARD)
    first, end = (validity.valid_from, validity.valid_to) if validity else (None, None)
    start = max(month.start, first or month.start)
    end = min(month.end, end or month.end)
    row = InvoiceLine(
        invoice_id=document.invoice_id,
        line_kind=kind,
        account_id=account.account_id,
        account_name=account.name,
        project_id=project_id,
        project_name=_project_name(book, account.account_id, project_id, month.tax_point),
        service=sku.service if sku else None,
        category=sku.category if sku else None,
        sku_id=sku_id,
        sku_name=sku.name if sku else None,
        source_id=source_id,
        description=description,
        first_day=days[0],
        last_day=days[-1],
        cost=amount,
        amount=amount,
        net_amount=amount,
        tax_code=tax.tax_code,
        tax_category=tax.category,
        tax_rate=tax.rate,
    )
    charge = Charge(
        period=document.world.period,
        billing_account_id=document.payer.account_id,
        account_id=account.account_id,
        project_id=project_id,
        resource_id=None,
        resource_name=None,
        sku_id=sku_id,
        region=None,
        tags=None,
        charge_start=start,
        charge_end=end,
        charge_kind=kind,
        price_id=None,
        list_price_id=None,
        usage_quantity=None,
        usage_unit=None,
        pricing_quantity=None,
        pricing_unit=None,
        currency=document.currency,
        list_unit_price=None,
        contracted_unit_price=None,
        list_cost=ZERO,
        contracted_cost=ZERO,
        cost=amount,
        source_id=source_id,
        invoice_id=document.invoice_id,
    )
    return OpenLine(row, [charge], tax)


# Tax -----------------------------------------------------------------------------------------------------------------


def find_tax(document: Document, category: str) -> Tax:
    """The tax row of a payer and a tax category at the tax point: the last instant of the payer's local month.

    By the payer's tax_code where it has one, else by its country; a row for its state comes before one for any state.

    Raises:
        BookError: when there is none, or more than one.
    """
    payer = document.payer
    rows = [
        tax
        for tax in document.world.book.taxes
        if tax.category == category
        and (tax.tax_code == payer.tax_code if payer.tax_code is not None else tax.country == payer.country)
        and document.holds_at_tax_point(tax.valid_from, tax.valid_to)
    ]
    own = [tax for tax in rows if tax.region is not None and tax.region == payer.state]
    found = own or [tax for tax in rows if tax.region is None]
    if len(found) != 1:
        raise BookError(f"{payer.account_id} has {len(found)} taxes of category {category}")
    return found[0]
