"""Who asked for what, and how it ended: a line of the log at once, and a row of the store soon after.

Rows are written in batches by a thread of its own, so that no request waits for the disk; a process that is killed
loses those of its last moment in the store, and none in the log. Paths are kept, queries are not: clients put there
what they should not.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ratemill.resources import sql

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ratemill.api.store import Store

LOG = logging.getLogger(__name__)
_EVERY_SECONDS = 0.5
_WAITING = 50_000
"""Rows that wait for the disk; when it is stuck, requests wait for it rather than going by unseen."""
_KEPT_DAYS = 90
_KEPT_ROWS = 1_000_000
_KEPT_STRANGERS = 100_000
"""Of those, rows of requests without a key that holds: whoever has none must not push out the others."""
_BATCH = 5_000
_TIDY_ROWS = 10_000
"""Rows after which old ones are looked for again."""


@dataclass(frozen=True)
class Access:
    """One request and its end."""

    at: str
    request_id: str
    access_key: str | None
    address: str
    method: str
    path: str
    status: int
    milliseconds: int


class AccessLog:
    """Takes accesses from all threads."""

    def __init__(self, store: Store, *, now: Callable[[], datetime]) -> None:
        self._store, self._now = store, now
        self._queue: queue.Queue[Access | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self._since_tidied = _TIDY_ROWS

    def start(self) -> None:
        """Begin to write."""
        self._thread = threading.Thread(target=self._work, name="accesses", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, and end."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def note(self, access: Access) -> None:
        """Keep an access."""
        LOG.info("answered", extra=asdict(access))
        self._queue.put(access)

    def _work(self) -> None:
        is_last = False
        while not is_last:
            batch, is_last = self._batch()
            if batch:
                self._write(batch)

    def _batch(self) -> tuple[list[Access], bool]:
        """What came within a moment, and whether nothing comes any more."""
        batch: list[Access] = []
        until: float | None = None
        while len(batch) < _BATCH:
            try:
                access = self._queue.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
            except queue.Empty:
                return batch, False
            if access is None:
                return batch, True
            until = until or time.monotonic() + _EVERY_SECONDS
            batch.append(access)
        return batch, False

    def _write(self, batch: list[Access]) -> None:
        try:
            self._store.insert("accesses", [asdict(access) for access in batch])
            used = {access.access_key: access.at for access in batch if access.access_key is not None}
            self._store.write(
                "UPDATE keys SET last_used_at = :at WHERE access_key = :access_key",
                [{"access_key": access_key, "at": at} for access_key, at in used.items()],
            )
            self._since_tidied += len(batch)
            if self._since_tidied >= _TIDY_ROWS:
                self._since_tidied = 0
                self._tidy()
        except sqlite3.Error:  # the log has them; answering goes on
            LOG.exception("accesses could not be kept in %s", self._store.path)

    def _tidy(self) -> None:
        oldest = (self._now() - timedelta(days=_KEPT_DAYS)).isoformat(timespec="milliseconds")
        self._store.write(
            sql("api/store/statements/forget_accesses"),
            {"oldest": oldest, "kept": _KEPT_ROWS, "kept_without_key": _KEPT_STRANGERS},
        )
