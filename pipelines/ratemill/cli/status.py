"""``ratemill status``: what was run, and what is waiting."""

from __future__ import annotations

import typer

from ratemill.cli.shared import JsonOption, WorkspaceOption, finish, open_workspace, printable


def status(workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Show what was run, and what is waiting.

    Takes no lock: while a run is at work, its holder is named and the figures are those it published last.
    """
    from ratemill.io.overview import read_overview  # noqa: PLC0415 - heavy libraries, not needed for --help

    overview = read_overview(open_workspace(workspace, quiet=True))
    if json:
        finish(overview.as_dict(), json=True)
        return
    typer.echo(f"workspace  {overview.workspace}")
    typer.echo(f"at work    {overview.at_work or 'nobody'}")
    sizes = (f"{name.replace('_', ' ')} {size / 1e6:,.1f} MB" for name, size in overview.sizes.items())
    typer.echo(f"size       {', '.join(sizes)}")
    if not overview.runs:
        typer.echo("runs       none yet; start with: ratemill run --period YYYY-MM")
    closed = {row["period"]: row for row in overview.closed}
    for run in overview.runs:
        issued = closed.get(run["period"])
        if issued is not None:
            numbers = f", {issued['first_number']} to {issued['last_number']}" if issued["invoices"] else ""
            told = f"{issued['invoices']} documents issued {issued['issue_date']}{numbers}"
            told += f", by {printable(issued['closed_by'])}"
        else:
            told = f"finished {run['finished_at']:%Y-%m-%d %H:%M} UTC, {run['invoices']} invoices drafted"
        typer.echo(f"{run['period']}    {'closed' if issued else run['status']:<9} run {run['run_id']}, {told}")
    for name, reason in overview.refused_files:
        typer.echo(f"refused    {printable(name)}: {printable(reason)}")
    for name in overview.waiting_files:
        typer.echo(f"waiting    {printable(name)} is new or changed since the last run")
