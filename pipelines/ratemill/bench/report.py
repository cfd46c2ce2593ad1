"""The benchmark: bare engine and product in turn, in one run on one machine."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.bench.measure import Measured, measure
from ratemill.bench.shapes import SHAPES
from ratemill.frames import collect
from ratemill.period import BillingPeriod
from ratemill.samples.demo import write_demo

if TYPE_CHECKING:
    from pathlib import Path

PERIOD = BillingPeriod(2026, 10)
_SETTINGS = "\n[output]\n"
"""What the demo's own settings end with, and those of the measurement begin with."""


@dataclass(frozen=True)
class BenchLine:
    """One measured step."""

    measured: Measured
    ratio: float | None = None
    """Its seconds over those of the bare engine's step."""
    against: str = ""


@dataclass(frozen=True)
class BenchReport:
    """Everything that was measured."""

    shape: str
    files: int
    bytes: int
    rows: int
    lines: tuple[BenchLine, ...]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "shape": self.shape,
            "files": self.files,
            "bytes": self.bytes,
            "rows": self.rows,
            "steps": [vars(line.measured) | {"ratio": line.ratio, "against": line.against} for line in self.lines],
        }


def run_bench(folder: Path, *, resources: int, shape: str, reuse: bool, memory: str = "") -> BenchReport:
    """Make a month of usage in ``folder`` and measure; see ``ratemill bench``.

    ``memory``: as ``[engine] memory`` has it.

    Raises:
        TemporaryError: when a measured command fails.
    """
    workspace = folder / f"demo-{resources}-{shape}"
    if not (reuse and workspace.is_dir()):
        shutil.rmtree(workspace, ignore_errors=True)
        workspace.parent.mkdir(parents=True, exist_ok=True)
        write_demo(workspace, resources=resources, months=1, until=PERIOD)
        SHAPES[shape](workspace, PERIOD)
    config = workspace / "ratemill.toml"
    settings, _, _ = config.read_text(encoding="utf-8").partition(_SETTINGS)
    # Documents are measured apart: their number depends on customers, not on usage.
    config.write_text(f'{settings}{_SETTINGS}pdf = false\n\n[engine]\nmemory = "{memory}"\n', encoding="utf-8")
    for name in ("state", "out", "published"):
        shutil.rmtree(workspace / name, ignore_errors=True)
    for leftover in ("bare.duckdb", "grouped.parquet", "bench.log"):
        (workspace / leftover).unlink(missing_ok=True)
    usage = sorted((workspace / "usage").glob("*.parquet"))
    return BenchReport(
        shape=shape,
        files=len(usage),
        bytes=sum(path.stat().st_size for path in usage),
        rows=int(collect(pl.scan_parquet(usage).select(pl.len())).item()),
        lines=tuple(_lines(workspace, grain="by-hour" if shape == "hourly-prices" else "by-day")),
    )


def _lines(workspace: Path, *, grain: str) -> list[BenchLine]:
    log = workspace / "bench.log"
    database = str(workspace / "bare.duckdb")
    where = ["--workspace", str(workspace), "--log-format", "json"]
    period = ["--period", str(PERIOD)]
    read = measure("bare: CREATE TABLE AS", ["ratemill.bench.bare", "read", database, str(workspace)], log=log)
    load = measure("load", ["ratemill", "load", *where], log=log)
    group = measure(
        f"bare: GROUP BY into Parquet, {grain}", ["ratemill.bench.bare", grain, database, str(workspace)], log=log
    )
    rate = measure("rate", ["ratemill", "rate", *period, *where], log=log)
    rest = measure("run, with the rest", ["ratemill", "run", *period, *where], log=log)
    for name in ("state", "out", "published"):
        shutil.rmtree(workspace / name, ignore_errors=True)
    (workspace / "bare.duckdb").unlink()
    again = measure("bare: CREATE TABLE AS, again", ["ratemill.bench.bare", "read", database, str(workspace)], log=log)
    run = measure("run, from nothing, without PDFs", ["ratemill", "run", *period, *where], log=log)
    return [
        BenchLine(read),
        BenchLine(load, load.seconds / read.seconds, read.name),
        BenchLine(group),
        BenchLine(rate, rate.seconds / group.seconds, group.name),
        BenchLine(rest),
        BenchLine(again),
        BenchLine(run, run.seconds / again.seconds, again.name),
    ]
