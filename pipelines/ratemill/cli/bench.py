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
    from ratemill.bench.documents import PrintReport
    from ratemill.bench.report import BenchReport


def bench(
    resources: Annotated[int, typer.Option(help="Resources of the demo provider; 30000 make 23 million rows.")] = 3000,
    documents: Annotated[
        int, typer.Option(help="Print this many invoices of 20 lines instead of measuring a run.", min=0)
    ] = 0,
    threads: Annotated[
        int | None, typer.Option(help="Processes that print (--documents); default: one for each core.", min=1)
    ] = None,
    shape: Annotated[
        str, typer.Option(help="Book to rate with: plain, hourly-prices, many-tiers, one-payer.")
    ] = "plain",
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="As [engine] memory, such as 4GB.", show_default=False)
    ] = "",
    folder: Annotated[Path, typer.Option(help="Where the usage and the results go; deleted before and after.")] = Path(
        "bench-work"
    ),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folder, and use its usage files again.")] = False,
    json: JsonOption = False,
) -> None:
    """Measure a run against the bare engine.

    Makes a month of demo usage, then runs the bare engine and the steps of a run one after the other, each as a process
    of its own: seconds, rows per second, memory, and how many times the bare engine's time each takes.

    With --documents it drafts that many invoices and prints them twice: PDF alone, and every file that a close issues.
    """
    if documents:
        _bench_documents(folder, documents=documents, threads=threads, keep=keep, json=json)
        return
    from ratemill.bench.report import run_bench  # noqa: PLC0415 - heavy libraries, not needed for --help
    from ratemill.bench.shapes import SHAPES  # noqa: PLC0415

    if shape not in SHAPES:
        raise UsageError(f"--shape: {shape!r} is none of {', '.join(SHAPES)}")
    report = run_bench(folder, resources=resources, shape=shape, reuse=keep, memory=memory)
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
    if json:
        finish(report.as_dict(), json=True)
    else:
        _print(report)


def _bench_documents(folder: Path, *, documents: int, threads: int | None, keep: bool, json: bool) -> None:
    from ratemill.bench.documents import run_document_bench  # noqa: PLC0415 - heavy libraries, not needed for --help

    report = run_document_bench(folder, documents=documents, threads=threads, reuse=keep)
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
    if json:
        finish(report.as_dict(), json=True)
    else:
        _print_documents(report)


def _print_documents(report: PrintReport) -> None:
    write = sys.stdout.write
    write(f"{report.documents:,} invoices of {report.lines_each} lines\n\n")
    write(f"{'':36}{'seconds':>9}{'cpu':>9}{'invoices/s':>12}{'pages/s':>9}{'files':>9}{'MB':>7}{'peak MB':>9}\n")
    for line in report.lines:
        write(
            f"{line.measured.name:36}{line.seconds:>9.2f}{line.measured.cpu_seconds:>9.2f}"
            f"{report.documents / line.seconds:>12,.1f}{line.pages / line.seconds:>9,.1f}{line.files:>9,}"
            f"{line.bytes / 1e6:>7,.0f}{line.measured.peak_bytes / 1e6:>9,.0f}\n"
        )


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
