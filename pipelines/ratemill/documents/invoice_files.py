"""All files of one invoice, as names and bytes; writing them is io's business."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratemill.documents.einvoice.build import build_einvoice
from ratemill.documents.einvoice.xml import render_cii, render_ubl
from ratemill.documents.facturx import embed
from ratemill.documents.filenames import safe_name
from ratemill.documents.html import render_invoice_html
from ratemill.documents.labels import wording
from ratemill.documents.pdf import creation_time
from ratemill.documents.tabular import invoice_json, lines_csv

if TYPE_CHECKING:
    from collections.abc import Iterator

    import jinja2
    import polars as pl

    from ratemill.documents.model import InvoiceDocument
    from ratemill.documents.pdf import InvoicePdf

FOLDER = "invoices"


def invoice_stem(invoice_id: str, period: str, billing_account_id: str, currency: str) -> str:
    """Where an invoice's files lie in the period's folder, without their endings.

    A payer's invoice in a currency is called after both; other documents of the same (corrections, credit notes) have
    what is different about their identity behind it.
    """
    usual = f"{period}-{billing_account_id}-{currency}"
    rest = invoice_id.removeprefix(usual).removeprefix("-")
    return f"{FOLDER}/{safe_name(billing_account_id)}-{currency}" + (f"-{safe_name(rest)}" if rest else "")


def render_invoice_files(
    document: InvoiceDocument,
    lines: pl.DataFrame,
    environment: jinja2.Environment,
    pdf: InvoicePdf | None,
    *,
    html: bool = True,
    einvoice: bool = False,
) -> Iterator[tuple[str, bytes]]:
    """Relative file name and bytes of each file: JSON and CSV always, HTML, PDF and e-invoice where wanted.

    Args:
        document: from ``build_invoice``.
        lines: the invoice's rows of INVOICE_LINES.
        environment: from ``make_environment``.
        pdf: the PDF maker to use again for each invoice; none: no PDF.
        html: whether to make the page.
        einvoice: whether to make the e-invoice: UBL as a file, and CII inside the PDF. Only for issued documents that
            :func:`ratemill.invoicing.einvoices.obstacles` lets through.

    Raises:
        UsageError: when a template of the user is wrong.
        InvariantError: when the e-invoice does not add up.
    """
    stem = invoice_stem(
        document.invoice_id,
        period=document.period,
        billing_account_id=document.customer.account_id,
        currency=document.currency,
    )
    yield f"{stem}.json", invoice_json(document)
    yield f"{stem}.csv", lines_csv(lines)
    if html:
        yield f"{stem}.html", render_invoice_html(document, environment).encode("utf-8")
    made = None
    if einvoice:
        made = build_einvoice(document, wording(environment, "invoice", document.language))
        yield f"{stem}.xml", render_ubl(made, environment)
    if pdf is not None:
        page = pdf.render(document)
        if made is not None:
            page = embed(page, render_cii(made, environment), modified=creation_time(document))
        yield f"{stem}.pdf", page
