"""Which documents can be e-invoices as EN 16931 wants them, and what is in the way of the others.

The standard has rules that an honest invoice of another kind breaks: amounts have two decimals, tax has to be told by
the seller's tax number, and what is outside the scope of VAT stands alone. A document that can't keep them gets no
e-invoice; it never gets a wrong one.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ratemill.findings import Finding, Severity
from ratemill.identifiers import is_vat_number
from ratemill.money import minor_unit_decimals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    import polars as pl

    from ratemill.tables.invoices import Billed

COUNTRIES = frozenset({
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT", "LU",
    "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK", "IS", "LI", "NO", "CH", "GB",
})  # fmt: skip
"""Where sellers send e-invoices of EN 16931 and Peppol BIS Billing 3: the EEA, Switzerland and the United Kingdom."""

MOST_DECIMALS = 2
"""Rules BR-DEC of EN 16931."""

_NAMED = 5


@dataclass(frozen=True)
class Obstacle:
    """Why a document can't be an e-invoice."""

    rule: str
    """Rule of findings: ``einvoice.…``."""
    message: str
    cure: str


class _Tax(NamedTuple):
    kind: str
    tax_code: str
    category: str
    rate: Decimal


def obstacles(
    billed: Billed, *, accounts: pl.DataFrame, seller_tax_id: str, seller_address: Sequence[str]
) -> dict[str, Obstacle]:
    """invoice_id → what is in the way of its e-invoice, of those documents that can't have one.

    Args:
        billed: documents, drafts or issued.
        accounts: rows of ACCOUNTS.
        seller_tax_id: VAT or tax number of the seller; empty: none.
        seller_address: lines of the seller's postal address.
    """
    of_seller = _of_seller(seller_tax_id, seller_address)
    tax_numbers = dict(accounts.select("account_id", "tax_id").iter_rows())
    taxes: defaultdict[str, set[_Tax]] = defaultdict(set)
    for invoice_id, *tax in billed.taxes.select("invoice_id", *_Tax._fields).iter_rows():
        taxes[invoice_id].add(_Tax(*tax))
    found = {}
    for row in billed.invoices.iter_rows(named=True):
        obstacle = of_seller or _of_document(
            currency=row["currency"],
            lines=row["lines"],
            taxes=taxes[row["invoice_id"]],
            payer=row["billing_account_id"],
            tax_number=tax_numbers.get(row["billing_account_id"]) or "",
        )
        if obstacle is not None:
            found[row["invoice_id"]] = obstacle
    return found


def obstacle_findings(found: Mapping[str, Obstacle], *, severity: Severity) -> list[Finding]:
    """One finding for each obstacle, naming the documents."""
    documents: dict[Obstacle, list[str]] = defaultdict(list)
    for invoice_id, obstacle in found.items():
        documents[obstacle].append(invoice_id)
    return [
        Finding(severity, each.rule, f"no e-invoice for {_listed(sorted(ids))}: {each.message}", each.cure)
        for each, ids in sorted(documents.items(), key=lambda item: (item[0].rule, item[0].message))
    ]


def _of_seller(tax_id: str, address: Sequence[str]) -> Obstacle | None:
    missing = [name for name, value in (("tax_id", tax_id), ("address", address)) if not value]
    if not missing:
        return None
    return Obstacle(
        "einvoice.seller",
        f"[seller] has no {' and no '.join(missing)}",
        f'write [seller] {" and ".join(missing)} into ratemill.toml, or set [output] einvoice = "off"',
    )


def _of_document(*, currency: str, lines: int, taxes: set[_Tax], payer: str, tax_number: str) -> Obstacle | None:
    kinds = {tax.kind for tax in taxes}
    decimals = minor_unit_decimals(currency)
    if decimals > MOST_DECIMALS:
        return Obstacle(
            "einvoice.currency",
            f"amounts in {currency} have {decimals} decimals, and EN 16931 allows {MOST_DECIMALS}",
            "nothing can be done about it; the PDF is the invoice",
        )
    if not lines or not taxes:
        return Obstacle("einvoice.empty", "it has no lines, and EN 16931 wants one", "the PDF is the document")
    if "reverse_charge" in kinds and not is_vat_number("".join(tax_number.split())):
        return Obstacle(
            "einvoice.buyer",
            f"it is of reverse charge, and account {payer!r} has no VAT number that begins with its country"
            + (f", but {tax_number!r}" if tax_number else ""),
            "write the customer's VAT number into tax_id of accounts.csv",
        )
    if "outside_scope" in kinds and len(kinds) > 1:
        others = ", ".join(sorted(kinds - {"outside_scope"}))
        return Obstacle(
            "einvoice.outside_scope",
            f"some of it is outside the scope of VAT and some is not ({others}), which EN 16931 wants on two invoices",
            "bill the two on different accounts, or send the PDF",
        )
    if len({tax[1:] for tax in taxes}) < len(taxes):
        return Obstacle(
            "einvoice.tax_kind",
            "lines of one tax code, category and rate are of several kinds, so the kind of each line is not known",
            "give the kinds different tax codes in taxes.csv",
        )
    return None


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
