"""From notifications to messages: grouped, in the recipient's language, as HTML and text.

What a template gets are :class:`Notice` and :class:`Fact`, documented in templates/README.md.
"""

from __future__ import annotations

import hashlib
import json
import string
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ratemill.documents import formats
from ratemill.documents.environment import make_environment, render
from ratemill.documents.labels import Wording, wording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import jinja2

    from ratemill.documents.guard import Guard
    from ratemill.io.document_pool import File

_SHORT_KEY = 12


@dataclass(frozen=True)
class Fact:
    """One thing to know, as a table of two columns has it."""

    name: str
    """What it is."""
    value: str
    """Its value."""


@dataclass(frozen=True)
class Notice:
    """One event, ready to be shown."""

    kind: str
    """What happened: budget, anomaly, invoice, run_failed, close_blocked or run_done."""
    title: str
    """What happened, in one line."""
    figure: str
    """The amount that it is about, with its currency; empty where there is none."""
    figure_label: str
    """What the figure is."""
    facts: tuple[Fact, ...]
    """What else there is to know, most important first."""
    details_label: str
    """What the details are."""
    details: tuple[str, ...]
    """Lines of text: what is to be mended, resources behind unusual costs."""
    is_bad: bool
    """Whether somebody has to do something."""
    key: str
    """First digits of the idempotency key, to ask about it."""


@dataclass(frozen=True)
class Message:
    """What is sent at once to one recipient."""

    message_id: str
    """The same however often it is sent."""
    channel: str
    address: str
    language: str
    rows: tuple[Mapping[str, Any], ...]
    """Rows of NOTIFICATIONS that it carries, oldest first."""

    @property
    def size(self) -> int:
        """How much there is to write."""
        return len(self.rows)


def grouped(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Rows that go out together: those of a message that was begun, digests, thresholds of one budget; else one by one.

    What a machine reads goes out one by one.
    """
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=_in_order):
        recipient = (row["channel"], row["address"], row["language"])
        if row["message_id"] is not None:
            group: tuple[str, ...] = ("begun", row["message_id"])
        elif row["channel"] == "webhook":
            group = ("one", row["notification_id"])
        elif row["digest"]:
            group = ("digest", *recipient)
        elif row["kind"] == "budget":
            group = ("budget", *recipient, row["budget_id"], row["period"])
        else:
            group = ("one", row["notification_id"])
        groups.setdefault(group, []).append(row)
    return list(groups.values())


def _in_order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """By time, then by what it is; thresholds of a budget from low to high."""
    limit = _limit(row) if row["kind"] == "budget" else Decimal()
    return row["queued_at"], row["kind"], row["budget_id"] or "", row["period"] or "", limit, row["notification_id"]


def message_of(rows: Sequence[Mapping[str, Any]]) -> Message:
    """The message that carries some rows; its identity is theirs."""
    ids = sorted(row["notification_id"] for row in rows)
    identity = ids[0] if len(ids) == 1 else hashlib.sha256("\n".join(ids).encode()).hexdigest()
    first = rows[0]
    return Message(
        first["message_id"] or identity, first["channel"], first["address"], first["language"], tuple(rows)
    )  # fmt: skip


@dataclass(frozen=True)
class Text:
    """A message to people, in words."""

    subject: str
    text: str
    html: str


@dataclass(frozen=True)
class MessagePrinter:
    """Writes the words of messages; a maker of documents, so that templates of a workspace run with limits."""

    templates: Path
    """The workspace's own; need not exist."""
    seller: str

    def open(self, guard: Guard) -> Callable[[Message], Iterator[File]]:
        """The function that does it.

        Raises:
            UsageError: a template of the workspace is wrong.
        """
        environment = make_environment(self.templates, guard)

        def make(message: Message) -> Iterator[File]:
            text = written(message, environment, seller=self.seller)
            for name, value in (("subject", text.subject), ("text", text.text), ("html", text.html)):
                yield message.message_id, name, value.encode()

        return make


def written(message: Message, environment: jinja2.Environment, *, seller: str) -> Text:
    """The words of a message.

    Raises:
        UsageError: a template or labels file of the user is wrong.
    """
    words = wording(environment, "email", message.language)
    shown = [_notice(row, words) for row in _worth_telling(message.rows)]
    subject = shown[0].title if len(shown) == 1 else _fill(words.labels["digest_title"], count=str(len(shown)))
    variables = {
        "notices": tuple(shown), "subject": subject, "seller": seller, "labels": words.labels,
        "language": words.language, "direction": words.direction,
    }  # fmt: skip
    return Text(
        formats.clean_text(f"{seller}: {subject}"),
        render(environment, "email/notice.txt.j2", **variables),
        render(environment, "email/notice.html.j2", **variables),
    )


def _worth_telling(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of several thresholds of one budget, the highest: it tells of the others."""
    highest: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        if row["kind"] == "budget":
            key = (row["budget_id"], row["period"])
            if key not in highest or _limit(row) > _limit(highest[key]):
                highest[key] = row
    return [row for row in rows if row["kind"] != "budget" or highest[row["budget_id"], row["period"]] is row]


def _limit(row: Mapping[str, Any]) -> Decimal:
    return Decimal(json.loads(row["payload"])["limit"])


# -------------------------------------------------------------------------------------------------------------- notices


def _notice(row: Mapping[str, Any], words: Wording) -> Notice:
    payload: dict[str, Any] = json.loads(row["payload"])
    return _NOTICES[row["kind"]](payload, words, row["notification_id"][:_SHORT_KEY])


def _budget(payload: Mapping[str, Any], words: Wording, key: str) -> Notice:
    labels, language, currency = words.labels, words.language, payload["currency"]
    expected = payload["basis"] == "forecast"
    percent = formats.format_percent(Decimal(payload["percent"]), language)
    name = payload["budget"]["name"]
    facts = [
        Fact(labels["budget_amount"], _money(payload["budget"]["amount"], currency, language)),
        Fact(labels["threshold"], _threshold(payload, language)),
        Fact(labels["period"], _span(payload["period"], language)),
        Fact(labels["measure"], labels[f"measure_{payload['measure']}"]),
        *([Fact(labels["spent_so_far"], _money(payload["actual"], currency, language))] if expected else []),
        *(
            Fact(labels[f"scope_{scope}"], str(value))
            for scope, value in payload["scope"].items()
            if f"scope_{scope}" in labels
        ),
    ]
    return Notice(
        "budget",
        _fill(labels["budget_forecast_title" if expected else "budget_title"], name=name, percent=percent),
        _money(payload["amount"], currency, language),
        labels["expected_figure" if expected else "spent_figure"],
        tuple(facts),
        "",
        (),
        Decimal(payload["amount"]) >= Decimal(payload["budget"]["amount"]),
        key,
    )


def _threshold(payload: Mapping[str, Any], language: str) -> str:
    limit = _money(payload["limit"], payload["currency"], language)
    if not payload["threshold"].endswith("%"):
        return limit
    return f"{formats.format_percent(Decimal(payload['threshold'][:-1]), language)} · {limit}"


def _anomaly(payload: Mapping[str, Any], words: Wording, key: str) -> Notice:
    labels, language, currency = words.labels, words.language, payload["currency"]
    day = formats.format_day(date.fromisoformat(payload["day"]), language)
    service = payload["service"] or payload["account_id"]
    return Notice(
        "anomaly",
        _fill(labels["anomaly_title"], service=service, account=payload["account_id"], day=day),
        _money(payload["amount"], currency, language),
        _fill(labels["cost_on"], day=day),
        (
            Fact(labels["expected"], _money(payload["expected"], currency, language)),
            Fact(labels["excess"], _money(payload["excess"], currency, language)),
            Fact(labels["scope_account_id"], payload["account_id"]),
        ),
        labels["drivers"],
        tuple(_driver(driver, currency, language) for driver in payload["drivers"]),
        is_bad=True,
        key=key,
    )


def _driver(driver: Any, currency: str, language: str) -> str:
    """A resource behind unusual costs: what it is, then how much it adds."""
    if not isinstance(driver, dict):
        return str(driver)
    excess = driver.get("excess")
    names = (driver.get("resource_id"), driver.get("sku_id"), excess and f"+{_money(excess, currency, language)}")
    return " · ".join(name for name in names if name)


def _invoice(payload: Mapping[str, Any], words: Wording, key: str) -> Notice:
    labels, language, currency = words.labels, words.language, payload["currency"]
    due = payload["due_date"] and formats.format_day(date.fromisoformat(payload["due_date"]), language)
    return Notice(
        "invoice",
        _fill(labels[f"{payload['document']}_title"], number=payload["number"], name=payload["name"]),
        _money(payload["amount"], currency, language),
        labels["total"],
        (
            Fact(labels["period"], _span(payload["period"], language)),
            Fact(labels["untaxed"], _money(payload["untaxed"], currency, language)),
            Fact(labels["tax"], _money(payload["tax"], currency, language)),
            Fact(labels["due"], _money(payload["due"], currency, language)),
            *([Fact(labels["due_date"], due)] if due else []),
            Fact(labels["issue_date"], formats.format_day(date.fromisoformat(payload["issue_date"]), language)),
            Fact(labels["scope_account_id"], payload["billing_account_id"]),
        ),
        "",
        (),
        is_bad=False,
        key=key,
    )


def _trouble(kind: str, payload: Mapping[str, Any], words: Wording, key: str) -> Notice:
    labels = words.labels
    more = payload["more_findings"]
    return Notice(
        kind,
        _fill(labels[f"{kind}_title"], period=_span(payload["period"], words.language)),
        "",
        "",
        (
            Fact(labels["reason"], payload["message"]),
            Fact(labels["at"], f"{datetime.fromisoformat(payload['at']):%Y-%m-%d %H:%M} UTC"),
        ),
        labels["to_mend"],
        (*payload["findings"], *([_fill(labels["more"], count=str(more))] if more else [])),
        is_bad=True,
        key=key,
    )


def _run_failed(payload: Mapping[str, Any], words: Wording, key: str) -> Notice:
    return _trouble("run_failed", payload, words, key)


def _close_blocked(payload: Mapping[str, Any], words: Wording, key: str) -> Notice:
    return _trouble("close_blocked", payload, words, key)


def _run_done(payload: Mapping[str, Any], words: Wording, key: str) -> Notice:
    labels, language = words.labels, words.language
    return Notice(
        "run_done",
        _fill(labels["run_done_title"], period=_span(payload["period"], language), count=str(payload["invoices"])),
        "",
        "",
        tuple(
            Fact(
                _fill(labels["total_untaxed_in"], currency=total["currency"]),
                _money(total["untaxed"], total["currency"], language),
            )
            for total in payload["totals"]
        ),
        "",
        (),
        is_bad=False,
        key=key,
    )


_NOTICES = {
    "budget": _budget,
    "anomaly": _anomaly,
    "invoice": _invoice,
    "run_failed": _run_failed,
    "close_blocked": _close_blocked,
    "run_done": _run_done,
}


def _money(text: str, currency: str, language: str) -> str:
    return formats.format_money(Decimal(text), currency, language)


def _span(period: str, language: str) -> str:
    """A month in words; quarters, years and ranges as they are."""
    try:
        return formats.format_month(date.fromisoformat(f"{period}-01"), language)
    except ValueError:
        return period


def _fill(text: str, **values: str) -> str:
    return string.Template(text).substitute(values)
