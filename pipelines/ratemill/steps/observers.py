"""Who observes a command, as the configuration says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratemill.observe import Observer
    from ratemill.workspace import Workspace

_OBSERVED = ("run", "load", "check", "rate", "invoice", "report", "publish", "close")
"""Commands that bill; others leave no metrics and no lineage."""


def observers_of(workspace: Workspace, command: str) -> tuple[Observer, ...]:
    """The observers of ``command``, given with its options as others are told: ``ratemill run --period 2026-10``."""
    name = command.split()[1]
    if name not in _OBSERVED:
        return ()
    found: list[Observer] = []
    output = workspace.config.output
    if output.metrics:
        from ratemill.steps.metrics import Metrics  # noqa: PLC0415 - only where it is wanted

        found.append(Metrics(workspace.root / output.metrics, workspace=workspace.root, command=name))
    if output.lineage:
        from ratemill.steps.lineage import Lineage  # noqa: PLC0415 - only where it is wanted

        found.append(Lineage(workspace, command=name))
    return tuple(found)
