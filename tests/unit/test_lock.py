"""One writer per workspace, with real processes."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from ratemill.errors import ExitCode, LockedError, UsageError
from ratemill.io.lock import hold_lock, read_holder

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import sys, time
from pathlib import Path
from ratemill.io.lock import hold_lock
with hold_lock(Path(sys.argv[1]), command="ratemill run --period 2026-10"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def holder(lock: Path):
    """Another process that holds ``lock`` until it is told to let go or killed."""
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_lock_held_by_another_process_names_it(tmp_path):
    lock = tmp_path / "state" / "lock"
    with holder(lock) as process:
        with pytest.raises(LockedError) as caught, hold_lock(lock, command="ratemill load"):
            pytest.fail("two processes hold the lock")
        message = str(caught.value)
        assert message.startswith(f"the workspace is locked by pid {process.pid} on {socket.gethostname()} since 20")
        assert message.endswith("Z, running `ratemill run --period 2026-10`; wait for it or stop it")
        assert caught.value.exit_code == ExitCode.LOCKED
        assert read_holder(lock).pid == process.pid


def test_who_waits_for_a_lock_says_for_whom_and_gets_it(tmp_path, caplog):
    lock = tmp_path / "lock"
    caplog.set_level(logging.INFO)
    with holder(lock) as process:
        threading.Timer(1, process.kill).start()
        with hold_lock(lock, command="ratemill load", wait=60):
            assert read_holder(lock).pid == os.getpid()
    (record,) = caplog.records
    assert f"locked by pid {process.pid}" in record.message
    assert record.message.endswith("; waiting for it, up to 60 seconds")


def test_a_killed_holder_frees_the_lock_and_its_name_is_not_believed(tmp_path):
    lock = tmp_path / "lock"
    with holder(lock) as process:
        process.kill()
        process.wait()
    assert (tmp_path / "lock.holder.json").exists()
    assert read_holder(lock) is None
    with hold_lock(lock, command="ratemill load"):
        assert read_holder(lock).pid == os.getpid()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"]


def test_a_holder_that_has_not_written_its_name_yet_is_not_confused_with_a_dead_one(tmp_path):
    lock = tmp_path / "lock"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with holder(lock):
        (tmp_path / "lock.holder.json").write_text(
            json.dumps({"pid": dead.pid, "host": socket.gethostname(), "command": "ratemill run", "started": "2026"})
        )
        with pytest.raises(LockedError, match="by another process that has not named itself"):
            hold_lock(lock, command="ratemill load").__enter__()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"pid": "x"}', b"\xff"])
def test_a_damaged_holder_file_is_no_holder(tmp_path, content):
    (tmp_path / "lock.holder.json").write_bytes(content)
    assert read_holder(tmp_path / "lock") is None


def test_waiting_gets_the_lock_once_it_is_free(tmp_path):
    lock = tmp_path / "lock"
    with holder(lock) as process:
        threading.Timer(0.3, process.kill).start()
        started = time.monotonic()
        with hold_lock(lock, command="ratemill load", wait=20):
            assert time.monotonic() - started > 0.2


def test_one_process_cannot_hold_it_twice(tmp_path):
    with hold_lock(tmp_path / "lock", command="first"):
        with pytest.raises(LockedError, match="running `first`"):
            hold_lock(tmp_path / "lock", command="second").__enter__()
        assert read_holder(tmp_path / "lock").command == "first"


def test_the_lock_is_free_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), hold_lock(tmp_path / "lock", command="x"):
        raise ZeroDivisionError
    with hold_lock(tmp_path / "lock", command="y"):
        pass


def test_a_file_where_the_folder_should_be_is_a_usage_error(tmp_path):
    (tmp_path / "state").write_text("")
    with pytest.raises(UsageError, match=r"locking .*state/lock failed"):
        hold_lock(tmp_path / "state" / "lock", command="x").__enter__()
