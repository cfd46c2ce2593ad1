"""Alerts end to end: workspaces that are run and closed, a real mail server, a real web server.

Method: a shop of two payers is billed in October, and `ratemill alerts` is given whatever a month brings. What the
servers took is compared with what was to be told, by recipient and idempotency key.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from decimal import Decimal

import pytest

from ratemill.errors import ExitCode
from receivers import HookServer, MailServer, free_port
from workspaces import ADDRESSED, BOOK, NOW, PERIOD, TinyWorkspace, hours, make_workspace, month_of_usage, run_process

pytestmark = pytest.mark.slow

D = Decimal
LATER = "2026-11-02T07:00:00Z"
BUDGETS = [
    {"budget_id": "acme", "account_id": "acme", "amount": "80", "thresholds": "50% 80% 100%", "note": "Acme's budget"},
    {"budget_id": "disks", "account_id": "", "amount": "1000", "thresholds": "70", "note": "", "service": "Block Storage"},
    {"budget_id": "vm-1", "account_id": "", "amount": "50", "thresholds": "100%", "note": "", "where": "resource_id = 'vm-1'"},
]  # fmt: skip
BUDGETS = [{"currency": "EUR", "service": "", "where": "", **row} for row in BUDGETS]
SUBSCRIPTIONS = [
    {"subscription_id": "finance", "events": "all", "channel": "email", "address": "finance@example.com"},
    {"subscription_id": "acme", "events": "budget invoice", "channel": "email", "address": "cfo@acme.example",
     "account_id": "acme"},
    {"subscription_id": "erp", "events": "invoice budget", "channel": "webhook", "address": "erp"},
]  # fmt: skip
SUBSCRIPTIONS = [{"account_id": "", **row} for row in SUBSCRIPTIONS]
SECRET = "of the signature"  # noqa: S105


@pytest.fixture(scope="module")
def servers():
    with MailServer() as mail, HookServer() as hooks:
        yield mail, hooks


@pytest.fixture(autouse=True)
def _forget(servers, monkeypatch):
    mail, hooks = servers
    mail.taken.clear()
    mail.recipients.clear()
    mail.answers.clear()
    hooks.received.clear()
    hooks.answers = [200]
    monkeypatch.setenv("ERP_SECRET", SECRET)


def notify(servers, **other):
    mail, hooks = servers
    return {
        "notify": {
            "sender": "billing@cloud.example",
            "smtp": {"host": "127.0.0.1", "port": mail.port, "security": "none", "timeout_seconds": 5},
            "webhooks": {"erp": {"url": hooks.url, "secret_env": "ERP_SECRET", "allow_private": True}},
            **other,
        }
    }


@pytest.fixture(scope="module")
def october(tmp_path_factory, servers):
    """A shop whose October is run: acme 74.40 of machines, globex 74.40 of disks (both untaxed)."""
    folder = tmp_path_factory.mktemp("october")
    book = {"accounts": ADDRESSED, "budgets": BUDGETS, "subscriptions": SUBSCRIPTIONS}
    shop = make_workspace(folder, usage=month_of_usage(), book=book, config=notify(servers))
    assert shop.run().code == ExitCode.DONE
    return shop


@pytest.fixture
def shop(october, tmp_path):
    shutil.copytree(october.root, tmp_path / "shop")
    return TinyWorkspace(tmp_path / "shop")


def alerts(shop, *options, now=NOW):
    return shop.command("alerts", "--as-of", now, *options)


def keys(servers):
    """(recipient, key) → how often it came."""
    mail, hooks = servers
    return Counter([*mail.keys, *(("erp", request.headers["idempotency-key"]) for request in hooks.received)])


def told(servers):
    """(recipient, what) of everything that came, in words."""
    mail, hooks = servers
    mails = [
        (to, str(email["Subject"]).partition(": ")[2]) for to, email in zip(mail.recipients, mail.taken, strict=True)
    ]
    return sorted(mails), [(r.json["event"], r.json["data"].get("threshold")) for r in hooks.received]


# ---------------------------------------------------------------------------------------------------------- a month's life


def test_each_thing_is_told_once(shop, servers):
    ended = alerts(shop)
    assert ended.code == ExitCode.DONE, ended
    mails, calls = told(servers)
    assert mails == [
        ("cfo@acme.example", "Acme's budget: 93% used"),
        ("finance@example.com", "Acme's budget: 93% used"),
        ("finance@example.com", "Billing of October 2026 is done: 2 drafts"),
        ("finance@example.com", "disks: 7.4% used"),
        ("finance@example.com", "vm-1: 148.8% used"),
    ]
    assert calls == [("budget", "50%"), ("budget", "80%"), ("budget", "70"), ("budget", "100%")]
    assert all(request.is_signed_with(SECRET) for request in servers[1].received)

    for _ in range(3):  # a storm of retries tells nobody anything
        again = alerts(shop)
        assert (again.summary["queued"], again.summary["messages"]) == ([], [])

    shop.write_usage("more.parquet", hours(resource="vm-2", count=70))
    assert shop.run().code == ExitCode.DONE
    alerts(shop)
    mails, calls = told(servers)
    assert ("cfo@acme.example", "Acme's budget: 101.7% used") in mails
    assert calls[4:] == [("budget", "100%")]
    assert set(keys(servers).values()) == {1}


def test_invoices_are_told_of_when_they_are_issued(shop, servers):
    alerts(shop)
    closed = shop.close()
    if closed.code != ExitCode.DONE:
        closed = shop.close(waive=[finding["rule"].removeprefix("close.") for finding in closed.findings])
    assert closed.code == ExitCode.DONE, closed
    before = len(servers[0].taken)
    alerts(shop, now=LATER)
    mails = told(servers)[0]
    assert ("cfo@acme.example", "Invoice 2026-00001 for Acme") in mails
    assert len(servers[0].taken) - before == 3  # finance of both, acme of its own
    invoices = [request.json["data"] for request in servers[1].received if request.json["event"] == "invoice"]
    assert {(data["number"], data["amount"]) for data in invoices} == {("2026-00001", "89.28"), ("2026-00002", "88.54")}
    alerts(shop, now="2027-03-01T00:00:00Z")  # months later it is still told once
    assert set(keys(servers).values()) == {1}


def test_trouble_of_a_run_is_told_once_however_often_it_is_tried(shop, servers):
    alerts(shop)
    shop.write_book("prices", [row | {"unit_price": "0,10"} for row in BOOK["prices"]])
    failed = shop.run()
    assert (failed.code, shop.run().code) == (ExitCode.DATA_REFUSED, ExitCode.DATA_REFUSED)
    assert "decimal point" in failed.findings[0]["cure"] + failed.findings[0]["message"]
    shop.write_book("prices", BOOK["prices"])
    assert shop.run().code == ExitCode.DONE
    alerts(shop)
    assert [mail for mail in told(servers)[0] if "failed" in mail[1]] == [
        ("finance@example.com", "Billing of October 2026 failed")
    ]
    text = servers[0].taken[-1].get_body("plain").get_content()
    assert "book/prices.csv:2" in text


def test_a_blocked_close_is_told_and_exits_as_it_would(shop, servers):
    shop.write_usage("strange.parquet", hours("nobody", count=1))
    config = notify(servers) | {"policy": {"max_rejected_share": "1"}}
    shop.write_config(config)
    assert shop.run().code == ExitCode.DONE
    blocked = shop.close()
    assert (blocked.code, shop.close().code) == (ExitCode.DATA_REFUSED, ExitCode.DATA_REFUSED)
    alerts(shop)
    assert [mail for mail in told(servers)[0] if "closed" in mail[1]] == [
        ("finance@example.com", "October 2026 can't be closed yet")
    ]


# ------------------------------------------------------------------------------------------------------ servers in trouble


def test_what_a_server_does_not_take_goes_when_it_does(shop, servers):
    mail, hooks = servers
    mail.answers = {"cfo@acme.example": "451 4.7.1 greylisted", "finance@example.com": "550 5.1.1 no such user"}
    hooks.answers = [503]
    ended = alerts(shop)
    assert ended.code == ExitCode.DATA_REFUSED
    assert {(m["address"], m["result"]) for m in ended.summary["messages"]} == {
        ("cfo@acme.example", "later"), ("finance@example.com", "failed"), ("erp", "later"),
    }  # fmt: skip
    mail.answers, hooks.answers = {}, [200]
    assert alerts(shop).summary["messages"] == []  # not yet
    later = alerts(shop, now="2026-11-02T06:06:00Z")
    assert later.code == ExitCode.DONE
    assert told(servers)[0] == [("cfo@acme.example", "Acme's budget: 93% used")]
    assert len(hooks.received) == 3 + 4  # the first was tried three times

    history = shop.command("notifications", "--state", "failed").summary
    assert {row["last_error"] for row in history["notifications"]} == {"550 5.1.1 no such user"}
    assert shop.command("notifications", "--retry").summary["retried"] == len(history["notifications"])
    alerts(shop, now="2027-01-01T00:00:00Z")
    assert {to for to, _ in keys(servers)} == {"cfo@acme.example", "finance@example.com", "erp"}


def test_a_mail_server_that_is_down_is_temporary(shop, servers):
    settings = notify(servers)
    settings["notify"]["smtp"]["port"] = free_port()
    shop.write_config(settings)
    ended = alerts(shop)
    assert ended.code == ExitCode.TEMPORARY
    assert "can't be reached" in ended.summary["messages"][0]["error"]
    assert len(servers[1].received) == 4  # the others get theirs


def test_quiet_hours_and_digests(shop, servers):
    rows = [row | {"quiet": "22:00-07:00", "digest": "daily"} for row in SUBSCRIPTIONS[:1]]
    shop.write_book("subscriptions", rows)
    shop.write_config(notify(servers, time_zone="Europe/Paris", digest_at="08:00"))
    held = alerts(shop, now="2026-11-02T05:30:00Z")  # 06:30 in Paris
    assert (held.code, held.summary["messages"]) == (ExitCode.DONE, [])
    assert len(held.summary["waiting"]) == 5
    assert alerts(shop, now="2026-11-02T06:30:00Z").summary["messages"] == []  # no longer quiet, not yet eight
    alerts(shop, now="2026-11-02T07:00:00Z")
    assert told(servers)[0] == [("finance@example.com", "4 messages")]
    assert len(keys(servers)) == 5


# -------------------------------------------------------------------------------------------------------------- just look


def test_a_dry_run_says_what_and_changes_nothing(shop, servers):
    before = shop.command("notifications").summary
    ended = alerts(shop, "--dry-run")
    assert ended.code == ExitCode.DONE
    assert len(ended.summary["queued"]) == 11
    assert {m["address"] for m in ended.summary["messages"]} == {"finance@example.com", "cfo@acme.example", "erp"}
    assert told(servers) == ([], [])
    assert shop.command("notifications").summary == before
    said = shop.command("alerts", "--as-of", NOW, "--dry-run", json=False).stdout
    assert (
        "would go  email    cfo@acme.example: budget acme of 2026-10 reached 50%, 80%: EUR 74.40 of EUR 80.00"
        in said.replace("\N{NO-BREAK SPACE}", " ")
    )


def test_the_past_day_by_day(shop):
    """74.40 in 31 days are 2.40 a day: 40 are reached on the 17th, 64 on the 27th; 50 of one machine on the 21st."""
    history = shop.command("alerts", "--backtest", PERIOD).summary
    assert [(c["day"], c["budget_id"], c["threshold"], c["amount"]) for c in history["crossings"]] == [
        ("2026-10-17", "acme", "50%", "40.80"),
        ("2026-10-21", "vm-1", "100%", "50.40"),
        ("2026-10-27", "acme", "80%", "64.80"),
        ("2026-10-30", "disks", "70", "72.00"),
    ]
    assert history["days"] == 31


def test_a_forecast_is_told_before_it_is_spent(shop, servers):
    shop.write_book("budgets", [BUDGETS[0] | {"basis": "forecast", "thresholds": "100%", "amount": "70"}])
    ended = shop.command("alerts", "--backtest", PERIOD)
    (crossing,) = ended.summary["crossings"]
    assert crossing["day"] < "2026-10-15"  # 70 are spent on the 30th
    assert abs(D(crossing["amount"]) - D("74.40")) < 5
    running = alerts(shop, "--period", PERIOD, "--dry-run", now="2026-11-03T00:00:00Z").summary["budgets"][0]
    assert running["amount"] == running["actual"] == "74.40"  # the month has ended: it is the bill


# ------------------------------------------------------------------------------------------- figures, and what they change


def test_figures_are_those_of_the_invoices(tmp_path, servers):
    """Gross, net and taxed of a payer are the subtotal, untaxed amount and total of its invoices."""
    book = {
        "accounts": [*ADDRESSED, {**ADDRESSED[0], "account_id": "lab", "billing_account_id": "acme", "name": "Lab"}],
        "discounts": [{"discount_id": "d", "percent": "7.5", "note": "Partner"}],
        "credits": [{"credit_id": "c", "account_id": "acme", "amount": "5", "currency": "EUR", "kind": "promotional",
                     "granted_on": "2026-10-01", "note": "Welcome"}],
        "recurring": [{"recurring_id": "r", "account_id": "lab", "description": "Support", "amount": "9.99"}],
        "commitments": [{"commitment_id": "k", "account_id": "globex", "amount": "200", "currency": "EUR",
                         "discount_percent": "3", "note": "Promise"}],
        "budgets": [
            {"budget_id": f"{payer}-{measure}", "account_id": payer, "amount": "1000", "currency": "EUR",
             "measure": measure}
            for payer in ("acme", "globex") for measure in ("gross", "net", "taxed")
        ],
    }  # fmt: skip
    usage = [
        month_of_usage(),
        hours("lab", resource="vm-9", count=123, quantity="0.37"),
        hours("lab", "egress", count=9),
    ]
    shop = make_workspace(tmp_path, usage=usage, book=book)
    assert shop.run().code == ExitCode.DONE
    standings = alerts(shop).summary["budgets"]
    found = {row["budget_id"]: D(row["amount"]) for row in standings if row["period"] == PERIOD}
    query = "SELECT billing_account_id, subtotal_amount, untaxed_amount, total_amount FROM invoices ORDER BY 1"
    rows = shop.command("sql", query).summary["data"]
    expected = {
        f"{row['billing_account_id']}-{measure}": D(row[column])
        for row in rows
        for measure, column in (("gross", "subtotal_amount"), ("net", "untaxed_amount"), ("taxed", "total_amount"))
    }
    assert len(expected) == 6
    assert found == expected


def test_budgets_and_subscriptions_bill_nothing_anew(shop, servers):
    before, documents = shop.run().summary["periods"][0], shop.documents()
    shop.write_book("budgets", [BUDGETS[0] | {"amount": "1"}])
    shop.write_book("subscriptions", None)
    shop.write_config(notify(servers, quiet="20:00-08:00", digest="daily"))
    after = shop.run().summary["periods"][0]
    assert after["nothing_to_do"]
    assert after["run_id"] == before["run_id"]
    assert shop.documents() == documents
    assert shop.close(waive=["usage.hours"]).code in {ExitCode.DONE, ExitCode.USAGE}


def test_a_condition_that_is_none_is_told_with_its_line(shop):
    shop.write_book("budgets", [*BUDGETS[:2], BUDGETS[2] | {"where": "resource = 'vm-1'"}])
    ended = alerts(shop)
    assert ended.code == ExitCode.DATA_REFUSED
    (finding,) = ended.summary["findings"]
    assert (finding["file"], finding["row"], finding["column"]) == ("book/budgets.csv", 4, "where")
    assert '"resource" not found' in finding["message"]


@pytest.mark.parametrize(
    "where",
    [
        "1 = 1); DROP TABLE charges; --",
        "cost > (SELECT count(*) FROM read_csv('/etc/passwd'))",
        "EXISTS (SELECT 1 FROM glob('/*'))",
    ],
)
def test_a_condition_reaches_nothing_but_the_published_data(shop, where):
    shop.write_book("budgets", [BUDGETS[2] | {"where": where}])
    assert alerts(shop).code == ExitCode.DATA_REFUSED


def test_a_name_that_the_settings_do_not_have_is_told_with_its_line(shop):
    shop.write_book("subscriptions", [*SUBSCRIPTIONS[:2], SUBSCRIPTIONS[2] | {"address": "erq"}])
    ended = alerts(shop)
    assert ended.code == ExitCode.DATA_REFUSED
    assert "book/subscriptions.csv" in json.dumps(ended.summary["findings"])
    assert "has no such name in" in ended.stderr.replace("of ratemill.toml ", "") or "no such name" in ended.stderr


def test_members_are_told_of_their_own(shop, servers):
    shop.write_book("members", [
        {"principal": "cfo@acme.example", "role": "billing_reader", "organization_id": "acme"},
        {"principal": "cfo@globex.example", "role": "billing_reader", "organization_id": "globex"},
    ])  # fmt: skip
    shop.write_book("subscriptions", [
        {"subscription_id": name, "events": "all", "channel": "email", "principal": f"cfo@{name}.example"}
        for name in ("acme", "globex")
    ])  # fmt: skip
    assert alerts(shop).code == ExitCode.DONE
    assert told(servers)[0] == [("cfo@acme.example", "Acme's budget: 93% used")]


# ------------------------------------------------------------------------------------------------------- many at the same time


def test_several_at_once_tell_once(shop, servers):
    ended = []

    def run():
        ended.append(run_process(["alerts", "-w", str(shop.root), "--as-of", NOW, "--json"], ERP_SECRET=SECRET))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.code for one in ended} <= {ExitCode.DONE, ExitCode.LOCKED}
    assert ExitCode.DONE in {one.code for one in ended}
    assert len(keys(servers)) == 11
    assert set(keys(servers).values()) == {1}
