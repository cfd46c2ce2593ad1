"""What every step of a run is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from ratemill.config import Config
    from ratemill.io.warehouse import Warehouse
    from ratemill.progress import Progress
    from ratemill.workspace import Workspace


@dataclass(frozen=True)
class Context:
    """An open, locked workspace."""

    workspace: Workspace
    warehouse: Warehouse
    progress: Progress
    now: datetime
    """The clock, UTC: only for the audit trail and for refusing future periods, never for an amount."""
    actor: str = ""
    """Who is at work, for the audit trail."""

    @property
    def config(self) -> Config:
        """The workspace's configuration."""
        return self.workspace.config
