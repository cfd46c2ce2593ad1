"""The metrics file: gauges in Prometheus' text format, for the textfile collector of node_exporter.

The file is all there is: what a command can't tell anew (how the others ended, what stands while it can't open the
warehouse) is carried over from the file that it replaces.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Metric(NamedTuple):
    """One gauge."""

    help: str
    labels: tuple[str, ...] = ()
    """Besides ``workspace``."""


_PREFIX = "ratemill_"
METRICS = {
    # of commands
    "last_success_timestamp_seconds": Metric("When the command last ended with exit code 0", ("command",)),
    "last_failure_timestamp_seconds": Metric("When it last ended with another than 0 or 99", ("command",)),
    "last_exit_code": Metric("Exit code with which the command last ended", ("command",)),
    "last_duration_seconds": Metric("How long the command took the last time", ("command",)),
    "last_errors": Metric("Findings that stopped the command, or a part of its work, the last time", ("command",)),
    "step_duration_seconds": Metric("How long the step took the last time", ("step",)),
    # of what stands
    "usage_files": Metric("Usage files by what became of them: loaded or refused", ("status",)),
    "usage_rows": Metric("Usage rows of the period's run", ("period", "kind")),
    "documents": Metric("Invoices and credit notes of the period", ("period", "status")),
    "untaxed_amount": Metric("Sum of their untaxed amounts: for graphs, since it is a float", ("period", "currency")),
    "findings": Metric("Findings of the period's run", ("period", "severity")),
    "notifications": Metric("Notifications that are not sent: queued, sending, failed or given_up", ("state",)),
    "warehouse_bytes": Metric("Size of the warehouse"),
}
OF_WAREHOUSE = tuple(METRICS)[6:]
"""Those that are read from the warehouse, all at once."""

Values = dict[str, dict[tuple[str, ...], float]]
"""Metric → values of its labels → value."""


def write_metrics(path: Path, workspace: str, values: Mapping[str, Mapping[tuple[str, ...], float]]) -> None:
    """Write ``values`` over what the file says; a metric of :data:`OF_WAREHOUSE` that is given is replaced as a whole.

    Raises:
        OSError: the file can't be written; the former one stands.
    """
    merged: Values = {name: {} for name in METRICS}
    for name, former in _read(path, workspace).items():
        if name not in OF_WAREHOUSE or name not in values:
            merged[name] |= former
    for name, current in values.items():
        merged[name] |= current
    registry = CollectorRegistry()
    for name, metric in METRICS.items():
        if not merged[name]:
            continue
        gauge = Gauge(_PREFIX + name, metric.help, ("workspace", *metric.labels), registry=registry)
        for labels, value in sorted(merged[name].items()):
            gauge.labels(workspace, *labels).set(value)
    write_to_textfile(str(path), registry)


def _read(path: Path, workspace: str) -> Values:
    """What the file says of a workspace; nothing where it is not there, or damaged."""
    found: Values = {}
    with suppress(OSError, ValueError):
        for family in text_string_to_metric_families(path.read_text(encoding="utf-8")):
            name = family.name.removeprefix(_PREFIX)
            if name not in METRICS:
                continue
            for sample in family.samples:
                labels = tuple(sample.labels.get(label, "") for label in METRICS[name].labels)
                if sample.labels.get("workspace") == workspace:
                    found.setdefault(name, {})[labels] = sample.value
    return found
