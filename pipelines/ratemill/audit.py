"""The audit log: every act is chained to the one before by its hash, so that none can be changed or left out unseen."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ratemill.tables.runs import EVENTS

if TYPE_CHECKING:
    from datetime import datetime

    import polars as pl

FIRST = "0" * 64
"""What stands in for the hash before the first act."""


@dataclass(frozen=True)
class Act:
    """Something that was done to the ledger."""

    act: str
    """loaded, drafted, closed, credited, collected."""
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
    content["at"] = row["at"].isoformat()
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def broken_links(events: pl.DataFrame) -> list[str]:
    """What is wrong with the chain, one sentence each; nothing where it is whole.

    A tail that was cut off leaves a whole chain: compare the last hash with one that was kept elsewhere.
    """
    found: list[str] = []
    expected_sequence, previous = 1, FIRST
    for row in events.sort("sequence").iter_rows(named=True):
        name = f"act {row['sequence']} ({row['act']})"
        if row["sequence"] != expected_sequence:
            found.append(f"{name}: act {expected_sequence} should come before it; acts are missing")
        elif row["previous_sha256"] != previous:
            found.append(f"{name}: it does not follow the act before it; one of them was exchanged")
        if row["sha256"] != row_sha256(row):
            found.append(f"{name}: its content was changed; its hash is another one")
        expected_sequence, previous = row["sequence"] + 1, row["sha256"]
    return found
