"""What identifies a run: everything that can change its result, by hash."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from ratemill import __version__
from ratemill.book.of_period import book_of_period
from ratemill.resources import sql
from ratemill.tables.book import BOOK_TABLES

if TYPE_CHECKING:
    import polars as pl

    from ratemill.book.model import Book
    from ratemill.period import BillingPeriod
    from ratemill.steps.context import Context


def inputs_of(context: Context, book: Book, files: pl.DataFrame, period: BillingPeriod) -> dict[str, Any]:
    """The inputs of a run by name, ready for JSON; what ``diff`` names as causes.

    ``files``: rows of USAGE_FILES that have to do with the period.
    """
    relevant = book_of_period(book, period)
    return {
        "usage": dict(files.select("file", "sha256").sort("file").iter_rows()),
        "record_ids": list(
            context.warehouse.frame(sql("core/record_id_fingerprint"), {"files": files["file_id"].to_list()}).row(0)
        ),
        "book": {table.name: relevant.table_sha256(table.name) for table in BOOK_TABLES},
        "credits": book.table_sha256("credits"),
        "configuration": context.config.fingerprint(),
        "rating_configuration": context.config.rating_fingerprint(),
        "code": __version__,
        "ledger": context.warehouse.ledger_fingerprint(period),
    }


def rating_key(inputs: dict[str, Any], period: BillingPeriod) -> str:
    """SHA-256 of the inputs that decide what the usage of ``period`` costs, however often it is rated.

    File names do not count, nor what only decides when and how it is billed: credits, the seller, the ledger.
    """
    return _sha256(
        {
            "period": str(period),
            "usage": sorted(inputs["usage"].values()),
            **{name: inputs[name] for name in ("record_ids", "book", "rating_configuration", "code")},
        }
    )


def input_key(inputs: dict[str, Any], period: BillingPeriod) -> str:
    """SHA-256 of all inputs: equal keys, equal results."""
    return _sha256({**inputs, "period": str(period), "usage": sorted(inputs["usage"].values())})


def _sha256(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
