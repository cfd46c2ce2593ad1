"""Ratemill in Dagster: a month as assets, its findings and checklist as asset checks (docs/orchestrators.md).

::

    from ratemill.integrations.dagster import definitions

    defs = definitions("/srv/billing", start="2026-01", time_zone="Europe/Berlin")

Every step is the command line in a process of its own: its memory is given back when it ends, a cancelled run stops it
as Ctrl-C would, and what it logs, finds and counts is what anybody sees who runs it by hand.
"""

# Dagster reads annotations as they stand, so they are not postponed here (no "from __future__ import annotations").
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import Field

from ratemill import __version__
from ratemill.errors import ExitCode
from ratemill.integrations.calls import Ended, call, digest
from ratemill.integrations.steps import PATIENCE_SECONDS, STEPS, Step, common_arguments, due_period
from ratemill.invoicing.checklist import POINTS
from ratemill.money import rounded_amount
from ratemill.period import BillingPeriod

try:
    import dagster as dg
except ModuleNotFoundError as error:
    if error.name != "dagster":
        raise
    raise ModuleNotFoundError(
        "ratemill.integrations.dagster needs Dagster → run: pip install 'ratemill[dagster]'", name="dagster"
    ) from None

_LOAD, _CHECK, _RATE, _INVOICE, _REPORT, _PUBLISH = STEPS
_KINDS = {
    _LOAD: {"parquet", "duckdb"},
    _CHECK: {"csv"},
    _RATE: {"polars", "parquet"},
    _INVOICE: {"polars", "duckdb"},
    _REPORT: {"pdf", "html", "excel"},
    _PUBLISH: {"duckdb", "parquet"},
}
_MOST_FINDINGS = 200
"""Findings shown in Dagster; the log has all of them."""

RETRIES = dg.RetryPolicy(max_retries=3, delay=300, backoff=dg.Backoff.EXPONENTIAL)
"""After 5, 15 and 35 minutes. Only what may pass (exit code 75: disk full, out of memory) is tried again."""


@dataclass(frozen=True)
class _Job:
    """One workspace: how its commands are called, and what its assets are called."""

    workspace: Path
    name: str
    command: Sequence[str]
    wait: float
    retries: dg.RetryPolicy | None

    def key(self, step: Step) -> dg.AssetKey:
        """The asset that a step makes."""
        return dg.AssetKey([self.name, step.makes])

    def call(self, context: Any, *line: str) -> Ended:
        """Run a command to its end; its log goes to that of the step."""
        return call([*self.command, *line], context.log)

    def close(self, context: Any, period: str, *options: str) -> Ended:
        """``ratemill close``."""
        return self.call(context, "close", *common_arguments(str(self.workspace), period, self.wait), *options)


def month_partitions(start: str, *, time_zone: str = "UTC") -> dg.MonthlyPartitionsDefinition:
    """Billing periods from ``start`` to the running month, named as everywhere in Ratemill: ``2026-10``.

    The running month is one of them, since it can be drafted before it ends.
    """
    first = BillingPeriod.parse(start).first_day
    return dg.MonthlyPartitionsDefinition(start_date=f"{first:%Y-%m}", timezone=time_zone, fmt="%Y-%m", end_offset=1)


def definitions(
    workspace: str | Path,
    *,
    start: str,
    time_zone: str = "UTC",
    cron_schedule: str = "0 6 1-5 * *",
    name: str = "ratemill",
    owners: Sequence[str] = (),
    retries: dg.RetryPolicy | None = RETRIES,
    wait: float = PATIENCE_SECONDS,
    command: Sequence[str] = (sys.executable, "-m", "ratemill"),
) -> dg.Definitions:
    """Assets, checks, jobs and the schedule of one workspace; put them beside others by ``Definitions.merge``.

    Args:
        workspace: folder with ``ratemill.toml``, as the process that runs the steps sees it.
        start: first month, ``2026-01``.
        time_zone: where months begin and end for the schedule; give ``[period] time_zone`` of the workspace.
        cron_schedule: when the month before is billed. Again on the days after the first, since files come late: what
            is new is billed, and without anything new nothing happens. The schedule is stopped until somebody starts
            it.
        name: begins every name in Dagster: the keys of assets, their group, jobs and schedule.
        owners: e-mail addresses or ``team:…``, shown on each asset.
        retries: when a step is tried again that ended with exit code 75; no other code is tried again.
        wait: seconds that a step waits for another process in the workspace: two months at once take turns.
        command: how ``ratemill`` is called, where it lives in another environment.
    """
    job = _Job(Path(workspace).absolute(), name, tuple(command), wait, retries)
    months = month_partitions(start, time_zone=time_zone)
    month = dg.define_asset_job(
        f"{name}_month",
        selection=dg.AssetSelection.assets(*(job.key(step) for step in STEPS)),
        description="Bill a month: load, check, rate, invoice, report, publish. Drafts, as often as you like.",
        executor_def=dg.in_process_executor,  # the steps follow each other anyway, each in a process of its own
    )
    return dg.Definitions(
        assets=[_asset(job, step, months, owners) for step in STEPS],
        asset_checks=[_checklist(job)],
        jobs=[month, _close_job(job)],
        schedules=[
            _schedule(month, first=BillingPeriod.parse(start), time_zone=time_zone, cron_schedule=cron_schedule)
        ],
    )


# ------------------------------------------------------------------------------------------------ a step as an asset


def _asset(job: _Job, step: Step, months: dg.MonthlyPartitionsDefinition, owners: Sequence[str]) -> dg.AssetsDefinition:
    before = _before(step)

    def materialise(context: dg.AssetExecutionContext) -> Iterator[Any]:
        yield from _materialise(context, job, step)

    with _beta_is_known():
        return dg.asset(
            key=job.key(step),
            deps=[job.key(before)] if before else [],
            description=f"{step.about}\n\nMade by `ratemill {step.command}`.",
            group_name=job.name,
            kinds=_KINDS[step],
            owners=list(owners),
            partitions_def=months,
            # Months follow each other: credits and corrections of one are the next one's. One run takes them in order.
            backfill_policy=dg.BackfillPolicy.single_run(),
            retry_policy=job.retries,
            code_version=__version__,
            output_required=False,  # nothing to bill: neither this nor what follows is made
            check_specs=_finding_specs(job, step),
        )(materialise)


@contextmanager
def _beta_is_known() -> Iterator[None]:
    """Definitions of Dagster that are not declared stable are used knowingly; its users need not be told each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        yield


def _before(step: Step) -> Step | None:
    return STEPS[STEPS.index(step) - 1] if step is not STEPS[0] else None


def _materialise(context: dg.AssetExecutionContext, job: _Job, step: Step) -> Iterator[Any]:
    periods = sorted(context.partition_keys)
    skipped = _skipped_before(context, job, step, periods)
    to_bill = [period for period in periods if period not in skipped]
    made: dict[str, Mapping[str, Any]] = {}
    findings: list[dict[str, Any]] = []
    plans = _plans(context, job, periods) if step is _LOAD else {}
    for period in to_bill if step.takes_period else to_bill[:1]:
        ended = job.call(context, step.command, *step.arguments(str(job.workspace), period, job.wait))
        findings += [{"period": period, **finding} for finding in ended.findings]
        if ended.code == ExitCode.NOTHING_TO_BILL:
            context.log.warning("skipped: %s", ended.told)
            continue
        if ended.code != ExitCode.DONE:
            yield from _finding_results(job, step, findings)
            raise _failure(step.command, ended)
        made[period] = ended.summary
    if made:
        for period in periods:
            summary = made.get(period if step.takes_period else to_bill[0])
            facts = _facts(job, step, period, summary) | plans.get(period, {})
            context.add_asset_metadata(facts, partition_key=period)
        run_id = made[periods[0]].get("run_id") if len(periods) == 1 else None
        yield dg.MaterializeResult(data_version=dg.DataVersion(run_id) if run_id else None)
    yield from _finding_results(job, step, findings)


def _plans(context: dg.AssetExecutionContext, job: _Job, periods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Month → what its run would do and why, asked before anything is done."""
    asked = periods[0] if len(periods) == 1 else f"{periods[0]}..{periods[-1]}"
    ended = job.call(context, "plan", *common_arguments(str(job.workspace), asked, job.wait))
    return {
        plan["period"]: {
            "why": plan["why"],
            "plan": _table({name: step[name] for name in ("name", "would_run", "why")} for step in plan["steps"]),
        }
        for plan in ended.summary.get("periods", ())
    }


def _skipped_before(context: dg.AssetExecutionContext, job: _Job, step: Step, periods: Sequence[str]) -> set[str]:
    """Months of a range that the step before had nothing to bill for; of a single one, nothing would follow."""
    before = _before(step)
    if before is None or len(periods) == 1:
        return set()
    wanted = dg.AssetRecordsFilter(asset_key=job.key(before), asset_partitions=list(periods))
    records = context.instance.fetch_materializations(wanted, limit=len(periods)).records
    of_this_run = [record.asset_materialization for record in records if record.run_id == context.run.run_id]
    return {made.partition for made in of_this_run if _NOTHING in made.metadata}


_NOTHING = "nothing to bill"


def _facts(job: _Job, step: Step, period: str, summary: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a step's asset shows of a month. Amounts are text, as in the JSON they come from: never floats."""
    if summary is None:
        return {_NOTHING: dg.MetadataValue.text(f"no usage and no fees for {period}")}
    facts: dict[str, Any] = {"run": summary["run_id"]} if "run_id" in summary else {}
    if step is _LOAD:
        facts |= {f"files {what}": summary[key] for what, key in (("in all", "files"), ("loaded now", "loaded"))}
        facts["rows loaded now"] = summary["rows"]
    if step is _RATE:
        counts = summary["facts"]
        facts |= {name.replace("_", " "): n for name, n in counts.items() if name.startswith("rows_")}
        facts["dagster/row_count"] = counts["charges"]
    if step is _INVOICE:
        facts |= {name: summary[name] for name in ("invoices", "lines")}
        totals = [_readable(total) for total in summary["totals"]]
        facts |= {f"total {total['currency']}": total["total"] for total in totals}
        facts["totals"] = _table(totals)
    if step is _REPORT:
        folder = job.workspace / summary["out"]
        facts |= {"files": summary["files"], "start here": dg.MetadataValue.path(folder / "index.html")}
        facts |= {"invoices": dg.MetadataValue.path(folder / "invoices")}
    if step is _PUBLISH:
        facts["database"] = dg.MetadataValue.path(job.workspace / summary["published"])
    if summary.get("closed"):
        facts["closed"] = f"issued on {summary['closed']['issue_date']} by {summary['closed']['closed_by']}"
    notes = [finding["message"] for finding in summary.get("findings", []) if finding["severity"] == "info"]
    return facts | ({"notes": dg.MetadataValue.md("\n".join(f"- {note}" for note in notes))} if notes else {})


def _readable(total: Mapping[str, Any]) -> dict[str, Any]:
    """The sums of a currency with its own decimals: 177.82 EUR, 1238238 JPY."""
    readable = {name: total[name] for name in ("currency", "invoices")}
    names = {"untaxed": "untaxed", "tax": "tax", "total": "total", "previous_untaxed": "untaxed last month"}
    for name, heading in names.items():
        amount = total[name]
        readable[heading] = None if amount is None else str(rounded_amount(Decimal(amount), total["currency"]))
    return readable


# ---------------------------------------------------------------------------------------- findings as asset checks

_SEVERITIES = {
    "errors": ("error", dg.AssetCheckSeverity.ERROR, "What must not be billed as it is; the steps that follow wait."),
    "warnings": ("warning", dg.AssetCheckSeverity.WARN, "What a person should look at before the month is closed."),
}
"""Name of a check (``no_errors``) → severity of the findings in it."""


def _finding_specs(job: _Job, step: Step) -> list[dg.AssetCheckSpec]:
    if step is _REPORT:
        return []  # documents are refused whole, or made
    return [
        dg.AssetCheckSpec(f"no_{name}", asset=job.key(step), description=about, blocking=name == "errors")
        for name, (_, _, about) in _SEVERITIES.items()
    ]


def _finding_results(job: _Job, step: Step, findings: Sequence[Mapping[str, Any]]) -> Iterator[dg.AssetCheckResult]:
    for spec in _finding_specs(job, step):
        name = spec.name.removeprefix("no_")
        severity, weight, _ = _SEVERITIES[name]
        found = [finding for finding in findings if finding["severity"] == severity]
        yield dg.AssetCheckResult(
            asset_key=spec.asset_key,
            check_name=spec.name,
            passed=not found,
            severity=weight,
            description=digest(found) if found else f"no {name}",
            metadata={"findings": _findings_table(found)} if found else {},
        )


def _checklist(job: _Job) -> dg.AssetChecksDefinition:
    """The points of ``ratemill close --check``, each an asset check: whether the month can be closed."""
    names = {point.name: point.name.replace(".", "_") for point in POINTS}
    invoices = job.key(_INVOICE)

    @dg.multi_asset_check(
        name=f"{job.name}_checklist",
        specs=[
            dg.AssetCheckSpec(
                name,
                asset=invoices,
                description=f"The point {point} of `ratemill close --check`",
                additional_deps=[job.key(_PUBLISH)],
            )
            for point, name in names.items()
        ],
        can_subset=True,  # a month that can't be judged yet has no results
        retry_policy=job.retries,
    )
    def checklist(context: dg.AssetCheckExecutionContext) -> Iterator[Any]:
        for period in sorted(context.partition_keys):
            ended = job.close(context, period, "--check")
            if ended.code in (ExitCode.USAGE, ExitCode.NOTHING_TO_BILL):  # it goes on, or an earlier month is open
                context.log.info("the checklist waits: %s", ended.told)
                continue
            if "checklist" not in ended.summary:
                raise _failure("close --check", ended)
            wanted = {key.name for key in context.selected_asset_check_keys}
            for row in ended.summary["checklist"]:
                if names[row["point"]] not in wanted:
                    continue
                yield dg.AssetCheckResult(
                    asset_key=invoices,
                    check_name=names[row["point"]],
                    passed=row["status"] != "open",
                    severity=dg.AssetCheckSeverity.WARN,  # it stops the close, not the drafts
                    description=row["detail"],
                    metadata={"period": period, **{name: row[name] for name in _POINT_FACTS if row[name]}},
                )
            return  # months are closed in order, so the first that can be judged is the one that is due

    return checklist


_POINT_FACTS = ("status", "cure", "reason", "waived_by")


# --------------------------------------------------------------------------------------------- when, and the close


def _schedule(month: Any, *, first: BillingPeriod, time_zone: str, cron_schedule: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=month.name,
        job=month,
        cron_schedule=cron_schedule,
        execution_timezone=time_zone,
        description="Bills the month before, and again on the days after: late files are billed, the rest stays.",
    )
    def due(context: dg.ScheduleEvaluationContext) -> Any:
        tick = context.scheduled_execution_time
        period = due_period(tick, time_zone)
        if period < first:
            return dg.SkipReason(f"{period} is before {first}, the first month")
        return dg.RunRequest(run_key=f"{period}@{tick.isoformat()}", partition_key=str(period))

    return due


class CloseConfig(dg.Config):
    """What a close must be told; there are no defaults for what a person decides."""

    period: str = Field(description="Month to close, for example 2026-10")
    by: str = Field(description="Who closes it, for the audit log")
    waivers: dict[str, str] = Field(default={}, description="Open point of the checklist → why it does not matter")
    issue_date: str = Field(default="", description="Day of issue, YYYY-MM-DD; else today in the seller's time zone")


def _close_job(job: _Job) -> dg.JobDefinition:
    about = "Issue the invoices of a month, once and for all. Needs the name of a person; never on a schedule."

    @dg.op(name=f"{job.name}_issue", description=about, retry_policy=job.retries)
    def issue(context: dg.OpExecutionContext, config: CloseConfig) -> None:
        options = [f"--by={config.by}", *(f"--waive={point}={reason}" for point, reason in config.waivers.items())]
        options += [f"--issue-date={config.issue_date}"] if config.issue_date else []
        ended = job.close(context, config.period, *options)
        if ended.code != ExitCode.DONE:
            raise _failure("close", ended)
        closed = ended.summary["closed"]
        facts = {name: closed[name] for name in ("closed_by", "issue_date", "first_number", "last_number", "invoices")}
        context.log_event(
            dg.AssetObservation(
                job.key(_INVOICE),
                partition=config.period,
                description=f"{config.period} is closed",
                metadata={name.replace("_", " "): value for name, value in facts.items() if value is not None},
            )
        )

    @dg.job(name=f"{job.name}_close", description=about, executor_def=dg.in_process_executor)
    def close() -> None:
        issue()

    return close


# ------------------------------------------------------------------------------------------------------ what is shown


def _failure(command: str, ended: Ended) -> dg.Failure:
    """For Dagster. What may pass is tried again by the policy of retries; nothing else is."""
    return dg.Failure(
        f"ratemill {command}: {ended.told}",
        metadata={"exit code": ended.code} | ({"findings": _findings_table(ended.findings)} if ended.findings else {}),
        allow_retries=ended.may_pass,
    )


def _findings_table(findings: Sequence[Mapping[str, Any]]) -> Any:
    names = ("period", "severity", "rule", "file", "row", "column", "message", "cure")
    return _table({name: finding.get(name) for name in names} for finding in findings[:_MOST_FINDINGS])


def _table(rows: Iterable[Mapping[str, Any]]) -> Any:
    """Rows as Dagster shows them; every value as text, so that an amount keeps its digits."""
    texts = [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
    columns = [dg.TableColumn(name, "string") for name in (texts[0] if texts else ())]
    return dg.MetadataValue.table([dg.TableRecord(row) for row in texts], dg.TableSchema(columns))
