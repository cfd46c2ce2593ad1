"""Makers of documents that processes of the pool import: each does one thing that a real one might."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratemill.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Job:
    """One document: ``number`` says which."""

    number: int
    size: int = 1


@dataclass(frozen=True)
class Maker:
    """Makes two files a job, later jobs sooner than earlier ones, and then does what ``mischief`` says at job 3."""

    mischief: str = ""
    note: Path | None = None
    """A file in which each process leaves its id."""

    def open(self, guard):
        """The function that makes them."""
        if self.note is not None:
            with self.note.open("a", encoding="utf-8") as stream:
                stream.write(f"{os.getpid()}\n")

        def make(job):
            time.sleep(0.02 * (job.number % 3 == 0))
            if job.number == 3 and self.mischief:
                MISCHIEF[self.mischief](guard)
            for ending in ("a", "b"):
                yield f"job {job.number}", f"{job.number}.{ending}", ending.encode() * (1 + 100_000 * (job.number % 2))

        return make


def _bug(_):
    raise KeyError("price")


def _refuse(_):
    raise UsageError("template x.html:1: this is wrong")


def _no_memory(_):
    raise MemoryError


def _announce(guard):
    guard.begin("invoice/invoice.html.j2")


def _loop(guard):
    _announce(guard)
    while True:
        pass


def _stubborn(guard):
    """As a library that never comes back to Python: the alarm finds nobody."""
    _announce(guard)
    signal.signal(signal.SIGPROF, signal.SIG_IGN)
    while True:
        pass


def _grow(guard):
    _announce(guard)
    "x" * (1 << 32)


MISCHIEF = {
    "killed": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "no room to draw": lambda _: os.kill(os.getpid(), signal.SIGTRAP),
    "crashed": lambda _: os.kill(os.getpid(), signal.SIGSEGV),
    "ended": lambda _: os._exit(7),
    "bug": _bug,
    "refuse": _refuse,
    "no memory": _no_memory,
    "sleep": lambda _: time.sleep(600),
    "loop": _loop,
    "stubborn": _stubborn,
    "grow": _grow,
    "abort": lambda _: os.abort(),
}
