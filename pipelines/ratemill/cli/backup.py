"""``ratemill backup`` and ``ratemill restore``: a workspace at one moment, and a workspace from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratemill.cli.shared import (
    JsonOption,
    LogFormatOption,
    QuietOption,
    WaitOption,
    WorkspaceOption,
    finish,
    open_workspace,
    printable,
    set_up_logging,
    working,
)
from ratemill.errors import UsageError

if TYPE_CHECKING:
    from ratemill.io.backups import Backup


def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where backups are; each gets a folder of its own.")],
    usage: Annotated[
        bool, typer.Option("--usage", help="With usage files that are loaded; their rows are in the database already.")
    ] = False,
    workspace: WorkspaceOption = None,
    wait: WaitOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Copy what can't be made again, as of one moment.

    The workspace is locked meanwhile, so that no run changes it. A backup is a plain folder that appears whole or not
    at all; files that never change are hard links to the backup before. Left out are out and published, which a run
    makes again.
    """
    from ratemill.steps.backup import back_up  # noqa: PLC0415 - heavy libraries, not needed for --help

    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    with working(
        opened, f"ratemill backup {folder}", wait=wait, quiet=quiet, json=json, log_format=log_format
    ) as context:
        done = back_up(context, folder, with_usage=usage)
    if json:
        facts = {"files": len(done.backup.files), "linked": done.linked, "bytes": done.size}
        finish({"backup": str(done.backup.folder), **_facts(done.backup), **facts}, json=True)
        return
    typer.echo(printable(str(done.backup.folder)))
    typer.echo(f"{len(done.backup.files):,} files, {done.size / 1e6:,.1f} MB; {done.linked:,} linked to the one before")
    _print_ledger(done.backup)


def restore(
    folder: Annotated[Path, typer.Argument(metavar="BACKUP", help="A folder that ratemill backup made.")],
    target: Annotated[
        Path | None, typer.Argument(metavar="DIR", show_default=False, help="The new workspace: a new or empty folder.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only compare each file with the backup's manifest.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Make a workspace from a backup.

    Every file is compared with the backup's manifest first; a damaged one is named, and nothing is restored.
    """
    from ratemill.steps.backup import checked_backup  # noqa: PLC0415 - heavy libraries, not needed for --help
    from ratemill.steps.backup import restore as restore_step  # noqa: PLC0415

    set_up_logging(log_format=log_format, quiet=quiet)
    if check == (target is not None):
        raise UsageError("name the folder to restore into, or give --check, and not both")
    found = checked_backup(folder) if target is None else restore_step(folder, target)
    if json:
        finish({"workspace": target and str(target), **_facts(found), "files": len(found.files)}, json=True)
        return
    typer.echo(f"{len(found.files):,} files, all of them as they were backed up")
    _print_ledger(found)
    if target is not None:
        _print_next(found, target)


def _facts(backup: Backup) -> dict[str, Any]:
    return {name: value for name, value in backup.facts.items() if name != "kind"}


def _print_ledger(backup: Backup) -> None:
    """How far the ledger goes, which nobody can see from a backup that is too old."""
    last, numbers = backup.facts["last_act"], backup.facts["last_numbers"]
    typer.echo(f"made at     {backup.facts['made_at']}")
    if last:
        typer.echo(f"audit log   {last['sequence']:,} acts, the last one {last['act']} {last['sha256']}")
    for series, number in numbers.items():
        typer.echo(printable(f"number      the last one of {series} is {number:,}"))


def _print_next(backup: Backup, target: Path) -> None:
    periods, place = backup.facts["periods"], f"--workspace {target}"
    if backup.facts["last_numbers"]:
        typer.echo("was a document with a later number issued? Then this backup is too old: it would be given twice")
    if periods:
        span = periods[0] if len(periods) == 1 else f"{periods[0]}..{periods[-1]}"
        typer.echo(printable(f"→ run: ratemill run {place} --period {span}, which makes out and published again"))
    typer.echo(printable(f"→ run: ratemill verify {place}"))
