"""``/v1/invoices/{invoice_id}/documents/{format}``: files of invoices."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Path, Request, Response

from ratemill.api.answers import Reading
from ratemill.api.documents import CONTENT_TYPES, issued_file, workbook
from ratemill.api.v1.invoices import InvoiceId, found_invoice
from ratemill.documents.filenames import safe_name

router = APIRouter(prefix="/v1", tags=["Invoices"])
Format = Literal["pdf", "xml", "csv", "json", "html", "xlsx"]


@router.get(
    "/invoices/{invoice_id:path}/documents/{format}",
    response_class=Response,
    responses={200: {"content": {media: {} for media in CONTENT_TYPES.values()}, "description": "The file"}},
)
def document(
    invoice_id: InvoiceId,
    file_format: Annotated[Format, Path(alias="format")],
    request: Request,
    snapshot: Reading,
) -> Response:
    """A file of an invoice: PDF, XML (e-invoice), CSV, JSON and HTML as they were issued; XLSX of drafts as well."""
    core = request.app.state.core
    row = found_invoice(snapshot, invoice_id)
    if file_format == "xlsx":
        data = workbook(core, snapshot, row)
    else:
        _, data = issued_file(core, snapshot, row["invoice_id"], file_format)
    name = f"{safe_name(row['number'] or row['invoice_id'])}.{file_format}"
    disposition = f"attachment; filename*=UTF-8''{quote(name)}"
    return Response(data, media_type=CONTENT_TYPES[file_format], headers={"Content-Disposition": disposition})
