"""``state/heartbeat.json``: what the command at work is doing, rewritten every 30 seconds by a thread of its own.

A probe needs no more than the file's age. It goes with the command; a file that stays was left by one that was killed.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Self

from ratemill.io.atomic import PRIVATE_FILE, is_alive, make_private_folder

if TYPE_CHECKING:
    from pathlib import Path

    from ratemill.observe import Ending, Work
    from ratemill.steps.context import Context

INTERVAL_SECONDS = 30.0
STALE_SECONDS = 120
"""Four beats missed: the process is gone, or hangs so that not even a thread of it runs."""


@dataclass(frozen=True)
class Beat:
    """What the file says."""

    command: str
    pid: int
    host: str
    started: str
    """When the command began: UTC, ISO 8601."""
    updated: str
    """When this was written."""
    step: str | None = None
    step_started: str | None = None
    period: str | None = None
    run_id: str | None = None
    rows: int | None = None
    """Rows that the step has handled so far, where it counts them."""
    units: int | None = None
    """Of what the step counts besides rows: files, for instance."""
    total: int | None = None
    unit: str | None = None

    def age(self, now: datetime) -> float:
        """Seconds since it was written."""
        return max(0, (now - datetime.fromisoformat(self.updated)).total_seconds())

    def trouble(self, now: datetime) -> str:
        """Why it can't be believed that this command is at work; empty: it can."""
        if self.host == socket.gethostname() and not is_alive(self.pid):
            return f"pid {self.pid} is gone: it was killed, and the next run goes on from what stands"
        if self.age(now) > STALE_SECONDS:
            return f"the last sign of life is {self.age(now):,.0f} seconds old"
        return ""


class Heartbeat:
    """Writes the file while a command works; use as a context manager, and as an observer of its steps.

    Only the thread writes, so that the work never waits for the disk. What can't be written is not told.
    """

    def __init__(self, path: Path, *, command: str) -> None:
        self._path = path
        self._command = command
        self._started = datetime.now(UTC)
        self._work: Work | None = None
        self._wake = Event()
        self._stopping = False
        self._thread = Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        with suppress(OSError):
            make_private_folder(self._path.parent)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping = True
        self._wake.set()
        try:
            self._thread.join()
        finally:  # a signal may come while it waits
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def begun(self, work: Work) -> None:
        """Write at once: the step is what people look for."""
        self._work = work
        self._wake.set()

    def ended(self, work: Work, error: BaseException | None) -> None:
        """The next step, or the next beat, tells more."""

    def leaving(self, context: Context) -> None:
        """Nothing: the file goes with the lock."""

    def over(self, ending: Ending) -> None:
        """Nothing: it is gone by then."""

    def _beat(self) -> None:
        while True:
            self._wake.clear()
            if self._stopping:  # looked at after clearing, or the end would be slept through
                return
            with suppress(OSError):
                self._write()
            self._wake.wait(INTERVAL_SECONDS)

    def _write(self) -> None:
        staged = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        # Not flushed to disk: after a power cut nobody is at work.
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(self._now(), stream, ensure_ascii=False)
            stream.write("\n")
        staged.replace(self._path)

    def _now(self) -> dict[str, Any]:
        work = self._work
        said = {
            "command": self._command,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": _utc(self._started),
            "updated": _utc(datetime.now(UTC)),
        }
        if work is not None:
            said |= {
                "step": work.name,
                "step_started": _utc(work.started),
                "period": work.period,
                "run_id": work.run_id,
                "rows": work.rows or None,
                "units": work.units or None,
                "total": work.total,
                "unit": work.unit or None,
            }
        return said


def read_beat(path: Path) -> Beat | None:
    """What the file says; None where there is none that can be read."""
    try:
        said = json.loads(path.read_bytes())
        beat = Beat(**{field.name: said.get(field.name) for field in fields(Beat)})
        beat.age(datetime.now(UTC))
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return beat if isinstance(beat.pid, int) else None


def _utc(instant: datetime) -> str:
    return instant.isoformat(timespec="seconds").replace("+00:00", "Z")
