"""What killed runs left half-built is cleared away by the next command that holds the lock, whatever it is for."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from crash.states import differences, state_of
from ratemill.config import Engine, Usage
from ratemill.errors import ExitCode
from ratemill.io.usage_files import UsageFile
from ratemill.io.usage_reader import UsageReader
from workspaces import hours, make_workspace

pytestmark = pytest.mark.slow  # each test starts processes of its own

LIVING = os.getppid()
"""Process ids come again, in containers at once: the holder of the lock knows that no other run is alive."""
DEAD = 999_999_999
FOLDERS = [
    ".published.{pid}.tmp",
    "out/.2026-10.{pid}.tmp",
    "out/.2026-09.{pid}.old",
    "state/charges/period=2026-10/.run=2026-10-0123456789ab.{pid}.tmp",
]
FILES = [
    "out/.2026-10-unpriced.csv.{pid}.tmp",
    "state/.warehouse.duckdb.{pid}.tmp",
    "state/.lock.holder.json.{pid}.tmp",
]


@pytest.fixture
def shop(tmp_path):
    made = make_workspace(tmp_path / "shop")
    assert made.run().code == ExitCode.DONE
    return made


@pytest.mark.parametrize("pid", [LIVING, DEAD])
def test_half_built_files_and_folders_are_removed(shop, pid):
    before = state_of(shop.root)
    (shop.root / "out" / "2026-09").mkdir()
    for name in FOLDERS:
        folder = shop.root / name.format(pid=pid)
        folder.mkdir()
        (folder / "half").write_bytes(b"x")
    for name in FILES:
        (shop.root / name.format(pid=pid)).write_bytes(b"x")
    assert shop.command("load").code == ExitCode.DONE
    (shop.root / "out" / "2026-09").rmdir()
    assert differences(before, state_of(shop.root)) == []


def test_former_folder_comes_back_where_a_kill_left_neither(shop):
    """File systems that can't exchange two names in one step have an instant with neither."""
    before = state_of(shop.root)
    (shop.root / "out" / "2026-10").rename(shop.root / "out" / f".2026-10.{DEAD}.old")
    assert shop.command("load").code == ExitCode.DONE
    assert differences(before, state_of(shop.root)) == []


def test_what_is_not_ours_stays(shop):
    notes = shop.root / "out" / ".notes.17.tmp"
    notes.write_text("mine", encoding="utf-8")
    assert shop.command("load").code == ExitCode.DONE
    assert notes.read_text(encoding="utf-8") == "mine"


def test_reader_that_outlives_its_killed_run_writes_nothing_where_the_next_run_reads(tmp_path):
    """A reader notices that its run is dead only when it is done with its slice; by then the next run may be reading."""
    files = {}
    for name, count in (("former", 3), ("next", 5)):
        hours(count=count).write_parquet(tmp_path / f"{name}.parquet")
        files[name] = UsageFile(tmp_path / f"{name}.parquet", f"{name}.parquet", "0" * 64)
    former, following = (UsageReader(tmp_path / "reading", Usage(), Engine()) for _ in range(2))
    with former:
        outliving = threading.Thread(target=lambda: list(former.read([files["former"]])))
        outliving.start()
        while not former._processes:
            time.sleep(0.001)
        os.kill(former._processes[0].pid, signal.SIGSTOP)  # still importing: nothing is read yet
        with following:
            (read,) = following.read([files["next"]])
            os.kill(former._processes[0].pid, signal.SIGCONT)
            outliving.join()
            (intake,) = read.intakes()
    assert intake.rows.height == 5
