"""Invoices for machines (JSON) and spreadsheets (CSV). No clock, no locale: equal invoices give equal bytes."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ratemill.documents.formats import plain
from ratemill.documents.model import InvoiceDocument, Logo, shown_as
from ratemill.documents.spreadsheet import spreadsheet_csv
from ratemill.money import minor_unit_decimals

if TYPE_CHECKING:
    import polars as pl

JSON_FORMAT = "ratemill-invoice/1"
"""Grows a number when a name or meaning changes; new names may be added without."""


def invoice_json(document: InvoiceDocument) -> bytes:
    """The invoice as UTF-8 JSON, names sorted, lines flat and in order, decimals as text, texts unchanged.

    Amounts have the decimals of the currency's minor unit, other numbers no trailing zeros, days are YYYY-MM-DD.
    On a credit note, what is credited is positive, as on paper; the CSV has the tables' signs.
    """
    content = {
        name: value
        for name, value in _fields(document, document.currency).items()
        if name not in {"accounts", "corrections", "has_several_accounts", "line_count", "is_draft", "is_credit_note"}
    }
    content["format"] = JSON_FORMAT
    content["lines"] = [_fields(line, document.currency) for line in document.lines()]
    for line in content["lines"]:
        del line["part_of_month"]  # first_day and last_day say it
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, indent=2, allow_nan=False)
    return (text + "\n").encode("utf-8")


def lines_csv(lines: pl.DataFrame) -> bytes:
    """Invoice lines for a spreadsheet, sorted by line number; see ``spreadsheet_csv``."""
    return spreadsheet_csv(lines.sort("line_number"))


def _fields(value: Any, currency: str) -> dict[str, Any]:
    how = shown_as(value.__class__)
    return {each.name: _machine(getattr(value, each.name), how.get(each.name), currency) for each in fields(value)}


def _machine(value: Any, how: str | None, currency: str) -> Any:
    if isinstance(value, Decimal):
        return _money(value, currency) if how == "amount" else plain(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Logo):
        return None
    if is_dataclass(value):
        return _fields(value, currency)
    if isinstance(value, tuple):
        return [_machine(item, None, currency) for item in value]
    return value


def _money(value: Decimal, currency: str) -> str:
    """With the minor unit's decimals; more where a value has them (a saving is not rounded), never fewer digits."""
    text = plain(value)
    decimals = minor_unit_decimals(currency)
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.ljust(decimals, '0')}" if decimals or fraction else whole
