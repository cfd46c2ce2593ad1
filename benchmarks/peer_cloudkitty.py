"""Rate demo usage with CloudKitty's own hashmap module, in process: the closest open peer, at its best.

No API server, message queue, collector or storage back end is measured: rows are read from the same Parquet files,
turned into CloudKitty's data points, rated by flat prices (one mapping per SKU), and turned into what it stores.
Needs cloudkitty and pyarrow in an environment of its own; `make bench-peer` sets it up.

    python benchmarks/peer_cloudkitty.py WORKSPACE ROWS
"""

from __future__ import annotations

import copy
import csv
import datetime as dt
import json
import sys
import tempfile
import time
import warnings
from itertools import groupby
from pathlib import Path

import pyarrow.parquet as pq
from oslo_config import cfg
from oslo_db import options

warnings.filterwarnings("ignore")  # deprecations of its dependencies
database = Path(tempfile.mkdtemp()) / "cloudkitty.sqlite"
cfg.CONF([], project="cloudkitty")
options.set_defaults(cfg.CONF)
cfg.CONF.set_override("connection", f"sqlite:///{database}", "database")

from cloudkitty import dataframe, db  # noqa: E402 - reads the configuration
from cloudkitty.rating import hash as hashmap  # noqa: E402
from cloudkitty.rating.hash.db.sqlalchemy import models  # noqa: E402

FRAME_ROWS = 1000
"""Rows of one hour that are rated together, as its worker does per scope and hour."""


def main(workspace: Path, rows: int) -> None:
    """Print rows a second of each stage."""
    with db.session_for_write() as session:
        models.Base.metadata.create_all(session.connection())
    module = _priced_module(workspace)
    started = time.perf_counter()
    usage = _read(workspace, rows)
    frames = _frames(usage)
    built = time.perf_counter()
    rated = [module.process(copy.deepcopy(frame)) for frame in frames]  # its worker copies each frame, too
    processed = time.perf_counter()
    with (database.parent / "rated.jsonl").open("w") as stream:
        for frame in rated:
            stream.write(json.dumps(frame.as_dict(mutable=True), default=str) + "\n")
    written = time.perf_counter()
    for name, seconds in (
        ("read and built", built - started),
        ("rated", processed - built),
        ("written", written - processed),
        ("read, rated, written", written - started),
    ):
        sys.stdout.write(f"cloudkitty {name:22}{seconds:8.2f} s{len(usage) / seconds:12,.0f} rows/s\n")


def _priced_module(workspace: Path) -> hashmap.HashMap:
    prices: dict[str, str] = {}
    with (workspace / "book" / "prices.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            prices.setdefault(row["sku_id"], row["unit_price"] or "0")
    api = hashmap.HashMap.db_api
    long_ago = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - it works with naive times
    for sku, price in prices.items():
        service = api.create_service(sku)
        api.create_mapping(
            name=sku, cost=price, map_type="flat", service_id=service.service_id, created_by="bench",
            start=long_ago,
        )  # fmt: skip
    module = hashmap.HashMap("bench")
    module.reload_config(dt.datetime(2026, 10, 1))  # noqa: DTZ001
    return module


def _read(workspace: Path, rows: int) -> list[dict[str, object]]:
    usage: list[dict[str, object]] = []
    for path in sorted((workspace / "usage").glob("*.parquet")):
        table = pq.read_table(path, columns=["project_id", "resource_id", "sku_id", "region", "usage_start", "quantity",
                                             "unit"])  # fmt: skip
        usage += table.slice(0, rows - len(usage)).to_pylist()
        if len(usage) == rows:
            break
    return usage


def _frames(usage: list[dict[str, object]]) -> list[dataframe.DataFrame]:
    frames = []
    usage.sort(key=lambda row: row["usage_start"])
    for start, hour in groupby(usage, key=lambda row: row["usage_start"]):
        rows = list(hour)
        for offset in range(0, len(rows), FRAME_ROWS):
            services: dict[str, list[dataframe.DataPoint]] = {}
            for row in rows[offset : offset + FRAME_ROWS]:
                groups = {"id": row["resource_id"], "project_id": row["project_id"]}
                point = dataframe.DataPoint(row["unit"], row["quantity"], 0, groups, {"region": row["region"]})
                services.setdefault(str(row["sku_id"]), []).append(point)
            frames.append(dataframe.DataFrame(start, start + dt.timedelta(hours=1), services))
    return frames


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
