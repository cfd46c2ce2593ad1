"""plan: see what a run would do now. Nothing is loaded, nothing is written."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ratemill.errors import DataRefusedError, RatemillError
from ratemill.insight.diff import changed_inputs
from ratemill.insight.plan import Loading, PeriodPlan, Seen, State, UsageWork, plan_period
from ratemill.io.charge_store import ChargeStore
from ratemill.io.usage_objects import UsageObject, find_usage
from ratemill.io.usage_peek import Peeked, peek
from ratemill.period import BillingPeriod
from ratemill.progress import SilentProgress
from ratemill.steps.check import check, checked_book
from ratemill.steps.closed import issued_run
from ratemill.steps.correct import stale_drafts
from ratemill.steps.flow import flow_of
from ratemill.steps.inputs import changed_rating_key, settled_periods
from ratemill.steps.publish import why_unpublished
from ratemill.steps.rate import refuse_rejects
from ratemill.steps.report import why_unreported

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ratemill.book.model import Book
    from ratemill.io.usage_files import UsageFile
    from ratemill.steps.check import Checked
    from ratemill.steps.context import Context


@dataclass(frozen=True)
class Plan:
    """What a run of some periods would do."""

    loading: Loading
    periods: tuple[PeriodPlan, ...]

    def as_dict(self, context: Context) -> dict[str, Any]:
        """For ``--json``, as docs/operations.md, "What a run would do", has it."""
        return {
            "usage": {
                "files": self.loading.files,
                **{
                    kind: [one.file for one in self.loading.work if one.kind == kind]
                    for kind in ("new", "changed", "settings", "again")
                },
                "refused": [{"file": file, "reason": reason} for file, reason in self.loading.refused],
                "gone": list(self.loading.gone),
            },
            "periods": [_period_as_dict(context, period) for period in self.periods],
        }


def _period_as_dict(context: Context, plan: PeriodPlan) -> dict[str, Any]:
    steps = []
    for step in plan.steps:
        flow = flow_of(context.workspace, step.name, plan.period, corrections=plan.corrections)
        steps.append(
            {
                "name": step.name,
                "depends_on": list(step.depends_on),
                "inputs": list(flow.inputs),
                "outputs": list(flow.outputs),
                "would_run": step.would_run,
                "why": step.why,
            }
        )
    return {
        "period": plan.period,
        "state": plan.state.value,
        "run_id": plan.run_id,
        "next_run_id": plan.next_run_id,
        "would_run": plan.would_run,
        "expected_exit_code": int(plan.exit_code),
        "why": plan.summary,
        "steps": steps,
    }


def plan(context: Context, periods: Sequence[BillingPeriod]) -> Plan:
    """What ``ratemill run`` of ``periods`` would do, those included whose drafts it would make anew after them.

    Reads names, hashes and footers of usage files, the book, and the warehouse, which may be open read-only.
    """
    silent = replace(context, progress=SilentProgress())
    loading, spans = _loading(silent)
    planner = _Planner(silent, loading, spans)
    planned: list[PeriodPlan] = []
    for period in periods:
        planned.append(planner.plan(period, planned))
    asked = {one.period for one in planned}
    for period in planner.drafts_after(planned):
        if str(period) not in asked:
            planned.append(planner.plan(period, planned))
    return Plan(loading, tuple(planned))


def periods_at_hand(context: Context) -> list[BillingPeriod]:
    """The month before today, and every open month that has drafts."""
    closed = set(context.warehouse.closed_periods()["period"])
    drafted = context.warehouse.runs().filter("is_current")["period"].to_list()
    last = BillingPeriod.containing(context.now.date()).shift(-1)
    return sorted({last, *(BillingPeriod.parse(period) for period in drafted if period not in closed)})


# ------------------------------------------------------------------------------------------------------------- loading


@dataclass(frozen=True)
class _Span:
    """The instants that a file to be loaded has to do with: its own, and those of what it replaces."""

    work: UsageWork
    peeked: Peeked
    former: dict[str, Any] | None

    def covers(self, start: datetime, end: datetime) -> bool:
        """Whether one of them may be from ``start`` on and before ``end``."""
        former = self.former or {}
        for first, last in (
            (self.peeked.first, self.peeked.last),
            (former.get("first_usage_start"), former.get("last_usage_start")),
        ):
            if first is not None and last is not None and first < end and last >= start:
                return True
        return False

    @property
    def doubt(self) -> str:
        """Why it may have to do with a period that it does not cover; empty: it has not."""
        if self.peeked.refused:
            return ""
        if self.peeked.first is None or self.peeked.last is None:
            return self.peeked.unseen
        return "its record ids may be those of records of this month" if self.peeked.has_record_ids else ""


def _loading(context: Context) -> tuple[Loading, list[_Span]]:
    config = context.config.usage
    settings = config.fingerprint()
    known = {row["file"]: row for row in context.warehouse.usage.files().iter_rows(named=True)}
    found = find_usage(context.workspace)
    spans = []
    for file in found:
        if isinstance(file, tuple):
            continue
        former = known.get(file.name)
        kind = _kind(former, file, settings)
        if kind:
            peeked = _UNSEEN if isinstance(file, UsageObject) else peek(file, config)
            spans.append(_Span(UsageWork(file.name, kind, peeked.refused), peeked, former))
    here = {file[0] if isinstance(file, tuple) else file.name for file in found}
    loading = Loading(
        files=len(found),
        work=tuple(span.work for span in spans),
        unreadable=tuple(file for file in found if isinstance(file, tuple)),
        gone=tuple(name for name, row in sorted(known.items()) if name not in here and row["rows_in"]),
        is_settled=context.warehouse.usage.is_settled(),
    )
    return loading, spans


_UNSEEN = Peeked(unseen="which time it covers is not known before it is downloaded")


def _kind(former: dict[str, Any] | None, file: UsageFile | UsageObject, settings: str) -> str:
    """See :class:`UsageWork`; empty: loading would leave it alone."""
    if former is None:
        return "new"
    if former["sha256"] != file.sha256:
        return "changed"
    if former["status"] != "loaded":
        return "again"
    return "settings" if former["settings_sha256"] != settings else ""


def _concerning(spans: Sequence[_Span], period: BillingPeriod) -> tuple[UsageWork, ...]:
    """Files to be loaded that may hold usage of ``period``."""
    found = []
    for span in spans:
        if span.covers(period.widest_start, period.widest_end):
            found.append(span.work)
        elif span.doubt:
            found.append(replace(span.work, says=span.doubt))
    return tuple(found)


# ------------------------------------------------------------------------------------------------------------- periods


class _Planner:
    def __init__(self, context: Context, loading: Loading, spans: Sequence[_Span]) -> None:
        self._context = context
        self._loading = loading
        self._spans = spans
        self._book: Book | RatemillError
        try:
            self._book, _ = checked_book(context.workspace)
        except DataRefusedError as refused:
            self._book = refused

    def plan(self, period: BillingPeriod, earlier: Sequence[PeriodPlan]) -> PeriodPlan:
        """The steps of one period, after those of ``earlier`` ones in the same run."""
        warehouse = self._context.warehouse
        if period.widest_start > self._context.now:
            return plan_period(Seen(str(period), State.FUTURE), self._loading)
        if warehouse.closed_period(period) is not None:
            return plan_period(self._closed(period), self._loading)
        return plan_period(self._open(period, earlier), self._loading)

    def drafts_after(self, planned: Sequence[PeriodPlan]) -> list[BillingPeriod]:
        """Later drafts that a run makes anew, because the ``planned`` ones bill their corrections by then."""
        warehouse = self._context.warehouse
        found = set(stale_drafts(warehouse))
        billed = {closed: one.period for one in planned for closed in one.corrections}
        for row in warehouse.runs().filter("is_current").iter_rows(named=True):
            corrects = json.loads(row["inputs"]).get("corrections", {})
            if warehouse.closed_period(row["period"]) is None and any(
                billed.get(closed, row["period"]) < row["period"] for closed in corrects
            ):
                found.add(BillingPeriod.parse(row["period"]))
        return sorted(found)

    def _closed(self, period: BillingPeriod) -> Seen:
        context = self._context
        checked, _ = issued_run(context, period)
        run = context.warehouse.current_run(period) or {}
        settled = settled_periods(context.warehouse)
        differs = not isinstance(self._book, RatemillError) and (
            changed_rating_key(context, self._book, period, settled[str(period)]) is not None
        )
        touched = any(span.covers(*self._whole(period)) and not span.peeked.refused for span in self._spans)
        return Seen(
            str(period),
            State.CLOSED,
            run_id=checked.run_id,
            next_run_id=checked.run_id,
            unreported=why_unreported(context, checked),
            unpublished=why_unpublished(context, checked.run_id),
            unfinished="" if run["status"] == "done" else "the run was stopped before its end",
            differs_since_close=str(BillingPeriod.parse(max(settled)).shift(1)) if differs or touched else "",
        )

    def _open(self, period: BillingPeriod, earlier: Sequence[PeriodPlan]) -> Seen:
        context = self._context
        run = context.warehouse.current_run(period)
        run_id = run["run_id"] if run else None
        late = self._late(period)
        usage = {work.file: work for works in (_concerning(self._spans, period), *late.values()) for work in works}
        seen = partial(Seen, str(period), State.OPEN, run_id=run_id, usage=tuple(usage.values()))
        if isinstance(self._book, RatemillError):
            return seen(refusal=_told(self._book), refusal_code=self._book.exit_code)
        if not self._loading.is_settled:
            return seen()
        try:
            checked = check(context, period)
        except RatemillError as refused:
            if any(not one.refused for one in usage.values()):
                return seen(corrections=tuple(late))  # what is to be loaded may be billed
            return seen(refusal=_told(refused), refusal_code=refused.exit_code)
        changes = changed_inputs(json.loads(run["inputs"]), checked.inputs).sentences() if run else []
        follows = self._follows(period, earlier)
        store = ChargeStore(context.workspace.charges)
        is_rated = not follows and store.folder(period, checked.run_id).is_dir()
        return seen(
            next_run_id=None if follows else checked.run_id,
            changes=tuple(changes),
            follows=follows,
            is_rated=is_rated,
            not_billed=self._not_billed(checked, store) if is_rated else "",
            corrections=tuple(sorted({*checked.inputs["corrections"], *late})),
            unreported=why_unreported(context, checked) or _renewed(period, earlier),
            unpublished=why_unpublished(context, checked.run_id),
            unfinished="" if run and run["status"] == "done" else "the run was stopped before its end",
        )

    def _late(self, period: BillingPeriod) -> dict[str, tuple[UsageWork, ...]]:
        """Closed period → files to be loaded that hold usage of it, where ``period`` is the one to bill the difference.

        See :func:`ratemill.steps.inputs.periods_to_correct`.
        """
        warehouse = self._context.warehouse
        closed = warehouse.closed_periods()["period"].to_list()
        drafted = warehouse.runs().filter("is_current")["period"].to_list()
        open_before = [other for other in drafted if other < str(period) and other not in closed]
        found = {}
        for name in closed:
            if name < str(period) and not any(name < other for other in open_before):
                start, end = self._whole(BillingPeriod.parse(name))
                says = f"holds usage of {name}, which is closed"
                covering = [span.work for span in self._spans if span.covers(start, end)]
                found[name] = tuple(replace(work, says=says) for work in covering if not work.refused)
        return {name: works for name, works in found.items() if works}

    def _whole(self, period: BillingPeriod) -> tuple[datetime, datetime]:
        """First instant of the period, and the first after it, in any zone that an account lives in."""
        zones = {self._context.config.period.time_zone}
        if not isinstance(self._book, RatemillError):
            zones |= set(self._book.accounts["time_zone"].drop_nulls())
        return min(map(period.start, zones)), max(map(period.end, zones))

    def _follows(self, period: BillingPeriod, earlier: Sequence[PeriodPlan]) -> tuple[str, ...]:
        """See :class:`Seen`; none where the book has no credits."""
        if isinstance(self._book, RatemillError) or not self._book.credits.height:
            return ()
        return tuple(one.period for one in earlier if one.drafts_anew and one.period < str(period))

    def _not_billed(self, checked: Checked, store: ChargeStore) -> str:
        context, period, run_id = self._context, checked.period, checked.run_id
        try:
            refuse_rejects(context, checked, store.facts(period, run_id))
        except DataRefusedError as refused:
            return _told(refused)
        unpriced = store.unpriced(period, run_id)
        if unpriced.height and context.config.policy.unpriced == "block":
            return f"{unpriced['records'].sum():,} usage records have no price"
        return ""


def _renewed(period: BillingPeriod, earlier: Sequence[PeriodPlan]) -> str:
    """Reports compare with the month before."""
    before = str(period.shift(-1))
    again = any(one.period == before and one.drafts_anew for one in earlier)
    return f"reports compare with {before}, which is billed anew before" if again else ""


def _told(error: RatemillError) -> str:
    return str(error).partition(" → ")[0]
