"""The run, in one screenful: load → check → rate → correct → invoice → report → publish.

Each step is idempotent, keyed by a hash of its inputs (the run's id): done already, it is left alone; killed anywhere,
the next run goes on from what stands. Lazy frames become data in two places only: where values are validated
(usage/intake.py, book/), and where files are written (io/charge_store.py, and sums in frames.collect).
"""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ratemill.engines import cluster_of
from ratemill.errors import DataRefusedError, NothingToBillError, RatemillError
from ratemill.io.atomic import remove_leftovers
from ratemill.io.heartbeat import Heartbeat
from ratemill.io.lock import hold_lock
from ratemill.io.warehouse import Warehouse
from ratemill.logs import UNWATCHED
from ratemill.observe import Observed, tell_leaving
from ratemill.progress import SilentProgress
from ratemill.steps.check import check, refuse_future
from ratemill.steps.closed import finish_closed, refuse_changed, refuse_lost_ledger
from ratemill.steps.context import Context
from ratemill.steps.correct import correct, stale_drafts
from ratemill.steps.invoice import invoice
from ratemill.steps.load import Loaded, load
from ratemill.steps.mirror import mirror
from ratemill.steps.publish import is_published, publish
from ratemill.steps.rate import rate
from ratemill.steps.report import is_reported, report
from ratemill.steps.retention import collect_charges
from ratemill.summary import PeriodSummary, summarise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ratemill.observe import Observer
    from ratemill.period import BillingPeriod
    from ratemill.progress import Progress
    from ratemill.workspace import Workspace


_logger = logging.getLogger(__name__)


@contextmanager
def open_run(
    workspace: Workspace, progress: Progress, *, now: datetime, command: str, actor: str = "", in_doubt: bool = False,
    read_only: bool = False, wait: float = 0, observers: Sequence[Observer] = (),
) -> Iterator[Context]:  # fmt: skip
    """Lock the workspace, clear away what killed runs left half-built, open its warehouse.

    Args:
        workspace: the workspace.
        progress: where steps are shown.
        now: the clock.
        command: what is at work, as others are told while they wait.
        actor: who is at work.
        in_doubt: for looking only, also into a warehouse that does not know what was issued.
        read_only: open the warehouse so that nothing can change it. Still locked: a run that waits is told for whom.
        wait: seconds to wait for another process to end its work.
        observers: who is told of steps, besides the heartbeat.

    Raises:
        LockedError: another process is at work; the message names it.
        DataRefusedError: the warehouse does not know what was issued.
    """
    with hold_lock(workspace.lock, command=command, wait=wait):
        _clear_away(workspace)
        with (
            Heartbeat(workspace.heartbeat, command=command) as heartbeat,
            Warehouse.open(workspace.warehouse, workspace.config.engine, read_only=read_only) as warehouse,
            cluster_of(workspace) as cluster,
        ):
            context = Context(workspace, warehouse, Observed(progress, (heartbeat, *observers)), now, actor, cluster)
            if not in_doubt:
                refuse_lost_ledger(context)
            try:
                yield context
            finally:
                tell_leaving(observers, context)


@contextmanager
def open_plan(workspace: Workspace, *, now: datetime, command: str, wait: float = 0) -> Iterator[Context]:
    """:func:`open_run` for looking only. Where nothing was ever billed, a warehouse without rows stands in."""
    silent = SilentProgress()
    if workspace.warehouse.is_file():
        with open_run(workspace, silent, now=now, command=command, read_only=True, wait=wait) as context:
            yield context
        return
    with (
        hold_lock(workspace.lock, command=command, wait=wait),
        TemporaryDirectory(prefix="ratemill-plan-") as folder,
        Warehouse.open(Path(folder) / workspace.warehouse.name, workspace.config.engine) as warehouse,
    ):
        context = Context(workspace, warehouse, silent, now)
        refuse_lost_ledger(context)
        yield context


def _clear_away(workspace: Workspace) -> None:
    remove_leftovers(workspace.root, workspace.published.name)
    remove_leftovers(workspace.root / "out", r"\d{4}-\d{2}.*")
    for folder in (workspace.state, workspace.issued, *sorted(workspace.charges.glob("period=*"))):
        remove_leftovers(folder)


def run(context: Context, periods: Sequence[BillingPeriod]) -> tuple[Loaded, list[PeriodSummary]]:
    """Bill each period in order: drafts that may be recomputed at will.

    Of several periods, those with nothing to bill are passed over. Drafts of later periods that bill corrections which
    one of these bills now are made anew. Then charges that nobody needs any more are removed, and the mirror is brought
    up to date.
    """
    for period in periods:
        refuse_future(period, context.now)
    budget = context.budget
    if budget.lowered:
        _logger.warning("%s", budget.told())
    else:
        _logger.info("%s", budget.told(), extra=UNWATCHED)
    loaded = load(context)
    summaries: list[PeriodSummary] = []
    empty: list[NothingToBillError] = []
    for period in periods:
        try:
            summaries.append(bill(context, period, loaded))
        except NothingToBillError as nothing:
            empty.append(nothing)
            _logger.info("%s", nothing, extra={"period": str(period)})
    if not summaries:
        raise empty[0]
    summaries += [bill(context, period, loaded) for period in stale_drafts(context.warehouse)]
    collect_charges(context)
    mirror(context)
    refuse_changed(context, periods)
    return loaded, summaries


def bill(context: Context, period: BillingPeriod, loaded: Loaded) -> PeriodSummary:
    """One period, from loaded usage to published invoices; a closed one stays as it is."""
    if context.warehouse.closed_period(period) is not None:
        issued, rated, whole = finish_closed(context, period)
        return summarise(context, issued, rated.facts, nothing_to_do=whole)
    try:
        checked = check(context, period)
    except NothingToBillError as nothing:
        raise _refused_after_all(nothing, loaded) from None
    run_before = context.warehouse.current_run(period)
    known = run_before is not None and run_before["run_id"] == checked.run_id
    if run_before and known and run_before["status"] == "done" and is_reported(context, checked) and is_published(
        context, checked.run_id
    ):  # fmt: skip
        return summarise(context, checked, json.loads(run_before["summary"]), nothing_to_do=True)
    try:
        rated = rate(context, checked)
    except NothingToBillError as nothing:
        raise _refused_after_all(nothing, loaded) from None
    invoice(context, checked, rated, correct(context, checked))
    report(context, checked, rated)
    publish(context)
    return summarise(context, checked, rated.facts, nothing_to_do=False)


def _refused_after_all(nothing: NothingToBillError, loaded: Loaded) -> RatemillError:
    """No usage is an error where files were refused: the period's usage may be in them."""
    if not loaded.refused:
        return nothing
    count = len(loaded.refused)
    files = "the 1 usage file that was refused" if count == 1 else f"the {count:,} usage files that were refused"
    return DataRefusedError(f"{nothing}, unless it is in {files}", findings=loaded.refused)
