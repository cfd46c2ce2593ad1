"""E-invoices as XML, in both syntaxes of EN 16931.

The form is the standard's, so a workspace's templates do not replace these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratemill.documents.environment import SHIPPED_PREFIX, render

if TYPE_CHECKING:
    import jinja2

    from ratemill.documents.einvoice.model import EInvoice

UBL_TEMPLATE = f"{SHIPPED_PREFIX}/einvoice/ubl.xml.j2"
CII_TEMPLATE = f"{SHIPPED_PREFIX}/einvoice/cii.xml.j2"


def render_ubl(einvoice: EInvoice, environment: jinja2.Environment) -> bytes:
    """UBL 2.1 Invoice or CreditNote, as Peppol BIS Billing 3 wants it."""
    return render(environment, UBL_TEMPLATE, invoice=einvoice).encode("utf-8")


def render_cii(einvoice: EInvoice, environment: jinja2.Environment) -> bytes:
    """UN/CEFACT Cross Industry Invoice, as Factur-X (ZUGFeRD) wants it in the profile EN 16931."""
    return render(environment, CII_TEMPLATE, invoice=einvoice).encode("utf-8")
