"""``ratemill close``: from drafts to issued invoices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratemill.cli.shared import (
    ByOption,
    IssueDateOption,
    JsonOption,
    LogFormatOption,
    PeriodOption,
    QuietOption,
    WaitOption,
    WorkspaceOption,
    finish,
    open_workspace,
    print_entry,
    printable,
    read_clock,
    read_issue_date,
    read_period,
    working,
)
from ratemill.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from ratemill.steps.close import Closing
    from ratemill.workspace import Workspace

_MARKS = {"ok": ("ok", "green"), "waived": ("waived", "yellow"), "open": ("OPEN", "red")}
_INDENT = 33
"""Columns of status and point in front of a line."""


def close(
    period: PeriodOption,
    waive: Annotated[
        list[str] | None,
        typer.Option(
            "--waive",
            metavar="POINT=REASON",
            show_default=False,
            help="Close in spite of an open point of the checklist; once for each. The reason is kept.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only show the checklist; exit code 3 when points are open.")
    ] = False,
    issue_date: IssueDateOption = None,
    by: ByOption = None,
    workspace: WorkspaceOption = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="INSTANT",
            show_default=False,
            help="Take this for the clock, 2026-11-01T03:00:00Z; it decides whether the period has ended, and today.",
        ),
    ] = None,
    wait: WaitOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Issue the invoices of a period, and freeze it.

    Loads what is new, and goes on only where the drafts are of exactly these inputs and every point of the checklist is
    ok or waived. Invoices get their numbers, dates and final documents. A closed period is never billed again: what
    changes afterwards is billed by the run of the next one.
    """
    from ratemill.steps.close import close as close_step  # noqa: PLC0415 - heavy libraries, not needed for --help
    from ratemill.steps.failures import failures_are_told  # noqa: PLC0415

    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    now = read_clock(as_of)
    one, waivers, day = (
        read_period(period, now=now),
        _read_waivers(waive or []),
        read_issue_date(issue_date),
    )
    with (
        working(
            opened,
            f"ratemill close --period {one}",
            now=now,
            by=by,
            wait=wait,
            quiet=quiet,
            json=json,
            log_format=log_format,
        ) as context,
        failures_are_told(context, "close_blocked", [one]),
    ):
        closing = close_step(context, one, waivers=waivers, issue_date=day, check_only=check)
    stopped = check and closing.open_points
    code = ExitCode.DATA_REFUSED if stopped else ExitCode.DONE
    if json:
        finish(
            {"status": "refused" if stopped else "done", "exit_code": int(code), **_summary(closing, opened)}, json=True
        )
    else:
        _print(closing, opened)
    if stopped:
        raise typer.Exit(code)


def _read_waivers(options: list[str]) -> dict[str, str]:
    waivers: dict[str, str] = {}
    for option in options:
        point, equals, reason = option.partition("=")
        if not equals or not point.strip():
            raise UsageError(f"--waive {option!r}: write it as POINT=REASON, for example usage.rejected='3 test rows'")
        if point in waivers:
            raise UsageError(f"--waive {point}: this point is waived twice → keep one of the reasons")
        waivers[point] = reason
    return waivers


def _summary(closing: Closing, workspace: Workspace) -> dict[str, Any]:
    return {
        "period": closing.period,
        "run_id": closing.run_id,
        "nothing_to_do": closing.nothing_to_do,
        "closed": closing.closed,
        "checklist": closing.checklist.drop("period").to_dicts(),
        "findings": [finding.as_dict() for finding in closing.open_points],
        "out": f"out/{closing.period}",
        "published": workspace.relative(workspace.published_database),
    }


def _print(closing: Closing, workspace: Workspace) -> None:
    for row in closing.checklist.iter_rows(named=True):
        mark, colour = _MARKS[row["status"]]
        print_entry(f"{mark:<7} {row['point']:<24} ", row["detail"], colour=colour)
        if row["status"] == "open":
            print_entry(" " * _INDENT, f"→ {row['cure']}", under=_INDENT + 2)
        if row["status"] == "waived":
            print_entry(" " * _INDENT, f"waived by {row['waived_by']}: {row['reason']}")
    closed = closing.closed
    if closed is None:
        count = len(closing.open_points)
        typer.echo(
            f"\n{closing.period} can be closed" if not count
            else f"\n{closing.period} can't be closed: {count} point{'s are' if count != 1 else ' is'} open (exit 3)"
        )  # fmt: skip
        return
    numbers = f", {closed['first_number']} to {closed['last_number']}" if closed["invoices"] else ""
    already = " already: nothing to do" if closing.nothing_to_do else ""
    typer.echo(
        f"\n{closing.period} is closed{already}; {closed['invoices']:,} documents issued on"
        f" {closed['issue_date']}{numbers}, by {printable(closed['closed_by'])}"
    )
    typer.echo(f"documents   out/{closing.period}/invoices/, and for good in {workspace.relative(workspace.issued)}")
