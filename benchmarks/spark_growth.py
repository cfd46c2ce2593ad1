"""How a Spark cluster grows: the same month loaded and rated by one machine, and by a cluster of workers beside it.

A real standalone cluster is started on this machine: master, and workers with one core each. What it shows is what
distribution costs, and that memory of a task does not grow with the month; not what more machines would save.
Needs the extra spark, and Java 17 or later.

    python benchmarks/spark_growth.py FOLDER --resources 3000 30000 [--workers 2] [--keep]

FOLDER gets a workspace for each number of resources (850 usage records each, in a month of the demo). Every figure is
printed when it is there. With --keep, what an earlier call of the same sizes left in FOLDER is used again: usage files,
and the figures of the one machine, so that a cluster that failed can be tried again by itself.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import psutil
import pyspark

from ratemill.errors import TemporaryError
from ratemill.io.atomic import write_file
from ratemill.period import BillingPeriod
from ratemill.samples.demo import write_demo

if TYPE_CHECKING:
    from collections.abc import Iterator

PERIOD = BillingPeriod(2026, 10)
SPARK_CLASS = Path(pyspark.__file__).parent / "bin" / "spark-class"
STEPS = (["load"], ["rate", "--period", str(PERIOD)])


def main() -> None:
    """Measure, print a line for each step, and end with an error where a cluster's charges are other ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--resources", type=int, nargs="+", default=[3000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", default="2GB", help="of the machine's run, and of each task")
    parser.add_argument("--keep", action="store_true", help="use files and figures of one machine that are there")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was started is ended
    for resources in options.resources:
        workspace = usage_of(options.folder / f"demo-{resources}", resources, keep=options.keep)
        rows = pl.scan_parquet(workspace / "usage" / "*.parquet").select(pl.len()).collect(engine="streaming").item()
        tell(f"{rows:,} usage records")
        alone = one_machine(workspace, options.memory, keep=options.keep)
        with cluster(options.folder / "cluster", options.workers) as (master, workers):
            configure(workspace, options.memory, master)
            spread = run(workspace, f"{options.workers} workers", workers, [])
        if spread != alone:
            sys.exit("the charges differ")
        tell("the same charges, byte for byte\n")


def usage_of(workspace: Path, resources: int, *, keep: bool) -> Path:
    """A workspace with a month of demo usage."""
    written_last = workspace / "ratemill.toml.demo"
    if not (keep and written_last.is_file()):
        shutil.rmtree(workspace, ignore_errors=True)
        write_demo(workspace, resources=resources, months=1, until=PERIOD)
        write_file(written_last, (workspace / "ratemill.toml").read_bytes())
    return workspace


def one_machine(workspace: Path, memory: str, *, keep: bool) -> dict[str, str]:
    """The hashes of the charges that this machine makes, or has made."""
    made = workspace / f"one-machine-{memory}.json"
    if keep and made.is_file():
        known: dict[str, Any] = json.loads(made.read_text(encoding="utf-8"))
        for line in known["told"]:
            tell(f"{line} (measured before)")
        return dict(known["charges"])
    configure(workspace, memory, "")
    told: list[str] = []
    charges = run(workspace, "one machine", [], told)
    write_file(made, json.dumps({"told": told, "charges": charges}).encode())
    return charges


def configure(workspace: Path, memory: str, master: str) -> None:
    """One machine; or, where a master is named, its cluster."""
    settings = {"spark.master": master, "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1",
                "spark.driver.memory": "512m", "spark.executor.memory": "512m", "spark.ui.enabled": "false",
                "spark.pyspark.python": sys.executable}  # fmt: skip
    lines = ["[engine]", f'memory = "{memory}"']
    if master:
        lines += ['kind = "spark"', "[engine.spark]", *(f'"{name}" = "{value}"' for name, value in settings.items())]
    text = (workspace / "ratemill.toml.demo").read_text(encoding="utf-8")
    (workspace / "ratemill.toml").write_text(text + "\n" + "\n".join(lines) + "\n", encoding="utf-8")


def run(workspace: Path, name: str, workers: list[psutil.Process], told: list[str]) -> dict[str, str]:
    """Load and rate from nothing; the hashes of the charges. Figures go to ``told`` as well."""
    for folder in ("state", "out", "published"):
        shutil.rmtree(workspace / folder, ignore_errors=True)
    for command in STEPS:
        arguments = [sys.executable, "-m", "ratemill", *command, "--workspace", str(workspace)]
        started = time.monotonic()
        with started_process(arguments) as process:
            watch = Watch(psutil.Process(process.pid), workers)
            complaint = process.communicate()[1].decode()
        seconds, (own, theirs) = time.monotonic() - started, watch.stop()
        told.append(
            f"  {name:12} {command[0]:5} {seconds:8.1f} s, {watch.cpu_seconds:8.1f} s of processors; most memory at"
            f" once {(own + theirs) / 1e6:7,.0f} MB: driver {own / 1e6:7,.0f} MB, workers {theirs / 1e6:7,.0f} MB"
        )
        tell(told[-1] + (f"; failed with {process.returncode}" if process.returncode else ""))
        if process.returncode:
            sys.exit(f"{name}: {complaint}")
    charges = sorted((workspace / "state" / "charges").rglob("*.parquet"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in charges}


@contextmanager
def started_process(arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block, however that ends."""
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:  # noqa: S603 - ours
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


class Watch(threading.Thread):
    """Samples a run: its own processes (with the driver's Java), and what its workers started."""

    def __init__(self, driver: psutil.Process, workers: list[psutil.Process]) -> None:
        super().__init__(daemon=True)
        self._driver, self._workers = driver, workers
        self._ended = threading.Event()
        self._peak = (0, 0)
        self._seconds: dict[psutil.Process, float] = {}
        self.start()

    def run(self) -> None:
        """Until it is stopped."""
        while not self._ended.wait(0.2):
            own = self._resident([self._driver, *children(self._driver)])
            theirs = self._resident([child for worker in self._workers for child in children(worker)])
            self._peak = max(self._peak, (own, theirs), key=sum)

    def _resident(self, processes: list[psutil.Process]) -> int:
        """Bytes in memory of processes, some of which may have ended."""
        found = 0
        for process in processes:
            with suppress(psutil.Error):
                found += process.memory_info().rss
                self._seconds[process] = sum(process.cpu_times()[:2])
        return found

    def stop(self) -> tuple[int, int]:
        """Bytes of both when they were most together."""
        self._ended.set()
        self.join()
        return self._peak

    @property
    def cpu_seconds(self) -> float:
        """Processor seconds of all of them; what one used in its last instant is missing."""
        return sum(self._seconds.values())


def children(process: psutil.Process) -> list[psutil.Process]:
    """All that a process started, and what that started."""
    with suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[tuple[str, list[psutil.Process]]]:
    """A master and workers of one core on this machine; the master's URL, and the workers."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    master = f"spark://127.0.0.1:{port}"
    started = [daemon(folder, "master.Master", "--port", str(port), "--webui-port", str(free_port()))]
    try:
        until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        for number in range(workers):
            place = str(folder / f"worker-{number}")
            options = ("--cores", "1", "--memory", "1g", "--webui-port", str(free_port()), "--work-dir", place)
            started.append(daemon(folder, "worker.Worker", *options, master))
        yield master, [psutil.Process(process.pid) for process in started[1:]]
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait()


def daemon(folder: Path, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A process of Spark's own, with its log in ``folder``."""
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m"}
    with (folder / f"{name}.log").open("ab") as log:
        command = [str(SPARK_CLASS), f"org.apache.spark.deploy.{name}", "--host", "127.0.0.1", *arguments]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)  # noqa: S603 - of the library


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(found) -> None:  # noqa: ANN001
    """Wait for something that comes within a minute."""
    deadline = time.monotonic() + 60
    while not found():
        if time.monotonic() > deadline:
            raise TemporaryError("the cluster did not start")
        time.sleep(0.2)


def tell(text: str) -> None:
    """A line that is there at once: a large month takes its time."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
