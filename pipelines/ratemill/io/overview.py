"""A look at a workspace from outside, without its lock."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb

from ratemill.errors import RatemillError
from ratemill.io.charge_store import ChargeStore
from ratemill.io.heartbeat import read_beat
from ratemill.io.lock import read_holder
from ratemill.io.mirror import MirrorState
from ratemill.io.usage_objects import find_usage
from ratemill.object_urls import is_object_url
from ratemill.resources import sql
from ratemill.retention import collectable

if TYPE_CHECKING:
    from pathlib import Path

    from ratemill.workspace import Workspace


@dataclass(frozen=True)
class Overview:
    """What is known of a workspace without touching it."""

    workspace: str
    at_work: str | None
    """Who holds the lock."""
    heartbeat: dict[str, Any] | None
    """What the command at work is doing, how long ago it said so, and why it can't be believed (``trouble``)."""
    sizes: dict[str, int]
    """Bytes of the warehouse, of charges that are kept and that the next run may remove, of issued, published, out."""
    runs: list[dict[str, Any]]
    """The current run of each published period."""
    closed: list[dict[str, Any]]
    """What was issued for each closed period."""
    refused_files: list[tuple[str, str]]
    waiting_files: list[str]
    """Usage files that differ from what was published last."""
    usage_unseen: str
    """Why it can't be told which usage files wait; empty: it can."""
    mirror: dict[str, Any] | None
    """What is known of the copy in an object store; none where there is no such copy."""

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return vars(self)


def read_overview(workspace: Workspace) -> Overview:
    """Read the published database, the lock's holder, and the names and hashes of the usage files."""
    holder = read_holder(workspace.lock)
    runs, files, closed, current = _published(workspace.published_database)
    known = {row["file"]: row for row in files}
    try:
        found, unseen = find_usage(workspace), ""
    except RatemillError as error:
        if not any(map(is_object_url, workspace.config.usage.files)):
            raise
        found, unseen = [], str(error)  # a store that can't be asked is no reason to tell nothing
    waiting = [
        file.name
        for file in found
        if not isinstance(file, tuple) and (file.name not in known or known[file.name]["sha256"] != file.sha256)
    ]
    return Overview(
        workspace=str(workspace.root),
        at_work=f"pid {holder.pid} on {holder.host} since {holder.started}: {holder.command}" if holder else None,
        heartbeat=_heartbeat(workspace),
        sizes=_sizes(workspace, current),
        runs=runs,
        closed=closed,
        refused_files=[(row["file"], row["reason"]) for row in files if row["status"] == "refused"],
        waiting_files=waiting,
        usage_unseen=unseen,
        mirror=_mirror(workspace),
    )


def _heartbeat(workspace: Workspace) -> dict[str, Any] | None:
    beat, now = read_beat(workspace.heartbeat), datetime.now(UTC)
    return None if beat is None else {**asdict(beat), "age_seconds": round(beat.age(now)), "trouble": beat.trouble(now)}


def _mirror(workspace: Workspace) -> dict[str, Any] | None:
    if not workspace.config.storage.mirror:
        return None
    state = MirrorState.read(workspace)
    behind = workspace.published_database.is_file() and state.is_behind(workspace)
    return {
        "url": state.url,
        "version": state.version,
        "files": state.files,
        "size": state.size,
        "is_behind": behind,
        "failed": state.failed,
    }


def _sizes(workspace: Workspace, current: list[dict[str, Any]]) -> dict[str, int]:
    stored = ChargeStore(workspace.charges).stored()
    keep = workspace.config.policy.keep_drafts
    given_up = sum(run.size for run in collectable(stored, current, keep_drafts=keep))
    return {
        "warehouse": sum(path.stat().st_size for path in workspace.state.glob(f"{workspace.warehouse.name}*")),
        "charges_kept": sum(run.size for run in stored) - given_up,
        "charges_collectable": given_up,
        "issued": _size(workspace.issued),
        "published": _size(workspace.published),
        "out": _size(workspace.root / "out"),
    }


def _published(path: Path) -> tuple[list[dict[str, Any]], ...]:
    """Current runs, usage files, closed periods, and what the current runs were made of, as they were published."""
    if not path.is_file():
        return [], [], [], []
    with duckdb.connect(str(path), read_only=True, config={"python_enable_replacements": False}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        known = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        return tuple(
            connection.sql(sql(f"core/{query}")).to_arrow_table().to_pylist() if table in known else []
            for query, table in (
                ("run_overview", "runs"),
                ("file_overview", "usage_files"),
                ("closed_overview", "closed_periods"),  # not in what an earlier version published
                ("current_runs", "runs"),
            )
        )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
