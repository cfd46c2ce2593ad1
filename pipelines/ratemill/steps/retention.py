"""retention: remove the charges of former drafts that nobody needs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratemill.audit import Act
from ratemill.io.charge_store import ChargeStore
from ratemill.retention import collectable

if TYPE_CHECKING:
    from ratemill.io.charge_store import StoredRun
    from ratemill.steps.context import Context


def collect_charges(context: Context) -> list[StoredRun]:
    """Remove what ``[policy] keep_drafts`` does not keep, and note it in the audit log; what was removed.

    It is noted first: killed before all is removed, the next run notes and removes the rest.
    """
    store = ChargeStore(context.workspace.charges)
    runs = context.warehouse.runs().filter("is_current").select("period", "run_id", "inputs")
    doomed = collectable(store.stored(), runs.iter_rows(named=True), keep_drafts=context.config.policy.keep_drafts)
    if not doomed:
        return []
    with context.warehouse.transaction():
        for period in sorted({run.period for run in doomed}):
            sizes = {run.run_id: run.size for run in doomed if run.period == period}
            details = {"runs": sizes, "bytes": sum(sizes.values())}
            context.warehouse.record(Act("collected", context.actor, context.now, period=period, details=details))
    for run in doomed:
        store.remove(run.period, run.run_id)
    return doomed
