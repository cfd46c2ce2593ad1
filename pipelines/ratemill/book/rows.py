"""From offending rows to findings: each check selects rows, this module says where they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ratemill.book.model import SOURCE_FILE, SOURCE_ROW
from ratemill.findings import Finding, Severity

if TYPE_CHECKING:
    from datetime import datetime

    import polars as pl

Row = Mapping[str, Any]


def findings_for(
    rows: pl.DataFrame,
    *,
    rule: str,
    message: Callable[[Row], str],
    cure: str,
    column: str | None = None,
    severity: Severity = Severity.ERROR,
) -> list[Finding]:
    """One finding per row, at the row's place; ``message`` gets the row as a mapping."""
    return [
        Finding(
            severity,
            rule,
            message(row),
            cure,
            file=row[SOURCE_FILE],
            row=row[SOURCE_ROW],
            column=column,
            value=None if column is None or row[column] is None else str(row[column]),
        )
        for row in rows.iter_rows(named=True)
    ]


def place(row: Row, suffix: str = "") -> str:
    """``book/prices.csv:12``, for naming a second row inside a message."""
    file, line = row[SOURCE_FILE + suffix], row[SOURCE_ROW + suffix]
    if file is None:
        return "another row"
    return str(file) if line is None else f"{file}:{line}"


def instant(value: datetime | None, *, empty: str) -> str:
    """An instant as messages write it, ``2026-10-01T00:00:00Z``; ``empty`` where there is none."""
    return empty if value is None else value.isoformat().replace("+00:00", "Z")


def span(row: Row, suffix: str = "") -> str:
    """A validity as messages write it: ``since ever to 2026-10-01T00:00:00Z``."""
    start, end = row["valid_from" + suffix], row["valid_to" + suffix]
    return f"{instant(start, empty='since ever')} to {instant(end, empty='open')}"
