"""Rows of the invoice tables → the document that templates show."""

from __future__ import annotations

import decimal
from collections.abc import Callable, Hashable, Iterable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from ratemill.documents import formats
from ratemill.documents.model import (
    AccountSection,
    Computation,
    CustomerParty,
    InvoiceDocument,
    Line,
    Logo,
    Payment,
    ProjectSection,
    SellerParty,
    ServiceSection,
    TaxLine,
    Totals,
)
from ratemill.errors import InvariantError
from ratemill.money import ZERO

if TYPE_CHECKING:
    import polars as pl

    from ratemill import config
    from ratemill.period import BillingPeriod

Row = Mapping[str, Any]
Key = TypeVar("Key", bound=Hashable)

_EXACT = decimal.Context(prec=80, traps=[decimal.InvalidOperation, decimal.Inexact])


def build_invoice(
    *,
    invoice: Row,
    lines: pl.DataFrame,
    taxes: pl.DataFrame,
    account: Row,
    seller: config.Seller,
    period: BillingPeriod,
    time_zone: str = "UTC",
    logo: Logo | None = None,
    conditions: Mapping[str, str] | None = None,
) -> InvoiceDocument:
    """The document of one invoice.

    Args:
        invoice: a row of INVOICES; ``number`` and ``issue_date`` are used where it has them.
        lines: its rows of INVOICE_LINES, in any order.
        taxes: its rows of TAX_LINES, in any order.
        account: the row of ACCOUNTS of the billing account.
        seller: who issues it.
        period: the billing period.
        time_zone: zone of an account that names none.
        logo: the seller's picture, already read.
        conditions: price_id → what the price is for besides a region, where it is for something.

    Raises:
        InvariantError: when lines or taxes do not add up to the invoice; such a document must never exist.
    """
    rows = list(lines.sort("line_number").iter_rows(named=True))
    conditions = conditions or {}
    rows = [row | {"conditions": conditions.get(row["price_id"], "")} for row in rows]
    sections = tuple(_accounts(rows, period=period))
    tax_lines = tuple(_tax_line(row) for row in taxes.sort("tax_code", "category", "rate").iter_rows(named=True))
    number = invoice.get("number") or ""
    document = InvoiceDocument(
        invoice_id=invoice["invoice_id"],
        number=number,
        status=invoice["status"],
        is_draft=invoice["status"] == "draft",
        period=str(period),
        period_first_day=period.first_day,
        period_last_day=period.last_day,
        issue_date=invoice.get("issue_date"),
        currency=invoice["currency"],
        language=account["language"] or formats.DEFAULT_LANGUAGE,
        seller=_seller(seller, logo),
        customer=_customer(account),
        line_count=len(rows),
        has_several_accounts=len(sections) > 1,
        accounts=sections,
        taxes=tax_lines,
        totals=Totals(
            untaxed=invoice["untaxed_amount"],
            tax=invoice["tax_amount"],
            total=invoice["total_amount"],
            due=invoice["due_amount"],
            saving=_saving(rows),
        ),
        notes=tuple(dict.fromkeys(line.note for line in tax_lines if line.note)),
        payment=_payment(
            seller,
            terms_days=account["payment_terms_days"],
            issued=invoice.get("issue_date"),
            due=invoice["due_amount"],
            reference=number or invoice["invoice_id"],
        ),
        computation=Computation(
            run_id=invoice["run_id"],
            rounding=invoice["rounding"],
            time_zone=account["time_zone"] or time_zone,
        ),
    )
    _check_sums(document, lines=invoice["lines"])
    return document


def _accounts(rows: list[dict[str, Any]], *, period: BillingPeriod) -> Iterable[AccountSection]:
    for account_rows in _grouped(rows, lambda row: row["account_id"]):
        projects = tuple(
            _project(project_rows, period=period)
            for project_rows in _grouped(account_rows, lambda row: row["project_id"])
        )
        yield AccountSection(
            account_id=account_rows[0]["account_id"],
            name=account_rows[0]["account_name"],
            subtotal=_sum(project.subtotal for project in projects),
            projects=projects,
        )


def _project(rows: list[dict[str, Any]], *, period: BillingPeriod) -> ProjectSection:
    services = []
    for service_rows in _grouped(rows, lambda row: row["service"]):
        lines = tuple(_line(row, period=period) for row in service_rows)
        services.append(
            ServiceSection(
                name=service_rows[0]["service"],
                category=service_rows[0]["category"],
                subtotal=_sum(line.amount for line in lines),
                lines=lines,
            )
        )
    project_id = rows[0]["project_id"] or ""
    return ProjectSection(
        project_id=project_id,
        name=rows[0]["project_name"] or project_id,
        subtotal=_sum(service.subtotal for service in services),
        services=tuple(services),
    )


def _line(row: Row, *, period: BillingPeriod) -> Line:
    first, last = row["first_day"], row["last_day"]
    whole_month = (first, last) == (period.first_day, period.last_day)
    return Line(
        number=row["line_number"],
        sku_id=row["sku_id"],
        description=row["sku_name"],
        region=row["region"] or "",
        conditions=row["conditions"],
        price_id=row["price_id"],
        first_day=first,
        last_day=last,
        part_of_month=None if whole_month else (first, last),
        quantity=row["pricing_quantity"],
        unit=row["pricing_unit"],
        unit_price=row["unit_price"],
        cost=row["cost"],
        amount=row["amount"],
        rounding=row["rounding"],
        tax_code=row["tax_code"],
        tax_category=row["tax_category"],
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
        address_lines=seller.address,
        country=seller.country,
        tax_id=seller.tax_id,
        registration=seller.registration,
        email=seller.email,
        phone=seller.phone,
        website=seller.website,
        logo=logo,
    )


def _customer(account: Row) -> CustomerParty:
    city = " ".join(part for part in (account["postal_code"], account["city"]) if part)
    lines = (
        account["address_line1"],
        account["address_line2"],
        city,
        account["state"],
    )
    return CustomerParty(
        account_id=account["account_id"],
        name=account["legal_name"] or account["name"],
        address_lines=tuple(line for line in lines if line),
        country=account["country"],
        tax_id=account["tax_id"] or "",
        email=account["email"] or "",
    )


def _payment(
    seller: config.Seller, *, terms_days: int | None, issued: date | None, due: Decimal, reference: str
) -> Payment:
    days = seller.payment_terms_days if terms_days is None else terms_days
    iban = "".join(seller.bank.iban.split())
    return Payment(
        is_owed=due > ZERO,
        terms_days=days,
        due_date=None if issued is None else issued + timedelta(days=days),
        reference=reference,
        bank_name=seller.bank.name,
        iban=" ".join(iban[start : start + 4] for start in range(0, len(iban), 4)),
        bic=seller.bank.bic,
    )


def _saving(rows: list[dict[str, Any]]) -> Decimal | None:
    """List cost minus cost, over lines that all have a list cost: a partial comparison would mislead."""
    if not rows or any(row["list_cost"] is None for row in rows):
        return None
    with decimal.localcontext(_EXACT):
        saving = sum((row["list_cost"] - row["cost"] for row in rows), ZERO)
    return saving if saving > ZERO else None


def _grouped(rows: list[dict[str, Any]], key: Callable[[dict[str, Any]], Key]) -> list[list[dict[str, Any]]]:
    """Rows with equal keys together, groups in the order of their first rows."""
    groups: dict[Key, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.values())


def _sum(values: Iterable[Decimal]) -> Decimal:
    """Exact: raises where the default context of 28 digits would round in silence."""
    with decimal.localcontext(_EXACT):
        return sum(values, ZERO)


def _check_sums(document: InvoiceDocument, *, lines: int) -> None:
    """Two roads to each total: what the document shows must be what was billed."""
    totals = document.totals
    checks = (
        ("lines", document.line_count, lines),
        ("untaxed amount", _sum(account.subtotal for account in document.accounts), totals.untaxed),
        ("tax", _sum(line.tax for line in document.taxes), totals.tax),
        ("total", _sum((totals.untaxed, totals.tax)), totals.total),
        ("rounding", _sum(line.rounding for *_, line in document.lines()), document.computation.rounding),
    )
    for name, found, stated in checks:
        if found != stated:
            raise InvariantError(
                f"invoice {document.invoice_id}: its rows give {name} {found}, the invoice says {stated}; "
                "no document was written"
            )
