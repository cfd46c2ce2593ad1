"""A look at a workspace from outside, without its lock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from ratemill.io.lock import read_holder
from ratemill.io.usage_files import find_usage_files
from ratemill.resources import sql

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
    """Bytes of state, published and out."""
    runs: list[dict[str, Any]]
    """The current run of each published period."""
    refused_files: list[tuple[str, str]]
    waiting_files: list[str]
    """Usage files that differ from what was published last."""

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return vars(self)


def read_overview(workspace: Workspace) -> Overview:
    """Read the published database, the lock's holder, and the names and hashes of the usage files."""
    holder = read_holder(workspace.lock)
    runs, files = _published(workspace.published_database)
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
        sizes={folder.name: _size(folder) for folder in (workspace.state, workspace.published, workspace.root / "out")},
        runs=runs,
        refused_files=[(row["file"], row["reason"]) for row in files if row["status"] == "refused"],
        waiting_files=waiting,
    )


def _published(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    if not path.is_file():
        return [], []
    with duckdb.connect(str(path), read_only=True, config={"python_enable_replacements": False}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        runs, files = (
            connection.sql(sql(f"core/{name}")).to_arrow_table().to_pylist()
            for name in ("run_overview", "file_overview")
        )
        return runs, files


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
