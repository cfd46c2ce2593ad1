"""The engine of a Spark cluster: workers load, check, deduplicate and rate; this process plans, and counts.

Usage files are read by tasks, each of which leaves a delivery in the shared folder (io/shared_usage.py). Everything
else goes over ranges of buckets: a range holds all copies of its records, and all usage of its series but for records
with ids of their own, whose sums are added up once more when a shard is rated. So a shard needs no task that reads all
usage, and an account larger than all others is spread like the rest.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill import __version__
from ratemill.engines import Survey
from ratemill.engines.cluster import Cluster
from ratemill.errors import UsageError
from ratemill.io.shared_usage import BUCKETS
from ratemill.io.usage_files import FileRefusedError
from ratemill.io.usage_reader import ReadFile, place_of, read_file
from ratemill.resources import sql
from ratemill.tables.columns import INSTANT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from ratemill.engines.shards import Rules
    from ratemill.io.charge_store import ChargeWriter
    from ratemill.io.shared_usage import SharedFolder
    from ratemill.io.usage_files import UsageFile
    from ratemill.io.usage_objects import UsageObject
    from ratemill.io.warehouse import Warehouse
    from ratemill.period import BillingPeriod
    from ratemill.rating.metering import Metering
    from ratemill.workspace import Workspace

MOST_ROWS_OF_TASK = 4_000_000
"""Usage records that a task works on at most: bounds its memory, and what is lost when it dies."""
FEWEST_ROWS_OF_TASK = 20_000
"""A task takes about a second for nothing."""
_TASK_MEMORY = "2GB"
"""What a task may take where ``[engine] memory`` says nothing."""
_SUMS = ("metered_usage", "billable_usage")
_LOADS_PER_SLOT = 3
"""Files are dealt into so many tasks for each that can run at once, so that none waits long for the last."""


class SparkEngine:
    """See :class:`ratemill.engines.Engine`."""

    def __init__(self, workspace: Workspace) -> None:
        config = workspace.config
        self._usage = config.usage
        cpus = config.engine.spark.get("spark.task.cpus", "1")
        if not cpus.isdecimal() or not int(cpus):
            raise UsageError(f'[engine.spark] "spark.task.cpus" = {cpus!r} is no whole number above 0')
        self._cluster = Cluster(config.engine.spark, workspace.state / "spark.log")
        task = config.engine.model_copy(update={"threads": int(cpus), "memory": config.engine.memory or _TASK_MEMORY})
        self._task_engine = task.model_dump(mode="json", include={"threads", "memory"})

    def close(self) -> None:
        """End the session with the cluster."""
        self._cluster.close()

    # -------------------------------------------------------------------------------------------------------- loading

    @contextmanager
    def reader(self, warehouse: Warehouse) -> Iterator[_SparkReader]:
        """Tasks that read files into the shared folder."""
        yield _SparkReader(self, warehouse, self._usage.fingerprint())

    def read(
        self, warehouse: Warehouse, files: Sequence[UsageFile | UsageObject], settings_sha256: str
    ) -> Iterator[ReadFile]:
        """Each file, in order; all of them are read before the first is there."""
        if not files:
            return
        shared = warehouse.usage.share_usage()
        numbers = warehouse.usage.numbers_of_files([file.name for file in files])
        asked: list[dict[str, Any]] = []
        for file in files:
            place, number = place_of(file), numbers[file.name]
            name = _delivery_name(number, place, settings_sha256)
            asked.append({"place": place, "file_id": number, "delivery": str(shared.delivery(name).folder)})
        dealt = _dealt(asked, self._cluster.slots * _LOADS_PER_SLOT)
        with shared.job() as job:
            common = {"job": str(job), "engine": self._task_engine, "usage": self._usage.model_dump(mode="json")}
            replies = self._cluster.answers(
                "load", [{**common, "files": part} for part in dealt], lambda request: f"reading {_named(request)}"
            )
        told = {
            file["delivery"]: reply
            for part, answer in zip(dealt, replies, strict=True)
            for file, reply in zip(part, answer["files"], strict=True)
        }
        for file, request in zip(files, asked, strict=True):
            yield _as_read(file, Path(request["delivery"]).name, told[request["delivery"]], shared)

    def settle_duplicates(self, warehouse: Warehouse) -> None:
        """In tasks, over all usage around what is new."""
        shared = _share_stored(warehouse)
        pending = warehouse.usage.pending_duplicates()
        if not pending.height:
            return
        warehouse.usage.drop_unused_deliveries()
        first, last = pending.select(pl.col("first_start").min(), pl.col("last_start").max()).row(0)
        with shared.job() as job:
            warehouse.write_parquet("SELECT * FROM raw.series", job / "series.parquet")
            warehouse.write_parquet("SELECT * FROM raw.usage_files", job / "files.parquet")
            pending.write_parquet(job / "pending.parquet")
            span = (first, last + timedelta(microseconds=1))
            requests = [
                {**request, "out": str(job / f"duplicates-{request['number']:05d}.parquet")}
                for request in self._parts(warehouse, warehouse.usage.files_to_search(), job, span, with_ids=True)
            ]
            self._cluster.answers("settle", requests, _over_buckets("searching duplicates"))
            warehouse.usage.adopt_duplicates([request["out"] for request in requests])

    # --------------------------------------------------------------------------------------------------------- rating

    def survey(self, warehouse: Warehouse, period: BillingPeriod, files: Sequence[int]) -> Survey:
        """In tasks."""
        with _share_stored(warehouse).job() as job:
            requests = [
                {**request, "out": str(job / f"found-{request['number']:05d}.parquet")}
                for request in self._parts_of_period(warehouse, period, files, job)
            ]
            replies = self._cluster.answers("survey", requests, _over_buckets(f"looking at the usage of {period}"))
            series = warehouse.frame(
                sql("shared/series_of_period"), {"found": [request["out"] for request in requests]}
            )
        instants = sorted({instant for reply in replies for instant in reply["instants"]})
        return Survey(
            series=series,
            instants=pl.DataFrame({"usage_start": pl.Series(instants, dtype=pl.Int64).cast(INSTANT)}),
            rows=sum(reply["rows"] for reply in replies),
        )

    def rate(
        self, warehouse: Warehouse, metering: Metering, rules: Rules, files: Sequence[int], writer: ChargeWriter
    ) -> int:
        """In tasks: sums over ranges of buckets first, then shard by shard."""
        if not metering.series.height:
            return 0
        with warehouse.usage.share_usage().job() as job:
            _write_plan(job, metering, rules)
            sums = [
                {
                    **request,
                    **{name: str(job / f"{name}-{request['number']:05d}.parquet") for name in _SUMS},
                }
                for request in self._parts_of_period(warehouse, rules.period, files, job)
            ]
            metered = self._cluster.answers("meter", sums, _over_buckets(f"adding up the usage of {rules.period}"))
            shards = [
                {
                    "job": str(job),
                    "engine": self._task_engine,
                    "period": str(rules.period),
                    "run_id": rules.run_id,
                    "shard": shard,
                    **{name: [request[name] for request in sums] for name in _SUMS},
                    **{name: str(job / f"{name}-{shard:05d}.parquet") for name in ("charges", "unpriced")},
                }
                for shard in sorted({shard for reply in metered for shard in reply["shards"]})
            ]
            rated = self._cluster.answers(
                "rate", shards, lambda request: f"rating {metering.what_is_in(request['shard'])} for {rules.period}"
            )
            for request, reply in zip(shards, rated, strict=True):
                if reply["records"]:
                    unpriced = pl.read_parquet(request["unpriced"], glob=False)
                    writer.take_shard(Path(request["charges"]), reply["charges"], unpriced)
        return sum(reply["records"] for reply in rated)

    # ---------------------------------------------------------------------------------------------------------- parts

    def _parts_of_period(
        self, warehouse: Warehouse, period: BillingPeriod, files: Sequence[int], job: Path
    ) -> list[dict[str, Any]]:
        warehouse.write_parquet("SELECT * FROM raw.usage_duplicates", job / "duplicates.parquet")
        known = warehouse.usage.files().filter(pl.col("file_id").is_in(list(files)))
        parts = self._parts(warehouse, known, job, (period.widest_start, period.widest_end), with_ids=False)
        return [{**part, "period": str(period)} for part in parts]

    def _parts(
        self, warehouse: Warehouse, files: pl.DataFrame, job: Path, span: tuple[datetime, datetime], *, with_ids: bool
    ) -> list[dict[str, Any]]:
        """Requests over the usage of some files between two instants: buckets dealt into tasks of like size."""
        warehouse.write_parquet("SELECT * FROM raw.series_keys", job / "keys.parquet")
        rows = int(files["rows_accepted"].sum())
        tasks = max(1, min(rows // FEWEST_ROWS_OF_TASK, max(self._cluster.slots, -(-rows // MOST_ROWS_OF_TASK))))
        edges = [number * BUCKETS // tasks for number in range(tasks + 1)]
        part = {
            "rows": warehouse.usage.shared_files(files["file_id"].to_list()),
            "keys": str(job / "keys.parquet"),
            "start": span[0].isoformat(),
            "end": span[1].isoformat(),
            "with_ids": with_ids,
        }
        return [
            {
                "job": str(job),
                "engine": self._task_engine,
                "part": {**part, "first_bucket": first, "last_bucket": end - 1},
                "number": number,
                "tasks": tasks,
            }
            for number, (first, end) in enumerate(pairwise(edges), start=1)
        ]


@dataclass(frozen=True)
class _SparkReader:
    engine: SparkEngine
    warehouse: Warehouse
    settings_sha256: str

    def read(self, files: Sequence[UsageFile | UsageObject]) -> Iterator[ReadFile]:
        return self.engine.read(self.warehouse, files, self.settings_sha256)


@dataclass(frozen=True, kw_only=True)
class _SharedFile(ReadFile):
    """A file that was read into the shared folder."""

    delivery: str

    def store(self, warehouse: Warehouse, *, settings_sha256: str) -> dict[str, Any]:
        if self.refusal is not None:
            raise FileRefusedError(self.refusal)
        return warehouse.usage.store_shared_file(self.file, self.delivery, settings_sha256=settings_sha256)


def _share_stored(warehouse: Warehouse) -> SharedFolder:
    """The shared folder, with the rows that an engine of one machine has stored."""
    shared = warehouse.usage.share_usage()
    for number, rows, sha256, settings_sha256 in warehouse.usage.stored_files().iter_rows():
        name = _delivery_name(number, "stored", sha256, settings_sha256)
        with warehouse.usage.writing(shared.delivery(name), number) as writer:
            for intake in warehouse.usage.stored_slices(number, rows):
                writer.add(intake)
        warehouse.usage.move_to_shared(number, name)
    return shared


def _as_read(file: UsageFile | UsageObject, name: str, reply: dict[str, Any], shared: SharedFolder) -> ReadFile:
    fetched = reply["fetched"] if "refused" in reply else shared.delivery(name).fetched()
    read = read_file(file, {**reply, "fetched": fetched} if fetched else reply)
    return _SharedFile(**vars(read), delivery=name)


def _delivery_name(file_id: int, *content: Any) -> str:
    """The same for the same rows only: what stands under it need not be made again."""
    digest = hashlib.sha256(json.dumps([__version__, *content], sort_keys=True).encode()).hexdigest()
    return f"{file_id:06d}-{digest[:24]}"


def _dealt(files: list[dict[str, Any]], parts: int) -> list[list[dict[str, Any]]]:
    """Files in turn, so that each task has early and late ones: those of a month grow and shrink together."""
    return [files[number::parts] for number in range(min(parts, len(files)))]


def _named(request: dict[str, Any]) -> str:
    names = [file["place"]["name"] for file in request["files"]]
    return f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}"


def _over_buckets(doing: str) -> Callable[[dict[str, Any]], str]:
    return lambda request: f"{doing}, part {request['number']} of {request['tasks']},"


def _write_plan(job: Path, metering: Metering, rules: Rules) -> None:
    """What tasks rate by, series sorted by shard so that a task reads little but its own."""
    shards = metering.series.select("series_id", "shard")
    owned = metering.owned.join(shards, on="series_id", how="left", validate="m:1").sort("shard")
    frames = {
        "series": metering.series.sort("shard"),
        "owned": owned,
        "instants": metering.instants,
        "cells": metering.cells,
        "skus": rules.skus,
        "prices": rules.prices,
        "fx_rates": rules.fx_rates,
    }
    for name, frame in frames.items():
        frame.write_parquet(job / f"{name}.parquet", row_group_size=100_000)
