"""Who is told while a command works: the heartbeat, metrics, lineage.

Observers see each step begin and end, and how the command ended. What they make of it is theirs alone: none of them can
stop the work.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, Self

from ratemill import logs
from ratemill.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ratemill.findings import Finding
    from ratemill.progress import Progress, Step
    from ratemill.steps.context import Context

_logger = logging.getLogger(__name__)


@dataclass
class Work:
    """One step under way, or at its end."""

    name: str
    period: str | None = None
    run_id: str | None = None
    unit: str = ""
    total: int | None = None
    units: int = 0
    rows: int = 0
    """Rows that it read or handled so far."""
    written: int | None = None
    """Rows that it wrote, once it is done."""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _clock: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return round(time.monotonic() - self._clock, 3)


@dataclass(frozen=True)
class Ending:
    """How a command ended."""

    exit_code: int
    message: str = ""
    """What was told of an error."""
    findings: tuple[Finding, ...] = ()

    @property
    def errors(self) -> int:
        """How many findings stopped it, or part of it."""
        return sum(finding.severity is Severity.ERROR for finding in self.findings)


class Observer(Protocol):
    """Is told. Exceptions that it raises become one warning."""

    def begun(self, work: Work) -> None:
        """A step begins; ``work`` goes on to change while it lasts."""

    def ended(self, work: Work, error: BaseException | None) -> None:
        """A step ended; with what, where it failed."""

    def leaving(self, context: Context) -> None:
        """The command is about to close the warehouse, well or not."""

    def over(self, ending: Ending) -> None:
        """The command ended."""


class Observed:
    """A progress whose steps observers are told of."""

    def __init__(self, progress: Progress, observers: Sequence[Observer]) -> None:
        self._progress = progress
        self._observers = tuple(observers)

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.__exit__(*error)

    @contextmanager
    def step(self, name: str, *, total: int | None = None, unit: str = "") -> Iterator[Step]:
        """See :class:`ratemill.progress.Progress`."""
        about = logs.current()
        work = Work(name, _text(about, "period"), _text(about, "run_id"), unit, total)
        failure: BaseException | None = None
        try:
            for observer in self._observers:
                _telling(observer, lambda one: one.begun(work))
            with self._progress.step(name, total=total, unit=unit) as step:
                yield _ObservedStep(step, work)
        except BaseException as error:
            failure = error
            raise
        finally:
            for observer in self._observers:
                _telling(observer, lambda one: one.ended(work, failure))


class _ObservedStep:
    def __init__(self, step: Step, work: Work) -> None:
        self._step = step
        self._work = work

    def advance(self, units: int = 1, *, rows: int = 0) -> None:
        self._work.units += units
        self._work.rows += rows
        self._step.advance(units, rows=rows)

    def done(self, summary: str, *, rows: int | None = None, written: int | None = None, run_id: str | None = None
             ) -> None:  # fmt: skip
        self._work.rows = self._work.rows if rows is None else rows
        self._work.written = written
        self._work.run_id = run_id or self._work.run_id
        self._step.done(summary, rows=rows, written=written, run_id=run_id)


def _text(about: dict[str, object], name: str) -> str | None:
    value = about.get(name)
    return None if value is None else str(value)


def _telling(observer: Observer, tell: Callable[[Observer], None]) -> None:
    try:
        tell(observer)
    except Exception as error:  # noqa: BLE001 - whoever watches must not stop the work
        _logger.warning("%s: %s: %s", type(observer).__name__.lower(), type(error).__name__, error)


# ------------------------------------------------------------------------------------------------------ of one command


_observers: ContextVar[tuple[Observer, ...]] = ContextVar("observers", default=())


def observe(observers: Sequence[Observer]) -> None:
    """Have ``observers`` told how the command that is at work ends."""
    _observers.set((*_observers.get(), *observers))


def tell_leaving(observers: Sequence[Observer], context: Context) -> None:
    """See :meth:`Observer.leaving`."""
    for observer in observers:
        _telling(observer, lambda one: one.leaving(context))


def tell_over(ending: Ending) -> None:
    """Tell everybody who observes the command how it ended; they are forgotten then."""
    observers = _observers.get()
    _observers.set(())
    for observer in observers:
        _telling(observer, lambda one: one.over(ending))
