"""A look at a workspace from outside, without its lock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from ratemill.io.charge_store import ChargeStore
from ratemill.io.lock import read_holder
from ratemill.io.usage_files import find_usage_files
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
    sizes: dict[str, int]
    """Bytes of the warehouse, of charges that are kept and that the next run may remove, of issued, published, out."""
    runs: list[dict[str, Any]]
    """The current run of each published period."""
    closed: list[dict[str, Any]]
    """What was issued for each closed period."""
    refused_files: list[tuple[str, str]]
    waiting_files: list[str]
    """Usage files that differ from what was published last."""

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return vars(self)


def read_overview(workspace: Workspace) -> Overview:
    """Read the published database, the lock's holder, and the names and hashes of the usage files."""
    holder = read_holder(workspace.lock)
    runs, files, closed, current = _published(workspace.published_database)
    known = {row["file"]: row for row in files}
    found = find_usage_files(workspace.root, workspace.config.usage)
    waiting = [
        file.name
        for file in found
        if not isinstance(file, tuple) and (file.name not in known or known[file.name]["sha256"] != file.sha256)
    ]
    return Overview(
        workspace=str(workspace.root),
        at_work=f"pid {holder.pid} on {holder.host} since {holder.started}: {holder.command}" if holder else None,
        sizes=_sizes(workspace, current),
        runs=runs,
        closed=closed,
        refused_files=[(row["file"], row["reason"]) for row in files if row["status"] == "refused"],
        waiting_files=waiting,
    )


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
