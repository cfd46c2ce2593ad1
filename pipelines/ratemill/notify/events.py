"""What happened, as values; and who is told of it. Nothing here reads or writes.

An event has a *cause*: the words that make it the same event however often it is found. A recipient is a channel and an
address. The idempotency key is the SHA-256 of both, so that one recipient is told once of one cause, whatever is
retried, killed or late.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import polars as pl

from ratemill.book.budgets import events_of
from ratemill.documents.formats import plain
from ratemill.notify.schedule import next_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from ratemill.config import Config
    from ratemill.findings import Finding
    from ratemill.insight.budgets import Standing

SHOWN_FINDINGS = 20
_SCOPE = ("account_id", "category", "service", "sku_ids", "project_id", "region", "excludes", "tag_key", "tag_value",
          "where")  # fmt: skip


@dataclass(frozen=True)
class Event:
    """Something that somebody may want to know."""

    kind: str
    """One of EVENT_KINDS."""
    cause: tuple[str, ...]
    """What makes it this event and no other."""
    payload: Mapping[str, Any]
    """What is to be said, as JSON has it: decimals and instants are text."""
    period: str | None = None
    payer: str | None = None
    """Account that pays for what it is about."""
    account: str | None = None
    """The account that it is about, where that is one; else everything that the payer pays for."""
    project: str | None = None
    budget_id: str | None = None

    @property
    def key(self) -> str:
        """SHA-256 of the cause."""
        return _sha256(self.kind, *self.cause)


def notification_id(event: Event, channel: str, address: str) -> str:
    """The idempotency key: the same cause and the same recipient give the same."""
    return _sha256(event.key, channel, address)


def _sha256(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()


# --------------------------------------------------------------------------------------------------------------- events


def budget_events(standing: Standing, *, payer: str | None, as_of: datetime) -> list[Event]:
    """One event for each threshold that a budget has reached, lowest first.

    The cause names the amount that the threshold stands for: with a larger amount it is another threshold.
    """
    budget, span = standing.budget, standing.span
    common = {
        "period": span.label,
        "currency": budget["currency"],
        "amount": plain(standing.figure),
        "actual": plain(standing.actual),
        "basis": budget["basis"],
        "measure": budget["measure"],
        "percent": plain(standing.percent),
        "budget": {
            "budget_id": budget["budget_id"],
            "name": standing.name,
            "amount": plain(budget["amount"]),
            "currency": budget["currency"],
            "period": budget["period"],
        },
        "scope": {name: budget[name] for name in _SCOPE if budget[name] is not None},
        "as_of": _instant(as_of),
    }
    whole = budget["account_id"] is not None and budget["account_id"] == payer
    return [
        Event(
            "budget",
            (
                *(budget[name] for name in ("budget_id", "basis", "measure", "currency")),
                *(span.label, threshold.text, plain(threshold.limit)),
            ),
            {**common, "threshold": threshold.text, "limit": plain(threshold.limit)},
            period=span.label,
            payer=payer,
            account=None if whole else budget["account_id"],
            project=budget["project_id"],
            budget_id=budget["budget_id"],
        )
        for threshold in standing.reached
    ]


def anomaly_events(period: str, anomalies: pl.DataFrame) -> list[Event]:
    """One event per unusual day of an account and service."""
    return [
        Event(
            "anomaly",
            (row["day"].isoformat(), row["account_id"], row["service"] or "", row["currency"]),
            {
                "period": period,
                "day": row["day"].isoformat(),
                "billing_account_id": row["billing_account_id"],
                "account_id": row["account_id"],
                "service": row["service"],
                "currency": row["currency"],
                "amount": plain(row["actual"]),
                "expected": plain(row["expected"]),
                "excess": plain(row["excess"]),
                "drivers": _drivers(row["drivers"]),
            },
            period=period,
            payer=row["billing_account_id"],
            account=row["account_id"],
        )
        for row in anomalies.iter_rows(named=True)
    ]


def _drivers(value: Any) -> list[Any]:
    """The resources behind an anomaly, as JSON has them."""
    if value is None:
        return []
    found = json.loads(value) if isinstance(value, str) and value.startswith("[") else value
    return [found] if isinstance(found, str) else json.loads(json.dumps(list(found), default=_plain_text))


def _plain_text(value: Any) -> str:
    return plain(value) if hasattr(value, "is_zero") else str(value)


def invoice_events(invoices: pl.DataFrame, names: Mapping[str, str]) -> list[Event]:
    """One event per issued invoice or credit note (rows of INVOICES); ``names``: account → what people call it."""
    return [
        Event(
            "invoice",
            (row["number"], row["invoice_id"]),
            {
                "period": row["period"],
                "document": row["document"],
                "invoice_id": row["invoice_id"],
                "number": row["number"],
                "billing_account_id": row["billing_account_id"],
                "name": names.get(row["billing_account_id"], row["billing_account_id"]),
                "currency": row["currency"],
                "amount": plain(row["total_amount"]),
                "untaxed": plain(row["untaxed_amount"]),
                "tax": plain(row["tax_amount"]),
                "due": plain(row["due_amount"]),
                "issue_date": row["issue_date"].isoformat(),
                "due_date": row["due_date"].isoformat() if row["due_date"] else None,
            },
            period=row["period"],
            payer=row["billing_account_id"],
        )
        for row in invoices.filter(status="issued").sort("number").iter_rows(named=True)
    ]


def failure_event(
    kind: str, periods: Sequence[str], message: str, findings: Sequence[Finding], *, since: str, now: datetime
) -> Event:
    """A run that failed, or a close that was blocked.

    ``since``: what stood before, such as the run that is current. The same trouble on the same ground is the same
    event, however often it is tried; after a run that came to its end it would be another.
    """
    told = [str(finding) for finding in findings]
    period = periods[0] if len(periods) == 1 else f"{periods[0]}..{periods[-1]}"
    return Event(
        kind,
        (period, since, message, *sorted(told)),
        {
            "period": period,
            "message": message,
            "findings": told[:SHOWN_FINDINGS],
            "more_findings": max(len(told) - SHOWN_FINDINGS, 0),
            "at": _instant(now),
        },
        period=period,
    )


def run_events(period: str, run_id: str, invoices: pl.DataFrame) -> list[Event]:
    """The event that a run came to its end."""
    totals = invoices.group_by("currency").agg(pl.len(), pl.col("untaxed_amount", "total_amount").sum())
    return [
        Event(
            "run_done",
            (run_id,),
            {
                "period": period,
                "run_id": run_id,
                "invoices": invoices.height,
                "totals": [
                    {"currency": currency, "invoices": count, "untaxed": plain(untaxed), "total": plain(total)}
                    for currency, count, untaxed, total in totals.sort("currency").iter_rows()
                ],
            },
            period=period,
        )
    ]


def _instant(value: datetime) -> str:
    return value.isoformat(timespec="seconds").replace("+00:00", "Z")


# ----------------------------------------------------------------------------------------------------------- recipients


def addressed(
    events: Iterable[Event], *, subscriptions: pl.DataFrame, members: pl.DataFrame, config: Config, now: datetime
) -> tuple[list[dict[str, Any]], list[Event]]:
    """Rows of NOTIFICATIONS, queued: one per event and recipient; and the events of which nobody is told."""
    settings = config.notify
    zone = ZoneInfo(settings.time_zone or config.period.time_zone)
    valid = _valid(subscriptions, now).sort("subscription_id").to_dicts()
    granted = {name: list(rows) for name, rows in _by_principal(_valid(members, now)).items()}
    rows: dict[str, dict[str, Any]] = {}
    nobody = []
    for event in events:
        told = [row for row in valid if _wants(row, event) and _may_see(row, event, granted)]
        if not told:
            nobody.append(event)
        for row in told:
            address = row["address"] or row["principal"]
            identity = notification_id(event, row["channel"], address)
            daily = row["channel"] == "email" and (row["digest"] or settings.digest) == "daily"
            rows.setdefault(
                identity,
                {
                    "notification_id": identity,
                    "kind": event.kind,
                    "period": event.period,
                    "account_id": event.account or event.payer,
                    "budget_id": event.budget_id,
                    "subscription_id": row["subscription_id"],
                    "channel": row["channel"],
                    "address": address,
                    "language": row["language"] or settings.language,
                    "quiet": row["quiet"] or settings.quiet,
                    "digest": daily,
                    "state": "queued",
                    "message_id": None,
                    "attempts": 0,
                    "queued_at": now,
                    "not_before": next_time(now, settings.digest_at, zone) if daily else now,
                    "last_attempt_at": None,
                    "sent_at": None,
                    "last_error": None,
                    "payload": json.dumps(event.payload, ensure_ascii=False, sort_keys=True),
                },
            )
    return list(rows.values()), nobody


def _valid(rows: pl.DataFrame, now: datetime) -> pl.DataFrame:
    begins, ends = pl.col("valid_from"), pl.col("valid_to")
    return rows.filter((begins.is_null() | (begins <= now)) & (ends.is_null() | (ends > now)))


def _wants(row: Mapping[str, Any], event: Event) -> bool:
    if event.kind not in events_of(row["events"]):
        return False
    if row["account_id"] is not None and row["account_id"] not in (event.account, event.payer):
        return False
    if event.kind != "budget":
        return True
    if row["budget_id"] is not None and row["budget_id"] != event.budget_id:
        return False
    return row["threshold"] is None or row["threshold"] == event.payload["threshold"]


def _by_principal(members: pl.DataFrame) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in members.iter_rows(named=True):
        found.setdefault(row["principal"], []).append(row)
    return found


def _may_see(row: Mapping[str, Any], event: Event, granted: Mapping[str, list[Mapping[str, Any]]]) -> bool:
    """Whether the member that a subscription is for may see what the event is about; without a member: anybody may.

    What a row of the members names must be what the event is about, and nothing less: who sees one project is not told
    of the account's budget.
    """
    if row["principal"] is None:
        return True
    if event.payer is None:
        return False
    about = {"organization_id": event.payer, "account_id": event.account, "project_id": event.project}
    return any(
        all(grant[name] is None or grant[name] == value for name, value in about.items())
        for grant in granted.get(row["principal"], ())
    )
