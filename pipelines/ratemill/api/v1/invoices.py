"""``/v1/invoices``: invoices and credit notes, their lines, and where each line comes from."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query

from ratemill.api.answers import Answer, Exact, Instant, Money, Reading
from ratemill.api.paging import Asked, Pages, Paging
from ratemill.api.periods import DayAsked, PeriodText
from ratemill.api.problems import Problem
from ratemill.api.snapshots import Snapshot

router = APIRouter(prefix="/v1", tags=["Invoices"])

InvoiceId = Annotated[str, Path(description="The id, or the number that it was issued with", examples=["2026-00012"])]


class AskedInvoices(Asked):
    """Which invoices."""

    organization_id: str | None = None
    first_period: PeriodText | None = None
    last_period: PeriodText | None = None
    document: Literal["invoice", "credit_note"] | None = None
    status: Literal["draft", "issued"] | None = None
    issued_from: DayAsked | None = None
    issued_until: DayAsked | None = None
    sort: Literal["period", "-period", "number", "-number", "issue_date", "-issue_date", "total", "-total"] = "-period"


class AskedLines(Asked):
    """Which lines."""


class InvoiceSummary(Answer):
    """An invoice or credit note without its lines."""

    invoice_id: str
    number: str | None
    """Given at issue."""
    document: Literal["invoice", "credit_note"]
    status: Literal["draft", "issued"]
    """A draft may change with each run; what is issued is final."""
    organization_id: str
    period: str
    issue_date: date | None
    due_date: date | None
    corrects_invoice_id: str | None
    lines: int
    list_cost: Money
    """Usage at public prices."""
    subtotal: Money
    discounts: Money
    commitments: Money
    credits: Money
    untaxed: Money
    """subtotal with discounts, commitments and credits."""
    tax: Money
    total: Money
    prepaid: Money
    due: Money
    """total with what prepaid credits pay."""


class Invoices(Answer):
    """A page of invoices."""

    items: list[InvoiceSummary]
    next_cursor: str | None
    snapshot: str


class Line(Answer):
    """A line of an invoice."""

    line_number: int
    kind: str
    account_id: str
    account_name: str
    project_id: str | None
    project_name: str | None
    service: str | None
    category: str | None
    sku_id: str | None
    sku_name: str | None
    region: str | None
    description: str | None
    price_id: str | None
    source_id: str | None
    corrects_period: str | None
    corrects_invoice_id: str | None
    first_day: date
    last_day: date
    quantity: Exact | None
    unit: str | None
    unit_price: Money | None
    """Empty where tiers give several."""
    amount: Money
    """Exact cost, rounded to the currency's minor unit."""
    discounts: Money
    commitments: Money
    credits: Money
    net: Money
    """What is taxed."""
    tax_rate: Exact
    """Percent."""


class Lines(Answer):
    """A page of lines."""

    items: list[Line]
    next_cursor: str | None


class TaxLine(Answer):
    """One tax rate of an invoice."""

    tax_code: str
    kind: str
    rate: Exact
    """Percent."""
    base: Money
    tax: Money
    note: str | None
    """Sentence that the invoice must carry."""


class Deduction(Answer):
    """What one discount, commitment or promotional credit takes off an invoice."""

    kind: Literal["discount", "commitment", "credit"]
    source_id: str
    description: str
    percent: Exact | None
    amount: Money
    """Negative."""
    lines: int
    """Lines that it is taken off."""


class CreditUse(Answer):
    """What an invoice draws on a credit."""

    credit_id: str
    kind: Literal["promotional", "prepaid"]
    description: str
    balance_before: Money
    amount: Money
    balance_after: Money


class Invoice(InvoiceSummary):
    """An invoice with everything on it; of its lines the first page, see `/v1/invoices/{invoice_id}/lines`."""

    line_items: Lines
    taxes: list[TaxLine]
    deductions: list[Deduction]
    credits_used: list[CreditUse]
    documents: list[str]
    """Formats in which it was issued, see `/v1/invoices/{invoice_id}/documents/{format}`."""
    updated_at: Instant
    """When it was computed."""
    snapshot: str


@router.get("/invoices")
def invoices(asked: Annotated[AskedInvoices, Query()], snapshot: Reading, pages: Paging) -> Invoices:
    """Invoices and credit notes of organizations that the key sees as a whole."""
    filters = asked.model_dump(exclude={"cursor", "page_size"})
    page, following = pages.cut(snapshot.rows("api/v1/invoices", {**filters, **pages.limits(asked)}), asked)
    return Invoices(
        items=[InvoiceSummary(**_summary(row)) for row in page], next_cursor=following, snapshot=snapshot.version
    )


@router.get("/invoices/{invoice_id:path}/lines")
def invoice_lines(
    invoice_id: InvoiceId, asked: Annotated[AskedLines, Query()], snapshot: Reading, pages: Paging
) -> Lines:
    """Lines of an invoice, in its order. Keys of accounts and projects see their own lines here."""
    found = snapshot.rows("api/v1/invoice_of_lines", {"invoice": invoice_id})
    if not found:
        raise Problem.not_found("invoice", invoice_id)
    return _lines(snapshot, found[0]["invoice_id"], asked, pages)


@router.get("/invoices/{invoice_id:path}")
def invoice(invoice_id: InvoiceId, snapshot: Reading, pages: Paging) -> Invoice:
    """An invoice or credit note, whole."""
    row = found_invoice(snapshot, invoice_id)
    currency, of_invoice = row["currency"], {"invoice_id": row["invoice_id"]}
    documents = snapshot.rows("api/v1/documents", of_invoice)
    return Invoice(
        **_summary(row),
        line_items=_lines(snapshot, row["invoice_id"], AskedLines(), pages),
        taxes=[_tax(tax, currency) for tax in snapshot.rows("api/v1/tax_lines", of_invoice)],
        deductions=[_deduction(one, currency) for one in snapshot.rows("api/v1/deductions", of_invoice)],
        credits_used=[_credit(one) for one in snapshot.rows("api/v1/credit_ledger", of_invoice)],
        documents=sorted(one["file"].rpartition(".")[2] for one in documents),
        updated_at=row["updated_at"],
        snapshot=snapshot.version,
    )


def found_invoice(snapshot: Snapshot, invoice_id: str) -> dict[str, Any]:
    """The row of an invoice, by id or number.

    Raises:
        Problem: there is none that the key sees (404).
    """
    rows = snapshot.rows("api/v1/invoice", {"invoice": invoice_id})
    if not rows:
        raise Problem.not_found("invoice", invoice_id)
    return rows[0]


_AMOUNTS = {
    "list_cost": "list_amount", "subtotal": "subtotal_amount", "discounts": "discount_amount",
    "commitments": "commitment_amount", "credits": "credit_amount", "untaxed": "untaxed_amount", "tax": "tax_amount",
    "total": "total_amount", "prepaid": "prepaid_amount", "due": "due_amount",
}  # fmt: skip
_FACTS = ("invoice_id", "number", "document", "status", "period", "issue_date", "due_date", "corrects_invoice_id",
          "lines")  # fmt: skip


def _summary(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "organization_id": row["billing_account_id"],
        **{name: row[name] for name in _FACTS},
        **{name: Money.of(row[column], row["currency"]) for name, column in _AMOUNTS.items()},
    }


def _lines(snapshot: Snapshot, invoice_id: str, asked: Asked, pages: Pages) -> Lines:
    rows = snapshot.rows("api/v1/invoice_lines", {"invoice_id": invoice_id, **pages.limits(asked)})
    page, following = pages.cut(rows, asked)
    return Lines(items=[line_of(row) for row in page], next_cursor=following)


_LINE_FACTS = (
    "line_number", "account_id", "account_name", "project_id", "project_name", "service", "category", "sku_id",
    "sku_name", "region", "description", "price_id", "source_id", "corrects_period", "corrects_invoice_id", "first_day",
    "last_day", "tax_rate",
)  # fmt: skip
_LINE_AMOUNTS = {"amount": "amount", "discounts": "discount_amount", "commitments": "commitment_amount",
                 "credits": "credit_amount", "net": "net_amount"}  # fmt: skip


def line_of(row: dict[str, Any]) -> Line:
    """A line as it is shown."""
    currency = row["currency"]
    amounts: dict[str, Any] = {name: Money.of(row[column], currency) for name, column in _LINE_AMOUNTS.items()}
    return Line(
        kind=row["line_kind"],
        quantity=row["pricing_quantity"],
        unit=row["pricing_unit"],
        unit_price=Money.or_none(row["unit_price"], currency),
        **{name: row[name] for name in _LINE_FACTS},
        **amounts,
    )


def _tax(row: dict[str, Any], currency: str) -> TaxLine:
    return TaxLine(
        tax_code=row["tax_code"],
        kind=row["kind"],
        rate=row["rate"],
        base=Money.of(row["base_amount"], currency),
        tax=Money.of(row["tax_amount"], currency),
        note=row["note"],
    )


def _deduction(row: dict[str, Any], currency: str) -> Deduction:
    names = ("kind", "source_id", "description", "percent", "lines")
    return Deduction(**{name: row[name] for name in names}, amount=Money.of(row["amount"], currency))


def _credit(row: dict[str, Any]) -> CreditUse:
    currency = row["currency"]
    return CreditUse(
        **{name: row[name] for name in ("credit_id", "kind", "description")},
        balance_before=Money.of(row["balance_before"], currency),
        amount=Money.of(row["amount"], currency),
        balance_after=Money.of(row["balance_after"], currency),
    )
