"""backup and restore: everything of a workspace that can't be made again, as it was at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ratemill import __version__
from ratemill.errors import DataRefusedError, UsageError
from ratemill.findings import Finding, Severity
from ratemill.io.backups import Backup, backups_in, damages, files_to_keep, read_backup, restore_files, write_backup
from ratemill.tables.runs import EVENTS, NUMBER_SERIES

if TYPE_CHECKING:
    from pathlib import Path

    from ratemill.io.warehouse import Warehouse
    from ratemill.steps.context import Context


@dataclass(frozen=True)
class BackedUp:
    """A backup that was made."""

    backup: Backup
    linked: int
    """Files that are links to the backup before."""

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(int(entry["size"]) for entry in self.backup.files.values())


def back_up(context: Context, folder: Path, *, with_usage: bool) -> BackedUp:
    """Make a backup in a folder of its own inside ``folder``, named after the time.

    The workspace is locked, and its database written out to its file, so that all of it is of one moment.

    Raises:
        UsageError: ``folder`` is in the workspace, or can't be written to.
        TemporaryError: the disk is full; there is no backup then.
    """
    root = context.workspace.root
    if folder.resolve().is_relative_to(root):
        raise UsageError(f"{folder} is inside of the workspace → name a folder elsewhere, best on another disk")
    warehouse = context.warehouse
    with context.progress.step("backup") as step:
        former = max(backups_in(folder), key=lambda backup: str(backup.facts["made_at"]), default=None)
        facts = {
            "made_at": context.now.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "code_version": __version__,
            "with_usage": with_usage,
            **_ledger(warehouse),
        }
        loaded = [root / name for name in warehouse.usage.files().filter(status="loaded")["file"]]
        warehouse.write_out()
        made, linked = write_backup(
            folder / context.now.strftime("%Y-%m-%dT%H%M%SZ"),
            files_to_keep(root, loaded, with_usage=with_usage),
            facts,
            former=former,
        )
        done = BackedUp(made, linked)
        step.done(f"{len(made.files):,} files, {linked:,} of them as in the backup before")
    return done


def _ledger(warehouse: Warehouse) -> dict[str, Any]:
    """What whoever restores must know of the ledger: how far it goes."""
    events = warehouse.table("ops", EVENTS).sort("sequence")
    last = events.row(-1, named=True) if events.height else None
    return {
        "last_act": last and {name: last[name] for name in ("sequence", "act", "sha256")} | {"at": str(last["at"])},
        "periods": warehouse.runs().filter("is_current")["period"].sort().to_list(),
        "closed": warehouse.closed_periods()["period"].to_list(),
        "last_numbers": dict(warehouse.table("ops", NUMBER_SERIES).sort("series").select("series", "last").iter_rows()),
    }


def checked_backup(folder: Path) -> Backup:
    """The backup in ``folder``, every file of it compared with its manifest.

    Raises:
        UsageError: there is none.
        DataRefusedError: naming each file that is not as it was.
    """
    backup = read_backup(folder)
    found = damages(backup)
    if found:
        raise DataRefusedError(
            f"the backup {folder} is damaged: {len(found):,} of its {len(backup.files):,} files are not as they were"
            " → use another backup; nothing was restored",
            findings=[Finding(Severity.ERROR, "backup.damaged", sentence, "") for sentence in found],
        )
    return backup


def restore(folder: Path, target: Path) -> Backup:
    """Make a workspace at ``target`` from the backup in ``folder``.

    Raises:
        UsageError: there is no backup, or something is at ``target``.
        DataRefusedError: the backup is damaged.
        TemporaryError: the disk is full; nothing is there.
    """
    backup = checked_backup(folder)
    restore_files(backup, target)
    return backup
