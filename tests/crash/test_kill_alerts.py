"""Alerts that are killed: everybody is told, nobody is told two different things, and what comes twice says so.

Method: `ratemill alerts` runs in a process of its own that gets SIGKILL: at chosen moments, which the mail server knows
best, and at seeded random ones. It is started again until it succeeds. Then the outbox has everything as sent, the
servers have every (recipient, key), and what a server got twice has the same Message-ID, or the same idempotency key.

``make kills N=200`` kills 200 times.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from ratemill.errors import ExitCode
from receivers import HookServer, MailServer
from workspaces import ADDRESSED, NOW, SOURCE_ROOT, TinyWorkspace, make_workspace, month_of_usage

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("KILLS", "25"))
SEED = int(os.environ.get("KILLS_SEED", "20261129"))
PEOPLE = 6
SECRET = "of the signature"  # noqa: S105


@pytest.fixture(scope="module")
def servers():
    with MailServer() as mail, HookServer() as hooks:
        yield mail, hooks


@pytest.fixture(scope="module")
def waiting(tmp_path_factory, servers):
    """A shop that is run, with three budgets over all their thresholds, and many people to tell."""
    mail, hooks = servers
    budgets = [{"budget_id": f"b{n}", "amount": "20", "currency": "EUR", "account_id": "acme"} for n in range(3)]
    people = [{"subscription_id": f"s{n}", "channel": "email", "address": f"s{n}@example.com"} for n in range(PEOPLE)]
    notify = {
        "sender": "billing@cloud.example",
        "smtp": {"host": "127.0.0.1", "port": mail.port, "security": "none"},
        "webhooks": {"erp": {"url": hooks.url, "secret_env": "ERP_SECRET", "allow_private": True}},
    }
    book = {
        "accounts": ADDRESSED,
        "budgets": budgets,
        "subscriptions": [*people, {"subscription_id": "erp", "channel": "webhook", "address": "erp"}],
    }
    shop = make_workspace(
        tmp_path_factory.mktemp("waiting"), usage=month_of_usage(), book=book, config={"notify": notify}
    )
    assert shop.run().code == ExitCode.DONE
    return shop


@pytest.fixture
def shop(waiting, servers, tmp_path):
    mail, hooks = servers
    mail.taken.clear()
    mail.recipients.clear()
    hooks.received.clear()
    mail.before_answer = None
    shutil.copytree(waiting.root, tmp_path / "shop")
    return TinyWorkspace(tmp_path / "shop")


def started(shop):
    return subprocess.Popen(
        [sys.executable, "-m", "ratemill", "alerts", "-w", str(shop.root), "--as-of", NOW, "--json", "-q"],
        env={**os.environ, "PYTHONPATH": SOURCE_ROOT, "ERP_SECRET": SECRET},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def until_it_succeeds(shop):
    process = started(shop)
    _, told = process.communicate(timeout=120)
    assert process.returncode == ExitCode.DONE, told.decode()


def assert_all_told(shop, servers, *, twice):
    """Everything was told; at most ``twice`` messages came more than once, each as what it was before."""
    mail, hooks = servers
    rows = shop.command("notifications", "--limit", "999").summary
    assert rows["counts"].keys() == {"sent"}
    expected = {(row["address"], row["notification_id"]) for row in rows["notifications"]}
    assert len(expected) == (PEOPLE + 1) * 3 * 3

    wire = Counter((to, str(email["Message-ID"])) for to, email in zip(mail.recipients, mail.taken, strict=True))
    of_hooks = Counter(request.headers["idempotency-key"] for request in hooks.received)
    got = {*mail.keys, *(("erp", key) for key in of_hooks)}
    assert got == expected
    carried = {}
    for (to, key), message in zip(mail.keys, messages_of(mail), strict=True):
        carried.setdefault((to, key), set()).add(message)
    assert {len(found) for found in carried.values()} == {1}, "one notification came in two different messages"
    bodies = {}
    for request in hooks.received:
        bodies.setdefault(request.headers["idempotency-key"], set()).add(request.body)
    assert {len(found) for found in bodies.values()} == {1}
    repeated = sum(count - 1 for count in (*wire.values(), *of_hooks.values()))
    assert repeated <= twice
    return repeated


def messages_of(mail):
    return [str(email["Message-ID"]) for email in mail.taken for _ in email.get_all("Ratemill-Key", [])]


def test_killed_before_the_server_has_answered(shop, servers):
    """The server took it, and the sender never knew: that one message comes once more."""
    process = started(shop)

    def kill(_):
        servers[0].before_answer = None
        process.kill()
        process.wait()

    servers[0].before_answer = kill
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    until_it_succeeds(shop)
    assert assert_all_told(shop, servers, twice=1) == 1


def test_killed_between_queueing_and_sending(shop, servers):
    """Everything is claimed when the sender says hello, and nothing is sent: nothing comes twice."""
    process = started(shop)

    def kill(_):
        servers[0].before_greeting = None
        process.kill()
        process.wait()

    servers[0].before_greeting = kill
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    states = shop.command("notifications").summary["counts"]
    assert states.keys() == {"sending"}
    until_it_succeeds(shop)
    assert_all_told(shop, servers, twice=0)


def test_killed_at_any_time(waiting, servers, tmp_path):
    mail, hooks = servers
    chance = random.Random(SEED)  # noqa: S311
    kills = repeated = number = 0
    seconds = 3.0
    while kills < KILLS:
        shop = TinyWorkspace(tmp_path / f"shop-{number}")
        shutil.copytree(waiting.root, shop.root)
        mail.taken.clear()
        mail.recipients.clear()
        hooks.received.clear()
        of_this_shop = 0
        while True:
            clock = time.monotonic()
            process = started(shop)
            try:
                process.wait(chance.uniform(0.3, 1.0) * seconds)
            except subprocess.TimeoutExpired:
                process.kill()
            _, said = process.communicate()
            if process.returncode == ExitCode.DONE:
                seconds = time.monotonic() - clock
                break
            assert process.returncode == -signal.SIGKILL, said.decode()
            of_this_shop += 1
            seconds *= 1.1  # a busy machine must not keep it from ever coming to its end
        repeated += assert_all_told(shop, servers, twice=of_this_shop)
        kills += of_this_shop
        number += 1
        shutil.rmtree(shop.root)
    print(f"{kills} kills of {number} shops; {repeated} messages came once more")
