"""check: is the book right, and is there something to bill?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.book.checks import check_book
from ratemill.book.customers import with_customer_rows, with_electronic_addresses
from ratemill.errors import DataRefusedError, LockedError, NothingToBillError, UsageError
from ratemill.findings import Finding, errors
from ratemill.invoicing.assembly import bills_without_usage
from ratemill.io.book_files import read_book
from ratemill.io.customer_rows import read_customer_rows
from ratemill.steps.inputs import files_of, input_key, inputs_of, rating_key

if TYPE_CHECKING:
    from ratemill.book.model import Book
    from ratemill.period import BillingPeriod
    from ratemill.steps.context import Context
    from ratemill.workspace import Workspace


_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Checked:
    """A book that may be billed with, and what identifies a run with it."""

    period: BillingPeriod
    book: Book
    files: pl.DataFrame
    """Rows of USAGE_FILES that have to do with the period."""
    inputs: dict[str, Any]
    """See :mod:`ratemill.steps.inputs`."""
    findings: tuple[Finding, ...]

    @property
    def input_key(self) -> str:
        """SHA-256 of all inputs: equal keys, equal results."""
        return input_key(self.inputs, self.period)

    @property
    def rating_key(self) -> str:
        """SHA-256 of the inputs that decide what the period's usage costs."""
        return rating_key(self.inputs, self.period)

    @property
    def run_id(self) -> str:
        """Identity of the run with these inputs."""
        return f"{self.period}-{self.input_key[:12]}"


def refuse_future(period: BillingPeriod, now: datetime) -> None:
    """Refuse a period that has not begun anywhere on earth.

    Raises:
        UsageError: naming the clock, since a wrong clock is as likely as a wrong period.
    """
    if period.widest_start > now:
        raise UsageError(
            f"period {period} has not begun: it is {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
            " → correct --period, or the clock (--as-of gives another time)"
        )


def refuse_closed(context: Context, period: BillingPeriod) -> None:
    """Refuse to bill a closed period again.

    Raises:
        LockedError: it is closed.
    """
    if context.warehouse.closed_period(period) is not None:
        raise LockedError(
            f"{period} is closed: its invoices are issued and stay as they are"
            " → what has changed since is billed by the run of the next open period"
        )


def checked_book(workspace: Workspace) -> tuple[Book, tuple[Finding, ...]]:
    """The book, with what customers wrote through the API, and its warnings.

    Raises:
        DataRefusedError: with every mistake of every table.
    """
    book, findings = read_book(workspace.book, time_zone=workspace.config.period.time_zone)
    if book is not None:
        book, left_out = with_customer_rows(book, read_customer_rows(workspace.root))
        findings = [*findings, *left_out, *check_book(book, time_zone=workspace.config.period.time_zone)]
    wrong = errors(findings)
    if book is None or wrong:
        count = f"{len(wrong)} mistake{'s' if len(wrong) != 1 else ''}"
        raise DataRefusedError(f"the book has {count}; nothing was billed", findings=findings)
    return book, tuple(findings)


def billed_without_usage(context: Context, book: Book, period: BillingPeriod, inputs: dict[str, Any]) -> bool:
    """Whether a period without usage is billed: a closed one is to be corrected, drafts replaced, or fees are due.

    Fees are billed only where some usage file was ever loaded: without any, loading was most likely forgotten.
    """
    if inputs.get("corrections") or context.warehouse.current_run(period) is not None:
        return True
    fees = bills_without_usage(book, period, context.config.period.time_zone)
    return fees and context.warehouse.usage.files().height > 0


def check(context: Context, period: BillingPeriod) -> Checked:
    """Check the book and that there is usage for ``period``.

    Raises:
        UsageError: the period has not begun, or loading did not come to its end.
        DataRefusedError: the book has mistakes.
        NothingToBillError: no usage may belong to the period, and there is no other reason to bill it.
    """
    refuse_future(period, context.now)
    with context.step("check", period) as step:
        if not context.warehouse.usage.is_settled():
            raise UsageError(
                "loading was stopped before its end, so files may be missing and duplicates are not settled"
                " → run: ratemill load"
            )
        book, findings = checked_book(context.workspace)
        addresses = read_customer_rows(context.workspace.root).addresses
        book = with_electronic_addresses(book, addresses, at=period.end(context.config.period.time_zone) - _INSTANT)
        files = files_of(context.warehouse.usage.files(), period)
        inputs = inputs_of(context, book, files, period)
        may_be_billed = files.filter(pl.col("rows_accepted") + pl.col("rows_rejected") > 0).height > 0
        if not may_be_billed and not billed_without_usage(context, book, period, inputs):
            patterns = ", ".join(context.config.usage.files)
            if not context.warehouse.usage.files().height:
                raise NothingToBillError(
                    f"no file matches [usage] files = {patterns} in {context.workspace.root}, or none is loaded yet;"
                    " nothing to bill → run: ratemill load"
                )
            raise NothingToBillError(
                f"there is no usage for {period} in the files of [usage] files = {patterns}; nothing to bill"
            )
        checked = Checked(period, book, files, inputs, findings)
        step.done(
            f"book of {book.accounts.height:,} accounts, {book.skus.height:,} SKUs, {book.prices.height:,} prices",
            rows=int(files["rows_in"].sum()),
            run_id=checked.run_id,
        )
    return checked
