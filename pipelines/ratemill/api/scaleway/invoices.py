"""``/billing/v2beta1/invoices`` and what is made of them: files, exports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
from fastapi import APIRouter, Request
from starlette.responses import Response

from ratemill.api.answers import Reading
from ratemill.api.documents import issued_file
from ratemill.api.problems import Problem
from ratemill.api.scaleway.answers import answer, file
from ratemill.api.scaleway.directory import Directory, Known
from ratemill.api.scaleway.errors import not_found
from ratemill.api.scaleway.ids import invoice_number
from ratemill.api.scaleway.parameters import Arguments, Asked
from ratemill.api.scaleway.wire import (
    first_instant_of,
    instant,
    last_instant,
    last_instant_of,
    money,
)
from ratemill.documents.filenames import safe_name
from ratemill.documents.invoice_files import invoice_stem
from ratemill.documents.spreadsheet import spreadsheet_csv
from ratemill.money import AMOUNT
from ratemill.period import BillingPeriod

if TYPE_CHECKING:
    from datetime import datetime

    from ratemill.api.app import Core
    from ratemill.api.snapshots import Snapshot

router = APIRouter(prefix="/billing/v2beta1", include_in_schema=False)

TYPES = ("unknown_type", "periodic", "purchase", "credit_note")
_ORDERS = ("invoice_number", "start_date", "issued_date", "due_date", "total_untaxed", "total_taxed", "invoice_type")
ORDERS = tuple(f"{name}_{way}" for name in _ORDERS for way in ("desc", "asc"))


@router.get("/invoices")
def list_invoices(request: Request, asked: Asked, known: Known, snapshot: Reading) -> Response:
    """Invoices and credit notes, drafts too."""
    rows = _rows_asked(asked, known, snapshot)
    offset, size = asked.page()
    asked.refuse()
    shown = [_invoice(row, known, request.app.state.core) for row in rows[offset : offset + size]]
    return answer({"invoices": shown, "total_count": len(rows)})


_DESCRIBED = (
    "type", "state", "organization_id", "organization_name", "billing_period", "start_date", "stop_date", "issued_date",
    "due_date",
)  # fmt: skip
_AMOUNTS = {
    "total_undiscount": "subtotal_amount", "total_discount": "deducted_amount", "total_untaxed": "untaxed_amount",
    "total_tax": "tax_amount", "total_taxed": "total_amount",
}  # fmt: skip
CSV_COLUMNS = ("number", *_DESCRIBED, "currency", *_AMOUNTS, "id")


@router.get("/export-invoices")
def export_invoices(request: Request, asked: Asked, known: Known, snapshot: Reading) -> Response:
    """The same as a CSV file for spreadsheets, with the number as it stands on the document."""
    asked.choice("file_type", ("csv",), "csv")
    rows = _rows_asked(asked, known, snapshot)
    offset, size = asked.page()
    asked.refuse()
    lines = []
    for row in rows[offset : offset + size]:
        invoice = _invoice(row, known, request.app.state.core)
        lines.append(
            {
                "number": row["number"],
                **{name: invoice[name] for name in _DESCRIBED},
                "currency": row["currency"],
                **{name: row[column] for name, column in _AMOUNTS.items()},
                "id": invoice["id"],
            }
        )
    schema = dict.fromkeys(CSV_COLUMNS, pl.String) | dict.fromkeys(_AMOUNTS, AMOUNT)
    return file("invoices.csv", "text/csv", spreadsheet_csv(pl.DataFrame(lines, schema=schema)))


@router.get("/invoices/{invoice_id}")
def get_invoice(invoice_id: str, request: Request, known: Known, snapshot: Reading) -> Response:
    """One invoice or credit note."""
    row = _known_invoice(invoice_id, known, snapshot)
    return answer(_invoice(row, known, request.app.state.core))


@router.get("/invoices/{invoice_id}/download")
def download_invoice(invoice_id: str, request: Request, asked: Asked, known: Known, snapshot: Reading) -> Response:
    """Its PDF: of an issued one the very file that was issued, proven by its hash."""
    asked.choice("file_type", ("pdf",), "pdf")
    asked.refuse()
    row = _known_invoice(invoice_id, known, snapshot)
    content = _pdf(row, invoice_id, request.app.state.core, snapshot)
    name = row["number"] or f"draft-{row['period']}"
    return file(f"{safe_name(name)}.pdf", "application/pdf", content)


def _pdf(row: dict[str, Any], uuid: str, core: Core, snapshot: Snapshot) -> bytes:
    """The bytes of an invoice's PDF.

    Raises:
        Problem: none was made (404), or it is not as it was issued (500).
    """
    try:
        if row["status"] == "issued":
            return issued_file(core, snapshot, row["invoice_id"], "pdf")[1]
        stem = invoice_stem(row["invoice_id"], row["period"], row["billing_account_id"], row["currency"])
        return (core.workspace.out(BillingPeriod.parse(row["period"])) / f"{stem}.pdf").read_bytes()
    except FileNotFoundError:
        raise not_found("invoice_file", uuid) from None
    except Problem as problem:
        if problem.status != 404:  # noqa: PLR2004
            raise
        raise not_found("invoice_file", uuid) from None


def _known_invoice(uuid: str, known: Directory, snapshot: Snapshot) -> dict[str, Any]:
    for row in snapshot.rows("api/scaleway/invoices"):
        if known.ids.invoice(row["invoice_id"]) == uuid.lower():
            return row
    raise not_found("invoice", uuid)


def _rows_asked(asked: Arguments, known: Directory, snapshot: Snapshot) -> list[dict[str, Any]]:
    """Rows of invoices that filters let through, in the order that is asked for."""
    organization = known.whole_organization(asked.uuid("organization_id"), resource="billing")
    since, until = asked.instant("billing_period_start_after"), asked.instant("billing_period_start_before")
    kind = asked.choice("invoice_type", TYPES, TYPES[0])
    order = asked.choice("order_by", ORDERS, ORDERS[0])
    found = []
    for row in snapshot.rows("api/scaleway/invoices"):
        start = BillingPeriod.parse(row["period"]).start()
        if (
            (organization is None or row["billing_account_id"] == organization)
            and (since is None or start >= since)
            and (until is None or start < until)
            and kind in (TYPES[0], _type(row))
        ):
            found.append(row)
    name, _, way = order.rpartition("_")
    found.sort(key=lambda row: str(row["invoice_id"]))
    found.sort(key=lambda row: _order(row, name), reverse=way == "desc")
    return found


def _order(row: dict[str, Any], name: str) -> Any:
    """What invoices are ordered by; those without a date come first, as nothing does."""
    values = {
        "invoice_number": (invoice_number(row["number"]), row["period"]),
        "start_date": (row["period"],),
        "issued_date": (str(row["issue_date"] or ""),),
        "due_date": (str(row["due_date"] or ""),),
        "total_untaxed": (row["untaxed_amount"],),
        "total_taxed": (row["total_amount"],),
        "invoice_type": (_type(row),),
    }
    return values[name]


def _type(row: dict[str, Any]) -> str:
    return "credit_note" if row["document"] == "credit_note" else "periodic"


def _invoice(row: dict[str, Any], known: Directory, core: Core) -> dict[str, Any]:
    payer, currency = row["billing_account_id"], row["currency"]
    start, end = month_of(row["period"], known.zone(payer))
    config = core.workspace.config
    seller_zone = config.seller.time_zone or config.period.time_zone
    issued, due = row["issue_date"], row["due_date"]
    return {
        "id": known.ids.invoice(row["invoice_id"]),
        "organization_id": known.ids.organization(payer),
        "organization_name": known.name(payer),
        "type": _type(row),
        "state": row["status"] if row["status"] == "issued" else ("stopped" if end <= core.now() else "draft"),
        "number": invoice_number(row["number"]),
        "seller_name": config.seller.legal_name or config.seller.name,
        "start_date": instant(start),
        "stop_date": instant(last_instant(end)),
        "billing_period": f"{row['period']}-01T00:00:00Z",
        "issued_date": instant(issued and first_instant_of(issued, seller_zone)),
        "due_date": instant(due and last_instant_of(due, seller_zone)),
        "total_untaxed": money(row["untaxed_amount"], currency),
        "total_taxed": money(row["total_amount"], currency),
        "total_tax": money(row["tax_amount"], currency),
        "total_discount": money(row["deducted_amount"], currency),
        "total_undiscount": money(row["subtotal_amount"], currency),
    }


def month_of(period: str, zone: str) -> tuple[datetime, datetime]:
    """First instant of a month and of the next one, as clocks of the zone show them."""
    month = BillingPeriod.parse(period)
    return first_instant_of(month.first_day, zone), first_instant_of(month.shift(1).first_day, zone)
