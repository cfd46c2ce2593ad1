"""All files of one invoice, as names and bytes; writing them is io's business."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratemill.documents.filenames import safe_name
from ratemill.documents.html import render_invoice_html
from ratemill.documents.tabular import invoice_json, lines_csv

if TYPE_CHECKING:
    from collections.abc import Iterator

    import jinja2
    import polars as pl

    from ratemill.documents.model import InvoiceDocument
    from ratemill.documents.pdf import InvoicePdf

FOLDER = "invoices"


def render_invoice_files(
    document: InvoiceDocument,
    lines: pl.DataFrame,
    environment: jinja2.Environment,
    pdf: InvoicePdf | None,
    *,
    html: bool = True,
) -> Iterator[tuple[str, bytes]]:
    """Relative file name and bytes of each file: JSON and CSV always, HTML and PDF where wanted.

    Args:
        document: from ``build_invoice``.
        lines: the invoice's rows of INVOICE_LINES.
        environment: from ``make_environment``.
        pdf: the PDF maker to use again for each invoice; none: no PDF.
        html: whether to make the page.

    Raises:
        UsageError: when a template of the user is wrong.
    """
    stem = f"{FOLDER}/{safe_name(document.customer.account_id)}-{document.currency}"
    yield f"{stem}.json", invoice_json(document)
    yield f"{stem}.csv", lines_csv(lines)
    if html:
        yield f"{stem}.html", render_invoice_html(document, environment).encode("utf-8")
    if pdf is not None:
        yield f"{stem}.pdf", pdf.render(document)
