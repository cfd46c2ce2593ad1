"""Price pages: in ``out/<period>/prices`` with a run, and by ``export prices`` for any instant."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl

from ratemill.documents.prices import FOLDER, PricePrinter, PriceSource, account_price_files, public_price_files
from ratemill.errors import UsageError
from ratemill.insight.price_list import terms_of
from ratemill.io.atomic import write_file
from ratemill.steps.check import checked_book
from ratemill.steps.documents import made

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from ratemill.book.model import Book
    from ratemill.documents.prices import PriceFile
    from ratemill.insight.price_list import Terms
    from ratemill.period import BillingPeriod
    from ratemill.steps.context import Context
    from ratemill.tables.invoices import Billed

_SECONDS_PER_CUSTOMER = 0.3


def price_pages_of_period(
    context: Context, period: BillingPeriod, book: Book, billed: Billed
) -> Generator[tuple[str, bytes], None, None]:
    """Name in ``out/<period>`` and bytes of each price file of a run: the prices at the end of the month.

    Those are the public ones, and the prices of each payer that has price lists of its own and an invoice.
    """
    zone = context.config.period.time_zone
    source = PriceSource(book, context.config.seller, period.end(zone) - timedelta(microseconds=1), zone)
    payers = book.accounts.filter(
        pl.col("price_lists").is_not_null(), pl.col("account_id").is_in(billed.invoices["billing_account_id"].implode())
    )
    found = (terms_of(book, account_id, default_zone=zone) for account_id in payers["account_id"].sort())
    customers = [terms for terms in found if terms is not None]
    yield from ((f"{FOLDER}/{name}", data) for name, data in _files(context, source, customers, public=True))


def export_prices(context: Context, *, account_id: str | None, at: datetime, to: Path | None) -> list[Path]:
    """Write the public prices, or those of one account, as the book has them now; the files.

    Args:
        context: the workspace.
        account_id: whose prices; none: everybody's.
        at: instant of which the prices are.
        to: folder; else ``exports/prices`` in the workspace.

    Raises:
        UsageError: the book has no such account, or a template of the workspace is wrong.
        DataRefusedError: the book has mistakes.
    """
    book, _ = checked_book(context.workspace)
    zone = context.config.period.time_zone
    source = PriceSource(book, context.config.seller, at, zone)
    customers = []
    if account_id is not None:
        terms = terms_of(book, account_id, default_zone=zone)
        if terms is None:
            raise UsageError(f"--account: the book has no account {account_id!r} → see book/accounts.csv")
        customers.append(terms)
    folder = to or context.workspace.root / "exports" / FOLDER
    written = []
    with context.progress.step("export", unit="files") as step:
        for name, data in _files(context, source, customers, public=account_id is None):
            write_file(folder / name, data)
            written.append(folder / name)
            step.advance()
        step.done(f"{len(written):,} files in {context.workspace.relative(folder)}")
    return written


def _files(
    context: Context, source: PriceSource, customers: list[Terms], *, public: bool
) -> Iterator[tuple[str, bytes]]:
    def jobs() -> Iterable[PriceFile]:
        if public:
            yield from public_price_files(source)
        for terms in customers:
            yield from account_price_files(source, terms)

    printer = PricePrinter(context.workspace.templates)
    seconds = _SECONDS_PER_CUSTOMER * (len(customers) + 1)
    with closing(made(context, printer, jobs(), seconds=seconds)) as files:
        for _, name, data in files:
            yield name, data
