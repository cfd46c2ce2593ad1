"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ratemill.errors import TemporaryError, UsageError
from ratemill.io import atomic
from ratemill.io.atomic import StagedFolder, staged_file, translate_os_errors, write_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_and_private_and_leaves_nothing_beside(tmp_path):
    target = tmp_path / "out" / "2026-10" / "lines.csv"
    write_file(target, b"old")
    write_file(target, b"new")
    assert target.read_bytes() == b"new"
    assert names(target.parent) == ["lines.csv"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (tmp_path / "out", target.parent)] == [0o700, 0o700]


def test_an_existing_parent_keeps_its_mode(tmp_path):
    tmp_path.chmod(0o755)
    write_file(tmp_path / "a", b"", mode=0o640)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def _interrupted_file(target: Path) -> None:
    with staged_file(target) as staged:
        staged.write_bytes(b"half")
        raise KeyboardInterrupt


def _interrupted_build(target: Path) -> None:
    with StagedFolder(target) as folder:
        (folder / "a").write_text("half")
        raise KeyboardInterrupt


def test_a_staged_file_that_fails_leaves_the_former_one(tmp_path):
    target = tmp_path / "billing.duckdb"
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        _interrupted_file(target)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["billing.duckdb"]


def test_a_folder_is_swapped_whole(tmp_path):
    target = tmp_path / "2026-10"
    for content in ("first", "second"):
        with StagedFolder(target) as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / content).write_text(content)
            assert not (target / "deep" / content).exists()
        assert names(target / "deep") == [content]
    assert names(tmp_path) == ["2026-10"]


def test_a_folder_is_swapped_where_names_cannot_be_exchanged(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_exchange", lambda *_: False)  # some network file systems
    test_a_folder_is_swapped_whole(tmp_path)


def test_a_folder_that_fails_leaves_the_former_one(tmp_path):
    target = tmp_path / "2026-10"
    with StagedFolder(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        _interrupted_build(target)
    assert (target / "a").read_text() == "old"
    assert names(tmp_path) == ["2026-10"]


BUILD_FOREVER = """
import sys, time
from pathlib import Path
from ratemill.io.atomic import StagedFolder
with StagedFolder(Path(sys.argv[1])) as folder:
    (folder / "a").write_text("half")
    print("building", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_run_left_is_cleaned_by_the_next(tmp_path):
    target = tmp_path / "2026-10"
    with StagedFolder(target) as folder:
        (folder / "a").write_text("old")
    with subprocess.Popen([sys.executable, "-c", BUILD_FOREVER, str(target)], stdout=subprocess.PIPE) as builder:
        assert builder.stdout.readline() == b"building\n"
        builder.kill()
    assert names(tmp_path) == [f".2026-10.{builder.pid}.tmp", "2026-10"]
    assert (target / "a").read_text() == "old"

    with StagedFolder(target) as folder:
        assert names(tmp_path) == [f".2026-10.{os.getpid()}.tmp", "2026-10"]
        (folder / "a").write_text("new")
    assert names(tmp_path) == ["2026-10"]


def test_a_run_killed_between_two_renames_is_undone(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    target = tmp_path / "2026-10"
    (tmp_path / f".2026-10.{dead.pid}.old").mkdir()
    (tmp_path / f".2026-10.{dead.pid}.old" / "a").write_text("old")
    (tmp_path / f".2026-10.{dead.pid}.tmp").mkdir()
    with pytest.raises(ZeroDivisionError), StagedFolder(target):
        raise ZeroDivisionError
    assert (target / "a").read_text() == "old"
    assert names(tmp_path) == ["2026-10"]


def test_the_work_of_a_living_process_and_files_of_others_stay(tmp_path):
    for name in (f".lines.csv.{os.getppid()}.tmp", ".lines.csv.tmp", "lines.csv.1.tmp", ".other.csv.1.tmp"):
        (tmp_path / name).write_text("theirs")
    write_file(tmp_path / "lines.csv", b"mine")
    assert len(names(tmp_path)) == 5


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, TemporaryError, "disk full while writing x: free space and run again; nothing was changed"),
        (errno.EDQUOT, TemporaryError, "disk full while writing x"),
        (errno.EACCES, UsageError, r"writing x is not allowed: permission denied \(out/x\)"),
        (errno.EROFS, UsageError, r"read-only file system \(out/x\); check owner and mode"),
        (errno.ENOTDIR, UsageError, "out/x: not a directory; move what is there out of the way"),
    ],
)
def test_disk_trouble_is_told_in_words(number, kind, words):
    with pytest.raises(kind, match=words), translate_os_errors("writing x"):
        raise OSError(number, os.strerror(number), "out/x")


def test_other_trouble_passes_unchanged():
    with pytest.raises(FileNotFoundError), translate_os_errors("reading x"):
        Path("/nonexistent/x").read_bytes()


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UsageError, match=re.escape(f"{tmp_path}/out: not a directory; move what is there out")):
        write_file(tmp_path / "out" / "lines.csv", b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_in_a_staged_folder_is_temporary_and_leaves_the_former_one(tmp_path):
    target = tmp_path / "2026-10"
    with StagedFolder(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(TemporaryError, match=r"disk full while writing .*2026-10"), StagedFolder(target):
        Path("/dev/full").write_bytes(b"x")
    assert (target / "a").read_text() == "old"
    assert names(tmp_path) == ["2026-10"]


def test_readers_always_find_the_folder_while_it_is_swapped(tmp_path):
    """A reader in another process looks all the time; the swap is one step where the system offers that."""
    target = tmp_path / "2026-10"
    with StagedFolder(target) as folder:
        (folder / "a").write_text("0")
    if not atomic._exchange(target, _twin(tmp_path)):
        pytest.skip("this file system can't exchange two names")
    look = "import os, sys\nprint(flush=True)\nwhile os.path.exists(sys.argv[1]): pass\nprint('missing')"
    with subprocess.Popen([sys.executable, "-c", look, str(target)], stdout=subprocess.PIPE) as reader:
        reader.stdout.readline()
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            with StagedFolder(target) as folder:
                (folder / "a").write_text("1")
        reader.send_signal(signal.SIGTERM)
        assert reader.stdout.read() == b""


def _twin(folder: Path) -> Path:
    twin = folder / "twin"
    twin.mkdir()
    (twin / "a").write_text("0")
    return twin


def test_the_file_size_limit_of_a_process_is_no_silent_cut(tmp_path):
    """What ulimit -f does: EFBIG is no disk trouble we know a cure for, but the former file stands."""
    target = tmp_path / "a"
    write_file(target, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_file(target, b"x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]
