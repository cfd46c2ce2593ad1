"""Billed documents written down by hand: what tests of corrections and credit notes start from.

::

    september = billed(document("2026-09-acme-EUR", line("10.00", sku_id="vm"), number="2026-00001"))

Whatever is not said is the usual: one line of usage of acme in EUR at 20 % tax, issued by a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import polars as pl

from ratemill.tables.invoices import BILLING_TABLES, INVOICE_LINES, INVOICES, TAX_LINES, Billed

D = Decimal
ZEROS = dict.fromkeys(("discount_amount", "commitment_amount", "credit_amount"), D(0))
DEDUCTIONS = tuple(ZEROS)


@dataclass(frozen=True)
class Document:
    """An invoice and its lines."""

    invoice: dict[str, Any]
    lines: list[dict[str, Any]]
    taxes: list[dict[str, Any]]


def line(amount: str, **values: Any) -> dict[str, Any]:
    """A line of INVOICE_LINES; net is the amount with the given deductions."""
    row = {
        "line_kind": "usage",
        "account_id": "acme",
        "account_name": "Acme",
        "sku_id": "vm",
        "sku_name": "VM",
        "price_id": "vm-eur",
        "first_day": date(2026, 9, 1),
        "last_day": date(2026, 9, 30),
        "pricing_unit": "h",
        "tax_code": "fr",
        "tax_category": "standard",
        "tax_rate": D(20),
        "tax_kind": "standard",
        "tax_note": None,
        "amount": D(amount),
        "cost": D(amount),
        "rounding": D(0),
        **ZEROS,
        **{name: D(value) if isinstance(value, str) and name in _NUMBERS else value for name, value in values.items()},
    }
    return row | {"net_amount": row["amount"] + sum((row[name] for name in DEDUCTIONS), D(0))}


_NUMBERS = {"pricing_quantity", "unit_price", "tax_rate", *DEDUCTIONS}


def document(invoice_id: str, *lines: dict[str, Any], **values: Any) -> Document:
    """An invoice; period, payer and currency are those that its identity begins with."""
    year, month, payer, currency, *_ = invoice_id.split("-")
    numbered = [row | {"invoice_id": invoice_id, "line_number": row.get("line_number", at)}
                for at, row in enumerate(lines, 1)]  # fmt: skip
    sums: dict[tuple[Any, ...], Decimal] = {}
    for row in numbered:
        key = tuple(row[name] for name in ("tax_code", "tax_category", "tax_rate", "tax_kind", "tax_note"))
        sums[key] = sums.get(key, D(0)) + row["net_amount"]
    taxes = [
        {
            "invoice_id": invoice_id, "tax_code": code, "category": category, "rate": rate, "kind": kind, "note": note,
            "base_amount": base, "tax_amount": half_up(base * rate / 100),
        }
        for (code, category, rate, kind, note), base in sums.items()
    ]  # fmt: skip
    untaxed, tax = sum(sums.values(), D(0)), sum((row["tax_amount"] for row in taxes), D(0))
    invoice = {
        "invoice_id": invoice_id,
        "document": "invoice",
        "period": f"{year}-{month}",
        "billing_account_id": payer,
        "currency": currency,
        "status": "issued",
        "number": None,
        "origin": "run",
        "lines": len(numbered),
        "list_amount": untaxed,
        "subtotal_amount": untaxed,
        **ZEROS,
        "untaxed_amount": untaxed,
        "tax_amount": tax,
        "total_amount": untaxed + tax,
        "prepaid_amount": D(0),
        "due_amount": untaxed + tax,
        "rounding": D(0),
        "run_id": f"{year}-{month}-run",
        **values,
    }
    return Document(invoice, numbered, taxes)


def half_up(amount: Decimal, places: str = "0.01") -> Decimal:
    """The amount to the minor unit."""
    return amount.quantize(D(places), "ROUND_HALF_UP")


def billed(*documents: Document) -> Billed:
    """The documents as frames."""
    return Billed.of(
        {
            INVOICES: _frame(INVOICES, [one.invoice for one in documents]),
            INVOICE_LINES: _frame(INVOICE_LINES, [row for one in documents for row in one.lines]),
            TAX_LINES: _frame(TAX_LINES, [row for one in documents for row in one.taxes]),
        }.get(table, table.empty())
        for table in BILLING_TABLES
    )


def together(*parts: Billed) -> Billed:
    """Several as one."""
    return Billed.of(
        pl.concat(frames) for frames in zip(*([f for _, f in part.frames()] for part in parts), strict=True)
    )


def _frame(table: Any, rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame([{name: row.get(name) for name in table.names} for row in rows], schema=table.polars_schema)
