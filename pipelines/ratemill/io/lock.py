"""One writer per workspace: a lock that the kernel releases when its holder dies, and that says who holds it."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from ratemill.errors import LockedError
from ratemill.io.atomic import PRIVATE_FILE, is_alive, make_private_folder, translate_os_errors, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_logger = logging.getLogger(__name__)

_HOLDER_GRACE_SECONDS = 0.5
"""A holder writes its name right after it got the lock; who loses the race waits this long to read it."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock."""

    pid: int
    host: str
    command: str
    started: str
    """UTC, ISO 8601."""


@contextmanager
def hold_lock(path: Path, *, command: str, wait: float = 0) -> Iterator[None]:
    """Hold the lock ``path`` for the length of the block.

    The lock file and its folder are created at need and the file stays; ``<path>.holder.json`` names the holder while
    the lock is held. The lock itself is the kernel's (flock): a killed holder frees it.

    Args:
        path: the lock file.
        command: what the holder is doing, as others are told: ``ratemill run --period 2026-10``.
        wait: seconds to wait for another holder before giving up.

    Raises:
        LockedError: another process has it; the message says which.
        UsageError: the folder can't be written to.
    """
    with translate_os_errors(f"locking {path}"):
        make_private_folder(path.parent)
        # No soft fallback: on a file system without flock a lock file would outlive a killed holder.
        lock = FileLock(path, mode=PRIVATE_FILE, fallback_to_soft=False, preserve_lock_file=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if wait > 0:
                _logger.info("%s; waiting for it, up to %g seconds", _who(_patiently_read_holder(path)), wait)
                with suppress(Timeout):
                    lock.acquire(timeout=wait)
            if not lock.is_locked:
                raise LockedError(f"{_who(_patiently_read_holder(path))}; wait for it or stop it") from None
    try:
        me = Holder(
            pid=os.getpid(),
            host=socket.gethostname(),
            command=command,
            started=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        )
        write_file(_holder_file(path), json.dumps(asdict(me)).encode() + b"\n")
        yield
    finally:
        _holder_file(path).unlink(missing_ok=True)
        lock.release()


def read_holder(path: Path) -> Holder | None:
    """Who holds the lock ``path``, as far as its holder file can be believed.

    None when there is no such file, or when it was left by a process of this machine that is dead.
    """
    try:
        holder = Holder(**json.loads(_holder_file(path).read_bytes()))
        if holder.host == socket.gethostname() and not is_alive(holder.pid):
            return None
    except (OSError, ValueError, TypeError):
        return None
    return holder


def _patiently_read_holder(path: Path) -> Holder | None:
    deadline = time.monotonic() + _HOLDER_GRACE_SECONDS
    while (holder := read_holder(path)) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return holder


def _who(holder: Holder | None) -> str:
    if holder is None:
        return "the workspace is locked by another process that has not named itself"
    return (
        f"the workspace is locked by pid {holder.pid} on {holder.host} since {holder.started},"
        f" running `{holder.command}`"
    )


def _holder_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.holder.json")
