"""[engine] memory holds for all processes of a run together, and whoever is ended for want of it says so.

Method: a month of usage in one large file and a payer with most of it, both of which ask for as much memory as they can
get, is billed by a real run; meanwhile the memory of the run and all its children is added up as the system counts it:
pages that several processes share, such as libraries, count once (PSS).
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import polars as pl
import psutil
import pytest

from ratemill.bench.shapes import SHAPES
from ratemill.errors import ExitCode
from ratemill.period import BillingPeriod
from ratemill.samples.demo import write_demo
from workspaces import NOW, PERIOD, SOURCE_ROOT, TinyWorkspace, as_toml, good_usage, make_workspace, tree

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells the share of each"),
]

MEGABYTE = 1_000_000
SHIPPED = Path(__file__).parents[2] / "templates" / "report"


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A month of 2,000 resources in one file of one row group; one account pays for all others of its currency."""
    root = tmp_path_factory.mktemp("large") / "demo"
    write_demo(root, resources=2_000, months=1, until=BillingPeriod.parse(PERIOD))
    SHAPES["one-payer"](root, BillingPeriod.parse(PERIOD))
    days = sorted((root / "usage").glob("*.parquet"))
    usage = pl.concat([pl.read_parquet(day) for day in days], how="vertical_relaxed")
    for day in days:
        day.unlink()
    usage.write_parquet(root / "usage" / "month.parquet", row_group_size=usage.height)
    return root


def set_memory(root, memory):
    settings = (root / "ratemill.toml").read_text(encoding="utf-8").partition("\n[engine]")[0]
    engine = as_toml({"output": {"pdf": False}} if "[output]" not in settings else {})
    engine += as_toml({"engine": {"memory": memory}})
    (root / "ratemill.toml").write_text(f"{settings}\n{engine}", encoding="utf-8")


def run_words(root, *options):
    return [sys.executable, "-m", "ratemill", "run", "--workspace", str(root), "--period", PERIOD, "--as-of", NOW,
            "--json", *options]  # fmt: skip


def share_of(pid):
    """Bytes of a process, pages that it shares with others shared out among them."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def peak_of(words):
    """The most that a command and its children had at one moment; how it ended."""
    environment = {**os.environ, "PYTHONPATH": SOURCE_ROOT}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        peak = 0

        def watch():
            nonlocal peak
            root = psutil.Process(process.pid)
            while process.poll() is None:
                with suppress(psutil.Error):
                    pids = [process.pid, *(child.pid for child in root.children(recursive=True))]
                    peak = max(peak, sum(map(share_of, pids)))
                time.sleep(0.05)

        watching = threading.Thread(target=watch)
        watching.start()
        stdout, stderr = process.communicate()
        watching.join()
    return peak, process.returncode, stdout, stderr


def test_the_peak_of_all_processes_stays_below_the_setting_and_no_figure_depends_on_it(large):
    charges = []
    for memory in ("1GB", "4GB"):
        set_memory(large, memory)
        for folder in ("state", "out", "published"):
            shutil.rmtree(large / folder, ignore_errors=True)
        peak, code, _, stderr = peak_of(run_words(large, "--log-format", "json"))
        assert code == ExitCode.DONE, stderr
        assert json.loads(stderr.splitlines()[0])["message"].startswith(f"memory: at most {memory[0]} GB for all")
        assert 100 * MEGABYTE < peak < int(memory[0]) * 1_000 * MEGABYTE, f"{peak / MEGABYTE:,.0f} MB with {memory}"
        charges.append(tree(large / "state" / "charges", large / "state"))
    assert charges[0] == charges[1]


def test_the_limit_of_the_process_lowers_the_ceiling_and_the_log_says_so(tmp_path):
    """``ulimit -d``, which every process of the run inherits."""
    shop = make_workspace(tmp_path, config={"engine": {"memory": "8GB"}})
    limit = 4_500 * MEGABYTE
    ended = subprocess.run(
        run_words(shop.root), env={**os.environ, "PYTHONPATH": SOURCE_ROOT}, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)), check=False,
    )  # fmt: skip
    assert ended.returncode == ExitCode.DONE, ended.stderr
    told = 'warning: memory: at most 2.1 GB for all processes of this run, and not the [engine] memory = "8GB"'
    assert told in ended.stderr
    assert "since the process's limit (ulimit -d) allows 2.3 GB besides 2.2 GB that libraries reserve" in ended.stderr


def test_a_month_is_billed_under_the_smallest_limit_that_is_taken(large, tmp_path):
    """The whole run under ``ulimit -d``, charts and all: whoever asks for more than it has is ended by the system."""
    root = tmp_path / "shop"
    shutil.copytree(large, root, ignore=shutil.ignore_patterns("state", "out", "published"))
    set_memory(root, "8GB")
    limit = 3_500 * MEGABYTE
    ended = subprocess.run(
        run_words(root), env={**os.environ, "PYTHONPATH": SOURCE_ROOT}, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)), check=False,
    )  # fmt: skip
    assert ended.returncode == ExitCode.DONE, ended.stderr
    assert "memory: at most 1.2 GB for all processes of this run" in ended.stderr
    assert "<svg" in (root / "out" / PERIOD / "reports" / "provider.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("memory", ["1GB", "2GB"])
def test_templates_of_a_workspace_have_what_the_shipped_ones_need(tmp_path, memory):
    """Limits of their processes count what is used, and not what libraries reserve."""
    root = tmp_path / "shop"
    write_demo(root, resources=100, months=1, until=BillingPeriod.parse(PERIOD))
    shutil.copytree(SHIPPED, root / "templates" / "report")
    set_memory(root, memory)
    ended = subprocess.run(
        run_words(root), env={**os.environ, "PYTHONPATH": SOURCE_ROOT}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == ExitCode.DONE, ended.stderr


def test_a_limit_of_addresses_is_refused_with_what_to_do_instead(tmp_path):
    """``ulimit -v`` is no limit of memory."""
    shop = make_workspace(tmp_path)
    limit = 16_000 * MEGABYTE
    ended = subprocess.run(
        run_words(shop.root), env={**os.environ, "PYTHONPATH": SOURCE_ROOT}, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)), check=False,
    )  # fmt: skip
    assert ended.returncode == ExitCode.USAGE
    assert "(ulimit -v) allows 16 GB of addresses" in ended.stderr
    assert "→ lift it (ulimit -v unlimited), and limit memory by [engine] memory" in ended.stderr


def test_a_limit_below_what_a_run_needs_is_refused_at_once(tmp_path):
    shop = make_workspace(tmp_path)
    limit = 900 * MEGABYTE
    ended = subprocess.run(
        run_words(shop.root), env={**os.environ, "PYTHONPATH": SOURCE_ROOT}, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)), check=False,
    )  # fmt: skip
    assert ended.returncode == ExitCode.USAGE
    assert (
        "a run needs at least 1 GB of memory, and the process's limit (ulimit -d) allows 0 GB besides" in ended.stderr
    )
    assert not (shop.root / "state" / "warehouse.duckdb").exists()


def test_a_reader_that_the_system_ends_is_told_as_want_of_memory(tmp_path):
    """SIGKILL is what the kernel sends when memory is short; a reader is the first it takes."""
    shop = make_workspace(tmp_path, usage=[good_usage(), good_usage()])
    process = subprocess.Popen(
        run_words(shop.root), env={**os.environ, "PYTHONPATH": SOURCE_ROOT}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    root = psutil.Process(process.pid)
    while not (readers := [c for c in root.children() if "usage_reader_worker" in " ".join(c.cmdline())]):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    readers[0].send_signal(signal.SIGSTOP)  # still importing: nothing is read yet
    readers[0].send_signal(signal.SIGKILL)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == ExitCode.TEMPORARY, stderr
    assert "most likely for want of memory; nothing was changed → run again when the machine is less busy" in stderr
    assert not (shop.root / "out").exists()
    again = TinyWorkspace(shop.root).run()
    assert again.code == ExitCode.DONE
