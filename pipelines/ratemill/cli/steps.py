"""The steps of ``ratemill run``, one at a time: for schedulers that want a task each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ratemill.cli.run import AsOfOption
from ratemill.cli.shared import (
    JsonOption,
    LogFormatOption,
    PeriodOption,
    QuietOption,
    WaitOption,
    WorkspaceOption,
    finish,
    open_workspace,
    printable,
    read_clock,
    read_period,
    working,
)
from ratemill.errors import ExitCode

if TYPE_CHECKING:
    from ratemill.logs import LogFormat
    from ratemill.period import BillingPeriod
    from ratemill.steps.context import Context
    from ratemill.steps.rate import Rated


@contextmanager
def _working(
    command: str, workspace: Path | None, as_of: str | None, *, wait: float, json: bool, quiet: bool,
    log_format: LogFormat,
) -> Iterator[Context]:  # fmt: skip
    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    with working(
        opened, command, now=read_clock(as_of), wait=wait, quiet=quiet, json=json, log_format=log_format
    ) as context:
        yield context


def _say(text: str, summary: dict[str, Any], *, json: bool) -> None:
    if json:
        finish(summary, json=True)
    else:
        typer.echo(text)


def load(
    workspace: WorkspaceOption = None,
    wait: WaitOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Read new and changed usage files into the warehouse.

    A damaged file is named and set aside, the rest is loaded, and the exit code is 3.
    """
    from ratemill.steps.load import load as load_step  # noqa: PLC0415

    with _working(
        "ratemill load", workspace, None, wait=wait, json=json, quiet=quiet, log_format=log_format
    ) as context:
        loaded = load_step(context)
    code = ExitCode.DATA_REFUSED if loaded.refused else ExitCode.DONE
    lines = [f"{loaded.loaded:,} of {loaded.files:,} files loaded, {loaded.rows:,} rows"]
    lines += [f"  {finding.severity.value}: {finding}" for finding in loaded.findings]
    _say(
        "\n".join(lines),
        {
            "status": "refused" if loaded.refused else "done",
            "exit_code": int(code),
            "files": loaded.files,
            "loaded": loaded.loaded,
            "rows": loaded.rows,
            "findings": [finding.as_dict() for finding in loaded.findings],
        },
        json=json,
    )
    if loaded.refused:
        raise typer.Exit(code)


def check(
    period: PeriodOption,
    workspace: WorkspaceOption = None,
    as_of: AsOfOption = None,
    wait: WaitOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Check the book, the configuration and the usage of a period.

    Looks at what is loaded; nothing is changed. Every mistake is told at once, and the exit code is 3.
    """
    from ratemill.steps.check import check as check_step  # noqa: PLC0415

    command = f"ratemill check --period {period}"
    with _working(command, workspace, as_of, wait=wait, json=json, quiet=quiet, log_format=log_format) as context:
        checked = check_step(context, read_period(period, now=context.now))
    lines = [f"{checked.period} can be rated, as run {checked.run_id}"]
    lines += [f"  {finding.severity.value}: {finding}" for finding in checked.findings]
    _say(
        "\n".join(lines),
        {"run_id": checked.run_id, "findings": [finding.as_dict() for finding in checked.findings]},
        json=json,
    )


def rate(
    period: PeriodOption,
    workspace: WorkspaceOption = None,
    as_of: AsOfOption = None,
    wait: WaitOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Turn the usage of a period into charges."""
    from ratemill.steps.check import check as check_step  # noqa: PLC0415
    from ratemill.steps.rate import rate as rate_step  # noqa: PLC0415

    command = f"ratemill rate --period {period}"
    with _working(command, workspace, as_of, wait=wait, json=json, quiet=quiet, log_format=log_format) as context:
        one = read_period(period, now=context.now)
        closed = context.warehouse.closed_period(one)
        rated = _issued(context, one) if closed is not None else rate_step(context, check_step(context, one))
    kept = f"{one} is closed: nothing to do; " if closed is not None else ""
    _say(
        f"{kept}run {rated.run_id}: {rated.facts['charges']:,} charges from {rated.facts['rows_billed']:,} usage"
        " records",
        {
            "run_id": rated.run_id,
            "facts": rated.facts,
            "findings": [finding.as_dict() for finding in rated.findings],
            "closed": closed,
        },
        json=json,
    )


def _issued(context: Context, period: BillingPeriod) -> Rated:
    """What a closed period was issued from: rating it again is no step of its run.

    Raises:
        LockedError: it would be billed otherwise today; names the period that bills the difference.
    """
    from ratemill.steps.closed import issued_run, refuse_changed  # noqa: PLC0415

    refuse_changed(context, [period])
    _, rated = issued_run(context, period)
    return rated


def invoice(
    period: PeriodOption,
    workspace: WorkspaceOption = None,
    as_of: AsOfOption = None,
    wait: WaitOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Draft the invoices of a rated period.

    Those of a closed period are issued: there is nothing to do.
    """
    from ratemill.findings import Finding  # noqa: PLC0415
    from ratemill.steps.check import check as check_step  # noqa: PLC0415
    from ratemill.steps.correct import correct as correct_step  # noqa: PLC0415
    from ratemill.steps.correct import stale_drafts  # noqa: PLC0415
    from ratemill.steps.invoice import invoice as invoice_step  # noqa: PLC0415
    from ratemill.steps.rate import rate as rate_step  # noqa: PLC0415
    from ratemill.summary import currency_totals  # noqa: PLC0415

    command = f"ratemill invoice --period {period}"
    findings: list[Finding] = []
    stale: list[str] = []
    with _working(command, workspace, as_of, wait=wait, json=json, quiet=quiet, log_format=log_format) as context:
        one = read_period(period, now=context.now)
        closed = context.warehouse.closed_period(one)
        if closed is not None:
            run_id, done = _issued(context, one).run_id, "issued: the period is closed, nothing to do"
        else:
            checked = check_step(context, one)
            rated = rate_step(context, checked)
            corrected = correct_step(context, checked)
            findings += corrected.findings(invoice_step(context, checked, rated, corrected))
            stale += [str(other) for other in stale_drafts(context.warehouse)]
            run_id, done = checked.run_id, "drafted"
        billed = context.warehouse.billed(one)
        totals = currency_totals(context, one)
    lines = [f"run {run_id}: {billed.invoices.height:,} invoices of {billed.lines.height:,} lines {done}"]
    lines += [f"  {finding.severity.value}: {finding}" for finding in findings]
    lines += [
        f"  warning: the drafts of {other} still bill corrections that {one} bills now"
        f" → run: ratemill invoice --period {other}"
        for other in stale
    ]
    _say(
        "\n".join(lines),
        {
            "run_id": run_id,
            "invoices": billed.invoices.height,
            "lines": billed.lines.height,
            "totals": [vars(total) for total in totals],
            "findings": [finding.as_dict() for finding in findings],
            "stale_periods": stale,
            "closed": closed,
        },
        json=json,
    )


def report(
    period: PeriodOption,
    workspace: WorkspaceOption = None,
    as_of: AsOfOption = None,
    wait: WaitOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Write invoices, cost reports and files of a period.

    Of a closed period: invoices as they were issued, and reports of what was issued.
    """
    from ratemill.steps.check import check as check_step  # noqa: PLC0415
    from ratemill.steps.closed import issued_run  # noqa: PLC0415
    from ratemill.steps.rate import rate as rate_step  # noqa: PLC0415
    from ratemill.steps.report import report as report_step  # noqa: PLC0415
    from ratemill.steps.report import require_invoiced  # noqa: PLC0415

    command = f"ratemill report --period {period}"
    with _working(command, workspace, as_of, wait=wait, json=json, quiet=quiet, log_format=log_format) as context:
        one = read_period(period, now=context.now)
        if context.warehouse.closed_period(one) is not None:
            checked, rated = issued_run(context, one)
        else:
            checked = check_step(context, one)
            require_invoiced(context, checked)
            rated = rate_step(context, checked)
        files = report_step(context, checked, rated)
        out = context.workspace.relative(context.workspace.out(checked.period))
    _say(f"{files:,} files in {out}", {"run_id": checked.run_id, "files": files, "out": out}, json=json)


def publish(
    workspace: WorkspaceOption = None,
    wait: WaitOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Write the database that analysts open, and its mirror.

    Holds every period that has invoices. As at the end of a run, charges that nobody needs any more are removed.
    """
    from ratemill.steps.mirror import mirror  # noqa: PLC0415
    from ratemill.steps.publish import publish as publish_step  # noqa: PLC0415
    from ratemill.steps.publish import report_findings  # noqa: PLC0415
    from ratemill.steps.retention import collect_charges  # noqa: PLC0415

    with _working(
        "ratemill publish", workspace, None, wait=wait, json=json, quiet=quiet, log_format=log_format
    ) as context:
        publish_step(context)
        mirrored = mirror(context)
        collect_charges(context)
        path = context.workspace.relative(context.workspace.published_database)
        findings = report_findings(context)
    lines = [path, *(f"  {finding.severity.value}: {printable(str(finding))}" for finding in findings)]
    if mirrored is not None:
        lines.append(f"{mirrored.url}: {mirrored.uploaded:,} of {mirrored.files:,} files uploaded")
    _say(
        "\n".join(lines),
        {
            "published": path,
            "findings": [finding.as_dict() for finding in findings],
            "mirror": vars(mirrored) if mirrored is not None else None,
        },
        json=json,
    )
