"""Measuring a command as a whole process: wall and processor seconds, and the memory of its largest process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratemill.errors import TemporaryError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """One finished command."""

    name: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    """Largest resident size that its largest process had."""


def measure(name: str, arguments: list[str], *, log: Path) -> Measured:
    """Run ``python -m …`` and take the operating system's own account of it.

    Raises:
        TemporaryError: when the command fails; its last lines of output are in the message.
    """
    with log.open("ab") as stream:
        started = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", *arguments], stdout=stream, stderr=stream)  # noqa: S603
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        last = " ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])[:600]
        raise TemporaryError(f"{name} ended with exit code {process.returncode}: {last} (all of it: {log})")
    return Measured(name, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
