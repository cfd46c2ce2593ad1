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
    from ratemill.steps.context import Context


@contextmanager
def _working(
    command: str, workspace: Path | None, as_of: str | None, *, json: bool, quiet: bool, log_format: LogFormat
) -> Iterator[Context]:

    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    with working(opened, command, now=read_clock(as_of), quiet=quiet, json=json, log_format=log_format) as context:
        yield context


def _say(text: str, summary: dict[str, Any], *, json: bool) -> None:
    if json:
        finish(summary, json=True)
    else:
        typer.echo(text)


def load(
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Read new and changed usage files into the warehouse.

    A damaged file is named and set aside, the rest is loaded, and the exit code is 3.
    """
    from ratemill.steps.load import load as load_step  # noqa: PLC0415

    with _working("ratemill load", workspace, None, json=json, quiet=quiet, log_format=log_format) as context:
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
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Check the book, the configuration and the usage of a period.

    Looks at what is loaded; nothing is changed. Every mistake is told at once, and the exit code is 3.
    """
    from ratemill.steps.check import check as check_step  # noqa: PLC0415

    command = f"ratemill check --period {period}"
    with _working(command, workspace, as_of, json=json, quiet=quiet, log_format=log_format) as context:
        checked = check_step(context, read_period(period))
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
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Turn the usage of a period into charges."""
    from ratemill.steps.check import check as check_step  # noqa: PLC0415
    from ratemill.steps.rate import rate as rate_step  # noqa: PLC0415

    command = f"ratemill rate --period {period}"
    with _working(command, workspace, as_of, json=json, quiet=quiet, log_format=log_format) as context:
        rated = rate_step(context, check_step(context, read_period(period)))
    _say(
        f"run {rated.run_id}: {rated.facts['charges']:,} charges from {rated.facts['rows_billed']:,} usage records",
        {"run_id": rated.run_id, "facts": rated.facts, "findings": [f.as_dict() for f in rated.findings]},
        json=json,
    )


def invoice(
    period: PeriodOption,
    workspace: WorkspaceOption = None,
    as_of: AsOfOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Draft the invoices of a rated period."""
    from ratemill.steps.check import check as check_step  # noqa: PLC0415
    from ratemill.steps.correct import correct as correct_step  # noqa: PLC0415
    from ratemill.steps.correct import stale_drafts  # noqa: PLC0415
    from ratemill.steps.invoice import invoice as invoice_step  # noqa: PLC0415
    from ratemill.steps.rate import rate as rate_step  # noqa: PLC0415

    command = f"ratemill invoice --period {period}"
    with _working(command, workspace, as_of, json=json, quiet=quiet, log_format=log_format) as context:
        checked = check_step(context, read_period(period))
        rated = rate_step(context, checked)
        corrected = correct_step(context, checked)
        invoices = invoice_step(context, checked, rated, corrected)
        stale = [str(other) for other in stale_drafts(context.warehouse)]
    lines = [f"run {rated.run_id}: {invoices.invoices.height:,} invoices of {invoices.lines.height:,} lines drafted"]
    lines += [f"  {finding.severity.value}: {finding}" for finding in corrected.findings(invoices)]
    lines += [
        f"  warning: the drafts of {other} still bill corrections that {checked.period} bills now"
        f" → run: ratemill invoice --period {other}"
        for other in stale
    ]
    _say(
        "\n".join(lines),
        {
            "run_id": rated.run_id,
            "invoices": invoices.invoices.height,
            "lines": invoices.lines.height,
            "findings": [finding.as_dict() for finding in corrected.findings(invoices)],
            "stale_periods": stale,
        },
        json=json,
    )


def report(
    period: PeriodOption,
    workspace: WorkspaceOption = None,
    as_of: AsOfOption = None,
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
    with _working(command, workspace, as_of, json=json, quiet=quiet, log_format=log_format) as context:
        one = read_period(period)
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
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Write the database that analysts open.

    Holds every period that has invoices.
    """
    from ratemill.steps.publish import publish as publish_step  # noqa: PLC0415
    from ratemill.steps.publish import report_findings  # noqa: PLC0415

    with _working("ratemill publish", workspace, None, json=json, quiet=quiet, log_format=log_format) as context:
        publish_step(context)
        path = context.workspace.relative(context.workspace.published_database)
        findings = report_findings(context)
    lines = [path, *(f"  {finding.severity.value}: {printable(str(finding))}" for finding in findings)]
    _say("\n".join(lines), {"published": path, "findings": [f.as_dict() for f in findings]}, json=json)
