"""``ratemill status``: what was run, and what is waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from ratemill.cli.shared import JsonOption, WorkspaceOption, finish, open_workspace, print_entry, printable

if TYPE_CHECKING:
    from collections.abc import Mapping


def _told(beat: Mapping[str, Any]) -> str:
    """``rate of 2026-10, 1,200 rows, since 03:00:12Z; 4 seconds ago``, or what is wrong with it."""
    step = f"{beat['step']} of {beat['period']}" if beat["period"] else beat["step"] or beat["command"]
    counts = [f"{beat['units']:,} of {beat['total']:,} {beat['unit']}"] if beat["units"] and beat["total"] else []
    counts += [f"{beat['rows']:,} rows"] if beat["rows"] else []
    doing = ", ".join([step, *counts, f"since {beat['step_started'] or beat['started']}"])
    if beat["trouble"]:
        return f"STALE: {beat['trouble']} (at {beat['updated']} it was at {doing})"
    return f"{doing}; written {beat['age_seconds']:,} seconds ago"


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
    if overview.heartbeat is not None:
        typer.echo(f"heartbeat  {printable(_told(overview.heartbeat))}")
    sizes = (f"{name.replace('_', ' ')} {size / 1e6:,.1f} MB" for name, size in overview.sizes.items())
    print_entry("size       ", ", ".join(sizes))
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
    if overview.mirror is not None:
        typer.echo(f"mirror     {_mirror(overview.mirror)}")
    if overview.usage_unseen:
        typer.echo(f"waiting    can't be told: {printable(overview.usage_unseen)}")
    for name in overview.waiting_files:
        typer.echo(f"waiting    {printable(name)} is new or changed since the last run")


def _mirror(mirror: dict[str, Any]) -> str:
    has = f"version {mirror['version']}, {mirror['files']:,} files, {mirror['size'] / 1e6:,.1f} MB"
    if not mirror["is_behind"]:
        return f"{mirror['url']}: {has if mirror['version'] else 'nothing was published yet'}"
    why = printable(mirror["failed"]) or "what is here has changed since → run: ratemill publish"
    return f"{mirror['url']} is behind, it has {has if mirror['version'] else 'nothing yet'}: {why}"
