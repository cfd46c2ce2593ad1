"""Forks a ``ratemill`` process per request: all is imported once, so that a kill hits work and not the imports.

Run as a script it reads a JSON object a line from stdin and answers with one a line on stdout::

    {"arguments": ["run", …], "log": "path", "signal": 9, "after_seconds": 1.5}
    {"code": -9, "seconds": 1.5, "moments": null, "turns": null, "issue": "before"}

In place of ``after_seconds``, which is another moment on every machine:

- ``at_moment`` sends the signal at the n-th call or return of a function (Python's or C's) in Ratemill's own code;
- ``at_turn`` does so right before and right after what makes a new state count: odd and even numbers;
- ``at_size`` lets no file grow beyond so many bytes: the write that would ends the process (SIGXFSZ), which is a death
  in the middle of a library's own writing;
- ``in_step`` sends it when the step of that name begins;
- ``at_issue`` sends the signal so many seconds after the transaction that issues documents began to be committed.

``count`` counts the moments and the turns. ``issue`` tells where the process was when it ended: before that commit,
inside, or after.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import ratemill
import ratemill.cli
from ratemill.io.heartbeat import Heartbeat
from ratemill.io.warehouse import Warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType, TracebackType

    from ratemill.observe import Work

SOURCE = str(Path(ratemill.__file__).resolve().parent)


@dataclass(frozen=True)
class Ended:
    """How a forked process ended."""

    code: int
    """Exit code; negative: the signal that ended it."""
    seconds: float
    moments: int | None
    turns: int | None
    issue: str
    """``before``, ``inside`` or ``after`` the commit that issues documents."""
    said: str


class Forks:
    """The forking process, from the side of the tests."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "log"
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(SOURCE).parent), "PYTHONUTF8": "1"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=60)
        assert self._process.stdout
        self._process.stdout.close()

    def run(self, *arguments: str, **request: Any) -> Ended:
        """Run ``ratemill`` with ``arguments``; ``request``: signal, and when to send it, or count."""
        assert self._process.stdin
        assert self._process.stdout
        line = json.dumps({"arguments": arguments, "log": str(self._log), **request})
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        said = self._log.read_text(encoding="utf-8")
        assert "Traceback" not in said, said
        return Ended(**answer, said=said)


def _serve() -> None:
    for module in (
        "cli.page",
        "cli.run",
        "pipeline",
        "progress",
        "steps.close",
        "steps.credit",
        "steps.verify",
        "workspace",
    ):
        importlib.import_module(f"ratemill.{module}")
    for line in sys.stdin:
        print(json.dumps(_forked(json.loads(line))), flush=True)


def _forked(request: dict[str, Any]) -> dict[str, Any]:
    (counted, counter), (issued, issuing) = os.pipe(), os.pipe()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(counted)
        os.close(issued)
        _be_ratemill(request, counter, issuing)
    os.close(counter)
    os.close(issuing)
    marks = os.read(issued, 1) if "at_issue" in request else b""
    after = request.get("after_seconds") if not marks else time.monotonic() - start + request["at_issue"]
    if after is not None:
        while time.monotonic() - start < after:
            time.sleep(0.0001)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, request["signal"])
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - start
    with os.fdopen(counted, "rb") as stream:
        counts = stream.read().split() or [None, None]
    moments, turns = (count and int(count) for count in counts)
    with os.fdopen(issued, "rb") as stream:
        issue = {b"": "before", b"[": "inside", b"[]": "after"}[marks + stream.read()]
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "seconds": seconds, "moments": moments, "turns": turns, "issue": issue}


def _be_ratemill(request: dict[str, Any], counter: int, issuing: int) -> None:
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDONLY) if stream == 0 else log, stream)
    code = 70
    try:
        _mark_issue(issuing)
        moments = _Moments(request)
        if {"at_moment", "at_turn", "count"} & set(request):
            sys.setprofile(moments.see)
        if "in_step" in request:
            _die_in(request["in_step"], request["signal"])
        if "at_size" in request:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["at_size"], request["at_size"]))
        code = ratemill.cli.run_command(request["arguments"])
        sys.setprofile(None)
        os.write(counter, f"{moments.moments} {moments.turns}".encode())
    finally:
        sys.stdout.flush()
        os._exit(code)  # nothing of the parent's is to be cleaned up here


def _mark_issue(marks: int) -> None:
    """Write ``[`` right before the transaction that issues documents is committed, and ``]`` right after."""
    transaction = Warehouse.transaction
    known: list[int] = []

    @contextmanager
    def marking(self: Warehouse) -> Iterator[None]:
        with transaction(self):
            yield
            (acts,) = self.row("SELECT count(*) FROM ops.events WHERE act IN ('closed', 'credited')") or (0,)
            issues = bool(known) and acts > known[-1]
            known.append(acts)
            if issues:
                os.write(marks, b"[")
        if issues:
            os.write(marks, b"]")

    Warehouse.transaction = marking  # type: ignore[method-assign]


def _die_in(step: str, number: int) -> None:
    """Send the signal when ``step`` has begun: right after the heartbeat was told of it."""
    begun = Heartbeat.begun

    def dying(self: Heartbeat, work: Work) -> None:
        begun(self, work)
        if work.name == step:
            os.kill(os.getpid(), number)

    Heartbeat.begun = dying  # type: ignore[method-assign]


class _Moments:
    """Counts while a process runs, and sends it its signal."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.moments = 0
        self.turns = 0
        self._at_moment = request.get("at_moment")
        self._at_turn = request.get("at_turn")
        self._signal = request.get("signal", signal.SIGKILL)
        self._transaction_events = 0
        self._kinds: dict[Any, tuple[bool, bool, bool]] = {}

    def see(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        kind = self._kinds.get(code)
        if kind is None:
            kind = self._kinds[code] = (_is_ours(code), _place(code) in _TAKES_PLACE, _place(code) == _TRANSACTION)
        ours, takes_place, transaction = kind
        if event in ("call", "return") and (takes_place or (transaction and self._at_commit())):
            self.turns += 1
            if self.turns == self._at_turn:
                os.kill(os.getpid(), self._signal)
        if ours:
            self.moments += 1
            if self.moments == self._at_moment:
                os.kill(os.getpid(), self._signal)

    def _at_commit(self) -> bool:
        """A transaction is entered, left to its block, taken up again when that ends, and left for good."""
        self._transaction_events += 1
        return self._transaction_events % 4 in (3, 0)


_TRANSACTION = ("transactions.py", "transaction")
_TAKES_PLACE = {("pathlib.py", "rename"), ("pathlib.py", "replace"), ("atomic.py", "_exchange")}


def _place(code: CodeType) -> tuple[str, str]:
    return Path(code.co_filename).name, code.co_name


def _is_ours(code: CodeType) -> bool:
    # Documents are rendered in memory, with very many calls that leave nothing behind.
    return code.co_filename.startswith(SOURCE) and "/documents/" not in code.co_filename


if __name__ == "__main__":
    _serve()
