"""The audit log: every act is chained to the one before by its hash, so that none can be changed or left out unseen."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.frames import collect
from ratemill.tables.columns import INSTANT, TEXT
from ratemill.tables.runs import EVENTS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ratemill.tables.columns import Table
    from ratemill.tables.invoices import Billed

FIRST = "0" * 64
"""What stands in for the hash before the first act."""


@dataclass(frozen=True)
class Act:
    """Something that was done to the ledger."""

    act: str
    """loaded, drafted, closed, credited, collected, migrated."""
    actor: str
    at: datetime
    period: str | None = None
    subject: str | None = None
    """A run, an invoice or a file."""
    details: dict[str, Any] = field(default_factory=dict)
    """Ready for JSON: hashes of inputs and results, totals before and after."""


def chained(act: Act, *, sequence: int, previous_sha256: str) -> dict[str, Any]:
    """The row of EVENTS for ``act``."""
    row = {
        "sequence": sequence,
        "at": act.at,
        "actor": act.actor,
        "act": act.act,
        "period": act.period,
        "subject": act.subject,
        "details": json.dumps(act.details, sort_keys=True, ensure_ascii=False, default=str),
        "previous_sha256": previous_sha256,
    }
    return row | {"sha256": row_sha256(row)}


def row_sha256(row: dict[str, Any]) -> str:
    """What the hash of a row of EVENTS must be."""
    content = {name: row[name] for name in EVENTS.names if name not in ("at", "sha256")}
    content["at"] = row["at"].astimezone(UTC).isoformat()
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def broken_links(events: pl.DataFrame) -> list[str]:
    """What is wrong with the chain, one sentence each; nothing where it is whole.

    A tail that was cut off leaves a whole chain: compare the last hash with one that was kept elsewhere.
    """
    found: list[str] = []
    expected_sequence, previous = 1, FIRST
    for row in events.sort("sequence").iter_rows(named=True):
        name = f"act {row['sequence']} ({row['act']})"
        if row["sequence"] < expected_sequence:
            found.append(f"{name}: it is there twice")
        elif row["sequence"] > expected_sequence:
            found.append(f"{name}: act {expected_sequence} should come before it; acts are missing")
        elif row["previous_sha256"] != previous:
            found.append(f"{name}: it does not follow the act before it; one of them was exchanged")
        if row["sha256"] != row_sha256(row):
            found.append(f"{name}: its content was changed; its hash is another one")
        expected_sequence, previous = row["sequence"] + 1, row["sha256"]
    return found


def proof_of_issue(billed: Billed, *, charges: Mapping[str, str], documents: Mapping[str, str]) -> dict[str, Any]:
    """What the act that issues invoices must keep in its details, so that any later change can be found and named.

    Args:
        billed: the rows as issued, numbers and dates included.
        charges: every file of the folders of charges behind them: path below ``state/charges`` → SHA-256.
        documents: every file that was issued: path below ``state/issued`` → SHA-256.
    """
    return {"charges": dict(charges), "documents": dict(documents), "rows": rows_sha256(billed)}


def totals_by_currency(invoices: pl.DataFrame) -> dict[str, dict[str, str | int]]:
    """Currency → number of documents and their sums (untaxed, tax, total, due), as acts keep them: amounts as text."""
    sums = collect(
        invoices.lazy()
        .group_by("currency")
        .agg(pl.len(), *(pl.col(f"{name}_amount").sum() for name in ("untaxed", "tax", "total", "due")))
        .sort("currency")
    )
    return {
        currency: {"documents": count, "untaxed": str(untaxed), "tax": str(tax), "total": str(total), "due": str(due)}
        for currency, count, untaxed, tax, total, due in sums.iter_rows()
    }


def rows_sha256(billed: Billed) -> dict[str, dict[str, str]]:
    """invoice_id → table → SHA-256 of the invoice's rows there; tables in which it has none are left out."""
    hashes: dict[str, dict[str, str]] = {}
    for table, rows in billed.frames():
        for invoice_id, digest in content_by(rows, table, "invoice_id").items():
            hashes.setdefault(invoice_id, {})[table.name] = digest
    return hashes


def content_by(rows: pl.DataFrame, table: Table, by: str) -> dict[str, str]:
    """Value of the column ``by`` → SHA-256 of its rows: every value of the table's columns counts, row order does not.

    Equal hashes mean equal values: each is written as its length and its text, so that no two rows read alike.
    """
    # Without the name of the zone: instants are the same in all of them.
    texts = [
        (pl.col(name).dt.epoch("us") if dtype == INSTANT else pl.col(name)).cast(TEXT)
        for name, dtype in table.polars_schema.items()
    ]
    cells = [
        pl.when(text.is_null()).then(pl.lit("-")).otherwise(pl.format("{}:{}", text.str.len_bytes(), text))
        for text in texts
    ]
    joined = (
        rows.select(pl.col(by), row=pl.concat_str(cells, separator=" "))
        .sort(by, "row")
        .group_by(by, maintain_order=True)
        .agg(pl.col("row").str.join("\n"))
    )
    return {value: hashlib.sha256(text.encode()).hexdigest() for value, text in joined.iter_rows()}
