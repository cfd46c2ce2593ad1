"""A workspace: the folder with ``ratemill.toml``, and where things lie inside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ratemill.config import Config, read_config
from ratemill.errors import UsageError

if TYPE_CHECKING:
    from ratemill.period import BillingPeriod

CONFIG_FILE = "ratemill.toml"
WORKSPACE_VARIABLE = "RATEMILL_WORKSPACE"


@dataclass(frozen=True)
class Workspace:
    """Paths of one workspace; nothing is created by looking."""

    root: Path
    config: Config

    @property
    def book(self) -> Path:
        """Price tables, accounts, taxes: the user's."""
        return self.root / "book"

    @property
    def state(self) -> Path:
        """Private to the job."""
        return self.root / "state"

    @property
    def warehouse(self) -> Path:
        """The DuckDB file that only the job opens."""
        return self.state / "warehouse.duckdb"

    @property
    def charges(self) -> Path:
        """Immutable Parquet, one folder per period and run."""
        return self.state / "charges"

    @property
    def issued(self) -> Path:
        """Files of issued invoices: written once, never again."""
        return self.state / "issued"

    @property
    def object_contents(self) -> Path:
        """What is known of usage files in object stores without downloading them."""
        return self.state / "objects.json"

    @property
    def mirrored(self) -> Path:
        """What is known of the copy in an object store without asking it."""
        return self.state / "mirror.json"

    @property
    def lock(self) -> Path:
        """Held by the one process that may write."""
        return self.state / "lock"

    @property
    def heartbeat(self) -> Path:
        """Says what the command at work is doing."""
        return self.state / "heartbeat.json"

    @property
    def published(self) -> Path:
        """What analysts open."""
        return self.root / "published"

    @property
    def published_database(self) -> Path:
        """The read-only DuckDB file for analysts."""
        return self.published / "billing.duckdb"

    def out(self, period: BillingPeriod) -> Path:
        """Documents and reports of a period."""
        return self.root / "out" / str(period)

    @property
    def templates(self) -> Path:
        """The user's own templates, which come before the shipped ones."""
        return self.root / "templates"

    @property
    def queries(self) -> Path:
        """The user's own report queries."""
        return self.root / "sql" / "reports"

    def relative(self, path: Path) -> str:
        """``path`` as messages name it: relative to the workspace where it lies inside."""
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return path.as_posix()


def find_workspace(option: Path | None) -> Workspace:
    """The workspace to work on: ``--workspace``, then ``$RATEMILL_WORKSPACE``, then the current folder.

    Raises:
        UsageError: naming every place that was tried, in order.
    """
    tried: list[str] = []
    for source, folder in _candidates(option):
        if folder is None:
            tried.append(f"{source}: not set")
            continue
        if (folder / CONFIG_FILE).is_file():
            return Workspace(root=folder.resolve(), config=read_config(folder / CONFIG_FILE))
        tried.append(f"{source}: {folder} has no {CONFIG_FILE}" if folder.is_dir() else f"{source}: no folder {folder}")
        if source != "current folder":
            break  # a place that was named must be right: falling through would bill another workspace
    raise UsageError(
        "no workspace found; tried in order: " + "; ".join(tried) + ". Make one with: ratemill init DIR --sample demo"
    )


def _candidates(option: Path | None) -> list[tuple[str, Path | None]]:
    variable = os.environ.get(WORKSPACE_VARIABLE)
    return [
        ("--workspace", option),
        (f"${WORKSPACE_VARIABLE}", Path(variable) if variable else None),
        ("current folder", Path.cwd()),
    ]
