"""The engine of one machine: DuckDB adds usage up, Polars rates it."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ratemill.engines import Survey
from ratemill.engines.shards import rate_sums
from ratemill.io.machine import budget_of
from ratemill.io.usage_reader import UsageReader
from ratemill.resources import sql

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from ratemill.engines.shards import Rated, Rules
    from ratemill.io.charge_store import ChargeWriter
    from ratemill.io.warehouse import Warehouse
    from ratemill.period import BillingPeriod
    from ratemill.rating.metering import Metering
    from ratemill.workspace import Workspace


@dataclass(frozen=True)
class LocalEngine:
    """See :class:`ratemill.engines.Engine`."""

    workspace: Workspace

    def reader(self, warehouse: Warehouse) -> UsageReader:  # noqa: ARG002
        """Processes that read ahead of the warehouse."""
        config = self.workspace.config
        return UsageReader(self.workspace.state / "reading", config.usage, config.engine)

    def settle_duplicates(self, warehouse: Warehouse) -> None:
        """In the warehouse."""
        warehouse.usage.settle_duplicates()

    def survey(self, warehouse: Warehouse, period: BillingPeriod, files: Sequence[int]) -> Survey:
        """In the warehouse."""
        span = {"widest_start": period.widest_start, "widest_end": period.widest_end}
        return Survey(
            series=warehouse.frame(sql("core/series_of_period")),
            instants=warehouse.frame(sql("core/usage_instants"), span),
            rows=warehouse.frame(sql("checks/stored_rows"), {"files": list(files)}).item(),
        )

    def rate(
        self,
        warehouse: Warehouse,
        metering: Metering,
        rules: Rules,
        files: Sequence[int],  # noqa: ARG002
        writer: ChargeWriter,
    ) -> int:
        """Shards side by side, as many as there are threads and memory for; written in their order."""
        budget = budget_of(self.workspace.config.engine)
        rated = 0
        under_way: deque[tuple[int, Future[Rated | None]]] = deque()

        def finish_first() -> int:
            _, shard = under_way.popleft()
            done = shard.result()
            if done is None:
                return 0
            writer.write_shard(done.shard.charges, done.shard.unpriced)
            return done.records

        with (
            warehouse.meter.metered_usage(metering.series, metering.instants) as shards,
            ThreadPoolExecutor(budget.threads) as pool,
        ):
            for number, charges in shards:
                budget.require_charges(charges, partial(metering.what_is_in, number))  # before they are here
                while under_way and (
                    len(under_way) >= budget.threads
                    or not budget.has_room_for(charges + sum(others for others, _ in under_way))
                ):
                    rated += finish_first()
                sums = warehouse.meter.metered_shard(number), warehouse.meter.billable_shard(number)
                under_way.append((charges, pool.submit(rate_sums, *sums, metering=metering, rules=rules)))
            while under_way:
                rated += finish_first()
        return rated
