"""What a run would do now, and why. Pure: what stands and what is different in, steps with reasons out.

The steps follow :mod:`ratemill.pipeline`. Where a step depends on what an earlier one of the same run comes to, the
plan says that it would run: it never promises that nothing happens where something may.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from ratemill.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

STEPS = {
    "load": (),
    "check": ("load",),
    "rate": ("check",),
    "correct": ("check",),
    "invoice": ("rate", "correct"),
    "report": ("invoice",),
    "publish": ("report",),
}
"""Each step of a run, in order, and the steps it needs before it."""

_SHOWN_FILES = 3


class State(StrEnum):
    """What a period is before the run."""

    OPEN = "open"
    """It may be billed, and its drafts replaced."""
    CLOSED = "closed"
    """Its invoices are issued."""
    FUTURE = "future"
    """It has not begun."""


@dataclass(frozen=True)
class UsageWork:
    """A usage file that loading would read."""

    file: str
    kind: str
    """``new``; ``changed``: its content; ``settings``: how it is read; ``again``: it was refused the last time."""
    refused: str = ""
    """Why loading will refuse it, as far as that can be seen before its rows are read."""
    says: str = ""
    """Why it may have to do with a period whose time it does not cover."""


@dataclass(frozen=True)
class Loading:
    """What loading would do."""

    files: int = 0
    """Files that match the configuration."""
    work: tuple[UsageWork, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    """Files that can't be opened, and why."""
    gone: tuple[str, ...] = ()
    """Files that were loaded and are no longer there; they stay billed."""
    is_settled: bool = True
    """No load was stopped before its end."""

    @property
    def refused(self) -> list[tuple[str, str]]:
        """Files that loading would refuse, and why."""
        return [*self.unreadable, *((one.file, one.refused) for one in self.work if one.refused)]

    @property
    def why(self) -> str:
        """What there is to load, in words; empty: nothing."""
        told = [
            named([one.file for one in self.work if one.kind == kind], said)
            for kind, said in (
                ("new", "new"),
                ("changed", "changed"),
                ("settings", "to be read anew: [usage] is not what it was"),
                ("again", "tried again: refused the last time"),
            )
        ]
        told.append(named([name for name, _ in self.unreadable], "not readable"))
        if not self.is_settled:
            told.append("loading was stopped before its end")
        return "; ".join(filter(None, told))


@dataclass(frozen=True)
class Seen:
    """What is known of a period before the run."""

    period: str
    state: State
    run_id: str | None = None
    """The run that counts now."""
    next_run_id: str | None = None
    """The run with the inputs of now; None: it is not known before the files are loaded, or the check refuses."""
    usage: tuple[UsageWork, ...] = ()
    """Files to be loaded that may hold usage of the period."""
    changes: tuple[str, ...] = ()
    """Other inputs that are not what they were for the current run, in words."""
    follows: tuple[str, ...] = ()
    """Earlier periods that the same run bills anew before, and that may use credits which this one would."""
    refusal: str = ""
    """Why the check would refuse the period."""
    refusal_code: ExitCode = ExitCode.DONE
    is_rated: bool = False
    """The charges of ``next_run_id`` stand."""
    not_billed: str = ""
    """Why charges that stand would not be billed: usage without price, too many rejects."""
    corrections: tuple[str, ...] = ()
    """Closed periods that this one bills corrections of."""
    unreported: str = ""
    """Why ``out/<period>`` is not what it should be; empty: it is."""
    unpublished: str = ""
    """The same of ``published/``."""
    unfinished: str = ""
    """Why the run is not done though its files are: it was stopped."""
    differs_since_close: str = ""
    """A closed period would be billed otherwise today: the month that bills the difference."""


@dataclass(frozen=True)
class Step:
    """One step of a run."""

    name: str
    would_run: bool
    why: str
    """In one sentence, without a full stop."""

    @property
    def depends_on(self) -> tuple[str, ...]:
        """Steps that it needs before it."""
        return STEPS[self.name]


@dataclass(frozen=True)
class PeriodPlan:
    """What a run would do with a period."""

    period: str
    state: State
    run_id: str | None
    next_run_id: str | None
    summary: str
    """The whole, in a few words."""
    exit_code: ExitCode
    """What a run of this period would end with, as far as can be seen."""
    steps: tuple[Step, ...]
    corrections: tuple[str, ...] = field(default=())

    @property
    def would_run(self) -> bool:
        """Whether anything would be done."""
        return any(step.would_run for step in self.steps)

    @property
    def drafts_anew(self) -> bool:
        """Whether other drafts would take the place of those that stand, as far as is known."""
        return self.state is State.OPEN and self.would_run and (self.next_run_id or "") != self.run_id


def named(files: Sequence[str], said: str) -> str:
    """``usage/a.parquet is new``, ``a, b are new``, ``a, b, c and 28 more are new``; empty without files."""
    if not files:
        return ""
    shown = ", ".join(files[:_SHOWN_FILES])
    if len(files) > _SHOWN_FILES:
        shown += f" and {len(files) - _SHOWN_FILES:,} more"
    return f"{shown} {'is' if len(files) == 1 else 'are'} {said}"


def plan_period(seen: Seen, loading: Loading) -> PeriodPlan:
    """The steps of a run of one period."""
    if seen.state is State.FUTURE:
        why = f"{seen.period} has not begun"
        return _plan(seen, "nothing: it has not begun", ExitCode.USAGE, [(False, why)] * len(STEPS))
    load = (bool(loading.why), loading.why or f"{loading.files:,} files match, and none is new or changed")
    if seen.state is State.CLOSED:
        return _closed(seen, load)
    plan = _open(seen, load, is_settled=loading.is_settled)
    if plan.exit_code in (ExitCode.DONE, ExitCode.NOTHING_TO_BILL) and loading.refused:
        return _plan(seen, plan.summary, ExitCode.DATA_REFUSED, [(step.would_run, step.why) for step in plan.steps])
    return plan


def _plan(seen: Seen, summary: str, code: ExitCode, steps: Sequence[tuple[bool, str]]) -> PeriodPlan:
    told = tuple(Step(name, *step) for name, step in zip(STEPS, steps, strict=True))
    next_run_id = None if any(not one.refused for one in seen.usage) else seen.next_run_id
    return PeriodPlan(seen.period, seen.state, seen.run_id, next_run_id, summary, code, told, seen.corrections)


def _closed(seen: Seen, load: tuple[bool, str]) -> PeriodPlan:
    issued = (False, "the invoices are issued and stay as they are")
    report = (bool(seen.unreported), seen.unreported or "the documents are there as they were issued")
    why = seen.unpublished or seen.unfinished
    publish = (bool(why), why or "it shows what was issued")
    missing = report[0] or publish[0]
    summary = "closed: files that are missing are made again" if missing else "closed: nothing to do"
    code = ExitCode.DONE
    if seen.differs_since_close:
        summary += f"; what changed since is billed by {seen.differs_since_close}"
        code = ExitCode.LOCKED
    return _plan(seen, summary, code, [load, issued, issued, issued, issued, report, publish])


def _open(seen: Seen, load: tuple[bool, str], *, is_settled: bool) -> PeriodPlan:
    if seen.refusal:
        stops = (False, "the check refuses the period")
        check = (True, f"it would refuse: {seen.refusal}")
        summary = "nothing to bill" if seen.refusal_code is ExitCode.NOTHING_TO_BILL else "refused by the check"
        return _plan(seen, summary, seen.refusal_code, [load, check, *[stops] * 5])
    loads = any(not one.refused for one in seen.usage)
    anew = loads or not seen.run_id or seen.run_id != seen.next_run_id
    unfinished = seen.unreported or seen.unpublished or seen.unfinished
    if not anew and not unfinished:
        stands = (False, f"it stands: run {seen.run_id} was made of these inputs")
        return _plan(seen, "nothing to do", ExitCode.DONE, [load, *[stands] * 6])
    why = "; ".join(_reasons(seen, is_settled=is_settled)) or unfinished
    if seen.not_billed and not loads:
        stops = (False, "rating refuses the period")
        rate = (True, f"charges of these inputs stand already, and are refused: {seen.not_billed}")
        return _plan(seen, "refused by rating", ExitCode.DATA_REFUSED, [load, (True, why), rate, *[stops] * 4])
    rate = (False, "charges of these inputs stand already") if seen.is_rated and not loads else (True, why)
    correct = (False, "no closed month is to be corrected")
    if seen.corrections:
        correct = (True, f"{', '.join(seen.corrections)} would be billed otherwise today")
    follows = "the drafts are made anew" if anew else why
    steps = [load, (True, why), rate, correct, (True, why), (True, follows), (True, follows)]
    if not anew:
        summary = "the run is finished"
    else:
        summary = "drafts replace those that stand" if seen.run_id else "drafts are made"
    return _plan(seen, summary, ExitCode.DONE, steps)


def _reasons(seen: Seen, *, is_settled: bool) -> list[str]:
    """Why drafts would be made anew."""
    usage = [one for one in seen.usage if not one.refused]
    reasons = [
        "" if seen.run_id else "the period was never billed",
        "" if is_settled else "loading was stopped before its end",
        named([one.file for one in usage if not one.says], "to be loaded"),
        *(f"{one.file} is to be loaded, and {one.says}" for one in usage if one.says),
        f"not as in run {seen.run_id}: {', '.join(seen.changes)}" if seen.changes else "",
        named(seen.follows, "billed anew before, and may use other credits"),
    ]
    return [*filter(None, reasons)]
