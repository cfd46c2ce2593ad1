"""``ratemill book``: tables of the book from elsewhere."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ratemill.cli.shared import (
    JsonOption,
    LogFormatOption,
    QuietOption,
    WorkspaceOption,
    finish,
    open_workspace,
    printable,
    read_clock,
)

if TYPE_CHECKING:
    from ratemill.steps.pull import Pulled


class Source(StrEnum):
    """Systems that know projects and members."""

    SCALEWAY = "scaleway"


class Part(StrEnum):
    """A table that is pulled."""

    PROJECTS = "projects"
    MEMBERS = "members"


def pull(
    source: Annotated[Source, typer.Argument(help="Where from: an Account and IAM API as Scaleway has it.")],
    organization: Annotated[
        list[str] | None,
        typer.Option(
            "--organization",
            metavar="UUID[=ACCOUNT]",
            show_default=False,
            help="Organization, and the account of the book that it is, if that has another id; may be repeated. Else"
            " $SCW_DEFAULT_ORGANIZATION_ID.",
        ),
    ] = None,
    only: Annotated[Part | None, typer.Option("--only", show_default=False, help="Pull this table alone.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and write nothing.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="For each answer.")] = 30.0,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Bring projects and members of the book up to what another system says.

    Credentials are SCW_ACCESS_KEY and SCW_SECRET_KEY; SCW_API_URL names another API. Nothing is removed: what is gone
    ends.
    """
    from ratemill.io.scaleway_account import ScalewayAccount, organizations_of  # noqa: PLC0415 - not for --help
    from ratemill.steps.pull import pull as pull_step  # noqa: PLC0415

    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    account = ScalewayAccount(os.environ, seconds=timeout)
    wanted = organizations_of(organization or (), account.organization)
    tables = [only.value] if only else [part.value for part in Part]
    remotes = [account.organization_of(uuid, name, members="members" in tables) for uuid, name in wanted.items()]
    pulled = pull_step(opened, remotes, tables=tables, now=read_clock(None), dry_run=dry_run)
    if json:
        changes = [vars(change) for change in pulled.changes]
        summary = {"source": source.value, "dry_run": dry_run, **pulled.counts()}
        finish({**summary, "files": list(pulled.files), "changes": changes}, json=True)
    else:
        _print(pulled, dry_run=dry_run)


def _print(pulled: Pulled, *, dry_run: bool) -> None:
    from rich import box  # noqa: PLC0415 - heavy libraries, not needed for --help
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=sys.stdout, highlight=False)
    if not pulled.changes:
        console.print("The book is up to date; nothing to do.")
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for name in ("Table", "What", "Which", "Detail"):
        table.add_column(name, overflow="fold", no_wrap=name in ("Table", "What"))
    styles = {"added": "green", "changed": "yellow", "ended": "red"}
    for change in pulled.changes:
        what = Text(change.what, style=styles[change.what])
        table.add_row(change.table, what, Text(printable(change.name)), Text(printable(change.detail)))
    console.print(table)
    console.print()
    for name, counts in pulled.counts().items():
        told = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
        if told:
            console.print(f"{name}: {told}")
    files = ", ".join(pulled.files)
    console.print("Nothing was written (--dry-run)." if dry_run else f"Written: {files}")
