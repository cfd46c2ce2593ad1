"""Who does the heavy part of a run: this machine, or a cluster. Which of them changes no byte of the charges."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    import polars as pl

    from ratemill.engines.shards import Rules
    from ratemill.io.charge_store import ChargeWriter
    from ratemill.io.usage_files import UsageFile
    from ratemill.io.usage_objects import UsageObject
    from ratemill.io.usage_reader import ReadFile
    from ratemill.io.warehouse import Warehouse
    from ratemill.period import BillingPeriod
    from ratemill.rating.metering import Metering
    from ratemill.workspace import Workspace


class Reader(Protocol):
    """Reads usage files."""

    def read(self, files: Sequence[UsageFile | UsageObject]) -> Iterator[ReadFile]:
        """Each file, in order, ready to be stored."""


@dataclass(frozen=True)
class Survey:
    """What usage there is around a period."""

    series: pl.DataFrame
    """Every series that has some, with how many records: see sql/core/series_of_period.sql."""
    instants: pl.DataFrame
    """Every instant at which some starts."""
    rows: int
    """Rows that are stored of the files it is in, whatever becomes of them."""


class Engine(Protocol):
    """The heavy part of a run, in the order of its steps."""

    def reader(self, warehouse: Warehouse) -> AbstractContextManager[Reader]:
        """What reads usage files."""
        ...

    def settle_duplicates(self, warehouse: Warehouse) -> None:
        """Search duplicates wherever rows came or went since the last time."""

    def survey(self, warehouse: Warehouse, period: BillingPeriod, files: Sequence[int]) -> Survey:
        """What usage there is, inside of ``warehouse.meter.usage_of_period``. ``files``: numbers of those it is in."""
        ...

    def rate(
        self, warehouse: Warehouse, metering: Metering, rules: Rules, files: Sequence[int], writer: ChargeWriter
    ) -> int:
        """Add usage up, rate it shard by shard into ``writer``; how many records were rated."""
        ...


@contextmanager
def cluster_of(workspace: Workspace) -> Iterator[Engine | None]:
    """The cluster that ``[engine] kind`` names, if it names one. It is asked only when there is work for it."""
    if workspace.config.engine.kind == "local":
        yield None
        return
    from ratemill.engines.spark import SparkEngine  # noqa: PLC0415 - only where it is used

    engine = SparkEngine(workspace)
    try:
        yield engine
    finally:
        engine.close()
