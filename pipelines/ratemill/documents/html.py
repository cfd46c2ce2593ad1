"""Invoices as one self-contained HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratemill.documents.environment import render
from ratemill.documents.labels import wording

if TYPE_CHECKING:
    import jinja2

    from ratemill.documents.model import InvoiceDocument

INVOICE_TEMPLATE = "invoice/invoice.html.j2"


def render_invoice_html(document: InvoiceDocument, environment: jinja2.Environment) -> str:
    """The invoice as a page with inline style, no script and nothing to fetch.

    Raises:
        UsageError: when a template or labels file of the user is wrong.
    """
    words = wording(environment, "invoice", document.language)
    return render(
        environment,
        INVOICE_TEMPLATE,
        invoice=document,
        labels=words.labels,
        language=words.language,
        direction=words.direction,
    )
