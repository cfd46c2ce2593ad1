"""What workers of a cluster do: the code of one machine, on a part of the usage. Runs on workers only.

A task may run twice at once, and be killed anywhere: what it writes appears whole, under a name that only says what it
is, and is the same whoever writes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import traceback
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.config import Engine, Usage
from ratemill.engines.cluster import TaskFailedError, failure
from ratemill.engines.shards import Rules, rate_sums
from ratemill.errors import RatemillError, TemporaryError, UsageError
from ratemill.frames import collect
from ratemill.io.atomic import from_os_error, names_full_disk
from ratemill.io.charge_store import as_parquet
from ratemill.io.machine import budget_of
from ratemill.io.shared_usage import Delivery
from ratemill.io.usage_files import FileRefusedError, UsageFile
from ratemill.io.usage_objects import UsageObject
from ratemill.io.usage_reader import UsageReader
from ratemill.io.warehouse import Warehouse
from ratemill.period import BillingPeriod
from ratemill.rating.metering import Metering
from ratemill.rating.versions import PriceVersions
from ratemill.resources import sql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratemill.io.usage_reader import ReadFile

_ROWS_OF_SUMS = 10_000
"""Rows of a group in a file of sums, sorted by shard: whoever rates one reads a group or two of every such file."""


def answer(task: str, number: int, text: str) -> str:
    """Do ``task`` for a request; the reply.

    Raises:
        TaskFailedError: for a reason that may pass; what never will is a reply.
    """
    request = json.loads(text)
    try:
        _require_folder(Path(request["job"]))
        return json.dumps(_TASKS[task](request))
    except TemporaryError as error:
        raise TaskFailedError(failure(number, error, "")) from None
    except RatemillError as error:
        return json.dumps({"error": {"exit_code": int(error.exit_code), "message": str(error)}})
    except Exception as error:  # noqa: BLE001 - told as what it is by the driver
        raise TaskFailedError(failure(number, _as_temporary(error) or error, traceback.format_exc())) from None


def _require_folder(job: Path) -> None:
    if not job.is_dir():
        raise UsageError(
            f"the worker on {socket.gethostname()} does not see {job} → let [engine] shared name a folder that every"
            " worker reaches under the same path"
        )


def _as_temporary(error: Exception) -> TemporaryError | None:
    """The error, where another try or another worker may have what it lacks."""
    if isinstance(error, OSError):
        told = from_os_error(error, "writing")
        return told if isinstance(told, TemporaryError) else TemporaryError(str(error))
    if isinstance(error, MemoryError) or "Out of Memory" in str(error) or names_full_disk(str(error)):
        return TemporaryError(str(error).splitlines()[0] if str(error) else "not enough memory")
    return None


# ------------------------------------------------------------------------------------------------------------- loading


def _load(request: dict[str, Any]) -> dict[str, Any]:
    """Bring usage files to their deliveries; of each, why it is refused, and what was fetched of a store."""
    engine, usage = Engine.model_validate(request["engine"]), Usage.model_validate(request["usage"])
    files = request["files"]
    waiting = [file for file in files if not Delivery(Path(file["delivery"])).is_whole()]
    refused: dict[str, str] = {}
    fetched: dict[str, Any] = {}
    with (
        TemporaryDirectory(prefix="ratemill-", dir=_scratch()) as folder,
        Warehouse.in_memory(engine, Path(folder)) as warehouse,
        UsageReader(Path(folder) / "reading", usage, engine) as reader,
    ):
        places = [_place_of(file["place"]) for file in waiting]
        for file, read in zip(waiting, reader.read(places), strict=True):
            delivery = Delivery(Path(file["delivery"]))
            try:
                with warehouse.usage.writing(delivery, file["file_id"], fetched=_version_of(read)) as writer:
                    for intake in read.intakes():
                        writer.add(intake)
            except FileRefusedError as refusal:
                refused[file["delivery"]] = str(refusal)
                fetched[file["delivery"]] = _version_of(read)
    return {
        "files": [
            {"refused": refused[name], "fetched": fetched[name]} if (name := file["delivery"]) in refused else {}
            for file in files
        ]
    }


def _place_of(place: dict[str, Any]) -> UsageFile | UsageObject:
    """What to read, if this worker sees the same as the driver.

    Raises:
        UsageError: it sees none.
        TemporaryError: it sees another one.
    """
    if "object" in place:
        return UsageObject.of_request(place["object"])
    file = UsageFile(Path(place["path"]), place["name"], place["sha256"])
    if not file.path.exists():
        raise UsageError(
            f"the worker on {socket.gethostname()} does not see {file.path} → let [usage] files name a folder that"
            " every worker reaches under the same path, or objects of a store"
        )
    with file.path.open("rb") as handle:
        if hashlib.file_digest(handle, "sha256").hexdigest() != file.sha256:
            raise TemporaryError(f"{file.name} is another file there than the one that was listed; nothing was changed")
    return file


def _version_of(read: ReadFile) -> dict[str, Any] | None:
    if read.version is None:
        return None
    return {
        "path": read.file.name,  # the copy is gone
        "sha256": read.file.sha256,
        "etag": read.version.etag,
        "size": read.version.size,
    }


# ------------------------------------------------------------------------------------------------------ parts of usage


@contextmanager
def _part(request: dict[str, Any]) -> Iterator[Warehouse]:
    """A warehouse in memory with the usage of a task's buckets."""
    engine = Engine.model_validate(request["engine"])
    with (
        TemporaryDirectory(prefix="ratemill-", dir=_scratch()) as folder,
        Warehouse.in_memory(engine, Path(folder)) as warehouse,
    ):
        warehouse.usage.take_buckets(request["part"])
        yield warehouse


def _settle(request: dict[str, Any]) -> dict[str, Any]:
    """Find the duplicates of a task's buckets."""
    job = Path(request["job"])
    with _part(request) as warehouse:
        warehouse.usage.take_files(
            series=job / "series.parquet", files=job / "files.parquet", pending=job / "pending.parquet"
        )
        warehouse.usage.settle_duplicates()
        with _appearing(Path(request["out"])) as out:
            warehouse.write_parquet("SELECT * FROM raw.usage_duplicates", out)
    return {}


def _survey(request: dict[str, Any]) -> dict[str, Any]:
    """Find the series and instants of a period in a task's buckets, and count their rows."""
    job, period = Path(request["job"]), BillingPeriod.parse(request["period"])
    part = request["part"]
    with _part(request) as warehouse, warehouse.meter.usage_of_period(period):
        warehouse.usage.take_duplicates(job / "duplicates.parquet")
        with _appearing(Path(request["out"])) as out:
            warehouse.write_parquet(sql("shared/records_of_series"), out)
        span = {"widest_start": period.widest_start, "widest_end": period.widest_end}
        instants = warehouse.frame(sql("core/usage_instants"), span)
        buckets = {name: part[name] for name in ("rows", "first_bucket", "last_bucket")}
        rows = warehouse.frame(sql("shared/rows_of_buckets"), buckets).item()
    return {"rows": rows, "instants": instants["usage_start"].dt.timestamp("us").to_list()}


def _meter(request: dict[str, Any]) -> dict[str, Any]:
    """Add the usage of a task's buckets up, for each shard."""
    job, period = Path(request["job"]), BillingPeriod.parse(request["period"])
    series, instants = (pl.read_parquet(job / f"{name}.parquet", glob=False) for name in ("series", "instants"))
    with _part(request) as warehouse, warehouse.meter.usage_of_period(period):
        warehouse.usage.take_duplicates(job / "duplicates.parquet")
        with warehouse.meter.metered_usage(series, instants) as shards:
            for name in ("metered_usage", "billable_usage"):
                with _appearing(Path(request[name])) as out:
                    warehouse.write_parquet(sql(f"shared/{name}"), out, rows_of_group=_ROWS_OF_SUMS)
    return {"shards": [number for number, _ in shards]}


# -------------------------------------------------------------------------------------------------------------- rating


def _rate(request: dict[str, Any]) -> dict[str, Any]:
    """Rate a shard."""
    job, number = Path(request["job"]), request["shard"]
    engine = Engine.model_validate(request["engine"])
    with (
        TemporaryDirectory(prefix="ratemill-", dir=_scratch()) as folder,
        Warehouse.in_memory(engine, Path(folder)) as warehouse,
    ):
        sums, billable = (
            warehouse.frame(sql(f"shared/{query}"), {"found": request[found], "shard": number})
            for query, found in (("metered_shard", "metered_usage"), ("billable_shard", "billable_usage"))
        )
    rules = _rules(job, request)
    metering = _metering(job, number, rules)
    budget_of(engine).require_charges(sums.height, partial(metering.what_is_in, number))
    rated = rate_sums(sums, billable, metering=metering, rules=rules)
    if rated is None:
        return {"records": 0}
    for name, frame in (("charges", rated.shard.charges), ("unpriced", rated.shard.unpriced)):
        with _appearing(Path(request[name])) as out:
            out.write_bytes(as_parquet(frame))
    return {"records": rated.records, "charges": rated.shard.charges.height}


def _rules(job: Path, request: dict[str, Any]) -> Rules:
    skus, prices, fx_rates = (
        pl.read_parquet(job / f"{name}.parquet", glob=False) for name in ("skus", "prices", "fx_rates")
    )
    return Rules(skus, prices, fx_rates, BillingPeriod.parse(request["period"]), request["run_id"])


def _metering(job: Path, shard: int, rules: Rules) -> Metering:
    """The part of the plan that is about a shard."""
    series, owned = (
        collect(pl.scan_parquet(job / f"{name}.parquet", glob=False).filter(pl.col("shard") == shard))
        for name in ("series", "owned")
    )
    instants, cells = (pl.read_parquet(job / f"{name}.parquet", glob=False) for name in ("instants", "cells"))
    return Metering(PriceVersions.of(rules.prices), series, instants, owned.drop("shard"), cells)


# ------------------------------------------------------------------------------------------------------------- scratch


def _scratch() -> str | None:
    """The executor's own disk, where Spark names one; else the system's place."""
    return os.environ.get("SPARK_LOCAL_DIRS", "").split(",")[0] or None


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """A path to write a file at that takes the place of ``path`` when the block ends well.

    Not ``staged_file``, which goes by process ids: several machines write here, and each has ids of its own.
    """
    staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield staged
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


_TASKS = {"load": _load, "settle": _settle, "survey": _survey, "meter": _meter, "rate": _rate}
