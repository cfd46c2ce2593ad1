"""Measuring a command with everything it starts: wall and processor seconds, and the memory of all its processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from ratemill.errors import TemporaryError

if TYPE_CHECKING:
    from pathlib import Path

_EVERY_SECONDS = 0.05


@dataclass(frozen=True)
class Measured:
    """One finished command."""

    name: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    """Most resident memory that it and its children had at one moment, sampled 20 times a second; at least what the
    operating system recorded as the peak of its largest process. Pages that processes share count once for each."""


def measure(name: str, arguments: list[str], *, log: Path) -> Measured:
    """Run ``python -m …`` and take the operating system's own account of it.

    Raises:
        TemporaryError: when the command fails; its last lines of output are in the message.
    """
    with log.open("ab") as stream:
        started = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", *arguments], stdout=stream, stderr=stream)  # noqa: S603
        watch = _TreeWatch(process.pid)
        watch.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        tree_peak = watch.stop()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        last = " ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])[:600]
        raise TemporaryError(f"{name} ended with exit code {process.returncode}: {last} (all of it: {log})")
    return Measured(name, seconds, usage.ru_utime + usage.ru_stime, max(tree_peak, usage.ru_maxrss * 1024))


class _TreeWatch(threading.Thread):
    """Samples the resident memory of a process and all its descendants."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._ended = threading.Event()
        self._peak = 0

    def run(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            # A process may end between being listed and being asked.
            with suppress(psutil.NoSuchProcess):
                self._peak = max(self._peak, sum(map(_resident, [self._root, *self._root.children(recursive=True)])))

    def stop(self) -> int:
        self._ended.set()
        self.join()
        return self._peak


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
