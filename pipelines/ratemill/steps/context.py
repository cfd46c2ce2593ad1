"""What every step of a run is given."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratemill import logs
from ratemill.engines.local import LocalEngine
from ratemill.io.machine import budget_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ratemill.config import Config
    from ratemill.engines import Engine
    from ratemill.io.warehouse import Warehouse
    from ratemill.memory import Budget
    from ratemill.period import BillingPeriod
    from ratemill.progress import Progress, Step
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
    cluster: Engine | None = None
    """Who loads and rates in place of this machine."""

    @property
    def engine(self) -> Engine:
        """Who loads and rates."""
        return self.cluster or LocalEngine(self.workspace)

    @property
    def config(self) -> Config:
        """The workspace's configuration."""
        return self.workspace.config

    @contextmanager
    def step(
        self, name: str, period: BillingPeriod | None = None, run_id: str | None = None, *, total: int | None = None,
        unit: str = "",
    ) -> Iterator[Step]:  # fmt: skip
        """:meth:`ratemill.progress.Progress.step`; lines logged inside name the step, the period and the run."""
        about = {"step": name, "period": None if period is None else str(period), "run_id": run_id}
        with logs.bound(**about), self.progress.step(name, total=total, unit=unit) as step:
            yield step

    @property
    def budget(self) -> Budget:
        """What the parts of the work may use of the machine's memory."""
        return budget_of(self.config.engine)
