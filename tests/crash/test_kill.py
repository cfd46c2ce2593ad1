"""A run killed at any moment and run again ends as if it had never been killed.

Goal: no half state, whatever the moment. Method: real processes on a real workspace get SIGKILL (or SIGTERM) at seeded
moments spread over the whole run, run again, and everything in the workspace is compared with an unkilled run: names
and bytes of files, rows of both databases. While they are killed, an analyst keeps opening the published database.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl
import pytest

from crash import reader
from crash.forks import Forks
from crash.states import differences, names, state_of
from ratemill.config import Engine
from ratemill.errors import ExitCode
from ratemill.io.warehouse import Warehouse
from workspaces import SOURCE_ROOT, hours, make_workspace, run_here

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

PERIOD = "2026-10"
NOW = "2026-11-02T06:00:00Z"
SEED = 20_261_125
KILLS_FIRST = 8
KILLS_CHANGED = 6
KILLED_TWICE = 2
STOPPED = 3


@dataclass(frozen=True)
class Job:
    """A workspace that waits for a run, and what the run comes to when nobody kills it."""

    waiting: Path
    expected: dict
    seconds: float
    moments: int
    turns: int

    def at(self, folder, name):
        """A copy to kill runs in. Always at the same path, so that nothing can differ by it."""
        root = folder / name
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.waiting, root)
        return root


def run(forks, root, **request):
    return forks.run("run", "-w", str(root), "-p", PERIOD, "--as-of", NOW, "-q", "--json", **request)


def unkilled(forks, folder, waiting):
    first = folder / "unkilled"
    shutil.copytree(waiting, first)
    ended = run(forks, first)
    assert ended.code == 0, ended.said
    again = folder / "counted"
    shutil.copytree(waiting, again)
    counted = run(forks, again, count=True)
    assert counted.code == 0, counted.said
    expected = state_of(first)
    # The comparison itself must be fit to pass: two unkilled runs are equal in all of it.
    assert differences(expected, state_of(again)) == []
    assert counted.moments
    assert counted.turns
    shutil.rmtree(again)
    return Job(waiting, expected, ended.seconds, counted.moments, counted.turns)


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    with Forks(tmp_path_factory.mktemp("forks")) as started:
        yield started


@pytest.fixture(scope="module")
def first_run(tmp_path_factory, forks):
    """A workspace with every third day of a month's usage that was never run."""
    folder = tmp_path_factory.mktemp("first")
    waiting = folder / "waiting"
    assert run_here(["init", str(waiting), "--sample", "demo", "--resources", "12", "--months", "1", "-q"]).code == 0
    with (waiting / "ratemill.toml").open("a", encoding="utf-8") as config:
        # Most of a run's time, and only more files like the others.
        config.write("\n[output]\npdf = false\nhtml = false\n")
    for day in sorted((waiting / "usage").glob("*.parquet")):
        if int(day.stem[-2:]) % 3 != 1:
            day.unlink()
    return unkilled(forks, folder, waiting)


@pytest.fixture(scope="module")
def changed_run(tmp_path_factory, forks, first_run):
    """A workspace that was run before; since then a price rose, a file was redelivered and another one came late."""
    folder = tmp_path_factory.mktemp("changed")
    waiting = folder / "waiting"
    shutil.copytree(first_run.waiting, waiting)
    late = waiting / "usage" / "usage-2026-10-19.parquet"
    held_back = late.read_bytes()
    late.unlink()
    assert run(forks, waiting).code == 0
    late.write_bytes(held_back)
    redelivered = waiting / "usage" / "usage-2026-10-10.parquet"
    frame = pl.read_parquet(redelivered)
    frame.head(frame.height // 2).write_parquet(redelivered)
    prices = waiting / "book" / "prices.csv"
    before = prices.read_text(encoding="utf-8")
    prices.write_text(before.replace("0.0118", "0.0236"), encoding="utf-8")
    assert prices.read_text(encoding="utf-8") != before
    job = unkilled(forks, folder, waiting)
    assert job.expected["files"] != first_run.expected["files"]
    return job


@contextmanager
def watched(database):
    """An analyst looks at ``database`` while the block runs; afterwards the dictionary says what was seen."""
    seen = {}
    with subprocess.Popen(
        [sys.executable, reader.__file__, str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": SOURCE_ROOT},
    ) as process:
        assert process.stdout.readline() == "looking\n"
        yield seen
        said, _ = process.communicate("\n", timeout=60)
        seen.update(json.loads(said))


def spread(count, number):
    """The ``number``-th of ``count`` shares of the whole, at a random place inside its stretch."""
    return (number + random.Random(SEED + number).random()) / count  # noqa: S311


def cut_short(job, forks, root, number, share):
    """Send a signal at that share of the run's time; earlier, if the machine got faster and the run came to its end."""
    for _ in range(8):
        ended = run(forks, root, signal=number, after_seconds=share * job.seconds)
        if ended.code != 0:
            break
        job.at(root.parent, root.name)
        share *= 0.7
    return ended


@pytest.mark.parametrize("number", range(KILLS_FIRST))
def test_first_run_killed_at_some_time(first_run, forks, tmp_path, number):
    root = first_run.at(tmp_path, "unkilled")
    assert cut_short(first_run, forks, root, signal.SIGKILL, spread(KILLS_FIRST, number)).code == -signal.SIGKILL
    again = run(forks, root)
    assert again.code == 0, again.said
    assert differences(first_run.expected, state_of(root)) == []


@pytest.mark.parametrize("number", range(KILLS_CHANGED))
def test_changed_inputs_killed_at_some_moment_while_an_analyst_looks(changed_run, forks, tmp_path, number):
    root = changed_run.at(tmp_path, "unkilled")
    old = reader.look(root / "published" / "billing.duckdb")[0]
    moment = round(spread(KILLS_CHANGED, number) * changed_run.moments)
    with watched(root / "published" / "billing.duckdb") as analyst:
        killed = run(forks, root, signal=signal.SIGKILL, at_moment=moment)
        assert killed.code == -signal.SIGKILL
        again = run(forks, root)
        assert again.code == 0, again.said
    assert differences(changed_run.expected, state_of(root)) == []
    new = reader.look(root / "published" / "billing.duckdb")[0]
    assert new != old
    assert analyst["wrong"] == {}
    assert {old} <= set(analyst["seen"]) <= {old, new}


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75, 0.99])
def test_first_run_that_dies_while_the_warehouse_is_written(first_run, forks, tmp_path, share):
    root = first_run.at(tmp_path, "unkilled")
    # The smallest: between the headers of the new database. DuckDB opens no file that ends there.
    size = 8192 + round(share * ((first_run.waiting.parent / "unkilled/state/warehouse.duckdb").stat().st_size - 8192))
    assert run(forks, root, at_size=size).code == -signal.SIGXFSZ
    again = run(forks, root)
    assert again.code == 0, again.said
    assert differences(first_run.expected, state_of(root)) == []


@pytest.mark.parametrize("number", range(KILLED_TWICE))
def test_killed_twice_in_a_row(changed_run, forks, tmp_path, number):
    root = changed_run.at(tmp_path, "unkilled")
    for share in (spread(KILLED_TWICE, number), spread(2 * KILLED_TWICE, number)):
        killed = run(forks, root, signal=signal.SIGKILL, at_moment=max(1, round(share * changed_run.moments)))
        assert killed.code in (-signal.SIGKILL, 0)  # what is left to do may be less than the share of the second kill
    again = run(forks, root)
    assert again.code == 0, again.said
    assert differences(changed_run.expected, state_of(root)) == []


@pytest.mark.parametrize("number", range(STOPPED))
def test_stopped_by_sigterm(first_run, forks, tmp_path, number):
    root = first_run.at(tmp_path, "unkilled")
    stopped = cut_short(first_run, forks, root, signal.SIGTERM, spread(STOPPED, number))
    assert stopped.code == 143, stopped.said
    assert "stopped by SIGTERM; nothing half-written" in stopped.said
    assert '"status": "terminated", "exit_code": 143' in stopped.said
    # Unlike a kill, a stop tidies up itself.
    assert [name for name in names(root) if name.rpartition("/")[2].startswith(".") or "holder" in name] == []
    again = run(forks, root)
    assert again.code == 0, again.said
    assert differences(first_run.expected, state_of(root)) == []


def test_killed_right_before_each_turn(tmp_path, forks):
    """Where a file, a folder or a transaction takes effect, old becomes new: right before each, and after the last."""
    shop = make_workspace(tmp_path / "waiting", usage=[hours(), hours("globex", "egress", resource="nic-1")])
    assert shop.run().code == 0
    # A day that is there already, and one that is new.
    shop.write_usage("usage-2.parquet", hours(count=48))
    job = unkilled(forks, tmp_path, shop.root)
    assert job.turns >= 20
    for turn in [*range(1, job.turns, 2), job.turns]:
        root = job.at(tmp_path, "unkilled")
        assert run(forks, root, signal=signal.SIGKILL, at_turn=turn).code == -signal.SIGKILL
        assert reader.look(root / "published" / "billing.duckdb")[1] is None
        again = run(forks, root)
        assert again.code == 0, again.said
        assert differences(job.expected, state_of(root)) == [], f"turn {turn} of {job.turns}"


def test_steps_refuse_what_a_killed_load_left(tmp_path, forks):
    """Duplicates are settled last: rating what was loaded until then would bill some of them twice."""
    shop = make_workspace(tmp_path / "waiting", usage=[hours(), hours(), hours("globex", resource="vm-2")])
    job = forks.run("load", "-w", str(shop.root), "-q", count=True)
    refused = 0
    for turn in range(1, job.turns + 1):
        shutil.rmtree(shop.root / "state")
        forks.run("load", "-w", str(shop.root), "-q", signal=signal.SIGKILL, at_turn=turn)
        checked = shop.command("check", "--period", PERIOD, "--as-of", NOW)
        if checked.code == ExitCode.USAGE:
            assert "loading was stopped before its end" in checked.stderr
            assert "run: ratemill load" in checked.stderr
            refused += 1
        else:  # nothing was loaded yet, or all of it
            assert checked.code in (ExitCode.NOTHING_TO_BILL, ExitCode.DONE)
    assert refused >= 3
    assert shop.command("load").code == ExitCode.DONE
    assert shop.command("check", "--period", PERIOD, "--as-of", NOW).code == ExitCode.DONE


SPILL_AND_DIE = """
import os, signal, sys, threading, time
from pathlib import Path
from ratemill.config import Engine
from ratemill.errors import ExitCode
from ratemill.io.warehouse import Warehouse

folder = Path(sys.argv[1])


def die():
    while not any(folder.joinpath("spill").glob("*")):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


threading.Thread(target=die).start()
with Warehouse.open(folder / "warehouse.duckdb", Engine(memory="1GB", threads=1)) as warehouse:
    warehouse.frame("SELECT count(*) FROM (SELECT DISTINCT range, range::VARCHAR FROM range(20_000_000))")
"""


def test_what_a_killed_run_spilled_to_disk_is_removed_by_the_next(tmp_path):
    killed = subprocess.run(
        [sys.executable, "-c", SPILL_AND_DIE, str(tmp_path)], env={"PYTHONPATH": SOURCE_ROOT}, timeout=120, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert any((tmp_path / "spill").iterdir())
    with Warehouse.open(tmp_path / "warehouse.duckdb", Engine()):
        pass
    assert not (tmp_path / "spill").exists()
