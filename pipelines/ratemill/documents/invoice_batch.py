"""Invoices in batches: what a process needs to make the files of some invoices, and nothing more.

Everything here can be pickled; templates, fonts and libraries are opened where the work is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ratemill.documents.invoice import build_invoice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ratemill.config import Seller
    from ratemill.documents.guard import Guard
    from ratemill.documents.model import InvoiceDocument, Logo
    from ratemill.period import BillingPeriod
    from ratemill.tables.invoices import Billed

Row = dict[str, Any]
File = tuple[str, str, bytes]
"""What it belongs to (an invoice_id), its name in the period's folder, and its bytes."""


@dataclass(frozen=True)
class InvoiceFacts:
    """What all invoices of a period share; arguments of :func:`ratemill.documents.invoice.build_invoice`."""

    seller: Seller
    period: BillingPeriod
    time_zone: str
    logo: Logo | None
    conditions: Mapping[str, str]
    originals: Mapping[str, Row]

    def document(self, one: Billed, account: Row) -> InvoiceDocument:
        """What templates show of one invoice."""
        return build_invoice(
            one,
            account=account,
            seller=self.seller,
            period=self.period,
            time_zone=self.time_zone,
            logo=self.logo,
            conditions=self.conditions,
            originals=self.originals,
        )


@dataclass(frozen=True)
class InvoiceBatch:
    """Some invoices."""

    billed: Billed
    accounts: Mapping[str, Row]
    """account_id → row of ACCOUNTS, of those who pay them."""
    einvoices: frozenset[str]
    """invoice_id of those that get an e-invoice."""

    @property
    def size(self) -> int:
        """Lines: what time and memory go with."""
        return self.billed.lines.height

    def documents(self, facts: InvoiceFacts) -> Iterator[InvoiceDocument]:
        """What templates show of each."""
        for one in self.billed.each():
            yield facts.document(one, self.accounts[one.invoices["billing_account_id"][0]])


Syntax = Literal["ubl", "cii"]
"""How an e-invoice is written."""


@dataclass(frozen=True)
class EInvoicePrinter:
    """Makes the e-invoices of batches and nothing else; they have no file name."""

    facts: InvoiceFacts
    templates: Path
    """The workspace's own; need not exist."""
    syntax: Syntax

    def open(self, guard: Guard) -> Callable[[InvoiceBatch], Iterator[File]]:
        """The function that does it, with the templates at hand."""
        from ratemill.documents.einvoice.build import build_einvoice  # noqa: PLC0415 - where the work is done
        from ratemill.documents.einvoice.xml import render_cii, render_ubl  # noqa: PLC0415
        from ratemill.documents.environment import make_environment  # noqa: PLC0415
        from ratemill.documents.labels import wording  # noqa: PLC0415

        environment = make_environment(self.templates, guard)
        render = {"ubl": render_ubl, "cii": render_cii}[self.syntax]

        def make(batch: InvoiceBatch) -> Iterator[File]:
            for document in batch.documents(self.facts):
                einvoice = build_einvoice(document, wording(environment, "invoice", document.language))
                yield document.invoice_id, "", render(einvoice, environment)

        return make


@dataclass(frozen=True)
class InvoicePrinter:
    """Makes the files of batches."""

    facts: InvoiceFacts
    templates: Path
    """The workspace's own; need not exist."""
    html: bool
    pdf: bool

    def open(self, guard: Guard) -> Callable[[InvoiceBatch], Iterator[File]]:
        """The function that does it, with templates and fonts at hand.

        Raises:
            UsageError: a template of the workspace is wrong.
        """
        from ratemill.documents.environment import make_environment  # noqa: PLC0415 - where the work is done
        from ratemill.documents.invoice_files import render_invoice_files  # noqa: PLC0415
        from ratemill.documents.pdf import InvoicePdf  # noqa: PLC0415

        environment = make_environment(self.templates, guard)
        pdf = InvoicePdf(environment) if self.pdf else None

        def make(batch: InvoiceBatch) -> Iterator[File]:
            for one in batch.billed.each():
                document = self.facts.document(one, batch.accounts[one.invoices["billing_account_id"][0]])
                files = render_invoice_files(
                    document,
                    one.lines,
                    environment,
                    pdf,
                    html=self.html,
                    einvoice=document.invoice_id in batch.einvoices,
                )
                for name, data in files:
                    yield document.invoice_id, name, data

        return make
