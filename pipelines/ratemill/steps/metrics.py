"""metrics: how commands ended, and what stands of the months that are at hand, for whoever watches from outside."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import polars as pl

from ratemill.errors import ExitCode
from ratemill.findings import Severity
from ratemill.frames import collect
from ratemill.io.charge_store import ChargeStore
from ratemill.io.metrics_file import Values, write_metrics
from ratemill.tables.invoices import INVOICES

if TYPE_CHECKING:
    from pathlib import Path

    from ratemill.observe import Ending, Work
    from ratemill.steps.context import Context

_UNSENT = ("queued", "sending", "failed", "given_up")


class Metrics:
    """Observes a command and writes the metrics file when it is over."""

    def __init__(self, path: Path, *, workspace: Path, command: str) -> None:
        self._path = path
        self._workspace = str(workspace)
        self._command = command
        self._started = time.monotonic()
        self._values: Values = {}

    def begun(self, work: Work) -> None:
        """Nothing: a step counts when it is done."""

    def ended(self, work: Work, error: BaseException | None) -> None:
        """Several periods have a step more than once: they count as one."""
        seconds = self._values.setdefault("step_duration_seconds", {})
        if error is None:
            seconds[work.name,] = seconds.get((work.name,), 0) + work.seconds

    def leaving(self, context: Context) -> None:
        """Look at what stands, whether it went well or not."""
        self._values |= standing(context)

    def over(self, ending: Ending) -> None:
        """Write."""
        of_command = {
            "last_exit_code": ending.exit_code,
            "last_duration_seconds": time.monotonic() - self._started,
            "last_errors": ending.errors,
        }
        if ending.exit_code == ExitCode.DONE:
            of_command["last_success_timestamp_seconds"] = time.time()
        elif ending.exit_code != ExitCode.NOTHING_TO_BILL:
            of_command["last_failure_timestamp_seconds"] = time.time()
        for name, value in of_command.items():
            self._values[name] = {(self._command,): value}
        write_metrics(self._path, self._workspace, self._values)


def standing(context: Context) -> Values:
    """What stands of each open month with drafts, and of the month that was closed last."""
    warehouse = context.warehouse
    runs = warehouse.runs().filter("is_current")
    closed = warehouse.closed_periods()["period"].to_list()
    shown = runs.filter(~pl.col("period").is_in(closed[:-1]))
    values: Values = {
        name: {} for name in ("usage_files", "usage_rows", "documents", "untaxed_amount", "findings", "notifications")
    }  # fmt: skip
    store = ChargeStore(context.workspace.charges)
    for period, run_id in shown.select("period", "run_id").iter_rows():
        facts = store.facts(period, run_id)
        values["usage_rows"] |= {
            (period, name.removeprefix("rows_")): count for name, count in facts.items() if name.startswith("rows_")
        }
        invoices = warehouse.table("billing", INVOICES, "origin = 'run' AND period = $period", {"period": period})
        for status, count in invoices.group_by("status").len().iter_rows():
            values["documents"][period, status] = count
        sums = collect(invoices.lazy().group_by("currency").agg(pl.col("untaxed_amount").sum()))
        values["untaxed_amount"] |= {(period, currency): float(amount) for currency, amount in sums.iter_rows()}
        found = [finding.severity for finding in warehouse.findings(run_id)]
        values["findings"] |= {(period, severity.value): found.count(severity) for severity in Severity}
    files = warehouse.usage.files().group_by("status").len()
    values["usage_files"] = {(status,): count for status, count in files.iter_rows()}
    waiting = dict(warehouse.frame("SELECT state, count(*) FROM ops.notifications GROUP BY state").iter_rows())
    values["notifications"] = {(state,): waiting.get(state, 0) for state in _UNSENT}
    size = sum(path.stat().st_size for path in context.workspace.state.glob(f"{context.workspace.warehouse.name}*"))
    return {**values, "warehouse_bytes": {(): size}}
