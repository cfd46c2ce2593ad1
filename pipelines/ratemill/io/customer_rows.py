"""Reads what customers wrote through the Billing API from its store, ``state/api.sqlite``."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ratemill.book.customers import CUSTOMERS_FILE, CustomerRows
from ratemill.errors import TemporaryError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TABLES = {
    "budgets": "budgets",
    "alerts": "budget_alerts",
    "notifications": "budget_notifications",
    "addresses": "electronic_addresses",
    "redemptions": "coupon_redemptions",
}
"""Part of :class:`CustomerRows` → its table."""
_BUSY_SECONDS = 30.0
_PARSED: dict[str, Callable[[Any], Any]] = {
    "amount": lambda value: Decimal(str(value)),
    "is_enabled": bool,
    "recipients": json.loads,
    **dict.fromkeys(("valid_from", "granted_on", "expires_on", "starts_at", "stops_at"), datetime.fromisoformat),
}
"""Column → its value from what SQLite holds."""


def read_customer_rows(root: Path) -> CustomerRows:
    """Every row, as it is at one instant; none where the workspace has no API, or an older one.

    Raises:
        TemporaryError: the store can't be read now.
    """
    path = root / CUSTOMERS_FILE
    if not path.is_file():
        return CustomerRows()
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            connection.execute("BEGIN")
            known = {row["name"] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            return CustomerRows(
                **{
                    part: tuple(map(_row, connection.execute(f"SELECT * FROM {table} ORDER BY 1")))  # noqa: S608 - ours
                    for part, table in TABLES.items()
                    if table in known
                }
            )
    except sqlite3.Error as error:
        raise TemporaryError(f"{CUSTOMERS_FILE} can't be read: {error} → try again; nothing was billed") from None


def _row(row: sqlite3.Row) -> dict[str, Any]:
    values = dict(row)
    parsed = {name: _PARSED[name](value) for name, value in values.items() if name in _PARSED and value is not None}
    return values | parsed
