"""``ratemill plan``: what a run would do now, and why."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ratemill.cli.run import AsOfOption
from ratemill.cli.shared import (
    JsonOption,
    LogFormatOption,
    QuietOption,
    WaitOption,
    WorkspaceOption,
    finish,
    open_workspace,
    printable,
    read_clock,
    read_periods,
)
from ratemill.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from ratemill.insight.plan import Loading, PeriodPlan

_SHOWN = 5


def plan(
    period: Annotated[
        str | None,
        typer.Option(
            "--period",
            "-p",
            metavar="YYYY-MM",
            show_default=False,
            help="Billing period, range or last; else the month before today and every open month with drafts.",
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    as_of: AsOfOption = None,
    wait: WaitOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Show what a run would do now, step by step, and why.

    Nothing is loaded and nothing is written. Ends with 0 whatever the run would end with.
    """
    from ratemill.pipeline import open_plan  # noqa: PLC0415 - heavy libraries, not needed for --help
    from ratemill.steps.plan import periods_at_hand  # noqa: PLC0415
    from ratemill.steps.plan import plan as plan_step  # noqa: PLC0415

    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    now = read_clock(as_of)
    asked = read_periods(period, now=now) if period is not None else None
    with open_plan(opened, now=now, command="ratemill plan", wait=wait) as context:
        planned = plan_step(context, asked if asked is not None else periods_at_hand(context))
        manifest = planned.as_dict(context)
    if json:
        finish(manifest, json=True)
    else:
        _print(planned.loading, planned.periods)


def _print(loading: Loading, periods: tuple[PeriodPlan, ...]) -> None:
    from rich.console import Console  # noqa: PLC0415 - heavy libraries, not needed for --help
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=sys.stdout, highlight=False)
    for period in periods:
        _print_period(console, period)
    for name, reason in loading.refused[:_SHOWN]:
        console.print(Text(printable(f"\n{name} would be refused: {reason}"), style="yellow"))
    if len(loading.refused) > _SHOWN:
        console.print(Text(f"… and {len(loading.refused) - _SHOWN:,} more files (--json lists all)", style="dim"))


def _print_period(console: Console, plan: PeriodPlan) -> None:
    from rich import box  # noqa: PLC0415 - heavy libraries, not needed for --help
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    told = Text.assemble((f"{plan.period}  ", "bold"), plan.summary)
    runs = dict.fromkeys(f"run {run_id}" for run_id in (plan.run_id, plan.next_run_id) if run_id)
    if runs:
        told.append(f"   {' → '.join(runs)}", style="dim")
    if plan.exit_code is not ExitCode.DONE:
        told.append(f"   (exit {int(plan.exit_code)})", style="yellow")
    console.print()
    console.print(told, soft_wrap=True)
    console.print()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    table.add_column("Step", no_wrap=True)
    table.add_column("Would run", no_wrap=True)
    table.add_column("Why", overflow="fold")
    told_before: set[str] = set()
    for step in plan.steps:
        why = "as above" if step.why in told_before else step.why
        told_before.add(step.why)
        style = "" if step.would_run else "dim"
        table.add_row(
            Text(step.name, style=style),
            Text("yes" if step.would_run else "no", style="green" if step.would_run else "dim"),
            Text(printable(why), style=style),
        )
    console.print(table)
