"""Usage files read, checked and split in child processes, one ahead of the warehouse.

Two reasons. A few flipped bits in a Parquet page can make a decoder ask for 2^61 bytes, which ends its process at once:
no exception is raised that anybody could catch, so the process that reads must not be the one that holds the warehouse.
And reading needs more processor time than storing, so the cores read while the warehouse writes.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import polars as pl

from ratemill.errors import TemporaryError
from ratemill.frames import collect
from ratemill.io.atomic import make_private_folder
from ratemill.io.usage_files import FileRefusedError, UsageFile
from ratemill.usage.intake import Intake

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ratemill.config import Engine
    from ratemill.config import Usage as UsageConfig

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

    def __enter__(self) -> Self:
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

    def read(self, files: Iterable[UsageFile]) -> Iterator[ReadFile]:
        """Each file, in order, with what it came to. The next ones are being read while this one is used."""
        waiting = deque(files)
        self._start(waiting)
        ahead: deque[tuple[UsageFile, int]] = deque()
        for number in range(len(self._processes)):
            self._request(waiting, ahead, number)
        while ahead:
            file, number = ahead.popleft()
            reply = self._reply(file, number)
            self._request(waiting, ahead, number)
            yield ReadFile(file, reply)

    def _start(self, files: Iterable[UsageFile]) -> None:
        sizes = [file.path.stat().st_size for file in files if file.path.exists()]
        wanted = min(self.engine.threads or os.cpu_count() or 1, len(sizes), 1 + sum(sizes) // _BYTES_PER_PROCESS)
        make_private_folder(self._folder)
        while len(self._processes) < min(wanted, _MOST_PROCESSES):
            self._processes.append(self._spawn())

    def _spawn(self) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-P", "-m", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a decoder's panic tells nothing to a user
            encoding="utf-8",
            env=os.environ | {"POLARS_MAX_THREADS": os.environ.get("POLARS_MAX_THREADS", "1")},
        )

    def _request(self, waiting: deque[UsageFile], ahead: deque[tuple[UsageFile, int]], number: int) -> None:
        """Let process ``number`` begin with the next file."""
        if not waiting:
            return
        file = waiting.popleft()
        ahead.append((file, number))
        request = {
            "path": str(file.path),
            "name": file.name,
            "sha256": file.sha256,
            "config": self.config.model_dump(mode="json"),
            "folder": str(self._folder / f"{number}-{len(waiting)}"),
        }
        process = self._processes[number]
        try:
            if process.stdin is not None:
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
        except BrokenPipeError:
            pass  # it died meanwhile; reading its reply tells of what

    def _reply(self, file: UsageFile, number: int) -> dict[str, Any]:
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
            return reply
        code = _close(process)
        self._processes[number] = self._spawn()
        if code == -signal.SIGKILL:
            raise TemporaryError(
                f"the system stopped the reading of {file.name}, most likely for want of memory; nothing was changed"
            )
        return {
            "refused": "damaged Parquet: its pages contradict its footer, so badly that reading it ended the process"
            " that did → ask its supplier for it again"
        }


@dataclass(frozen=True)
class ReadFile:
    """A file and what its reader said of it."""

    file: UsageFile
    _reply: dict[str, Any]

    def intakes(self) -> Iterator[Intake]:
        """Its slices, in file order; each is removed from disk when the next is asked for.

        Raises:
            FileRefusedError: when the file cannot be billed from; none of its slices may be kept then.
        """
        if "refused" in self._reply:
            raise FileRefusedError(self._reply["refused"])
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


def _read(folder: str, name: str) -> pl.DataFrame:
    return collect(pl.scan_ipc(f"{folder}/{name}.arrow", glob=False))


def _close(process: subprocess.Popen[str]) -> int:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):  # what was written to a dead process is flushed here
                stream.close()
    return process.wait()
