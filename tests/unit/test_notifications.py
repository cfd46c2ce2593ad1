"""Who is told of what, when, and once: events, recipients, quiet hours, digests, and the outbox."""

from __future__ import annotations

import ast
import inspect
import json
import re
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratemill.book.model import Book
from ratemill.config import Engine, parse_config
from ratemill.documents.environment import make_environment
from ratemill.findings import Finding, Severity
from ratemill.insight.budgets import Span, standing
from ratemill.io.outbox import Journal, Outbox
from ratemill.io.warehouse import Warehouse
from ratemill.notify.events import (
    Event,
    addressed,
    anomaly_events,
    budget_events,
    failure_event,
    invoice_events,
    run_events,
)
from ratemill.notify.messages import Fact, Notice, grouped, message_of, written
from ratemill.notify.outcomes import Outcome
from ratemill.notify.schedule import is_quiet, next_time, wait_after
from ratemill.period import BillingPeriod
from ratemill.resources import shipped
from ratemill.tables.invoices import INVOICES
from ratemill.tables.runs import NOTIFICATIONS

D = Decimal
PARIS = ZoneInfo("Europe/Paris")
NOW = datetime(2026, 11, 2, 6, 0, tzinfo=UTC)
OCTOBER = Span.of(BillingPeriod(2026, 10), "month")


def config(**notify):
    return parse_config(
        {"seller": {"name": "x", "country": "FR"}, "period": {"time_zone": "Europe/Paris"}, "notify": notify}
    )


def table(name, *rows):
    """A table of the book; columns that are not given are empty or usual."""
    schema = Book.of().frame(name).schema
    names = list(dict.fromkeys(column for row in rows for column in row))
    frame = pl.DataFrame([{n: row.get(n) for n in names} for row in rows], schema={n: schema[n] for n in names})
    return Book.of(**{name: frame}).frame(name) if rows else Book.of().frame(name)


def subscription(identity="s", **values):
    return {"subscription_id": identity, "events": "all", "channel": "email", "address": "a@example.com"} | values


def event(kind="budget", *cause, **about):
    return Event(kind, cause or ("c",), {"limit": "1"}, **about)


def told(*events, subscriptions, members=(), **settings):
    """(channel, address) of everybody who is told, and how many events nobody hears of."""
    rows, nobody = addressed(
        events, subscriptions=table("subscriptions", *subscriptions), members=table("members", *members),
        config=config(**settings), now=NOW,
    )  # fmt: skip
    return [(row["channel"], row["address"]) for row in rows], len(nobody)


# --------------------------------------------------------------------------------------------------------------- events


def budget(**values):
    given = {"budget_id": "b", "amount": D(100), "currency": "EUR", "account_id": "acme"} | values
    schema = Book.of().budgets.schema
    frame = pl.DataFrame({k: [v] for k, v in given.items()}, schema={name: schema[name] for name in given})
    return Book.of(budgets=frame).budgets.row(0, named=True)


def reached(figure, **values):
    found = standing(budget(**values), OCTOBER, actual=D(figure))
    return budget_events(found, payer="acme", as_of=NOW)


def test_each_threshold_that_is_reached_is_an_event():
    found = reached("85")
    assert [one.payload["threshold"] for one in found] == ["50%", "80%"]
    assert found[1].payload == {
        "period": "2026-10", "currency": "EUR", "amount": "85", "actual": "85", "basis": "actual", "measure": "net",
        "percent": "85", "threshold": "80%", "limit": "80", "as_of": "2026-11-02T06:00:00Z",
        "budget": {"budget_id": "b", "name": "b", "amount": "100", "currency": "EUR", "period": "month"},
        "scope": {"account_id": "acme"},
    }  # fmt: skip


def test_a_threshold_is_the_same_event_whatever_was_spent_since():
    assert reached("85")[0].key == reached("120", note="Renamed")[0].key


@pytest.mark.parametrize("other", [{"amount": D(150)}, {"budget_id": "c"}, {"measure": "gross"}, {"basis": "forecast"}])
def test_another_amount_or_another_measure_is_another_event(other):
    assert reached("85")[0].key not in {one.key for one in reached("85", **other)}


def test_the_same_trouble_is_one_event_until_a_run_comes_to_its_end():
    def failed(message="disk full", since="run-1 done", *findings):
        return failure_event("run_failed", ["2026-10"], message, findings, since=since, now=NOW)

    wrong, other = (Finding(Severity.ERROR, "r", text) for text in ("one", "two"))
    assert failed().key == failed().key
    assert failed("refused", "run-1 done", wrong, other).key == failed("refused", "run-1 done", other, wrong).key
    assert len({failed().key, failed("other").key, failed(since="run-2 done").key, failed("disk full", "run-1 done", wrong).key}) == 4  # fmt: skip


def test_findings_of_trouble_are_told_up_to_twenty():
    many = [Finding(Severity.ERROR, "r", f"wrong {number}") for number in range(25)]
    payload = failure_event("close_blocked", ["2026-10"], "25 points", many, since="", now=NOW).payload
    assert (len(payload["findings"]), payload["more_findings"]) == (20, 5)


def test_an_anomaly_is_known_by_its_first_day():
    frame = pl.DataFrame(
        {
            "day": [date(2026, 10, 7)], "last_day": [date(2026, 10, 8)], "billing_account_id": ["acme"],
            "account_id": ["acme-lab"], "service": ["Compute"], "currency": ["EUR"], "kind": ["spike"],
            "expected": [D("10")], "actual": [D("95.5")], "excess": [D("85.5")], "score": [9.0],
            "drivers": [[{"resource_id": "vm-7", "sku_id": "vm", "excess": D("80")}]],
        }
    )  # fmt: skip
    (found,) = anomaly_events("2026-10", frame)
    (later,) = anomaly_events("2026-10", frame.with_columns(last_day=date(2026, 10, 9), actual=D("195.5")))
    assert found.key == later.key
    assert (found.payer, found.account) == ("acme", "acme-lab")
    assert found.payload["drivers"] == [{"resource_id": "vm-7", "sku_id": "vm", "excess": "80"}]


# ----------------------------------------------------------------------------------------------------------- recipients


def test_who_is_told_of_what():
    about_lab = event("anomaly", payer="acme", account="acme-lab")
    about_acme = event("invoice", payer="acme")
    of_month = event("run_failed")
    rows = [
        subscription("everything", address="all@example.com"),
        subscription("lab", address="lab@example.com", account_id="acme-lab"),
        subscription("payer", address="acme@example.com", account_id="acme"),
        subscription("money", address="money@example.com", events="invoice budget"),
        subscription("ended", address="former@example.com", valid_to=NOW),
    ]
    assert told(about_lab, subscriptions=rows)[0] == [
        ("email", "all@example.com"), ("email", "lab@example.com"), ("email", "acme@example.com"),
    ]  # fmt: skip
    assert told(about_acme, subscriptions=rows)[0] == [
        ("email", "all@example.com"), ("email", "money@example.com"), ("email", "acme@example.com"),
    ]  # fmt: skip
    assert told(of_month, subscriptions=rows)[0] == [("email", "all@example.com")]


def test_one_budget_only():
    rows = [subscription(events="budget invoice", budget_id="b")]
    assert told(event(budget_id="b"), event("invoice"), subscriptions=rows) == ([("email", "a@example.com")] * 2, 0)
    assert told(event(budget_id="c"), subscriptions=rows) == ([], 1)


def test_two_subscriptions_of_one_address_are_told_once():
    rows = [subscription("one"), subscription("two", events="budget"), subscription("hook", channel="webhook")]
    assert told(event(), subscriptions=rows)[0] == [("webhook", "a@example.com"), ("email", "a@example.com")]


MEMBER = {"principal": "jo@example.com", "role": "billing_reader"}


@pytest.mark.parametrize(
    ("grant", "seen"),
    [
        ({"organization_id": "acme"}, ["payer", "lab", "project"]),
        ({"account_id": "acme-lab"}, ["lab", "project"]),
        ({"organization_id": "acme", "project_id": "rover"}, ["project"]),
        ({"organization_id": "globex"}, []),
        ({"organization_id": "acme", "valid_to": NOW}, []),
    ],
)
def test_a_member_is_told_what_the_member_may_see(grant, seen):
    about = {
        "everybody": {},
        "payer": {"payer": "acme"},
        "lab": {"payer": "acme", "account": "acme-lab"},
        "project": {"payer": "acme", "account": "acme-lab", "project": "rover"},
    }
    rows = [subscription(address=None, principal="jo@example.com")]
    heard = [name for name, of in about.items() if told(event(**of), subscriptions=rows, members=[MEMBER | grant])[0]]
    assert heard == seen


def test_who_is_no_member_any_more_is_told_nothing():
    assert told(event(payer="acme"), subscriptions=[subscription(principal="jo@example.com")]) == ([], 1)


@pytest.mark.slow
@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=30))
def test_a_storm_of_the_same_events_is_told_once_each(causes):
    addresses, _ = told(*(event("budget", cause) for cause in causes), subscriptions=[subscription()])
    assert len(addresses) == len(set(causes))


# ----------------------------------------------------------------------------------------------------------------- when


@pytest.mark.parametrize(
    ("clock", "quiet"),
    [("21:59", False), ("22:00", True), ("23:59", True), ("00:00", True), ("06:59", True), ("07:00", False)],
)
def test_quiet_hours_over_midnight(clock, quiet):
    hour, minute = map(int, clock.split(":"))
    assert is_quiet(datetime(2026, 11, 2, hour, minute, tzinfo=PARIS), "22:00-07:00", PARIS) is quiet


def test_quiet_hours_at_noon_and_none():
    noon = datetime(2026, 7, 1, 10, 30, tzinfo=UTC)  # 12:30 in Paris
    assert is_quiet(noon, "12:00-13:00", PARIS)
    assert not is_quiet(noon, "13:00-14:00", PARIS)
    assert not is_quiet(noon, "off", PARIS)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-11-02T06:59:00+00:00", "2026-11-02T07:00:00+00:00"),
        ("2026-11-02T07:00:00+00:00", "2026-11-02T07:00:00+00:00"),
        ("2026-11-02T07:01:00+00:00", "2026-11-03T07:00:00+00:00"),
        ("2026-10-24T07:00:00+00:00", "2026-10-25T07:00:00+00:00"),  # the clocks go back in between: 25 hours
    ],
)
def test_the_email_of_the_day_goes_at_its_local_time(now, expected):
    assert next_time(datetime.fromisoformat(now), "08:00", PARIS) == datetime.fromisoformat(expected)


def test_waiting_doubles_up_to_half_a_day():
    assert [wait_after(n) // timedelta(minutes=1) for n in (1, 2, 3, 8, 9, 50)] == [5, 10, 20, 640, 720, 720]
    assert sum((wait_after(n) for n in range(1, 12)), timedelta()) < timedelta(days=3)


# ---------------------------------------------------------------------------------------------------------------- words

ANOMALY = {
    "period": "2026-10", "day": "2026-10-07", "billing_account_id": "acme", "account_id": "acme-lab",
    "service": "Compute", "currency": "EUR", "amount": "95.5", "expected": "10", "excess": "85.5",
    "drivers": [{"resource_id": "vm-7", "sku_id": "vm", "excess": "80"}],
}  # fmt: skip
EVENTS = {
    "budget": reached("120", note="Acme & Co", service="Compute"),
    "anomaly": [Event("anomaly", ("x",), ANOMALY)],
    "run_failed": [
        failure_event("run_failed", ["2026-10"], "1 mistake", [Finding(Severity.ERROR, "r", "bad")], since="", now=NOW)
    ],
    "close_blocked": [failure_event("close_blocked", ["2026-10"], "2 points are open", [], since="", now=NOW)],
}
INVOICE = {
    "invoice_id": "2026-10-acme-EUR", "document": "invoice", "period": "2026-10", "billing_account_id": "acme",
    "currency": "EUR", "status": "issued", "number": "2026-00001", "issue_date": date(2026, 11, 2),
    "due_date": date(2026, 12, 2), "origin": "run", "untaxed_amount": D(100), "tax_amount": D(20),
    "total_amount": D(120), "due_amount": D(120),
}  # fmt: skip
ISSUED = pl.DataFrame([{n: INVOICE.get(n) for n in INVOICES.names}], schema=INVOICES.polars_schema)
EVENTS["invoice"] = invoice_events(ISSUED, {"acme": "Acme"})
EVENTS["run_done"] = run_events("2026-10", "2026-10-abc", ISSUED)


def messages(*events, **settings):
    rows, _ = addressed(
        events, subscriptions=table("subscriptions", subscription()), members=table("members"),
        config=config(**settings), now=NOW,
    )  # fmt: skip
    return [message_of(group) for group in grouped(rows)]


@pytest.mark.parametrize("language", ["en", "de", "fr", "ja"])
@pytest.mark.parametrize("kind", EVENTS)
def test_every_kind_of_event_can_be_said(kind, language):
    (message,) = messages(*EVENTS[kind], language=language)
    text = written(message, make_environment(), seller="Example Cloud")
    assert text.subject.startswith("Example Cloud: ")
    assert "$" not in text.text
    expected = {"budget": "120.00", "anomaly": "vm-7", "invoice": "2026-00001", "run_failed": "bad",
                "close_blocked": "2 points are open", "run_done": "100.00"}[kind]  # fmt: skip
    assert expected in text.text.replace(",", ".") or expected in text.text
    assert message.rows[-1]["notification_id"][:12] in text.html


def test_of_several_thresholds_the_highest_is_told():
    (message,) = messages(*reached("120"))
    assert len(message.rows) == 3
    text = written(message, make_environment(), seller="x")
    assert text.text.count("Threshold reached") == 1
    assert "100%" in text.text


def test_a_digest_is_one_email_of_everything():
    (message,) = messages(*EVENTS["budget"], *EVENTS["invoice"], *EVENTS["run_failed"], digest="daily")
    text = written(message, make_environment(), seller="x")
    assert text.subject == "x: 3 messages"
    assert text.html.count("<h1") == 3


def test_labels_of_every_language_are_the_same():
    names = {}
    for language in ("en", "de", "fr"):
        source, *_ = make_environment().loader.get_source(make_environment(), f"email/labels/{language}.json")
        names[language] = json.loads(source)
    assert names["de"].keys() == names["en"].keys() == names["fr"].keys()


@pytest.mark.parametrize("cls", [Notice, Fact])
def test_the_readme_tells_every_field_and_its_meaning(cls):
    body = ast.parse(inspect.getsource(cls)).body[0].body
    meanings = {
        statement.target.id: " ".join(ast.literal_eval(after.value).split())
        for statement, after in pairwise(body)
        if isinstance(statement, ast.AnnAssign)
    }
    assert list(meanings) == [field.name for field in fields(cls)]
    part = (shipped("templates") / "README.md").read_text(encoding="utf-8").partition("\n## E-mails\n")[2]
    section = re.search(rf"^### {cls.__name__}\b.*?$(.*?)(?=^##|\Z)", part, re.MULTILINE | re.DOTALL)
    rows = [[c.strip() for c in row.strip("|").split("|")] for row in section[1].splitlines() if row.startswith("|")]
    assert dict(rows[2:]) == meanings


# --------------------------------------------------------------------------------------------------------------- outbox


@pytest.fixture
def outbox(tmp_path):
    with Warehouse.open(tmp_path / "warehouse.duckdb", Engine(threads=1)) as warehouse:
        yield Outbox(warehouse, Journal(tmp_path / "outbox.journal"), max_attempts=3)


def rows_of(*events, **settings):
    return addressed(
        events, subscriptions=table("subscriptions", subscription()), members=table("members"),
        config=config(**settings), now=NOW,
    )[0]  # fmt: skip


def note(outbox, *outcomes, at=NOW):
    with outbox._journal.writing() as write:
        for outcome in outcomes:
            write(outcome, at)


def states(outbox):
    return outbox.rows()["state"].to_list()


def test_what_was_queued_is_never_queued_again(outbox):
    rows = rows_of(*EVENTS["invoice"])
    assert len(outbox.queue(rows)) == 1
    assert outbox.queue(rows) == []
    (message,), _ = outbox.due(NOW, PARIS)
    outbox.claim([message], NOW)
    note(outbox, Outcome(message.message_id, "sent"))
    outbox.settle()
    assert outbox.queue(rows) == []
    assert states(outbox) == ["sent"]
    assert outbox.due(NOW, PARIS) == ([], [])


def test_what_a_killed_sender_had_is_sent_again_as_the_same_message(outbox):
    outbox.queue(rows_of(*reached("120"), *EVENTS["invoice"]))
    before, _ = outbox.due(NOW, PARIS)
    outbox.claim(before, NOW)
    outbox.queue(rows_of(*reached("120", budget_id="later")))  # found while it was dead
    after, _ = outbox.due(NOW, PARIS)
    assert {m.message_id for m in before} < {m.message_id for m in after}
    assert [len(m.rows) for m in before] == [
        len(m.rows) for m in after if m.message_id in {b.message_id for b in before}
    ]


def test_a_line_that_a_killed_sender_left_unfinished_is_left_out(outbox, tmp_path):
    outbox.queue(rows_of(*EVENTS["invoice"]))
    (message,), _ = outbox.due(NOW, PARIS)
    outbox.claim([message], NOW)
    (tmp_path / "outbox.journal").write_text('{"message_id": "ab')
    note(outbox, Outcome(message.message_id, "sent"))
    outbox.settle()
    assert states(outbox) == ["sent"]
    assert not (tmp_path / "outbox.journal").exists()


def test_later_is_not_at_once_and_not_for_ever(outbox):
    outbox.queue(rows_of(*EVENTS["invoice"]))
    clock = NOW
    for attempt in (1, 2, 3):
        (message,), _ = outbox.due(clock, PARIS)
        outbox.claim([message], clock)
        note(outbox, Outcome.later(message.message_id, "mailbox full"), at=clock)
        outbox.settle()
        (row,) = outbox.rows().to_dicts()
        assert (row["attempts"], row["last_error"]) == (attempt, "mailbox full")
        if attempt < 3:
            assert outbox.due(clock, PARIS)[0] == []
            clock = row["not_before"]
    assert states(outbox) == ["given_up"]
    assert outbox.retry(NOW) == 1
    (message,), _ = outbox.due(NOW, PARIS)
    assert message.rows[0]["attempts"] == 0


def test_refused_is_refused(outbox):
    outbox.queue(rows_of(*EVENTS["invoice"]))
    (message,), _ = outbox.due(NOW, PARIS)
    outbox.claim([message], NOW)
    note(outbox, Outcome.failed(message.message_id, "550 no such user"))
    outbox.settle()
    assert states(outbox) == ["failed"]
    assert outbox.due(NOW + timedelta(days=9), PARIS) == ([], [])


def test_a_journal_may_be_put_down_twice(outbox, tmp_path):
    outbox.queue(rows_of(*EVENTS["invoice"]))
    (message,), _ = outbox.due(NOW, PARIS)
    outbox.claim([message], NOW)
    note(outbox, Outcome(message.message_id, "sent"))
    kept = (tmp_path / "outbox.journal").read_bytes()
    outbox.settle()
    before = outbox.rows()
    (tmp_path / "outbox.journal").write_bytes(kept)
    outbox.settle()
    assert outbox.rows().equals(before)


def test_quiet_hours_and_digests_hold_back(outbox):
    night = datetime(2026, 11, 2, 23, 0, tzinfo=PARIS)
    outbox.queue(rows_of(*EVENTS["invoice"], quiet="22:00-07:00"))
    assert outbox.due(night, PARIS)[0] == []
    assert len(outbox.due(night + timedelta(hours=8), PARIS)[0]) == 1
    outbox.queue(rows_of(*EVENTS["anomaly"], digest="daily", digest_at="09:30"))
    due, held = outbox.due(NOW + timedelta(minutes=90), PARIS)  # 08:30 in Paris
    assert [m.rows[0]["kind"] for m in due] == ["invoice"]
    assert [row["kind"] for row in held] == ["anomaly"]


def test_an_older_warehouse_gets_the_table(tmp_path):
    """The layout is as it was: a warehouse without the table is opened, and has it then."""
    engine = Engine(threads=1)
    with Warehouse.open(tmp_path / "warehouse.duckdb", engine) as warehouse:
        warehouse.execute("DROP TABLE ops.notifications")
    with Warehouse.open(tmp_path / "warehouse.duckdb", engine) as warehouse:
        assert warehouse.table("ops", NOTIFICATIONS).height == 0
