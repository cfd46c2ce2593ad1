"""Documents made by several processes, in order, a bounded number at a time.

The bytes are the same whatever the number of processes, which is why no document may depend on another. Where a
workspace has templates of its own, documents are always made in processes, and each has limits: a template that never
ends, or fills the memory, is stopped and named.

None of the processes outlives the run, however that ends: they look whether it is still there.
"""

from __future__ import annotations

import json
import os
import pickle
import queue
import select
import signal
import struct
import subprocess
import sys
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import psutil

from ratemill import errors
from ratemill.documents.guard import Guard, too_large, too_slow
from ratemill.errors import RatemillError, TemporaryError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

_WORKER = "ratemill.io.document_worker"
_READ_BYTES = 1 << 20
_LOOK_EVERY_SECONDS = 0.1
_GRACE_SECONDS = 2.0
"""How long a process may be over its time before it is killed: it stops by itself where it can, and knows the line."""
_WALL_PER_CPU = 10
_WANT_OF_MEMORY = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGTRAP}
"""How a process ends that the system ends, and how the engine that draws charts ends where it gets no memory."""
_WAITING_PER_PROCESS = 2

_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG")
"""All that a process with limits inherits: credentials stay out of its reach."""
_ONE_THREAD = {"POLARS_MAX_THREADS": "1", "RAYON_NUM_THREADS": "1"}
_KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(128 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
"""What one document gave back serves the next one. Else glibc returns it to the system and asks for it again, which
takes a tenth of a document's time. Other C libraries don't know these names."""
_NO_NETWORK = dict.fromkeys(
    ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"), "http://127.0.0.1:9"
)
"""A proxy that isn't there: nothing is fetched, and nothing waits for a network."""

File = tuple[str, str, bytes]
"""What it belongs to, its name in the period's folder, and its bytes."""


class Job(Protocol):
    """Some documents to make."""

    @property
    def size(self) -> int:
        """How much there is to do, in invoice lines; limits grow with it."""
        ...


JobT = TypeVar("JobT", bound=Job)
JobT_contra = TypeVar("JobT_contra", bound=Job, contravariant=True)


class Maker(Protocol[JobT_contra]):
    """What makes documents. It is pickled, and opened in each process."""

    def open(self, guard: Guard) -> Callable[[JobT_contra], Iterator[File]]:
        """The function that makes the files of a job."""
        ...


@dataclass(frozen=True)
class Budget:
    """What one job may use."""

    cpu_seconds: float
    wall_seconds: float
    memory_bytes: int
    """Of the whole process, libraries included."""
    characters: int
    """Of each page, and bytes of each PDF."""


@dataclass(frozen=True)
class Limits:
    """Budgets by the size of the job; many times what the shipped templates need."""

    cpu_seconds: float = 10.0
    cpu_seconds_per_line: float = 0.03
    memory_bytes: int = 2 << 30
    memory_bytes_per_line: int = 1 << 20
    characters: int = 32_000_000
    characters_per_line: int = 20_000
    wall_seconds: float = 120.0
    """By itself; a busy machine gives a process little of its processor time, so this is added to ten times that."""

    def budget(self, size: int) -> Budget:
        """What a job of ``size`` lines may use."""
        cpu_seconds = self.cpu_seconds + size * self.cpu_seconds_per_line
        return Budget(
            cpu_seconds=cpu_seconds,
            wall_seconds=self.wall_seconds + cpu_seconds * _WALL_PER_CPU,
            memory_bytes=self.memory_bytes + size * self.memory_bytes_per_line,
            characters=self.characters + size * self.characters_per_line,
        )


def make_documents(
    maker: Maker[JobT], jobs: Iterable[JobT], *, processes: int, limits: Limits | None = None
) -> Generator[File, None, None]:
    """The files of all jobs, in the order of the jobs.

    Close the generator when it is not read to its end (``contextlib.closing``): that ends the processes.

    Args:
        maker: what makes them.
        jobs: what to make; taken one after the other, a few ahead of what is read.
        processes: how many; 0: this process makes them. With limits there is always one.
        limits: what a job may use; none: what it likes.

    Raises:
        UsageError: a template of the workspace is wrong, or went over a limit.
        TemporaryError: the system ended a process, most likely for want of memory.
    """
    if processes == 0 and limits is None:
        make = maker.open(Guard())
        for job in jobs:
            yield from make(job)
        return
    with _Processes(maker, max(processes, 1), limits) as running:
        yield from running.files(jobs)


class _Processes:
    """Processes at work, each with a thread of this process that talks to it."""

    def __init__(self, maker: Maker[Any], number: int, limits: Limits | None) -> None:
        self._setup = pickle.dumps((maker, limits is not None))
        self._number, self._limits = number, limits
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._all: list[_Process] = []
        self._threads = ThreadPoolExecutor(number, thread_name_prefix="documents")

    def __enter__(self) -> Self:
        for _ in range(self._number):
            process = _Process(is_limited=self._limits is not None)
            self._all.append(process)
            self._idle.put(process)
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._all:
            process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self._all:
            process.close()

    def files(self, jobs: Iterable[Job]) -> Iterator[File]:
        ahead: deque[Future[list[File]]] = deque()
        for job in jobs:
            ahead.append(self._threads.submit(self._make, job))
            if len(ahead) >= self._number * _WAITING_PER_PROCESS:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()

    def _make(self, job: Job) -> list[File]:
        process = self._idle.get()
        try:
            return process.make(self._setup, job, self._limits.budget(job.size) if self._limits else None)
        finally:
            self._idle.put(process)


class _Process:
    """One process: a job in, its files out."""

    def __init__(self, *, is_limited: bool) -> None:
        inherited: Mapping[str, str] = os.environ
        if is_limited:
            inherited = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | _NO_NETWORK
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-P", "-m", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what a library says when it dies tells nothing to a user
            env={**inherited, **_ONE_THREAD, **_KEEP_MEMORY},
            start_new_session=True,  # the terminal's Ctrl-C reaches us alone, and we end the process
        )
        self._received = bytearray()
        self._is_set_up = False
        self._template = ""

    def make(self, setup: bytes, job: Job, budget: Budget | None) -> list[File]:
        """The files of ``job``.

        Raises:
            UsageError, TemporaryError: as :func:`make_documents`.
        """
        self._template = ""
        watch = _Watch(self._process.pid, budget) if budget is not None else None
        try:
            if not self._is_set_up:
                self._send(setup)
                self._is_set_up = True
            self._send(pickle.dumps((job, budget)))
            reply = self._reply(watch)
        except (BrokenPipeError, EOFError):
            raise self._died(budget) from None
        except _OverBudgetError as over:
            self._process.kill()
            raise UsageError(f"template {self._template or 'of this workspace'}: {over}") from None
        if "files" in reply:
            return [(owner, name, self._take(length, watch)) for owner, name, length in reply["files"]]
        raise _failure(reply)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def close(self) -> None:
        """Give back what it held."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        self._process.wait()

    def _send(self, message: bytes) -> None:
        stream = self._process.stdin
        if stream is None:
            raise TypeError("the process has no standard input")
        stream.write(struct.pack("!Q", len(message)))
        stream.write(message)
        stream.flush()

    def _reply(self, watch: _Watch | None) -> dict[str, Any]:
        while True:
            reply: dict[str, Any] = json.loads(self._line(watch))
            if "template" not in reply:
                return reply
            self._template = str(reply["template"])

    def _line(self, watch: _Watch | None) -> bytes:
        while (end := self._received.find(b"\n")) < 0:
            self._receive(watch)
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    def _take(self, length: int, watch: _Watch | None) -> bytes:
        while len(self._received) < length:
            self._receive(watch)
        data = bytes(self._received[:length])
        del self._received[:length]
        return data

    def _receive(self, watch: _Watch | None) -> None:
        stream = self._process.stdout
        if stream is None:
            raise TypeError("the process has no standard output")
        while watch is not None and not select.select([stream], [], [], _LOOK_EVERY_SECONDS)[0]:
            watch.look()
        received = os.read(stream.fileno(), _READ_BYTES)
        if not received:
            raise EOFError
        self._received += received

    def _died(self, budget: Budget | None) -> RatemillError:
        code = self._process.wait()
        template = f" with template {self._template}" if self._template else ""
        if code == -signal.SIGABRT and budget is not None:  # how typst ends for want of memory
            return UsageError(f"template {self._template or 'of this workspace'}: {too_large(budget.memory_bytes)}")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if code in _WANT_OF_MEMORY:
            return TemporaryError(
                f"a process that made documents{template} was ended by {how}, most likely for want of memory; nothing"
                " was written → run again, with a smaller [engine] threads where memory is short"
            )
        return RatemillError(
            f"a process that made documents{template} ended with {how}; nothing was written; please report"
        )


class _OverBudgetError(Exception):
    """A job used more than it may; ``str()`` says of what."""


class _Watch:
    """Looks after a process from outside: what it does in a library it can't be asked about."""

    def __init__(self, pid: int, budget: Budget) -> None:
        self._budget = budget
        self._process = psutil.Process(pid)
        self._began = time.monotonic()
        self._cpu_began = self._cpu_seconds()

    def look(self) -> None:
        """Raise when the process is over its budget.

        Raises:
            _OverBudgetError: it is.
        """
        with suppress(psutil.NoSuchProcess):  # reading from it will tell
            if self._cpu_seconds() - self._cpu_began > self._budget.cpu_seconds + _GRACE_SECONDS:
                raise _OverBudgetError(too_slow(self._budget.cpu_seconds))
            if self._process.memory_info().rss > self._budget.memory_bytes:
                raise _OverBudgetError(too_large(self._budget.memory_bytes))
        if time.monotonic() - self._began > self._budget.wall_seconds + _GRACE_SECONDS:
            raise _OverBudgetError(
                f"it was stopped after {self._budget.wall_seconds:,.0f} s of waiting → look for a file without an end"
            )

    def _cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


class _FarTracebackError(Exception):
    """Where an error of another process was raised, for the details of an internal error."""


def _failure(reply: dict[str, Any]) -> BaseException:
    """What the process raised; a name that isn't ours is a bug."""
    name, message = str(reply["error"]), str(reply["message"])
    if name == MemoryError.__name__:
        return MemoryError(message)
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, RatemillError):
        return kind(message)
    bug = RuntimeError(f"{name}: {message}")
    bug.__cause__ = _FarTracebackError("\n" + str(reply["traceback"]))
    return bug
