"""``ratemill run``: the month-end job."""

from __future__ import annotations

from typing import Annotated

import typer

from ratemill.cli.shared import (
    JsonOption,
    LogFormatOption,
    PeriodOption,
    QuietOption,
    WaitOption,
    WorkspaceOption,
    finish,
    open_workspace,
    read_clock,
    read_periods,
    working,
)
from ratemill.errors import ExitCode

AsOfOption = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="INSTANT",
        show_default=False,
        help="Take this for the clock, 2026-11-01T03:00:00Z; it decides which periods have begun, and which is last.",
    ),
]


def run(
    period: PeriodOption,
    workspace: WorkspaceOption = None,
    as_of: AsOfOption = None,
    wait: WaitOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Bill a period: load, check, rate, invoice, report, publish.

    Drafts are recomputed at will: the same inputs again change nothing, changed ones replace the drafts.
    """
    from ratemill import pipeline  # noqa: PLC0415 - heavy libraries, not needed for --help
    from ratemill.cli.page import print_page  # noqa: PLC0415
    from ratemill.steps.failures import failures_are_told, tell_failure  # noqa: PLC0415

    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    now = read_clock(as_of)
    periods = read_periods(period, now=now)
    with (
        working(
            opened, f"ratemill run --period {period}", now=now, wait=wait, quiet=quiet, json=json, log_format=log_format
        ) as context,
        failures_are_told(context, "run_failed", periods),
    ):
        loaded, summaries = pipeline.run(context, periods)
        refused = loaded.refused
        if refused:
            told = "usage files were refused; the rest was billed"
            tell_failure(context, "run_failed", periods, told, refused, outlasts_runs=True)
    billed = {summary.period for summary in summaries}
    empty = [str(one) for one in periods if str(one) not in billed]
    code = ExitCode.DATA_REFUSED if refused else ExitCode.DONE
    if json:
        finish(
            {
                "status": "refused" if refused else "done",
                "exit_code": int(code),
                "files": {"matched": loaded.files, "loaded": loaded.loaded, "refused": len(refused)},
                "periods": [summary.as_dict() for summary in summaries],
                "nothing_to_bill": empty,
                "findings": [finding.as_dict() for finding in loaded.findings],
            },
            json=True,
        )
    else:
        print_page(summaries, loaded)
        if empty:
            typer.echo(f"\nNothing to bill in {', '.join(empty)}")
    if refused:
        raise typer.Exit(code)
