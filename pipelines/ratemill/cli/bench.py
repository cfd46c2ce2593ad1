"""``ratemill bench``: how fast a run is on this machine."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratemill.cli.shared import JsonOption, finish
from ratemill.errors import UsageError

if TYPE_CHECKING:
    from ratemill.bench.report import BenchReport


def bench(
    resources: Annotated[int, typer.Option(help="Resources of the demo provider; 30000 make 23 million rows.")] = 3000,
    shape: Annotated[
        str, typer.Option(help="Book to rate with: plain, hourly-prices, many-tiers, one-payer.")
    ] = "plain",
    folder: Annotated[Path, typer.Option(help="Where the usage and the results go; deleted before and after.")] = Path(
        "bench-work"
    ),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folder, and use its usage files again.")] = False,
    json: JsonOption = False,
) -> None:
    """Measure a run against the bare engine.

    Makes a month of demo usage, then runs the bare engine and the steps of a run one after the other, each as a process
    of its own: seconds, rows per second, memory, and how many times the bare engine's time each takes.
    """
    from ratemill.bench.report import run_bench  # noqa: PLC0415 - heavy libraries, not needed for --help
    from ratemill.bench.shapes import SHAPES  # noqa: PLC0415

    if shape not in SHAPES:
        raise UsageError(f"--shape: {shape!r} is none of {', '.join(SHAPES)}")
    report = run_bench(folder, resources=resources, shape=shape, reuse=keep)
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
    if json:
        finish(report.as_dict(), json=True)
    else:
        _print(report)


def _print(report: BenchReport) -> None:
    write = sys.stdout.write
    write(f"{report.rows:,} usage rows, {report.bytes / 1e6:,.0f} MB in {report.files} files; book: {report.shape}\n\n")
    write(f"{'':34}{'seconds':>9}{'cpu':>9}{'rows/s':>14}{'peak MB':>9}   against bare\n")
    for line in report.lines:
        ratio = f"{line.ratio:>6.2f} x {line.against}" if line.ratio is not None else ""
        write(
            f"{line.measured.name:34}{line.measured.seconds:>9.2f}{line.measured.cpu_seconds:>9.2f}"
            f"{report.rows / line.measured.seconds:>14,.0f}{line.measured.peak_bytes / 1e6:>9,.0f}   {ratio}\n"
        )
