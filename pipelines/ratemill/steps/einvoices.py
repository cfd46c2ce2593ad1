"""E-invoices: which documents get one, and what is in the way of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratemill.findings import Severity
from ratemill.invoicing.einvoices import COUNTRIES, obstacle_findings, obstacles

if TYPE_CHECKING:
    from ratemill.book.model import Book
    from ratemill.config import Config
    from ratemill.findings import Finding
    from ratemill.invoicing.einvoices import Obstacle
    from ratemill.tables.invoices import Billed


def with_einvoice(config: Config, billed: Billed, book: Book) -> set[str]:
    """invoice_id of every document that is an e-invoice too, once it is issued."""
    if not _wanted(config):
        return set()
    return set(billed.invoices["invoice_id"]) - set(einvoice_obstacles(config, billed, book))


def einvoice_findings(config: Config, billed: Billed, book: Book) -> list[Finding]:
    """What is in the way of e-invoices of drafts: worth knowing, or a point of the close where they are required."""
    if not _wanted(config):
        return []
    severity = Severity.WARNING if config.output.einvoice == "required" else Severity.INFO
    return obstacle_findings(einvoice_obstacles(config, billed, book), severity=severity)


def _wanted(config: Config) -> bool:
    setting = config.output.einvoice
    return setting == "required" or (setting == "auto" and config.seller.country in COUNTRIES)


def einvoice_obstacles(config: Config, billed: Billed, book: Book) -> dict[str, Obstacle]:
    """invoice_id → what is in the way of its e-invoice; see :func:`ratemill.invoicing.einvoices.obstacles`."""
    seller = config.seller
    return obstacles(
        billed,
        accounts=book.accounts,
        seller_tax_id=seller.tax_id,
        seller_address=(*seller.address, seller.city) if seller.city else seller.address,
    )
