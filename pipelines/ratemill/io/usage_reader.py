"""Usage files read, checked and split in child processes, one ahead of the warehouse.

Two reasons. A few flipped bits in a Parquet page can make a decoder ask for 2^61 bytes, which ends its process at once:
no exception is raised that anybody could catch, so the process that reads must not be the one that holds the warehouse.
And reading needs more processor time than storing, so the cores read while the warehouse writes.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import polars as pl

from ratemill.errors import TemporaryError, UsageError
from ratemill.frames import collect
from ratemill.io.atomic import make_private_folder
from ratemill.io.machine import budget_of
from ratemill.io.usage_files import FileRefusedError, UsageFile
from ratemill.io.usage_objects import UsageObject
from ratemill.memory import size_text
from ratemill.usage.intake import Intake

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ratemill.config import Engine
    from ratemill.config import Usage as UsageConfig
    from ratemill.io.storage import StoredObject
    from ratemill.io.warehouse import Warehouse
    from ratemill.memory import Budget

_WORKER = "ratemill.io.usage_reader_worker"
_BYTES_PER_PROCESS = 8_000_000
"""A process more is worth its start for this many bytes of Parquet."""
_MOST_PROCESSES = 8


@dataclass
class UsageReader:
    """Reader processes and the folder they hand their frames over in. Use as a context manager.

    Each run has its own folder inside ``spool``: a killed run's processes may live on until their slice is read, and
    must not write where this run reads.
    """

    spool: Path
    config: UsageConfig
    engine: Engine
    _processes: list[subprocess.Popen[str]] = field(default_factory=list, init=False)
    _folder: Path = field(init=False)
    _budget: Budget = field(init=False)
    _most_rows: int = field(init=False)

    def __enter__(self) -> Self:
        self._budget = budget_of(self.engine)
        shutil.rmtree(self.spool, ignore_errors=True)  # a killed run leaves its frames
        self._folder = self.spool / secrets.token_hex(8)
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            _close(process)
        self._processes.clear()
        shutil.rmtree(self.spool, ignore_errors=True)

    def read(self, files: Iterable[UsageFile | UsageObject]) -> Iterator[ReadFile]:
        """Each file, in order, with what it came to. The next ones are being read while this one is used.

        Raises:
            UsageError, TemporaryError: an object can't be downloaded; the system took a process's memory away, or the
                disk is full.
        """
        waiting = deque(files)
        self._start(waiting)
        ahead: deque[tuple[UsageFile | UsageObject, int]] = deque()
        for number in range(len(self._processes)):
            self._request(waiting, ahead, number)
        while ahead:
            file, number = ahead.popleft()
            reply = self._reply(file, number)
            self._request(waiting, ahead, number)
            yield read_file(file, reply)

    def _start(self, files: Iterable[UsageFile | UsageObject]) -> None:
        sizes = [size for size in map(_size, files) if size is not None]
        wanted = min(self._budget.threads, len(sizes), 1 + sum(sizes) // _BYTES_PER_PROCESS, _MOST_PROCESSES)
        processes = self._budget.readers(wanted) if sizes else 0
        self._most_rows = self._budget.slice_rows(max(processes, 1))
        make_private_folder(self._folder)
        self._processes += [self._spawn(number) for number in range(processes)]

    def _spawn(self, number: int) -> subprocess.Popen[str]:
        with self._last_words(number).open("wb") as stderr:
            return subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", _WORKER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                encoding="utf-8",
                env=os.environ | {"POLARS_MAX_THREADS": os.environ.get("POLARS_MAX_THREADS", "1")},
            )

    def _last_words(self, number: int) -> Path:
        """What process ``number`` said on stderr: nothing for users, but it tells what it died of."""
        return self._folder / f"{number}.stderr"

    def _request(
        self, waiting: deque[UsageFile | UsageObject], ahead: deque[tuple[UsageFile | UsageObject, int]], number: int
    ) -> None:
        """Let process ``number`` begin with the next file."""
        if not waiting:
            return
        file = waiting.popleft()
        ahead.append((file, number))
        request = {
            **place_of(file),
            "config": self.config.model_dump(mode="json"),
            "folder": str(self._folder / f"{number}-{len(waiting)}"),
            "most_rows": self._most_rows,
        }
        process = self._processes[number]
        try:
            if process.stdin is not None:
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
        except BrokenPipeError:
            pass  # it died meanwhile; reading its reply tells of what

    def _reply(self, file: UsageFile | UsageObject, number: int) -> dict[str, Any]:
        """What the process says of the file; a dead process is replaced, and the file is what it died of.

        Raises:
            TemporaryError: the system took the process's memory away, or the disk is full.
        """
        process = self._processes[number]
        line = process.stdout.readline() if process.stdout is not None else ""
        if line:
            reply: dict[str, Any] = json.loads(line)
            if "temporary" in reply:
                raise TemporaryError(str(reply["temporary"]))
            if "usage" in reply:
                raise UsageError(str(reply["usage"]))
            return reply
        code = _close(process)
        words = self._last_words(number).read_text(encoding="utf-8", errors="replace")
        self._processes[number] = self._spawn(number)
        if code == -signal.SIGKILL or (code == -signal.SIGABRT and _wanted_memory(words) <= self._budget.ceiling):
            raise TemporaryError(
                f"the system stopped the reading of {file.name}, most likely for want of memory; nothing was changed"
                f" → run again when the machine is less busy, or set [engine] memory below the"
                f" {size_text(self._budget.ceiling)} that this run took"
            )
        return {
            "refused": "damaged Parquet: its pages contradict its footer, so badly that reading it ended the process"
            " that did → ask its supplier for it again"
        }


def _wanted_memory(words: str) -> float:
    """Bytes that a library asked for in vain as it ended its process; more than there can be where it said nothing.

    A damaged file makes it ask for more than any machine has; an amount that is right was not there.
    """
    told = re.search(r"memory allocation of (\d+) bytes failed", words)
    return int(told[1]) if told else math.inf


@dataclass(frozen=True)
class ReadFile:
    """A file and what its reader said of it."""

    file: UsageFile
    _reply: dict[str, Any]
    version: StoredObject | None = None
    """The version of an object that was read."""

    @property
    def refusal(self) -> str | None:
        """Why the file cannot be billed from, if it cannot."""
        return self._reply.get("refused")

    def store(self, warehouse: Warehouse, *, settings_sha256: str) -> dict[str, Any]:
        """Put its rows in place of those of a former delivery; the row of USAGE_FILES.

        Raises:
            FileRefusedError: nothing was changed.
        """
        return warehouse.usage.store_file(self.file, self.intakes(), settings_sha256=settings_sha256)

    def intakes(self) -> Iterator[Intake]:
        """Its slices, in file order; each is removed from disk when the next is asked for.

        Raises:
            FileRefusedError: when the file cannot be billed from; none of its slices may be kept then.
        """
        if self.refusal is not None:
            raise FileRefusedError(self.refusal)
        for part in self._reply["slices"]:
            folder = part["folder"]
            yield Intake(
                rows=_read(folder, "rows"),
                series=_read(folder, "series"),
                rejects=_read(folder, "rejects"),
                rows_in=part["rows_in"],
                rows_filtered=part["rows_filtered"],
                rows_rejected=part["rows_rejected"],
            )
            shutil.rmtree(folder, ignore_errors=True)


def _size(file: UsageFile | UsageObject) -> int | None:
    if isinstance(file, UsageObject):
        return file.found.size
    return file.path.stat().st_size if file.path.exists() else None


def place_of(file: UsageFile | UsageObject) -> dict[str, Any]:
    """Where to read a file, ready for JSON."""
    if isinstance(file, UsageObject):
        return {"name": file.name, "object": file.as_request()}
    return {"name": file.name, "path": str(file.path), "sha256": file.sha256}


def read_file(file: UsageFile | UsageObject, reply: dict[str, Any]) -> ReadFile:
    """A file by what its reader replied; of an object, with the version and the hash that were read."""
    if isinstance(file, UsageFile):
        return ReadFile(file, reply)
    fetched = reply.get("fetched")
    if fetched is None:  # the process died of it
        return ReadFile(UsageFile(Path(file.name), file.name, ""), reply)
    version = replace(file.found, etag=fetched["etag"], size=fetched["size"])
    return ReadFile(UsageFile(Path(fetched["path"]), file.name, fetched["sha256"]), reply, version)


def _read(folder: str, name: str) -> pl.DataFrame:
    return collect(pl.scan_ipc(f"{folder}/{name}.arrow", glob=False))


def _close(process: subprocess.Popen[str]) -> int:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):  # what was written to a dead process is flushed here
                stream.close()
    return process.wait()
