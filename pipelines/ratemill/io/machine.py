"""How much memory this machine has, and how much of it the system lets this process use."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from ratemill.memory import Budget, Machine, deal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratemill.config import Engine

_UNLIMITED = 1 << 60
"""Version 1 of control groups writes a number about so large where there is no limit."""
_FIRST_TO_GO = 500
"""Of 1,000: how much of all memory a process is taken to use more than it does."""


def budget_of(engine: Engine) -> Budget:
    """What the parts of a run may use on this machine.

    Raises:
        UsageError: the system leaves less than a run needs.
    """
    return deal(engine.memory, engine.threads, this_machine())


def this_machine(root: Path = Path("/")) -> Machine:
    """The machine as ``root`` (``/proc`` and ``/sys`` below it) and the limits of this process describe it."""
    found = [
        *((size, "the container (its control group)") for size in _group_limits(root)),
        *((size, f"the process's limit (ulimit -{letter})") for size, letter in _process_limits()),
    ]
    limit, limited_by = min(found, default=(None, ""), key=lambda pair: pair[0] or 0)
    return Machine(psutil.virtual_memory().total, limit, limited_by, os.cpu_count() or 1)


def _process_limits() -> Iterator[tuple[int, str]]:
    for kind, letter in ((resource.RLIMIT_AS, "v"), (resource.RLIMIT_DATA, "d")):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            yield soft, letter


def _group_limits(root: Path) -> Iterator[int]:
    """The limits of this process's control groups and all groups around them, versions 1 and 2.

    Inside of a container the path may be that of the host, and nothing lies there; the mounted root is the container's.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        if not controllers:
            for mount in (mounts, mounts / "unified"):
                yield from _limits_along(mount, group, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _limits_along(mounts / "memory", group, "memory.limit_in_bytes")


def _limits_along(mount: Path, group: str, name: str) -> Iterator[int]:
    folder = mount
    for part in ("", *(part for part in group.split("/") if part not in ("", ".", ".."))):
        folder /= part
        with suppress(OSError, ValueError):  # not there, or "max"
            limit = int((folder / name).read_text(encoding="ascii"))
            if limit < _UNLIMITED:
                yield limit


def be_first_to_go() -> None:
    """Let the system end this process before the run that started it, which can then say what happened."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_FIRST_TO_GO), encoding="ascii")
