"""A process that makes documents. Started by :mod:`ratemill.io.document_pool`, never imported.

Pickled messages in, each after its length: what makes the documents, then jobs. For each job a line of JSON out, and
behind it the bytes of its files; before it, lines that name each template that is about to run. The way back is no
pickle: a template that got out of its sandbox must not get any further.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import struct
import threading
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from ratemill.documents.guard import DATA_LIMIT, Guard, LimitError, out_of_time, too_large
from ratemill.errors import RatemillError, UsageError
from ratemill.io.machine import be_first_to_go

if TYPE_CHECKING:
    from ratemill.io.document_pool import Budget, File

_LOOK_EVERY_SECONDS = 0.5
_GRACE_SECONDS = 10
"""How much longer than its budget a job may compute when nothing else has stopped it."""


def main() -> None:
    """Answer until there is no more to make."""
    be_first_to_go()
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    os.dup2(2, 1)  # whatever a library prints must not end up among the documents
    with suppress(EOFError, BrokenPipeError):  # the run has ended
        maker, is_limited = pickle.loads(_message(requests))  # noqa: S301 - from the process that started this one
        _Worker(replies, maker, is_limited=is_limited).work(requests)
    os._exit(0)  # no destructors: nothing here outlives the process


def _end_with(parent: int) -> None:
    """End when the run does, in the middle of a document too: a run that was killed can't do it."""
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_SECONDS)
    os._exit(1)


def _message(stream: BinaryIO) -> bytes:
    header = stream.read(8)
    if len(header) < 8:  # noqa: PLR2004
        raise EOFError
    (length,) = struct.unpack("!Q", header)
    return stream.read(length)


class _Worker:
    def __init__(self, replies: BinaryIO, maker: Any, *, is_limited: bool) -> None:
        self._replies, self._maker = replies, maker
        self._guard = Guard(self._announce if is_limited else None)
        self._make: Any = None
        if is_limited:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def work(self, requests: BinaryIO) -> None:
        while True:
            job, budget = pickle.loads(_message(requests))  # noqa: S301 - from the process that started this one
            try:
                files = self._files(job, budget)
            except BaseException as error:  # noqa: BLE001 - panics of libraries included: the run tells of them
                self._tell(self._described(error, budget))
            else:
                self._tell({"files": [(owner, name, len(data)) for owner, name, data in files]})
                for _, _, data in files:
                    self._replies.write(data)
                self._replies.flush()

    def _files(self, job: Any, budget: Budget | None) -> list[File]:
        if budget is not None:
            self._limit(budget)
        try:
            if self._make is None:
                self._make = self._maker.open(self._guard)
            return list(self._make(job))
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def _limit(self, budget: Budget) -> None:
        self._guard.max_characters = budget.characters
        # Writable memory, not addresses: drawing charts reserves gigabytes of addresses that it never touches.
        DATA_LIMIT.allow(budget.memory_bytes)
        # Should the run be killed meanwhile, nobody else would end a loop inside a library.
        used, (_, most) = time.process_time(), resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used + budget.cpu_seconds + _GRACE_SECONDS), most))
        signal.signal(signal.SIGPROF, lambda *_: out_of_time(budget.cpu_seconds))
        signal.setitimer(signal.ITIMER_PROF, budget.cpu_seconds)

    def _described(self, error: BaseException, budget: Budget | None) -> dict[str, Any]:
        if isinstance(error, MemoryError) and budget is not None:
            place = str(error) or f"template {self._guard.current or 'of this workspace'}"
            error = UsageError(f"{place}: {too_large(budget.memory_bytes)}")
        elif isinstance(error, LimitError):
            error = UsageError(f"template {self._guard.current or 'of this workspace'}: {error}")
        told = {"error": type(error).__name__, "message": str(error)}
        return told if isinstance(error, RatemillError) else told | {"traceback": traceback.format_exc()}

    def _announce(self, template: str) -> None:
        self._tell({"template": template})

    def _tell(self, message: dict[str, Any]) -> None:
        self._replies.write(json.dumps(message).encode() + b"\n")
        self._replies.flush()


if __name__ == "__main__":
    main()
