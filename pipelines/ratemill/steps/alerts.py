"""alerts: look at budgets and at what happened, queue what is new, and send what is due.

In three parts, so that a run never waits for somebody's mail server:

1. with the workspace's lock: what was sent since is put down, events are found and queued in one transaction, and what
   is due is claimed;
2. without it, but with a lock of its own (one sender at a time): messages go out, each outcome into a journal on disk;
3. with the workspace's lock again: the journal is put down; where a run holds it by then, by the next ``alerts``.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import polars as pl

from ratemill.book.budgets import thresholds_of
from ratemill.book.customers import CUSTOMERS_FILE
from ratemill.book.model import SOURCE_FILE
from ratemill.documents.environment import has_templates
from ratemill.errors import DataRefusedError, LockedError, RatemillError, UsageError
from ratemill.findings import Finding, Severity
from ratemill.insight.budgets import (
    CHARGE_COLUMNS,
    Crossing,
    Span,
    Standing,
    counted,
    crossings,
    expected_figure,
    figure,
    spans_of,
    spending,
    standing,
    until,
)
from ratemill.io.charge_store import ChargeStore
from ratemill.io.document_pool import Limits, make_documents
from ratemill.io.lock import hold_lock
from ratemill.io.outbox import Journal, Outbox
from ratemill.io.query import run_query
from ratemill.notify.deliver import deliver
from ratemill.notify.events import (
    Event,
    addressed,
    anomaly_events,
    budget_events,
    invoice_events,
    run_events,
)
from ratemill.notify.messages import Message, MessagePrinter, Text
from ratemill.notify.outcomes import Outcome
from ratemill.period import BillingPeriod
from ratemill.progress import SilentProgress
from ratemill.resources import sql
from ratemill.steps.check import checked_book
from ratemill.tables.invoices import INVOICE_LINES, INVOICES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import date
    from decimal import Decimal

    from ratemill.book.model import Book
    from ratemill.config import Config
    from ratemill.notify.webhook import Patience
    from ratemill.steps.context import Context
    from ratemill.workspace import Workspace

_LOOKED_BACK = timedelta(days=62)
"""Periods that were closed within this are looked at too, whichever month it is."""


@dataclass(frozen=True)
class Found:
    """What there is to tell."""

    standings: tuple[Standing, ...]
    """How each budget stands."""
    events: tuple[Event, ...]
    rows: tuple[dict[str, Any], ...]
    """One row of NOTIFICATIONS per event and recipient, whether it is new or not."""
    nobody: tuple[Event, ...]
    """Events of which nobody is told."""
    notes: tuple[str, ...]
    """What could not be looked at, and why."""


@dataclass(frozen=True)
class Sent:
    """What a round came to."""

    found: Found
    queued: tuple[dict[str, Any], ...]
    """Rows that are new."""
    messages: tuple[Message, ...]
    """Messages that were tried (or would be, in a dry run)."""
    outcomes: tuple[Outcome, ...]
    held: tuple[dict[str, Any], ...]
    """Rows that wait for their time."""
    is_noted: bool = True
    """Whether the outcomes are in the warehouse; else the next round puts them there."""


# ------------------------------------------------------------------------------------------------------------ the round


def alert(
    workspace: Workspace,
    opened: Callable[[], AbstractContextManager[Context]],
    *,
    periods: Sequence[BillingPeriod] | None,
    as_of: datetime,
    secrets: Mapping[str, str],
    patience: Patience | None = None,
) -> Sent:
    """Find, queue, send, and note how it went.

    Args:
        workspace: the workspace.
        opened: opens and locks it.
        periods: billing periods to look at; None: see :func:`periods_to_watch`.
        as_of: the clock: what has happened, and what is due.
        secrets: environment variables.
        patience: of webhooks.

    Raises:
        LockedError: another process is sending, or at work.
        DataRefusedError: the book has mistakes.
    """
    journal = Journal.of(workspace)
    with sending_alone(workspace, "ratemill alerts"):
        with opened() as context:
            found = find(context, periods=periods, as_of=as_of)
            outbox = _outbox(context)
            outbox.settle()
            queued = outbox.queue(found.rows)
            messages, held = outbox.due(as_of, zone_of(workspace.config))
            outbox.claim(messages, as_of)
        outcomes = []
        if messages:
            sending = _send(workspace, messages, secrets, patience)
            with journal.writing() as note:
                for outcome in sending:
                    note(outcome, as_of)
                    outcomes.append(outcome)
        is_noted = _note_outcomes(opened) if messages else True
    return Sent(found, tuple(queued), tuple(messages), tuple(outcomes), tuple(held), is_noted)


def sending_alone(workspace: Workspace, command: str) -> AbstractContextManager[None]:
    """Inside, no other process sends messages of this workspace.

    Raises:
        LockedError: one does.
    """
    return hold_lock(workspace.state / "notify.lock", command=command)


def rehearse(context: Context, *, periods: Sequence[BillingPeriod] | None, as_of: datetime) -> Sent:
    """What :func:`alert` would queue and send now. Nothing is written."""
    found = find(context, periods=periods, as_of=as_of)
    outbox = _outbox(context)
    fresh = outbox.unknown(found.rows)
    messages, held = outbox.due(as_of, zone_of(context.config), beside=fresh)
    return Sent(found, tuple(fresh), tuple(messages), (), tuple(held))


def _note_outcomes(opened: Callable[[], AbstractContextManager[Context]]) -> bool:
    try:
        with opened() as context:
            _outbox(context).settle()
    except LockedError:
        return False
    return True


def outbox_of(context: Context) -> Outbox:
    """The outbox of an open workspace, with everything in it that its senders have done."""
    outbox = _outbox(context)
    outbox.settle()
    return outbox


def _outbox(context: Context) -> Outbox:
    return Outbox(context.warehouse, Journal.of(context.workspace), max_attempts=context.config.notify.max_attempts)


def zone_of(config: Config) -> ZoneInfo:
    """The zone of quiet hours and digests."""
    return ZoneInfo(config.notify.time_zone or config.period.time_zone)


def _send(
    workspace: Workspace, messages: Sequence[Message], secrets: Mapping[str, str], patience: Patience | None
) -> Iterator[Outcome]:
    """Write what people get, and send; a template that is wrong keeps back what it was to write, and nothing else."""
    for_people = [message for message in messages if message.channel != "webhook"]
    texts: dict[str, Text] = {}
    unwritten = ""
    try:
        texts = _texts(workspace, for_people)
    except RatemillError as error:
        unwritten = str(error)
        yield from (Outcome.later(message.message_id, unwritten) for message in for_people)
    to_send = [message for message in messages if message.channel == "webhook"] if unwritten else messages
    yield from deliver(to_send, texts, config=workspace.config, secrets=secrets, root=workspace.root, patience=patience)


def _texts(workspace: Workspace, messages: Sequence[Message]) -> dict[str, Text]:
    """The words of each message; templates of the workspace run in a process with limits."""
    limits = Limits() if has_templates(workspace.templates) else None
    printer = MessagePrinter(workspace.templates, workspace.config.seller.name)
    parts: dict[str, dict[str, str]] = {}
    with closing(make_documents(printer, messages, processes=0, limits=limits)) as files:
        for message_id, name, data in files:
            parts.setdefault(message_id, {})[name] = data.decode()
    return {message_id: Text(**found) for message_id, found in parts.items()}


# -------------------------------------------------------------------------------------------------------- what there is


def periods_to_watch(context: Context, as_of: datetime) -> list[BillingPeriod]:
    """This month and the one before, and whatever was closed in the last two months."""
    local = as_of.astimezone(ZoneInfo(context.config.period.time_zone))
    current = BillingPeriod.containing(local.date())
    closed = context.warehouse.closed_periods().filter(pl.col("closed_at") > as_of - _LOOKED_BACK)
    return sorted({current.shift(-1), current, *map(BillingPeriod.parse, closed["period"])})


def find(context: Context, *, periods: Sequence[BillingPeriod] | None, as_of: datetime) -> Found:
    """Every event of the periods, and who is told of it; whether it was told before is not looked at.

    Raises:
        DataRefusedError: the book has mistakes, or a budget's condition is none.
    """
    book, _ = checked_book(context.workspace)
    _refuse_unknown_names(book, context.config)
    watched = list(periods) if periods is not None else periods_to_watch(context, as_of)
    with context.progress.step("budgets") as step:
        standings, notes = _standings(context, book, watched, as_of)
        step.done(f"{len(standings):,} looked at")
    payer_of = _payers(book)
    events = [
        event
        for found in standings
        for event in budget_events(found, payer=payer_of.get(found.budget["account_id"]), as_of=as_of)
    ]
    names = dict(book.accounts.select("account_id", "name").iter_rows())
    for period in watched:
        run = context.warehouse.current_run(period)
        if run is None:
            continue
        if _is_wanted(book, "anomaly"):
            events += _anomalies(context, period, as_of, notes)
        invoices = context.warehouse.table("billing", INVOICES, "period = $period", {"period": str(period)})
        events += invoice_events(invoices, names)
        if run["status"] == "done":
            events += run_events(str(period), run["run_id"], invoices.filter(origin="run"))
    rows, nobody = addressed(
        events, subscriptions=book.subscriptions, members=book.members, config=context.config, now=as_of
    )
    return Found(tuple(standings), tuple(events), tuple(rows), tuple(nobody), tuple(notes))


def _refuse_unknown_names(book: Book, config: Config) -> None:
    known = {"webhook": set(config.notify.webhooks), "chat": set(config.notify.chats)}
    found = [
        Finding(
            Severity.ERROR,
            "subscriptions.unknown_name",
            f"subscription {row['subscription_id']!r} goes to {row['channel']} {row['address']!r}, and"
            f" [notify.{row['channel']}s] of ratemill.toml has no such name, but"
            f" {', '.join(sorted(known[row['channel']])) or 'none at all'}",
            "write one of those names, or add it there",
            file=row["source_file"],
            row=row["source_row"],
            column="address",
            value=row["address"],
        )
        for row in book.subscriptions.filter(pl.col("channel") != "email").iter_rows(named=True)
        if row["address"] not in known[row["channel"]] and not _is_customers(row)
    ]
    if found:
        count = f"{len(found)} subscription{'s' if len(found) != 1 else ''}"
        raise DataRefusedError(f"{count} can't be told; nothing was sent", findings=found)


def _is_customers(row: Mapping[str, Any]) -> bool:
    """Whether a subscription is one that a customer made: what it is told by was looked at when it was made."""
    return bool(row[SOURCE_FILE] == CUSTOMERS_FILE)


def _is_wanted(book: Book, kind: str) -> bool:
    """Whether some subscription asks for it: what costs time is not looked for in vain."""
    return any(kind in text.split() or "all" in text.split() for text in book.subscriptions["events"])


def _payers(book: Book) -> dict[str | None, str]:
    billing = pl.col("billing_account_id").fill_null(pl.col("account_id"))
    return dict(book.accounts.select("account_id", billing).iter_rows())


def _anomalies(context: Context, period: BillingPeriod, as_of: datetime, notes: list[str]) -> list[Event]:
    from ratemill.steps.anomalies import anomalies  # noqa: PLC0415 - heavy, and only for who asks for it

    try:
        return anomaly_events(str(period), anomalies(context, period, as_of=as_of))
    except RatemillError as error:
        notes.append(f"anomalies of {period} were not looked for: {error}")
        return []


# -------------------------------------------------------------------------------------------------------------- budgets


def _standings(
    context: Context, book: Book, periods: Sequence[BillingPeriod], as_of: datetime
) -> tuple[list[Standing], list[str]]:
    pairs = spans_of(book.budgets, periods, time_zone=context.config.period.time_zone)
    spent = _Spending(context, book)
    expectations = _Expectations(context)
    found = []
    for budget, span in pairs:
        rows = counted(spent.rows(budget, span), budget, span)
        expected = None
        if budget["basis"] == "forecast":
            expected = expectations.figure(budget, span, rows, as_of)
        actual = figure(rows, budget["measure"], budget["currency"])
        found.append(standing(budget, span, actual=actual, expected=expected))
    return found, list(expectations.notes.values())


class _Spending:
    """Charges of the current runs as budgets look at them, read once a month."""

    def __init__(self, context: Context, book: Book, *, by_day: bool = False) -> None:
        self._context = context
        self._book = book
        self._by_day = by_day
        self._runs = dict(context.warehouse.runs().filter("is_current").select("period", "run_id").iter_rows())
        self._months: dict[BillingPeriod, pl.DataFrame] = {}

    def rows(self, budget: Mapping[str, Any], span: Span) -> pl.DataFrame:
        """Rows of ``spending`` of a budget's months; where it has a condition, those that fulfil it."""
        months = [month for month in span.months if str(month) in self._runs]
        if budget["where"] is not None and months:
            return self._spending(self._fulfilling(budget, months).lazy(), months)
        return pl.concat([self._month(month) for month in months] or [self._nothing()])

    def _month(self, month: BillingPeriod) -> pl.DataFrame:
        if month not in self._months:
            store = ChargeStore(self._context.workspace.charges)
            charges = store.all_charges(month, self._runs[str(month)])
            self._months[month] = self._spending(charges, [month])
        return self._months[month]

    def _nothing(self) -> pl.DataFrame:
        from ratemill.tables.charges import CHARGES  # noqa: PLC0415

        return self._spending(CHARGES.empty().lazy(), [])

    def _spending(self, charges: pl.LazyFrame, months: Sequence[BillingPeriod]) -> pl.DataFrame:
        warehouse, zone = self._context.warehouse, self._context.config.period.time_zone
        zones = dict(self._book.accounts.select("account_id", pl.col("time_zone").fill_null(zone)).iter_rows())
        lines = [warehouse.billed(month).lines for month in months]
        return spending(
            charges,
            lines=pl.concat(lines or [INVOICE_LINES.empty()]),
            skus=self._book.skus,
            zones=zones if self._by_day else None,
            time_zone=zone,
        )

    def _fulfilling(self, budget: Mapping[str, Any], months: Sequence[BillingPeriod]) -> pl.DataFrame:
        """Published charges that fulfil the budget's condition, by a process that can reach nothing else.

        Raises:
            DataRefusedError: the condition is none.
        """
        query = _with_condition(sql("watch/charges_where"), budget, months)
        try:
            found = run_query(self._context.workspace.published_database, query)
        except (UsageError, DataRefusedError) as error:
            finding = Finding(
                Severity.ERROR,
                "budgets.where",
                f"the condition of budget {budget['budget_id']!r} can't be asked of the charges: {error}",
                'mend it; to try it: ratemill sql "SELECT * FROM charges WHERE (…)"',
                file=budget["source_file"],
                row=budget["source_row"],
                column="where",
                value=budget["where"],
            )
            raise DataRefusedError("a budget's condition is wrong; nothing was sent", findings=[finding]) from None
        return pl.DataFrame(pl.from_arrow(found.table)).select(CHARGE_COLUMNS)


def _with_condition(text: str, budget: Mapping[str, Any], months: Sequence[BillingPeriod]) -> str:
    body = text[text.index("SELECT") :]
    return body.replace("$periods", ", ".join(f"'{month}'" for month in months)).replace(
        "$condition", str(budget["where"])
    )


class _Expectations:
    """Forecasts of running months, made once for each month and instant."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._made: dict[tuple[BillingPeriod, datetime], Any] = {}
        self.notes: dict[tuple[BillingPeriod, datetime], str] = {}

    def figure(self, budget: Mapping[str, Any], span: Span, rows: pl.DataFrame, as_of: datetime) -> Decimal:
        """What a span is expected to end with: months that have ended as they are, running ones as forecast."""
        zone = self._context.config.period.time_zone
        running = [month for month in span.months if month.start(zone) <= as_of < month.end(zone)]
        ended = rows.filter(~pl.col("period").is_in([str(month) for month in running]))
        total = figure(ended, budget["measure"], budget["currency"])
        for month in running:
            so_far = rows.filter(period=str(month))
            made = self._forecast(month, as_of)
            if made is None:
                total += figure(so_far, budget["measure"], budget["currency"])
            else:
                expected = made.rows.with_columns(period=pl.lit(str(month)))
                total += expected_figure(so_far, expected, made.invoices, budget, span)
        return total

    def _forecast(self, month: BillingPeriod, as_of: datetime) -> Any:
        from ratemill.steps.forecast import forecast  # noqa: PLC0415 - heavy, and only for budgets that look ahead

        key = (month, as_of)
        if key not in self._made:
            try:
                self._made[key] = forecast(self._context, month, as_of=as_of)
            except RatemillError as error:
                self._made[key] = None
                self.notes[key] = f"{month} was not forecast, so its budgets show what was spent so far: {error}"
        return self._made[key]


# ------------------------------------------------------------------------------------------------------------- backtest


@dataclass(frozen=True)
class Replayed:
    """How the budgets of the book would have told of the past."""

    days: int
    spans: int
    crossings: tuple[Crossing, ...]
    notes: tuple[str, ...]


def replay(context: Context, periods: Sequence[BillingPeriod]) -> Replayed:
    """When each threshold of today's budgets would have been reached, day by day over past months.

    A charge of one day counts from that day on, and what is for more days in equal parts. Forecasts are made anew as of
    the end of each day, with the usage of then and the prices of now.

    Raises:
        UsageError: no month of them has a run.
        DataRefusedError: the book has mistakes, or a budget's condition is none.
    """
    book, _ = checked_book(context.workspace)
    spent, shown = _Spending(context, book, by_day=True), context.progress
    known = [period for period in periods if context.warehouse.current_run(period) is not None]
    if not known:
        raise UsageError(f"none of {periods[0]}..{periods[-1]} has a run → run: ratemill run --period {periods[0]}")
    zone = context.config.period.time_zone
    today = context.now.astimezone(ZoneInfo(zone)).date()
    found: list[Crossing] = []
    pairs = spans_of(book.budgets, known, time_zone=zone)
    days_of = {period: [day for day in _days(period) if day <= today] for period in known}
    context = replace(context, progress=SilentProgress())  # a line for each day's forecast would tell nothing
    expectations = _Expectations(context)
    with shown.step("backtest", total=len(pairs), unit="budgets") as step:
        for budget, span in pairs:
            rows = counted(spent.rows(budget, span), budget, span)
            figures: list[tuple[date, Decimal]] = []
            highest = thresholds_of(budget["thresholds"], budget["amount"])[-1].limit
            for day in [day for month in span.months for day in days_of.get(month, ())]:
                stood = until(rows, day)
                if budget["basis"] == "forecast":
                    end = datetime.combine(day + timedelta(days=1), time(), tzinfo=ZoneInfo(zone)).astimezone(UTC)
                    figures.append((day, expectations.figure(budget, span, stood, min(end, context.now))))
                else:
                    figures.append((day, figure(stood, budget["measure"], budget["currency"])))
                if figures[-1][1] >= highest:
                    break  # nothing is left to be told
            found += crossings(budget, span, figures)
            step.advance()
    found.sort(key=lambda crossing: (crossing.day, crossing.budget["budget_id"], crossing.threshold.limit))
    days = sum(len(of_month) for of_month in days_of.values())
    return Replayed(days, len(pairs), tuple(found), tuple(dict.fromkeys(expectations.notes.values())))


def _days(period: BillingPeriod) -> list[date]:
    return [period.first_day + timedelta(days=number) for number in range(period.days)]
