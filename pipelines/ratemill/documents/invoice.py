"""Rows of the invoice tables → the document that templates show."""

from __future__ import annotations

import decimal
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from ratemill.documents import formats
from ratemill.documents.model import (
    AccountSection,
    Commitment,
    Computation,
    CorrectionSection,
    CustomerParty,
    Deduction,
    InvoiceDocument,
    Line,
    Logo,
    Original,
    OtherSection,
    Payment,
    PostalAddress,
    Prepaid,
    ProjectSection,
    SellerParty,
    ServiceSection,
    Share,
    TaxLine,
    Totals,
)
from ratemill.errors import InvariantError
from ratemill.money import ZERO
from ratemill.period import BillingPeriod

if TYPE_CHECKING:
    from datetime import date

    from ratemill import config
    from ratemill.tables.invoices import Billed

Row = Mapping[str, Any]
Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")

_EXACT = decimal.Context(prec=80, traps=[decimal.InvalidOperation, decimal.Inexact])

_CREDITED = (
    "pricing_quantity", "list_cost", "cost", "cap_cost", "minimum_cost", "amount", "rounding", "base_amount",
    "subtotal_amount", "discount_amount", "commitment_amount", "credit_amount", "net_amount", "untaxed_amount",
    "tax_amount", "total_amount", "prepaid_amount", "due_amount",
)  # fmt: skip
"""Columns that a credit note shows with the other sign."""


def build_invoice(
    billed: Billed,
    *,
    account: Row,
    seller: config.Seller,
    period: BillingPeriod,
    time_zone: str = "UTC",
    logo: Logo | None = None,
    conditions: Mapping[str, str] | None = None,
    originals: Mapping[str, Row] | None = None,
) -> InvoiceDocument:
    """The document of one invoice or credit note.

    Args:
        billed: it alone (``Billed.on``), its rows in any order.
        account: the row of ACCOUNTS of the billing account.
        seller: who issues it.
        period: the billing period.
        time_zone: zone of an account that names none.
        logo: the seller's picture, already read.
        conditions: price_id → what the price is for besides a region, where it is for something.
        originals: invoice_id → row of INVOICES, of invoices that it corrects; one that is missing is called by its id.

    Raises:
        InvariantError: when its rows do not add up to its totals; such a document must never exist.
    """
    (invoice,) = billed.invoices.iter_rows(named=True)
    is_credit_note = invoice["document"] == "credit_note"
    rows = list(billed.lines.sort("line_number").iter_rows(named=True))
    taxes = list(billed.taxes.sort("tax_code", "category", "rate").iter_rows(named=True))
    taken = list(billed.deductions.iter_rows(named=True))
    if is_credit_note:  # what is given back is shown as what is credited, not as a negative price
        invoice = _credited(invoice)
        rows, taxes, taken = ([_credited(row) for row in table] for table in (rows, taxes, taken))
    conditions, known = conditions or {}, originals or {}
    lines = [_line(row, period=period, conditions=conditions.get(row["price_id"], ""), originals=known) for row in rows]
    balances = {row["credit_id"]: row["balance_after"] for row in billed.credits.iter_rows(named=True)}
    tax_lines = tuple(_tax_line(row) for row in taxes)
    accounts = tuple(_accounts([line for line in lines if line.kind != "correction"]))
    number = invoice["number"] or ""
    document = InvoiceDocument(
        invoice_id=invoice["invoice_id"],
        document=invoice["document"],
        is_credit_note=is_credit_note,
        corrects=_original(invoice["corrects_invoice_id"], known),
        number=number,
        status=invoice["status"],
        is_draft=invoice["status"] == "draft",
        period=str(period),
        period_first_day=period.first_day,
        period_last_day=period.last_day,
        issue_date=invoice["issue_date"],
        currency=invoice["currency"],
        language=account["language"] or formats.DEFAULT_LANGUAGE,
        seller=_seller(seller, logo),
        customer=_customer(account),
        line_count=len(lines),
        has_several_accounts=len({line.account_id for line in lines}) > 1,
        accounts=accounts,
        corrections=tuple(_corrections([line for line in lines if line.kind == "correction"])),
        deductions=tuple(_deductions(taken, balances)),
        prepaid=tuple(_prepaid(row) for row in billed.credits.sort("credit_id").iter_rows(named=True)
                      if row["kind"] == "prepaid"),
        commitments=tuple(_commitment(row) for row in billed.commitments.sort("commitment_id").iter_rows(named=True)),
        taxes=tax_lines,
        totals=Totals(
            subtotal=invoice["subtotal_amount"],
            discount=invoice["discount_amount"],
            commitment=invoice["commitment_amount"],
            credit=invoice["credit_amount"],
            untaxed=invoice["untaxed_amount"],
            tax=invoice["tax_amount"],
            total=invoice["total_amount"],
            prepaid=invoice["prepaid_amount"],
            due=invoice["due_amount"],
            saving=None if is_credit_note else _saving(rows),
        ),
        notes=tuple(dict.fromkeys(line.note for line in tax_lines if line.note)),
        payment=_payment(
            seller,
            terms_days=account["payment_terms_days"],
            due_date=invoice["due_date"],
            is_owed=not is_credit_note and invoice["due_amount"] > ZERO,
            reference=number or invoice["invoice_id"],
        ),
        computation=Computation(
            run_id=invoice["run_id"],
            rounding=invoice["rounding"],
            time_zone=account["time_zone"] or time_zone,
        ),
    )  # fmt: skip
    _check_sums(document, lines=invoice["lines"])
    return document


def _credited(row: Row) -> dict[str, Any]:
    with decimal.localcontext(_EXACT):
        return {name: -value if name in _CREDITED and value is not None else value for name, value in row.items()}


def _original(invoice_id: str | None, originals: Mapping[str, Row]) -> Original | None:
    if invoice_id is None:
        return None
    row = originals.get(invoice_id, {})
    return Original(invoice_id=invoice_id, number=row.get("number") or "", issue_date=row.get("issue_date"))


def _accounts(lines: list[Line]) -> Iterable[AccountSection]:
    for of_account in _grouped(lines, lambda line: line.account_id):
        projects = tuple(_projects([line for line in of_account if _is_used(line)]))
        others = tuple(
            OtherSection(kind=of_kind[0].kind, subtotal=_sum(line.amount for line in of_kind), lines=tuple(of_kind))
            for of_kind in _grouped([line for line in of_account if not _is_used(line)], lambda line: line.kind)
        )
        yield AccountSection(
            account_id=of_account[0].account_id,
            name=of_account[0].account_name,
            subtotal=_sum((*(each.subtotal for each in projects), *(each.subtotal for each in others))),
            projects=projects,
            others=others,
        )


def _is_used(line: Line) -> bool:
    return line.kind == "usage" and bool(line.service)


def _projects(lines: list[Line]) -> Iterable[ProjectSection]:
    for of_project in _grouped(lines, lambda line: line.project_id):
        services = tuple(
            ServiceSection(
                name=of_service[0].service,
                category=of_service[0].category,
                subtotal=_sum(line.amount for line in of_service),
                lines=tuple(of_service),
            )
            for of_service in _grouped(of_project, lambda line: line.service)
        )
        yield ProjectSection(
            project_id=of_project[0].project_id,
            name=of_project[0].project_name,
            subtotal=_sum(service.subtotal for service in services),
            services=services,
        )


def _corrections(lines: list[Line]) -> Iterable[CorrectionSection]:
    for same in _grouped(lines, lambda line: (line.corrects_period, line.corrects)):
        yield CorrectionSection(
            period=same[0].corrects_period,
            first_day=BillingPeriod.parse(same[0].corrects_period).first_day,
            original=same[0].corrects,
            subtotal=_sum(line.amount for line in same),
            lines=tuple(same),
        )


def _line(row: Row, *, period: BillingPeriod, conditions: str, originals: Mapping[str, Row]) -> Line:
    first, last = row["first_day"], row["last_day"]
    month = BillingPeriod.parse(row["corrects_period"]) if row["corrects_period"] else period
    whole_month = (first, last) == (month.first_day, month.last_day)
    said = row["description"] or ""
    if row["corrects_period"]:  # the section's heading says the month
        said = re.sub(rf"^Correction of {row['corrects_period']}[:,] ", "", said)
    named = [text for text in dict.fromkeys((row["sku_name"], said)) if text]
    if row["line_kind"] not in ("usage", "correction"):
        named.reverse()
    # A correction of a price changes no quantity: 0 hours would look like nothing was used.
    has_quantity = row["pricing_quantity"] is not None and not (
        row["line_kind"] == "correction" and row["pricing_quantity"] == 0
    )
    texts = ("project_id", "service", "category", "sku_id", "sku_name", "region", "price_id", "source_id",
             "corrects_period")  # fmt: skip
    return Line(
        number=row["line_number"],
        kind=row["line_kind"],
        account_id=row["account_id"],
        account_name=row["account_name"],
        project_name=row["project_name"] or row["project_id"] or "",
        description=named[0] if named else "",
        remark=" · ".join(named[1:]),
        conditions=conditions,
        corrects=_original(row["corrects_invoice_id"], originals),
        first_day=first,
        last_day=last,
        part_of_month=None if whole_month else (first, last),
        quantity=row["pricing_quantity"] if has_quantity else None,
        unit=(row["pricing_unit"] or "") if has_quantity else "",
        unit_price=row["unit_price"],
        cost=row["cost"],
        cap=row["cap_cost"],
        minimum=row["minimum_cost"],
        amount=row["amount"],
        rounding=row["rounding"],
        discount=row["discount_amount"],
        commitment=row["commitment_amount"],
        credit=row["credit_amount"],
        net=row["net_amount"],
        tax_code=row["tax_code"],
        tax_category=row["tax_category"],
        tax_rate=row["tax_rate"],
        **{name: row[name] or "" for name in texts},
    )


def _deductions(rows: list[dict[str, Any]], balances: Mapping[str, Decimal]) -> Iterable[Deduction]:
    rows.sort(key=lambda row: (row["deduction_number"], row["line_number"]))
    for same in _grouped(rows, lambda row: row["deduction_number"]):
        first = same[0]
        yield Deduction(
            number=first["deduction_number"],
            kind=first["kind"],
            source_id=first["source_id"],
            name=first["description"],
            percent=first["percent"],
            amount=_sum(row["amount"] for row in same),
            balance_left=balances.get(first["source_id"]) if first["kind"] == "credit" else None,
            shares=tuple(Share(row["line_number"], row["amount"]) for row in same),
        )


def _prepaid(row: Row) -> Prepaid:
    with decimal.localcontext(_EXACT):
        return Prepaid(
            credit_id=row["credit_id"],
            name=row["description"],
            amount=-row["amount"],
            balance_before=row["balance_before"],
            balance_left=row["balance_after"],
        )


def _commitment(row: Row) -> Commitment:
    return Commitment(
        commitment_id=row["commitment_id"],
        name=row["description"],
        committed=row["committed_amount"],
        used=row["eligible_amount"],
        shortfall=row["shortfall_amount"],
        discount=row["discount_amount"],
        days=row["days"],
        days_in_month=row["days_in_month"],
    )


def _tax_line(row: Row) -> TaxLine:
    return TaxLine(
        code=row["tax_code"],
        category=row["category"],
        kind=row["kind"],
        rate=row["rate"],
        base=row["base_amount"],
        tax=row["tax_amount"],
        note=row["note"] or "",
    )


def _seller(seller: config.Seller, logo: Logo | None) -> SellerParty:
    return SellerParty(
        name=seller.legal_name or seller.name,
        trade_name=seller.name,
        address_lines=tuple(line for line in (*seller.address, _town(seller.postal_code, seller.city)) if line),
        address=PostalAddress(street=seller.address, postal_code=seller.postal_code, city=seller.city, state=""),
        country=seller.country,
        tax_id=seller.tax_id,
        registration=seller.registration,
        email=seller.email,
        phone=seller.phone,
        website=seller.website,
        electronic_address=seller.electronic_address,
        logo=logo,
    )


def _customer(account: Row) -> CustomerParty:
    street = tuple(line for line in (account["address_line1"], account["address_line2"]) if line)
    postal_code, city, state = (account[name] or "" for name in ("postal_code", "city", "state"))
    return CustomerParty(
        account_id=account["account_id"],
        name=account["legal_name"] or account["name"],
        address_lines=tuple(line for line in (*street, _town(postal_code, city), state) if line),
        address=PostalAddress(street, postal_code, city, state),
        country=account["country"],
        tax_id=account["tax_id"] or "",
        email=account["email"] or "",
        electronic_address=account["electronic_address"] or "",
        reference=account["buyer_reference"] or "",
    )


def _town(postal_code: str, city: str) -> str:
    return " ".join(part for part in (postal_code, city) if part)


def _payment(
    seller: config.Seller, *, terms_days: int | None, due_date: date | None, is_owed: bool, reference: str
) -> Payment:
    iban = "".join(seller.bank.iban.split())
    return Payment(
        is_owed=is_owed,
        terms_days=seller.payment_terms_days if terms_days is None else terms_days,
        due_date=due_date,
        reference=reference,
        bank_name=seller.bank.name,
        iban=" ".join(iban[start : start + 4] for start in range(0, len(iban), 4)),
        bic=seller.bank.bic,
    )


def _saving(rows: list[dict[str, Any]]) -> Decimal | None:
    """List cost minus cost, over usage that all has a list cost: a partial comparison would mislead."""
    usage = [row for row in rows if row["line_kind"] == "usage"]
    if not usage or any(row["list_cost"] is None for row in usage):
        return None
    with decimal.localcontext(_EXACT):
        saving = sum((row["list_cost"] - row["cost"] for row in usage), ZERO)
    return saving if saving > ZERO else None


def _grouped(rows: Iterable[Item], key: Callable[[Item], Key]) -> list[list[Item]]:
    """Rows with equal keys together, groups in the order of their first rows."""
    groups: dict[Key, list[Item]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.values())


def _sum(values: Iterable[Decimal]) -> Decimal:
    """Exact: raises where the default context of 28 digits would round in silence."""
    with decimal.localcontext(_EXACT):
        return sum(values, ZERO)


def _check_sums(document: InvoiceDocument, *, lines: int) -> None:
    """Two roads to each total: what the document shows must be what was billed, and must lead to what is due."""
    totals = document.totals
    shown = list(document.lines())
    taken = {
        kind: _sum(each.amount for each in document.deductions if each.kind == kind)
        for kind in ("discount", "commitment", "credit")
    }
    subtotals = (
        *(account.subtotal for account in document.accounts),
        *(section.subtotal for section in document.corrections),
    )
    deductions = (totals.discount, totals.commitment, totals.credit)
    checks: list[tuple[str, Decimal | int, Decimal | int]] = [
        ("lines", document.line_count, lines),
        ("subtotal", _sum(subtotals), totals.subtotal),
        ("discounts", taken["discount"], totals.discount),
        ("commitment discounts", taken["commitment"], totals.commitment),
        ("credits", taken["credit"], totals.credit),
        ("untaxed amount", _sum((totals.subtotal, *deductions)), totals.untaxed),
        ("net amounts", _sum(line.net for line in shown), totals.untaxed),
        ("tax base", _sum(tax.base for tax in document.taxes), totals.untaxed),
        ("tax", _sum(tax.tax for tax in document.taxes), totals.tax),
        ("total", _sum((totals.untaxed, totals.tax)), totals.total),
        ("prepaid credits", _sum(each.amount for each in document.prepaid), totals.prepaid),
        ("amount due", _sum((totals.total, totals.prepaid)), totals.due),
        ("rounding", _sum(line.rounding for line in shown), document.computation.rounding),
    ]
    shares: defaultdict[tuple[int, str], list[Decimal]] = defaultdict(list)
    for deduction in document.deductions:
        for share in deduction.shares:
            shares[share.line, deduction.kind].append(share.amount)
    for line in shown:
        own = {"discount": line.discount, "commitment": line.commitment, "credit": line.credit}
        checks += [
            (f"{kind} of line {line.number}", _sum(shares.pop((line.number, kind), ())), stated)
            for kind, stated in own.items()
        ]
        checks.append((f"net amount of line {line.number}", _sum((line.amount, *own.values())), line.net))
    checks += [
        (f"{kind} of line {number}, which is not there", _sum(left), 0) for (number, kind), left in shares.items()
    ]
    for name, found, stated in checks:
        if found != stated:
            raise InvariantError(
                f"invoice {document.invoice_id}: its rows give {name} {found}, the invoice says {stated}; "
                "no document was written"
            )
