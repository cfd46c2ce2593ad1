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
_RESERVED = 2_200_000_000
"""What counts as data of a run's process though nothing is in it: what the engines reserve at their start (1.1 GB, and
0.5 GB by the one that draws charts), stacks of threads, and what allocators keep in hand."""
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
    found = [(size, "the container (its control group)", 0) for size in _group_limits(root)]
    data = _process_limit(resource.RLIMIT_DATA)
    if data is not None:
        found.append((data, "the process's limit (ulimit -d)", _RESERVED))
    nearest: tuple[int | None, str, int] = min(found, default=(None, "", 0), key=lambda one: one[0] - one[2])
    limit, limited_by, reserved = nearest
    return Machine(
        psutil.virtual_memory().total,
        limit,
        limited_by,
        os.cpu_count() or 1,
        reserved=reserved,
        addresses=_process_limit(resource.RLIMIT_AS),
    )


def _process_limit(kind: int) -> int | None:
    soft, _ = resource.getrlimit(kind)
    return None if soft == resource.RLIM_INFINITY else soft


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
