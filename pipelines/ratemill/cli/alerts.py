"""``ratemill alerts`` and ``ratemill notifications``: who is told of what."""

from __future__ import annotations

import json as jsonlib
import os
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratemill.cli.shared import (
    JsonOption,
    LogFormatOption,
    QuietOption,
    WorkspaceOption,
    finish,
    open_workspace,
    print_entry,
    printable,
    read_actor,
    read_clock,
    read_periods,
    working,
)
from ratemill.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from ratemill.insight.budgets import Standing
    from ratemill.notify.messages import Message
    from ratemill.steps.alerts import Replayed, Sent

_PATIENCE_SECONDS = 30
"""How long to wait for a run to end before giving up."""
_SHOWN = 50
_SHOWN_KEY = 12
_INDENT, _TIME_WIDTH = 19, 18
"""Columns of result and channel in front of a line, and of the time before them."""


def alerts(
    period: Annotated[
        str | None,
        typer.Option(
            "--period",
            "-p",
            metavar="YYYY-MM",
            show_default=False,
            help="Billing period or range to look at; else this month, the last, and those closed of late.",
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="INSTANT",
            show_default=False,
            help="Take this for the clock, 2026-11-01T03:00:00Z: what is forecast, what is due, which month it is.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would go out, to whom and why. Nothing is written.")
    ] = False,
    backtest: Annotated[
        str | None,
        typer.Option(
            "--backtest",
            metavar="A..B",
            show_default=False,
            help="Only show on which day of past months each threshold would have been reached.",
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Look at budgets and at what happened, and tell who subscribed.

    Each recipient is told of each thing once, however often this is run. Run it after each run, and from time to time:
    it also sends what waited for quiet hours to end, for the e-mail of the day, or for a server to come back.
    """
    from ratemill import pipeline  # noqa: PLC0415 - heavy libraries, not needed for --help
    from ratemill.progress import make_progress  # noqa: PLC0415
    from ratemill.steps.alerts import alert, rehearse, replay  # noqa: PLC0415

    if backtest is not None and (period is not None or dry_run):
        raise UsageError("--backtest names its own months and sends nothing: give it without --period and --dry-run")
    opened, now = open_workspace(workspace, log_format=log_format, quiet=quiet), read_clock(as_of)
    periods = read_periods(period) if period is not None else None
    replayed = read_periods(backtest) if backtest is not None else None
    with make_progress(quiet=quiet or json or log_format == "json") as progress:

        def open_it() -> Any:
            return pipeline.open_run(
                opened, progress, now=now, command="ratemill alerts", actor=read_actor(None), wait=_PATIENCE_SECONDS
            )

        if replayed is not None:
            with open_it() as context:
                history = replay(context, replayed)
        elif dry_run:
            with open_it() as context:
                sent = rehearse(context, periods=periods, as_of=now)
        else:
            sent = alert(opened, open_it, periods=periods, as_of=now, secrets=os.environ)
    if replayed is not None:
        _tell_history(history, str(backtest), json=json)
        return
    code = _code(sent)
    if json:
        finish(
            {"status": _STATUS[code], "exit_code": int(code), "dry_run": dry_run, **_summary(sent)},
            json=True,
        )
    else:
        _print(sent, dry_run=dry_run)
    if code is not ExitCode.DONE:
        raise typer.Exit(code)


_RESULTS = {"sent": "sent", "later": "LATER", "failed": "FAILED"}
_STATUS = {ExitCode.DONE: "done", ExitCode.DATA_REFUSED: "refused", ExitCode.TEMPORARY: "temporary"}


def _code(sent: Sent) -> ExitCode:
    results = {outcome.result for outcome in sent.outcomes}
    if "failed" in results:
        return ExitCode.DATA_REFUSED
    return ExitCode.TEMPORARY if "later" in results or not sent.is_noted else ExitCode.DONE


# -------------------------------------------------------------------------------------------------------------- as JSON


def _summary(sent: Sent) -> dict[str, Any]:
    outcomes = {outcome.message_id: outcome for outcome in sent.outcomes}
    return {
        "budgets": [_standing(found) for found in sent.found.standings],
        "events": len(sent.found.events),
        "unheard": [{"kind": event.kind, "period": event.period, **event.payload} for event in sent.found.nobody],
        "queued": [_row(row) for row in sent.queued],
        "messages": [
            {
                "message_id": message.message_id,
                "channel": message.channel,
                "address": message.address,
                "notifications": [row["notification_id"] for row in message.rows],
                "result": outcomes[message.message_id].result if message.message_id in outcomes else "due",
                "error": outcomes[message.message_id].error if message.message_id in outcomes else "",
            }
            for message in sent.messages
        ],
        "waiting": [_row(row) for row in sent.held],
        "notes": list(sent.found.notes),
    }


def _standing(found: Standing) -> dict[str, Any]:
    return {
        "budget_id": found.budget["budget_id"],
        "account_id": found.budget["account_id"],
        "period": found.span.label,
        "currency": found.budget["currency"],
        "basis": found.budget["basis"],
        "measure": found.budget["measure"],
        "budget": found.budget["amount"],
        "actual": found.actual,
        "amount": found.figure,
        "percent": found.percent,
        "reached": [threshold.text for threshold in found.reached],
    }


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    shown = (
        "notification_id", "kind", "period", "account_id", "budget_id", "subscription_id", "channel", "address",
        "state", "attempts", "queued_at", "not_before", "last_attempt_at", "sent_at", "last_error",
    )  # fmt: skip
    return {
        **{name: _instant(row[name]) if hasattr(row[name], "isoformat") else row[name] for name in shown},
        "data": jsonlib.loads(row["payload"]),
    }


def _instant(value: Any) -> str:
    return str(value.isoformat(timespec="seconds")).replace("+00:00", "Z")


# ------------------------------------------------------------------------------------------------------------- on paper


def _print(sent: Sent, *, dry_run: bool) -> None:
    from rich.console import Console  # noqa: PLC0415 - heavy libraries, not needed for --help

    console = Console(file=sys.stdout, highlight=False)
    if sent.found.standings:
        _print_budgets(console, sent.found.standings)
    for note in sent.found.notes:
        print_entry("note      ", note)
    outcomes = {outcome.message_id: outcome for outcome in sent.outcomes}
    for message in sent.messages:
        outcome = outcomes.get(message.message_id)
        result = "would go" if outcome is None else _RESULTS[outcome.result]
        print_entry(f"{result:<9} {message.channel:<8} ", f"{message.address}: {_about(message)}")
        if outcome is not None and outcome.error:
            print_entry(" " * _INDENT, outcome.error)
    for row in sent.held:
        print_entry(f"waits     {row['channel']:<8} ", f"{row['address']}: {_what(row)} ({_why(row)})")
    for event in sent.found.nobody[:_SHOWN]:
        if event.kind in {"budget", "anomaly"}:
            data = {"kind": event.kind, "payload": jsonlib.dumps(event.payload, default=str), "period": event.period}
            print_entry("unheard   ", f"nobody is told: {_what(data)} → add a row to book/subscriptions.csv")
    counts = (
        f"{len(sent.queued):,} new, {len(sent.messages):,} message{'s' if len(sent.messages) != 1 else ''}"
        f" {'would go' if dry_run else 'tried'}, {len(sent.held):,} waiting"
    )
    typer.echo(counts)
    if not sent.is_noted:
        typer.echo("a run holds the workspace: how the sending went is kept, and put down by the next ratemill alerts")


def _print_budgets(console: Console, standings: Sequence[Standing]) -> None:
    from rich import box  # noqa: PLC0415 - heavy libraries, not needed for --help
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from ratemill.documents.formats import format_amount, format_money, format_percent  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), header_style="dim")
    table.add_column("Budget", overflow="fold")
    table.add_column("Period", no_wrap=True)
    for name in ("Amount", "So far", "Expected", "Share"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("Reached", "Counted"):
        table.add_column(name, no_wrap=True)
    for found in standings:
        currency = found.budget["currency"]
        is_forecast = found.budget["basis"] == "forecast"
        style = "bold red" if found.figure >= found.budget["amount"] else ""
        table.add_row(
            Text(printable(found.budget["budget_id"])),
            found.span.label,
            format_money(found.budget["amount"], currency),
            format_amount(found.actual, currency),
            format_amount(found.figure, currency) if is_forecast else "",
            Text(format_percent(found.percent), style=style),
            found.reached[-1].text if found.reached else "",
            found.budget["measure"],
        )
    console.print(table)
    console.print()


def _about(message: Message) -> str:
    """What a message tells; of one budget and period, its thresholds together."""
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in message.rows:
        same = (row["budget_id"], row["period"]) if row["kind"] == "budget" else (row["notification_id"],)
        found.setdefault(same, []).append(row)
    told = [_what(*rows) for rows in found.values()]
    return told[0] if len(told) == 1 else f"{len(told)} messages in one: {'; '.join(told)}"


def _what(*rows: Mapping[str, Any]) -> str:
    """A notification in a few words, or several thresholds of one budget."""
    from ratemill.documents.formats import format_money  # noqa: PLC0415 - heavy libraries, not needed for --help

    data = jsonlib.loads(rows[-1]["payload"])

    def money(name: str) -> str:
        return format_money(Decimal(data[name]), data["currency"])

    match rows[-1]["kind"]:
        case "budget":
            thresholds = ", ".join(jsonlib.loads(row["payload"])["threshold"] for row in rows)
            amount = format_money(Decimal(data["budget"]["amount"]), data["currency"])
            return (
                f"budget {data['budget']['budget_id']} of {data['period']} reached {thresholds}: {money('amount')} of"
                f" {amount}{' expected' if data['basis'] == 'forecast' else ''}"
            )
        case "anomaly":
            return (
                f"unusual costs of {data['account_id']}, {data['service']}, on {data['day']}:"
                f" {money('amount')}, expected {money('expected')}"
            )
        case "invoice":
            return f"{data['document'].replace('_', ' ')} {data['number']}, {money('amount')}"
        case "run_done":
            return f"run {data['run_id']} is done, {data['invoices']} drafts"
        case kind:
            return f"{'run' if kind == 'run_failed' else 'close'} of {data['period']}: {data['message']}"


def _why(row: Mapping[str, Any]) -> str:
    at = f"{row['not_before']:%Y-%m-%d %H:%M} UTC"
    if row["last_error"]:
        return f"attempt {row['attempts']} failed: {row['last_error']}; again after {at}"
    if row["digest"]:
        return f"e-mail of the day, {at}"
    return f"quiet hours {row['quiet']}"


def _tell_history(history: Replayed, months: str, *, json: bool) -> None:
    if json:
        finish(
            {
                "months": months,
                "days": history.days,
                "budgets": history.spans,
                "crossings": [
                    {
                        "day": found.day.isoformat(),
                        "budget_id": found.budget["budget_id"],
                        "period": found.span.label,
                        "threshold": found.threshold.text,
                        "limit": found.threshold.limit,
                        "amount": found.figure,
                        "currency": found.budget["currency"],
                        "basis": found.budget["basis"],
                        "measure": found.budget["measure"],
                    }
                    for found in history.crossings
                ],
                "notes": list(history.notes),
            },
            json=True,
        )
        return
    from rich import box  # noqa: PLC0415 - heavy libraries, not needed for --help
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from ratemill.documents.formats import format_money  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), header_style="dim")
    table.add_column("Day", no_wrap=True)
    table.add_column("Budget", overflow="fold")
    table.add_column("Period", no_wrap=True)
    for name in ("Threshold", "Amount"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Counted", no_wrap=True)
    for found in history.crossings:
        currency = found.budget["currency"]
        table.add_row(
            found.day.isoformat(),
            Text(printable(found.budget["budget_id"])),
            found.span.label,
            found.threshold.text,
            format_money(found.figure, currency),
            f"{found.budget['measure']}{', forecast' if found.budget['basis'] == 'forecast' else ''}",
        )
    Console(file=sys.stdout, highlight=False).print(table)
    for note in history.notes:
        print_entry("note: ", note)
    count = len(history.crossings)
    typer.echo(
        f"\n{count:,} threshold{'s' if count != 1 else ''} reached in {history.days:,} days of {months},"
        f" {history.spans:,} budget periods"
    )


# -------------------------------------------------------------------------------------------------------- notifications


def notifications(
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            metavar="STATE",
            show_default=False,
            help="Only those: queued, sending, sent, failed or given_up.",
        ),
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Queue what failed or was given up again; the next alerts sends it.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="The newest N.")] = 50,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Show what was sent, waits, or went wrong."""
    from ratemill.steps.alerts import outbox_of, sending_alone  # noqa: PLC0415
    from ratemill.tables.runs import NOTIFICATION_STATES  # noqa: PLC0415

    if state is not None and state not in NOTIFICATION_STATES:
        raise UsageError(f"--state: {state!r} is no state; use one of {', '.join(NOTIFICATION_STATES)}")
    opened, now = open_workspace(workspace, log_format=log_format), read_clock(None)
    command = "ratemill notifications"
    with sending_alone(opened, command), working(opened, command, now=now, quiet=True) as context:
        outbox = outbox_of(context)
        again = outbox.retry(now) if retry else 0
        rows = outbox.rows("$state IS NULL OR state = $state", {"state": state})
    counts = dict(rows.group_by("state").len().sort("state").iter_rows())
    shown = rows.tail(limit).to_dicts()
    if json:
        finish({"counts": counts, "retried": again, "notifications": [_row(row) for row in shown]}, json=True)
        return
    for row in shown:
        at = row["sent_at"] or row["last_attempt_at"] or row["queued_at"]
        told = f"{row['address']}: {_what(row)}  {row['notification_id'][:_SHOWN_KEY]}"
        print_entry(f"{at:%Y-%m-%d %H:%M}  {row['state']:<9} {row['channel']:<8} ", told)
        if row["last_error"]:
            print_entry(" " * (_TIME_WIDTH + _INDENT), f"after {row['attempts']} attempts: {row['last_error']}")
    if again:
        typer.echo(f"{again:,} queued again; run: ratemill alerts")
    told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
    typer.echo(told or "no notifications yet; who is told of what is in book/subscriptions.csv")
