"""Printing the drafts of a period, as a process: ``python -m ratemill.bench.printing WORKSPACE PERIOD pdf|all FOLDER``.

``all`` prints them as they are printed when they are issued, e-invoices included. Nothing is numbered or issued.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ratemill.bench.documents import PdfPrinter
from ratemill.io.issued import IssuedStore
from ratemill.io.warehouse import Warehouse
from ratemill.period import BillingPeriod
from ratemill.progress import make_progress
from ratemill.steps.check import checked_book
from ratemill.steps.context import Context
from ratemill.steps.documents import made
from ratemill.steps.report import invoice_batches, invoice_facts, invoice_files
from ratemill.workspace import find_workspace

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from ratemill.book.model import Book
    from ratemill.io.document_pool import File
    from ratemill.tables.invoices import Billed

_ISSUED_ON = date(2026, 11, 2)
_MANY = 1e6
"""Seconds of work: every process that may be used is."""


def main(workspace: Path, period: BillingPeriod, kind: str, folder: Path) -> None:
    """Print, and leave ``counts.json`` in ``folder``."""
    opened = find_workspace(workspace)
    with Warehouse.open(opened.warehouse, opened.config.engine) as warehouse:
        context = Context(opened, warehouse, make_progress(quiet=True), datetime.now(UTC), "bench")
        book, _ = checked_book(opened)
        billed = warehouse.billed(period)
        began = time.monotonic()
        print_ = _pdf_alone if kind == "pdf" else _everything
        with closing(print_(context, billed, book, period)) as files:
            sizes: list[int] = []

            def written() -> Iterator[tuple[str, bytes]]:
                for _, name, data in files:
                    sizes.append(len(data))
                    yield name, data

            IssuedStore(folder).write_period(period, written())
        seconds = time.monotonic() - began
    counts = {"files": len(sizes), "bytes": sum(sizes), "seconds": seconds}
    (folder / "counts.json").write_text(json.dumps(counts), encoding="utf-8")


def _pdf_alone(context: Context, billed: Billed, book: Book, period: BillingPeriod) -> Generator[File, None, None]:
    facts = invoice_facts(context, billed, book=book, period=period)
    batches = invoice_batches(context, billed, book=book, einvoices=())
    return made(context, PdfPrinter(facts), batches, seconds=_MANY)


def _everything(context: Context, billed: Billed, book: Book, period: BillingPeriod) -> Generator[File, None, None]:
    issued = billed.invoices.with_columns(
        status=pl.lit("issued"),
        number=pl.format("BC-2026-{}", pl.int_range(1, pl.len() + 1).cast(pl.String).str.zfill(6)),
        issue_date=pl.lit(_ISSUED_ON),
        due_date=pl.lit(_ISSUED_ON + timedelta(days=30)),
    )
    return invoice_files(context, replace(billed, invoices=issued), book=book, period=period)


if __name__ == "__main__":
    main(Path(sys.argv[1]), BillingPeriod.parse(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
