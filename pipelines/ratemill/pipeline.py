"""The run, in one screenful: load → check → rate → invoice → report → publish.

Each step is idempotent, keyed by a hash of its inputs (the run's id): done already, it is left alone; killed anywhere,
the next run goes on from what stands. Lazy frames become data in two places only: where values are validated
(usage/intake.py, book/), and where files are written (io/charge_store.py, and sums in frames.collect).
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ratemill.errors import NothingToBillError
from ratemill.io.lock import hold_lock
from ratemill.io.warehouse import Warehouse
from ratemill.steps.check import check, refuse_future
from ratemill.steps.context import Context
from ratemill.steps.invoice import invoice
from ratemill.steps.load import Loaded, load
from ratemill.steps.publish import is_published, publish
from ratemill.steps.rate import rate
from ratemill.steps.report import is_reported, report
from ratemill.summary import PeriodSummary, summarise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ratemill.period import BillingPeriod
    from ratemill.progress import Progress
    from ratemill.workspace import Workspace


@contextmanager
def open_run(workspace: Workspace, progress: Progress, *, now: datetime, command: str) -> Iterator[Context]:
    """Lock the workspace, open its warehouse.

    Raises:
        LockedError: another process is at work; the message names it.
    """
    with hold_lock(workspace.lock, command=command), Warehouse.open(workspace.warehouse, workspace.config.engine) as wh:
        yield Context(workspace, wh, progress, now)


def run(context: Context, periods: Sequence[BillingPeriod]) -> tuple[Loaded, list[PeriodSummary]]:
    """Bill each period in order: drafts that may be recomputed at will."""
    for period in periods:
        refuse_future(period, context.now)
    loaded = load(context)
    summaries = [bill(context, period, loaded) for period in periods]
    return loaded, summaries


def bill(context: Context, period: BillingPeriod, loaded: Loaded) -> PeriodSummary:
    """One period, from loaded usage to published invoices."""
    try:
        checked = check(context, period)
    except NothingToBillError as nothing:
        if loaded.refused:  # the period's usage may be in the files that could not be read
            nothing.findings = tuple(loaded.refused)
        raise
    run_before = context.warehouse.current_run(period)
    known = run_before is not None and run_before["run_id"] == checked.run_id
    if run_before and known and run_before["status"] == "done" and is_reported(context, checked) and is_published(
        context, checked.run_id
    ):  # fmt: skip
        return summarise(context, checked, json.loads(run_before["summary"]), nothing_to_do=True)
    rated = rate(context, checked)
    invoice(context, checked, rated)
    files = report(context, checked, rated)
    context.warehouse.advance_run(checked.run_id, "reported", context.now, json.dumps(rated.facts))
    publish(context)
    context.warehouse.advance_run(checked.run_id, "done", context.now, json.dumps(rated.facts | {"documents": files}))
    return summarise(context, checked, rated.facts, nothing_to_do=False)
