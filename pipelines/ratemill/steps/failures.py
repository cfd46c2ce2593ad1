"""Trouble with a run or a close, queued for who subscribed to it; the next ``ratemill alerts`` sends it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from ratemill.errors import DataRefusedError, LockedError, RatemillError
from ratemill.io.book_files import read_tables
from ratemill.io.outbox import Journal, Outbox
from ratemill.notify.events import addressed, failure_event
from ratemill.stopping import is_stopping
from ratemill.tables.book import MEMBERS, SUBSCRIPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ratemill.findings import Finding
    from ratemill.period import BillingPeriod
    from ratemill.steps.context import Context


@contextmanager
def failures_are_told(
    context: Context, kind: Literal["run_failed", "close_blocked"], periods: Sequence[BillingPeriod]
) -> Iterator[None]:
    """Queue that a run failed or a close was blocked. However that goes, the error is raised as it was.

    A close that came too early, or for the wrong month, is the caller's own mistake and no news to others. Nor is that
    somebody stopped the command, which libraries may make an error of their own of.
    """
    try:
        yield
    except RatemillError as error:
        is_told = isinstance(error, DataRefusedError) or kind == "run_failed"
        if is_told and not isinstance(error, LockedError) and not is_stopping():
            tell_failure(context, kind, periods, str(error), error.findings)
        raise
    except Exception as error:
        if not is_stopping():
            text = f"internal error: {type(error).__name__}: {' '.join(str(error).split())}"
            tell_failure(context, kind, periods, text, ())
        raise


def tell_failure(
    context: Context,
    kind: str,
    periods: Sequence[BillingPeriod],
    message: str,
    findings: Iterable[Finding],
    *,
    outlasts_runs: bool = False,
) -> None:
    """Queue one event of trouble, if that can be done: it must not make trouble of its own.

    ``outlasts_runs``: runs come to their end in spite of it, so that they are no reason to tell it again.
    """
    try:
        folder, zone = context.workspace.book, context.config.period.time_zone
        tables = read_tables(folder, (SUBSCRIPTIONS, MEMBERS), time_zone=zone)
        runs = [context.warehouse.current_run(period) for period in periods]
        since = (
            "" if outlasts_runs else " ".join(f"{run['run_id']} {run['status']}" if run else "no run" for run in runs)
        )
        event = failure_event(
            kind, [str(period) for period in periods], message, list(findings), since=since, now=context.now
        )
        rows, _ = addressed([event], **tables, config=context.config, now=context.now)
        outbox = Outbox(
            context.warehouse, Journal.of(context.workspace), max_attempts=context.config.notify.max_attempts
        )
        outbox.queue(rows)
    except Exception:  # noqa: BLE001, S110 - the trouble itself is what the user must see
        pass
