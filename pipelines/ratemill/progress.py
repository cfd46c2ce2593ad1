"""How far a run is: bars on a terminal, one log line per finished step elsewhere.

::

    with progress.step("load", total=31, unit="files") as step:
        for file in files:
            step.advance(rows=load(file))
        step.done("22,320,000 rows")
"""

from __future__ import annotations

import logging
import sys
import time
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from threading import Event, Thread
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress as RichProgress
    from rich.progress import ProgressColumn, TaskID

_logger = logging.getLogger(__name__)

_HEARTBEAT_SECONDS = 30.0
"""A long step says this often that it is alive, and how far it is; schedulers watch the log for that."""


class Step(Protocol):
    """One step under way."""

    def advance(self, units: int = 1, *, rows: int = 0) -> None:
        """``units`` more of the step's total are done, with ``rows`` more rows."""

    def done(self, summary: str, *, rows: int | None = None, written: int | None = None, run_id: str | None = None
             ) -> None:  # fmt: skip
        """What came out, in a few words; shown when the step ends.

        Args:
            summary: for people.
            rows: rows that the step handled, where :meth:`advance` was not told.
            written: rows that it wrote.
            run_id: the run that it found out to be part of.
        """


class Progress(Protocol):
    """Where steps are shown. Use it as a context manager around the whole run."""

    def step(self, name: str, *, total: int | None = None, unit: str = "") -> AbstractContextManager[Step]:
        """Begin a step of ``total`` units (``unit`` in the plural: "files"); it ends with the block."""
        ...

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(self, *error: object) -> None:
        """Stop showing; the terminal is as it was."""


def make_progress(*, quiet: bool = False) -> Progress:
    """Bars when stderr is a terminal and nothing else is wanted there; log lines otherwise."""
    if quiet or not sys.stderr.isatty():
        return LogProgress()
    return TerminalProgress()


class LogProgress:
    """One log line per finished step, and a sign of life every 30 seconds in between."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    @contextmanager
    def step(self, name: str, *, total: int | None = None, unit: str = "") -> Iterator[Step]:
        """Log when the block ends; a block that raises logs nothing, since the error will be told."""
        step = _LoggedStep(name, total, unit)
        with _pulse(step):
            yield step
        step.finish()


@contextmanager
def _pulse(step: _LoggedStep) -> Iterator[None]:
    """Have a thread tell of ``step`` while the block runs, also where it is inside a library for minutes."""
    over = Event()

    def beat() -> None:
        while not over.wait(_HEARTBEAT_SECONDS):
            step.tell_alive()

    thread = Thread(target=copy_context().run, args=(beat,), name="pulse", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _LoggedStep:
    def __init__(self, name: str, total: int | None, unit: str) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._units = self._rows = 0
        self._summary = ""
        self._run_id: str | None = None
        self._started = time.monotonic()

    def advance(self, units: int = 1, *, rows: int = 0) -> None:
        self._units += units
        self._rows += rows

    def tell_alive(self) -> None:
        """A line: how far it is, where it counts."""
        of_total = f"/{self._total:,}" if self._total is not None else ""
        far = f"{self._units:,}{of_total} {self._unit} so far" if self._unit else "at work"
        _logger.info("%s: %s", self._name, far, extra=self._extra())

    def done(self, summary: str, *, rows: int | None = None, written: int | None = None, run_id: str | None = None
             ) -> None:  # fmt: skip
        del written  # told by the summary
        self._summary, self._run_id = summary, run_id
        self._rows = self._rows if rows is None else rows

    def finish(self) -> None:
        summary = self._summary or (f"{self._units:,} {self._unit}".strip() if self._units else "done")
        _logger.info("%s: %s", self._name, summary, extra=self._extra())

    def _extra(self) -> dict[str, object]:
        seconds = round(time.monotonic() - self._started, 3)
        files = self._units if self._unit == "files" else None
        about: dict[str, object] = {"step": self._name, "rows": self._rows or None, "files": files, "seconds": seconds}
        return about if self._run_id is None else {**about, "run_id": self._run_id}


class SilentProgress(LogProgress):
    """Shows nothing: for steps that are parts of one that is shown."""

    @contextmanager
    def step(self, name: str, *, total: int | None = None, unit: str = "") -> Iterator[Step]:
        """Nothing but the block."""
        yield _LoggedStep(name, total, unit)


class TerminalProgress:
    """A bar per step on stderr, with files, rows and elapsed time; finished steps stay as one line each."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - rich is needed on terminals only
        from rich.progress import Progress as RichProgress  # noqa: PLC0415

        self._rich: RichProgress = RichProgress(*_columns(), console=Console(stderr=True), refresh_per_second=5)

    def __enter__(self) -> Self:
        self._rich.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._rich.stop()

    @contextmanager
    def step(self, name: str, *, total: int | None = None, unit: str = "") -> Iterator[Step]:
        """Show a bar (or a pulse without ``total``) until the block ends."""
        step = _BarStep(self._rich, name, total, unit)
        try:
            yield step
        except BaseException:
            step.fail()
            raise
        step.finish()


class _BarStep:
    def __init__(self, rich: RichProgress, name: str, total: int | None, unit: str) -> None:
        self._rich, self._total, self._unit = rich, total, unit
        self._units = self._rows = 0
        self._summary = ""
        self._task: TaskID = rich.add_task(name, total=total, figures="", state="")

    def advance(self, units: int = 1, *, rows: int = 0) -> None:
        self._units += units
        self._rows += rows
        self._rich.update(self._task, advance=units, figures=self._figures())

    def done(self, summary: str, *, rows: int | None = None, written: int | None = None, run_id: str | None = None
             ) -> None:  # fmt: skip
        del rows, written, run_id  # told by the summary
        self._summary = summary

    def finish(self) -> None:
        total = self._units or 1
        figures = self._summary or self._figures()
        self._rich.update(self._task, total=total, completed=total, figures=figures, state="[green]done[/]")

    def fail(self) -> None:
        self._rich.update(self._task, state="[red]stopped[/]")
        self._rich.stop_task(self._task)

    def _figures(self) -> str:
        of_total = f"/{self._total:,}" if self._total is not None else ""
        units = f"{self._units:,}{of_total} {self._unit}".strip() if self._unit else ""
        rows = f"{self._rows:,} rows" if self._rows else ""
        return ", ".join(part for part in (units, rows) if part)


def _columns() -> list[ProgressColumn]:
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    return [
        TextColumn("{task.description:<8}", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        TextColumn("{task.fields[state]}"),
    ]
