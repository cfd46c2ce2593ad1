"""``ratemill keys``: keys of the Billing API."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratemill.cli.serve import require_api
from ratemill.cli.shared import JsonOption, WorkspaceOption, finish, open_workspace, printable, read_clock
from ratemill.errors import UsageError

if TYPE_CHECKING:
    from ratemill.api.keys import Key


class Role(StrEnum):
    """What a key may do."""

    READER = "billing_reader"
    MANAGER = "billing_manager"


def create(
    name: Annotated[str, typer.Option("--name", metavar="NAME", show_default=False, help="Whose key it is.")],
    organization: Annotated[
        list[str],
        typer.Option(
            "--organization", metavar="ID", show_default=False, help="Account that pays, with all that it pays for."
        ),
    ],
    account: Annotated[
        list[str] | None,
        typer.Option("--account", metavar="ID", show_default=False, help="Only this account of the organization."),
    ] = None,
    project: Annotated[
        list[str] | None,
        typer.Option("--project", metavar="ID", show_default=False, help="Only this project of the organization."),
    ] = None,
    role: Annotated[
        Role, typer.Option("--role", help="billing_reader: sees; billing_manager: budgets and alerts as well.")
    ] = Role.READER,
    expires: Annotated[
        int | None,
        typer.Option("--expires", min=1, max=3660, metavar="DAYS", show_default=False, help="Days it is good for."),
    ] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Make a key, and show its secret: once, for it is not kept.

    Options that name organizations, accounts or projects may be repeated; parts are of one organization.
    """
    require_api()
    from ratemill.steps.keys import create_key  # noqa: PLC0415 - heavy libraries, not needed for --help

    opened = open_workspace(workspace, quiet=True)
    made = create_key(
        opened,
        name=name,
        role=role.value,
        organizations=organization,
        accounts=account or (),
        projects=project or (),
        lifetime=timedelta(days=expires) if expires is not None else None,
        now=read_clock(None),
    )
    if json:
        finish({**_facts(made.key), "secret": made.secret}, json=True)
        return
    typer.echo(printable(f"access key  {made.key.access_key}"))
    typer.echo(f"secret      {made.secret}")
    typer.echo("            shown now and never again; whoever has it sees what the key sees")
    for grant in made.key.grants:
        typer.echo(printable(f"sees        {grant}"))
    if made.key.expires_at is not None:
        typer.echo(f"expires     {made.key.expires_at:%Y-%m-%d %H:%M} UTC")


def list_keys(workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """List keys: what each sees, when it was used last, whether it holds."""
    require_api()
    from ratemill.steps.keys import open_store  # noqa: PLC0415 - heavy libraries, not needed for --help

    opened = open_workspace(workspace, quiet=True)
    now = read_clock(None)
    with open_store(opened) as ring:
        keys = ring.all()
    if json:
        finish({"keys": [{**_facts(key), "state": key.state(now)} for key in keys]}, json=True)
        return
    if not keys:
        typer.echo("no keys yet; make one with: ratemill keys create --name NAME --organization ID")
    for key in keys:
        used = f"used {key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at is not None else "never used"
        sees = "; ".join(map(str, key.grants))
        typer.echo(printable(f"{key.access_key}  {key.state(now):<8} {key.role:<16} {key.name}  ({sees})  {used}"))


def revoke(
    access_key: Annotated[str, typer.Argument(metavar="ACCESS_KEY", help="SCW…, as `ratemill keys list` shows it.")],
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Take a key back for good; servers refuse it within a second."""
    require_api()
    from ratemill.steps.keys import open_store  # noqa: PLC0415 - heavy libraries, not needed for --help

    opened = open_workspace(workspace, quiet=True)
    with open_store(opened) as ring:
        if ring.find(access_key) is None:
            raise UsageError(f"there is no key {access_key!r} → see: ratemill keys list")
        ring.revoke(access_key, now=read_clock(None))
    if json:
        finish({"access_key": access_key, "state": "revoked"}, json=True)
        return
    typer.echo(printable(f"{access_key}  revoked"))


def _facts(key: Key) -> dict[str, Any]:
    from ratemill.insight.access import as_facts  # noqa: PLC0415 - heavy libraries, not needed for --help

    times = {
        name: value.isoformat().replace("+00:00", "Z") if value is not None else None
        for name, value in (
            ("created_at", key.created_at), ("expires_at", key.expires_at), ("revoked_at", key.revoked_at),
            ("last_used_at", key.last_used_at),
        )
    }  # fmt: skip
    return {
        "access_key": key.access_key, "name": key.name, "role": key.role, "grants": as_facts(key.scope), **times,
    }  # fmt: skip
