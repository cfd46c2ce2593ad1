"""Files of invoices: as they were issued, proven by their hash; and a workbook made from the published tables."""

from __future__ import annotations

import hashlib
import logging
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import polars as pl

from ratemill.api.problems import Problem
from ratemill.documents.member import member_workbook
from ratemill.io.issued import IssuedStore
from ratemill.period import BillingPeriod
from ratemill.tables.invoices import INVOICE_DEDUCTIONS, INVOICE_LINES, INVOICES

if TYPE_CHECKING:
    from typing import Any

    from ratemill.api.app import Core
    from ratemill.api.snapshots import Snapshot
    from ratemill.tables.columns import Table

LOG = logging.getLogger(__name__)
CONTENT_TYPES = {
    "pdf": "application/pdf",
    "xml": "application/xml",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "html": "text/html; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


def issued_file(core: Core, snapshot: Snapshot, invoice_id: str, ending: str) -> tuple[str, bytes]:
    """Name and bytes of a file that an invoice was issued with.

    Which file, and the hash of its bytes, is what the snapshot says; files of issued invoices never change.

    Raises:
        Problem: the key sees no such invoice, or it was not issued in that format (404); or the file is not what was
            issued (500).
    """
    files = snapshot.rows("api/v1/documents", {"invoice_id": invoice_id})
    found = next((row for row in files if row["file"].endswith(f".{ending}")), None)
    if found is None:
        raise Problem.not_found("document", f"{invoice_id}.{ending}")
    try:
        data = IssuedStore(core.workspace.issued).read(found["file"])
    except FileNotFoundError:
        data = b""
    if hashlib.sha256(data).hexdigest() != found["sha256"]:
        LOG.error("state/issued/%s is not as it was issued → bring it back from a backup", found["file"])
        raise Problem(500, "document-damaged", "the file is not as it was issued, so nobody is given it; tell us")
    return PurePosixPath(found["file"]).name, data


def workbook(core: Core, snapshot: Snapshot, invoice: dict[str, Any]) -> bytes:
    """An invoice with its lines and deductions as a workbook, drafts as well."""
    of_invoice = {"invoice_id": invoice["invoice_id"]}
    period = BillingPeriod.parse(invoice["period"])
    payer = invoice["billing_account_id"]
    return member_workbook(
        seller=core.workspace.config.seller.name,
        principal=payer,
        first=period.first_day,
        last=period.last_day,
        invoices=_frame(INVOICES, [invoice]),
        lines=_frame(INVOICE_LINES, snapshot.rows("api/v1/workbook_lines", of_invoice)),
        deductions=_frame(INVOICE_DEDUCTIONS, snapshot.rows("api/v1/workbook_deductions", of_invoice)),
        whole=[payer],
        names={row["account_id"]: row["name"] for row in snapshot.rows("api/v1/account_names")},
    )


def _frame(table: Table, rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame([{name: row[name] for name in table.names} for row in rows], table.polars_schema)
