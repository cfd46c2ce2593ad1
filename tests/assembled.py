"""One month's invoices from a few charges and rows of the book: what tests of invoicing are written with.

Amounts are written as text. Everything that is assembled here is held against every invariant, so a test only says
what it is about.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import polars as pl

from ratemill.book.model import Book
from ratemill.invoicing.assembly import Invoices, assemble_invoices
from ratemill.invoicing.invariants import assert_invoices_add_up
from ratemill.period import BillingPeriod
from ratemill.tables.book import BOOK_TABLES
from ratemill.tables.charges import CHARGES
from ratemill.tables.invoices import CORRECTIONS, CREDIT_LEDGER

if TYPE_CHECKING:
    from ratemill.tables.columns import Table

OCTOBER = BillingPeriod(2026, 10)
"""31 days, the month of every test that says nothing else."""
PAYER, MEMBER = "acme", "acme-lab"
"""Acme pays for itself and for its lab."""

_TABLES = {table.name: table for table in BOOK_TABLES}
_SKUS = [
    {"sku_id": "vm", "service": "Machines", "category": "Compute", "name": "Machine"},
    {"sku_id": "gpu", "service": "Machines", "category": "Compute", "name": "Accelerator"},
    {"sku_id": "disk", "service": "Disks", "category": "Storage", "name": "Disk"},
    {"sku_id": "book", "service": "Print", "category": "Other", "name": "Manual", "tax_category": "reduced"},
]
_TAXES = [
    {"tax_code": "fr", "country": "FR", "rate": "20"},
    {"tax_code": "fr", "country": "FR", "category": "reduced", "rate": "5.5"},
]


def usage(cost: str, sku: str = "vm", **more: Any) -> dict[str, Any]:
    """A usage charge of Acme on 5 October, a different price version for each ``line``."""
    day = more.pop("day", 5)
    start = more.pop("at", datetime(2026, 10, day, 12, tzinfo=UTC))
    account = more.pop("account", PAYER)
    payer = more.pop("payer", PAYER)
    currency = more.pop("currency", "EUR")
    row = {
        "period": str(OCTOBER),
        "billing_account_id": payer,
        "account_id": account,
        "project_id": more.pop("project", None),
        "sku_id": sku,
        "region": more.pop("region", None),
        "charge_start": start,
        "charge_end": start + timedelta(hours=1),
        "charge_kind": "usage",
        "price_id": f"price-{more.pop('line', 1)}",
        "currency": currency,
        "pricing_quantity": Decimal(1),
        "pricing_unit": "h",
        "list_cost": Decimal(cost),
        "contracted_cost": Decimal(cost),
        "cost": Decimal(cost),
        "run_id": "run",
        "invoice_id": f"{OCTOBER}-{payer}-{currency}",
    }
    return row | more


def day(number: int, month: int = 10, zone: str = "UTC", hour: int = 0) -> datetime:
    """An instant of 2026."""
    return datetime.combine(date(2026, month, number), time(hour), ZoneInfo(zone)).astimezone(UTC)


def make_book(currency: str = "EUR", zone: str | None = None, **tables: list[dict[str, Any]]) -> Book:
    """A book of Acme and its lab with a few SKUs and French taxes, and the rows of ``tables``, by default or besides."""
    account = {"country": "FR", "currency": currency, "time_zone": zone}
    rows: dict[str, list[dict[str, Any]]] = {
        "accounts": [
            {**account, "account_id": PAYER, "name": "Acme"},
            {**account, "account_id": MEMBER, "name": "Acme Lab", "billing_account_id": PAYER},
        ],
        "skus": [{"usage_unit": "h", "pricing_unit": "h", **sku} for sku in _SKUS],
        "prices": [{"price_id": "price-1", "sku_id": "vm", "currency": currency, "unit_price": "1"}],
        "taxes": _TAXES,
    }
    noted = {"discounts", "commitments", "credits"}
    for name, given in tables.items():
        rows[name] = [{"note": name, **row} if name in noted else row for row in given]
    return Book.of(**{name: _frame(_TABLES[name], given) for name, given in rows.items()})


def _frame(table: Table, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows as the book's reader makes them: text as the column's type, a default where a cell is empty."""
    columns = {}
    for column in table.columns:
        default = column.default if column.default is not None and column.dtype != pl.Boolean else None
        cells = [row.get(column.name) if row.get(column.name) is not None else default for row in rows]
        if column.default is not None and column.dtype == pl.Boolean:
            cells = [bool(cell) for cell in cells]
        if isinstance(column.dtype, pl.Decimal):
            cells = [None if cell is None else Decimal(cell) for cell in cells]
        if column.dtype == pl.Int64:
            cells = [None if cell is None else int(cell) for cell in cells]
        columns[column.name] = pl.Series(column.name, cells, dtype=column.dtype)
    return pl.DataFrame(columns)


def assemble(
    charges: list[dict[str, Any]],
    *,
    book: Book | None = None,
    drawn: dict[str, str] | None = None,
    corrections: list[dict[str, Any]] | None = None,
    documents: bool = False,
    period: BillingPeriod = OCTOBER,
    **tables: Any,
) -> Invoices:
    """The month's invoices, proven to keep every invariant.

    ``tables``: arguments of :func:`make_book`. ``drawn``: credit_id → what earlier invoices used.
    """
    used = [{"credit_id": name, "amount": Decimal(amount)} for name, amount in (drawn or {}).items()]
    frame = pl.DataFrame(charges, schema=CHARGES.polars_schema)
    invoices = assemble_invoices(
        frame.lazy(),
        book=make_book(**tables) if book is None else book,
        period=period,
        time_zone="UTC",
        run_id="run",
        credits_drawn=pl.DataFrame(used, schema=CREDIT_LEDGER.empty().select("credit_id", "amount").schema),
        corrections=pl.DataFrame(corrections or [], schema=CORRECTIONS.polars_schema),
        correction_documents=documents,
    )
    assert not invoices.findings, invoices.findings
    for table, rows in (*invoices.frames(), (CHARGES, invoices.charges)):
        assert rows.schema == table.polars_schema
    if invoices.lines.height:
        assert_invoices_add_up(frame.lazy(), invoices)
    return invoices


def plain(value: Decimal) -> str:
    """A decimal as people write it: no zeros at the end."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def column(frame: pl.DataFrame, name: str) -> list[Any]:
    """A column as a list, decimals as people write them."""
    return [plain(value) if isinstance(value, Decimal) else value for value in frame[name]]


def totals(invoices: Invoices, *names: str) -> dict[str, str]:
    """Amounts of the only invoice: by default all of them that are not zero."""
    row = invoices.invoices.row(0, named=True)
    assert invoices.invoices.height == 1
    amounts = {name.removesuffix("_amount"): value for name, value in row.items() if name.endswith("_amount")}
    del amounts["list"]
    return {name: plain(value) for name, value in amounts.items() if (name in names if names else value)}
