"""A month of nights as a scheduler has them, each with its trouble: in the end the ledger is as if there had been none.

Method: usage comes day by day, and each night real ``ratemill`` processes run the open months, tell who subscribed, and
on the fifth close the month before. Into these nights goes a seeded hand of faults: processes are killed and stopped,
the disk is full, another process holds the lock, files come damaged, once more, or with rows that came before; the mail
server is down, defers or hangs, the web server fails or breaks off. One file of each month comes after its close.
What a scheduler would repeat is repeated, a quarter of an hour later.

In the end the ledger equals that of a twin to whom everything came in order and that nobody disturbed, and, in sum, what
the independent reference says of all usage, to the last digit. Numbers have no gap, ``verify`` is content, nothing is
left over on the disk, and everybody was told once of each thing, counted at the servers.

``make nights N=60 SEEDS=5`` plays two months of nights with five hands of faults.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import duckdb
import pyarrow.parquet as pq
import pytest

from billed import SUMS, differences_of, expected_for, issued_for, rows
from crash.forks import Forks
from crash.states import names
from disks import fill, small_disk
from ratemill.errors import ExitCode
from ratemill.invoicing.numbering import numbers_of
from ratemill.io.lock import hold_lock
from ratemill.tables.invoices import BILLING_TABLES
from receivers import HookServer, MailServer
from reference.model import (
    Account,
    Book,
    Commitment,
    Credit,
    Discount,
    PriceTier,
    Project,
    Recurring,
    Sku,
    Tax,
    Usage,
    World,
)
from reference.rating import rate_month
from workspaces import TinyWorkspace, as_toml
from worlds import usage_table, write_book

pytestmark = pytest.mark.slow

D = Decimal
NIGHTS = int(os.environ.get("NIGHTS", "30"))
SEEDS = int(os.environ.get("NIGHTS_SEEDS", "2"))
SEED = int(os.environ.get("NIGHTS_SEED", "20261129"))
FIRST_NIGHT = date(2026, 11, 1)
FIRST_DAY = date(2026, 10, 1)
CLOSING_DAY = 5
LATE_NIGHTS = range(8, 20)
"""Days of the month on which the file comes that the close of the month before has missed."""
SECRET = "of the signature"  # noqa: S105
POLICIES = ("next_invoice", "credit_note")
DISK_MEGABYTES = 128
MAIL_SECONDS = 4
"""How long a sender waits for the mail server."""
QUARTER = timedelta(minutes=15)
PATIENCE = 12
"""How often a scheduler tries in one night."""

OF_COMMANDS = ("killed", "stopped", "disk full", "locked")
OF_ALERTS = ("mail refused", "mail deferred", "mail hangs", "webhook fails", "webhook breaks off")
OF_FILES = ("damaged file", "same file again", "same rows again")
KINDS = (*OF_COMMANDS, *OF_ALERTS, *OF_FILES)


# ------------------------------------------------------------------------------------------------------------ the world


def flat(price_id, sku_id, unit_price, **more):
    return PriceTier(price_id=price_id, sku_id=sku_id, unit_price=D(unit_price), **more)


BOOK = Book(
    accounts=(
        Account(account_id="acme", currency="EUR", country="FR"),
        Account(account_id="globex", currency="EUR", country="DE", time_zone="America/New_York"),
        Account(account_id="lab", currency="EUR", country="FR", billing_account_id="acme"),
        Account(account_id="tokyo", currency="JPY", country="JP"),
    ),
    projects=(Project(project_id="web", account_id="acme"),),
    skus=(
        Sku(sku_id="vm"),
        Sku(sku_id="net", service="Network", category="Networking", usage_unit="GB", pricing_unit="GB"),
        Sku(
            sku_id="disk",
            service="Disks",
            category="Storage",
            usage_unit="GB-hour",
            pricing_unit="GB-month",
            units_per_pricing_unit="hours_in_month",
        ),
    ),
    prices=(
        flat("vm-EUR", "vm", "0.10", currency="EUR"),
        PriceTier(price_id="net-EUR", sku_id="net", currency="EUR", mode="graduated", up_to=D(40), unit_price=D("1.1")),
        PriceTier(price_id="net-EUR", sku_id="net", currency="EUR", mode="graduated", unit_price=D("0.7")),
        flat("disk-EUR", "disk", "7.44", currency="EUR"),
        flat("vm-JPY", "vm", "14.3", currency="JPY"),
        flat("net-JPY", "net", "99.5", currency="JPY"),
    ),
    taxes=(
        Tax(tax_code="fr", country="FR", rate=D(20)),
        Tax(tax_code="de", country="DE", rate=D(19)),
        Tax(tax_code="jp", country="JP", rate=D(10)),
    ),
    discounts=(Discount(discount_id="d1", account_id="acme", percent=D(10), sku_ids=("vm",)),),
    commitments=(
        Commitment(commitment_id="c1", account_id="globex", amount=D(150), discount_percent=D(3), currency="EUR"),
    ),
    credits=(
        Credit(
            credit_id="welcome",
            account_id="acme",
            amount=D(60),
            currency="EUR",
            granted_on=datetime(2026, 10, 1, tzinfo=UTC),
        ),
    ),
    recurring=(Recurring(recurring_id="r1", account_id="lab", amount=D(31), description="Support"),),
)
BUDGETS = [
    {"budget_id": "acme", "account_id": "acme", "amount": "130", "currency": "EUR"},
    {"budget_id": "euros", "account_id": "", "amount": "400", "currency": "EUR"},
    {"budget_id": "tokyo", "account_id": "tokyo", "amount": "9000", "currency": "JPY"},
]
BUDGETS = [row | {"thresholds": "10% 25% 50% 75% 100%", "measure": "gross"} for row in BUDGETS]
SUBSCRIPTIONS = [
    {"subscription_id": "finance", "events": "budget invoice run_failed run_done", "channel": "email",
     "address": "finance@example.com", "account_id": ""},
    {"subscription_id": "cfo", "events": "budget invoice", "channel": "email", "address": "cfo@acme.example",
     "account_id": "acme"},
    {"subscription_id": "erp", "events": "budget invoice run_done", "channel": "webhook", "address": "erp", "account_id": ""},
]  # fmt: skip
METERS = (
    ("acme", "web", "web-1", "vm", range(24)), ("acme", None, "nic-1", "net", (3, 9, 21)),
    ("lab", None, "disk-1", "disk", range(24)), ("globex", None, "gl-1", "vm", range(0, 24, 2)),
    ("globex", None, "gl-2", "net", (0, 4, 23)), ("tokyo", None, "to-1", "vm", range(24)),
    ("tokyo", None, "to-2", "net", (15,)),
)  # fmt: skip
"""Account, project, resource, SKU and hours of what is metered every day."""


def usage_of(day):
    """A day of it; no two hours alike, so that none can stand for another."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return tuple(
        Usage(
            account_id=account,
            project_id=project,
            resource_id=resource,
            sku_id=sku,
            usage_start=midnight + timedelta(hours=hour),
            quantity=(D(1000 + 37 * day.day + 11 * hour + number) / 999).quantize(D("1e-12")),
            unit={"vm": "hour", "net": "GB", "disk": "GB-hour"}[sku],
        )
        for number, (account, project, resource, sku, hours) in enumerate(METERS)
        for hour in hours
    )


def days(first, end):
    return [first + timedelta(days=number) for number in range((end - first).days)]


def month_of(day):
    return f"{day:%Y-%m}"


def name_of(day):
    return f"usage-{day}.parquet"


def first_of_next(day):
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


@dataclass(frozen=True)
class Calendar:
    """What comes when: the same for the shop with the bad nights and for its twin."""

    late: dict
    """A day whose file comes after the close of its month → the night on which it does."""

    @classmethod
    def of(cls, rng):
        last = FIRST_NIGHT + timedelta(days=NIGHTS - 1)
        late, month = {}, FIRST_DAY
        while first_of_next(month).replace(day=LATE_NIGHTS.stop) <= last:
            day = month.replace(day=rng.randint(3, 26))
            late[day] = first_of_next(month).replace(day=rng.choice(LATE_NIGHTS))
            month = first_of_next(month)
        return cls(late)

    @property
    def nights(self):
        """All nights, and the mornings after the last month: until its close."""
        last = FIRST_NIGHT + timedelta(days=NIGHTS)
        end = first_of_next(last - timedelta(days=1)).replace(day=CLOSING_DAY) + timedelta(days=1)
        return [night for night in days(FIRST_NIGHT, end) if night < last or night.day == CLOSING_DAY]

    @property
    def faulty_nights(self):
        return self.nights[:NIGHTS]

    def arriving(self, night, after):
        """Days whose files come on this night, those of the nights since the former one included."""
        since = days(after or FIRST_DAY, night)
        return [day for day in since if day not in self.late] + [day for day, on in self.late.items() if on == night]

    def usage(self, until):
        """All records that came until and on a night."""
        return [
            record for day in days(FIRST_DAY, until) if self.late.get(day, until) <= until
            for record in usage_of(day)
        ]  # fmt: skip


# --------------------------------------------------------------------------------------------------------- the scheduler


@dataclass
class Tally:
    """What happened in the nights."""

    faults: Counter = field(default_factory=Counter)
    struck: Counter = field(default_factory=Counter)
    """Of them, how many changed how a command ended; the others came too late, or met nothing to do."""
    commands: int = 0
    disturbed_alerts: int = 0

    def __str__(self):
        told = ", ".join(f"{kind} {self.faults[kind]} ({self.struck[kind]} felt)" for kind in KINDS)
        return f"{self.faults.total()} faults in {self.commands} commands: {told}"


class Shop:
    """A workspace, and the scheduler that works on it."""

    def __init__(self, root, forks, servers, *, policy, rng=None):
        self.shop = TinyWorkspace(root)
        self.root, self.forks, (self.mail, self.hooks) = root, forks, servers
        self.tally, self.closed, self.refused = Tally(), [], {}
        self.clock, self.rng = None, rng
        self.seconds = {"run": 0.8, "alerts": 0.8, "close": 0.8}
        self.issued = {}
        for name in ("book", "usage"):
            (root / name).mkdir(parents=True)
        config = {
            "seller": {"name": "Example Cloud", "country": "FR", "address": ["1 Square"], "tax_id": "FR00123"},
            "output": {"pdf": False, "html": False, "einvoice": "off"},
            "policy": {"corrections": policy},
            "engine": {"threads": 1},
            "notify": {
                "sender": "billing@cloud.example",
                "smtp": {
                    "host": "127.0.0.1",
                    "port": self.mail.port,
                    "security": "none",
                    "timeout_seconds": MAIL_SECONDS,
                },
                "webhooks": {"erp": {"url": self.hooks.url, "secret_env": "ERP_SECRET", "allow_private": True}},
            },
        }
        (root / "ratemill.toml").write_text(as_toml(config), encoding="utf-8")
        write_book(BOOK, root / "book")
        self.shop.write_book("budgets", BUDGETS)
        self.shop.write_book("subscriptions", SUBSCRIPTIONS)

    def file(self, name):
        return self.root / "usage" / name

    def deliver(self, name, records):
        pq.write_table(usage_table(records, []), self.file(name))

    def command(self, name, *options, **request):
        """A process, and what it said in its last line."""
        self.tally.commands += 1
        words = (name, "-w", str(self.root), *options, *(["--as-of", instant(self.clock)] if name != "verify" else []))
        ended = self.forks.run(*words, "--json", "-q", **request)
        lines = ended.said.splitlines()
        return ended, json.loads(lines[-1]) if lines and lines[-1].startswith('{"status"') else {}

    def open_months(self, night):
        """Months that have begun and are not closed."""
        begun = sorted({month_of(day) for day in days(FIRST_DAY, night)})
        return [month for month in begun if month not in self.closed]

    def close_words(self, month):
        """A close with a waiver for each open point: of those a person is sure."""
        ended, looked = self.command("close", "-p", month, "--check")
        assert ended.code in (ExitCode.DONE, ExitCode.DATA_REFUSED), ended.said
        points = [row["point"] for row in looked["checklist"] if row["status"] == "open"]
        return ("-p", month, *(f"--waive={point}=seen" for point in points))

    def through(self, night, faults=None):
        """One night: run the open months, close the former one when its day has come, tell."""
        faults = faults or {}
        self.clock = datetime(night.year, night.month, night.day, 3, tzinfo=UTC)
        open_months = self.open_months(night)
        self.until_done("run", faults, "-p", f"{open_months[0]}..{open_months[-1]}")
        if night.day == CLOSING_DAY:
            month = open_months[0]
            self.until_done("close", faults, *self.close_words(month))
            self.closed.append(month)
        self.until_done("alerts", faults)
        self.all_is_well()

    def until_done(self, name, faults, *options):
        """What a scheduler does: again after a quarter of an hour, when that may help."""
        for _ in range(PATIENCE):
            fault = faults[name].pop() if faults.get(name) else None
            ended = self.attempt(name, fault, *options)
            if ended.code == ExitCode.DATA_REFUSED:
                assert self.refused, ended.said
                self.mended()
            is_over = ended.code == ExitCode.DONE or (ended.code == ExitCode.DATA_REFUSED and self.refused)
            if is_over and not faults.get(name):
                return
            self.clock += QUARTER
        raise AssertionError(f"{name} does not come to its end: {ended.said}")

    def attempt(self, name, fault, *options):
        """The command under a fault; its exit code must be one that the fault explains."""
        usual = {ExitCode.DATA_REFUSED} if self.refused and name == "run" else {ExitCode.DONE}
        with self.trouble(name, fault) as (request, codes):
            ended, _ = self.command(name, *options, **request)
        assert ended.code in usual | codes, f"{name} under {fault}: {ended.code}\n{ended.said}"
        if fault is not None:
            self.tally.faults[fault] += 1
            felt = ended.code not in usual
            self.tally.struck[fault] += felt
            self.tally.disturbed_alerts += felt and name == "alerts" and fault in ("killed", "stopped", "disk full")
        elif ended.code in usual:
            self.seconds[name] = ended.seconds
        return ended

    @contextmanager
    def trouble(self, name, fault):
        """A fault in force: what is asked of the forking process, and the exit codes that it may lead to."""
        rng = self.rng
        match fault:
            case None:
                yield {}, set()
            case "killed" | "stopped":
                number = signal.SIGKILL if fault == "killed" else signal.SIGTERM
                after = rng.uniform(0.01, 1.0) * self.seconds[name]
                yield {"signal": number, "after_seconds": after}, {-number, 128 + number}
            case "disk full":
                ballast = fill(self.root.parent, free_kilobytes=rng.choice([0, 16, 128, 512, 1500, 4000]))
                yield {}, {ExitCode.TEMPORARY}
                ballast.unlink()
            case "locked":
                lock = self.root / "state" / ("lock" if name != "alerts" else rng.choice(["lock", "notify.lock"]))
                patient = name == "alerts" and lock.name == "lock"  # it waits for a run to end
                with held(lock, seconds=0.7 if patient else 300):
                    yield {}, {ExitCode.LOCKED}
            case "mail refused":
                self.mail.stop()
                yield {}, {ExitCode.TEMPORARY}
                self.mail.start()
            case "mail deferred":
                self.mail.answers = {row["address"]: "451 4.7.1 greylisted" for row in SUBSCRIPTIONS}
                yield {}, {ExitCode.TEMPORARY}
                self.mail.answers = {}
            case "mail hangs":
                self.mail.before_greeting = lambda _: time.sleep(MAIL_SECONDS + 1)
                yield {}, {ExitCode.TEMPORARY}
                self.mail.before_greeting = None
            case "webhook fails" | "webhook breaks off":
                self.hooks.answers = [503] if fault == "webhook fails" else ["cut"]
                yield {}, {ExitCode.TEMPORARY}
                self.hooks.answers = [200]

    # ------------------------------------------------------------------------------------------------- files in trouble

    def trouble_with_files(self, kind, night, arriving):
        """A file that comes damaged, or what came before once more."""
        rng, known = self.rng, sorted(self.root.joinpath("usage").glob("usage-????-??-??.parquet"))
        known = [path for path in known if path.name not in self.refused]
        self.tally.faults[kind] += 1
        self.tally.struck[kind] += 1
        if kind == "damaged file":
            path = self.file(name_of(rng.choice(arriving)))
            data = path.read_bytes()
            spoiled = rng.choice([data[: len(data) // 2], b"", b"<html>502 Bad Gateway</html>", data[:-9] + b"\0" * 9])
            path.write_bytes(spoiled)
            self.refused[path.name] = data
        elif kind == "same file again":
            path = rng.choice(known)
            shutil.copyfile(path, self.file(f"{path.stem}-again-{night}.parquet"))
        else:
            tables = pq.read_table(rng.choice(known))
            places = rng.sample(range(tables.num_rows), k=tables.num_rows // 2)
            pq.write_table(tables.take(places), self.file(f"resent-{night}-{rng.randint(0, 999)}.parquet"))

    def mended(self, *, surely=False):
        """What was damaged is delivered again, and well, at once or on another night."""
        if surely or self.rng.random() < 0.5:
            for name, data in self.refused.items():
                self.file(name).write_bytes(data)
            self.refused = {}

    # -------------------------------------------------------------------------------------------------- what always holds

    def warehouse(self):
        return duckdb.connect(str(self.root / "state" / "warehouse.duckdb"), read_only=True)

    def all_is_well(self):
        """What is issued stays what it was, and numbers have no gap."""
        with self.warehouse() as warehouse:
            now = issued_rows(warehouse)
            numbers = [
                row["number"] for row in rows(warehouse, "SELECT number FROM billing.invoices WHERE status = 'issued'")
            ]
            series = rows(warehouse, "SELECT series, last FROM ops.number_series")
        assert sorted(numbers) == sorted(n for row in series for n in numbers_of(row["series"], 1, row["last"]))
        for key, found in self.issued.items():
            assert now.get(key) == found, f"{key} was issued, and is another now"
        self.issued = now


@contextmanager
def held(lock, *, seconds):
    """Somebody else has the lock, for the length of the block and at most so long."""
    taken, enough = threading.Event(), threading.Event()

    def hold():
        with hold_lock(lock, command="somebody else"):
            taken.set()
            enough.wait(seconds)

    somebody = threading.Thread(target=hold)
    somebody.start()
    assert taken.wait(60)
    yield
    enough.set()
    somebody.join()


def instant(value):
    return value.isoformat().replace("+00:00", "Z")


def issued_rows(warehouse):
    """(table, invoice) → its rows. The run's id is made from the files, and so names the way as well as the end."""
    found = defaultdict(list)
    for table in BILLING_TABLES:
        columns = ", ".join(f'"{name}"' for name in table.names if name != "run_id")
        query = f"""SELECT {columns} FROM billing.{table.name} WHERE invoice_id IN
            (SELECT invoice_id FROM billing.invoices WHERE status = 'issued')"""
        for row in rows(warehouse, query):
            found[table.name, row["invoice_id"]].append(repr(row))
    return {key: sorted(lines) for key, lines in found.items()}


# -------------------------------------------------------------------------------------------------------------- the nights


def deal(rng, calendar, kinds):
    """Night → what goes wrong on it: every kind several times, wherever the seed has it, some of them in a heap."""
    hand = defaultdict(lambda: defaultdict(list))
    copies = max(1, NIGHTS // 8)
    for kind in kinds:
        nights = [night for night in calendar.faulty_nights if kind != "damaged file" or night.day != CLOSING_DAY]
        for night in rng.choices(nights, k=copies * 2 if kind in ("killed", "stopped") else copies):
            if kind in OF_FILES:
                hand[night]["files"].append(kind)
            elif kind in OF_ALERTS:
                hand[night]["alerts"].append(kind)
            else:
                closes = night.day == CLOSING_DAY
                hand[night][rng.choice(["run", "close" if closes else "run", "alerts"])].append(kind)
    for night in calendar.nights:
        if night.day == CLOSING_DAY:  # what matters most is not left to chance
            hand[night]["close"] += rng.sample(["killed", "killed", "stopped", "disk full", "locked"], k=3)
    return {
        night: {name: [kind for kind in faults if kind in kinds] for name, faults in of_night.items()}
        for night, of_night in hand.items()
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where shops are, on a disk of its own that can be full; without one, nothing gets full."""
    folder = tmp_path_factory.mktemp("nights") / "disk"
    if os.getuid() != 0:
        folder.mkdir()
        yield folder, tuple(kind for kind in KINDS if kind != "disk full")
        return
    with small_disk(folder, megabytes=DISK_MEGABYTES) as disk:
        yield disk, KINDS


@pytest.fixture(scope="module")
def servers():
    os.environ["ERP_SECRET"] = SECRET
    with MailServer() as mail, HookServer() as hooks:
        yield mail, hooks
    del os.environ["ERP_SECRET"]


@pytest.fixture(scope="module")
def forks(tmp_path_factory, servers):
    """They have the environment of now, with the secret in it."""
    with Forks(tmp_path_factory.mktemp("forks")) as started:
        yield started


@pytest.mark.parametrize("seed", range(SEED, SEED + SEEDS))
def test_after_a_month_of_bad_nights_the_ledger_is_that_of_good_ones(place, servers, forks, tmp_path, seed):
    disk, kinds = place
    rng, policy, start = random.Random(seed), POLICIES[seed % len(POLICIES)], time.monotonic()  # noqa: S311
    calendar = Calendar.of(rng)

    shop = Shop(disk / f"shop-{seed}", forks, servers, policy=policy, rng=rng)
    former, hand = None, deal(rng, calendar, kinds)
    forget(*servers)
    for night in calendar.nights:
        faults = hand.get(night, {})
        arriving = calendar.arriving(night, former)
        for day in arriving:
            shop.deliver(name_of(day), usage_of(day))
        if night.day == CLOSING_DAY:
            shop.mended(surely=True)
        for kind in faults.get("files", ()):
            shop.trouble_with_files(kind, night, arriving)
        shop.through(night, {name: list(found) for name, found in faults.items()})
        former = night
    until_nothing_waits(shop)
    disturbed = what_came(shop)

    twin = Shop(tmp_path / "twin", forks, servers, policy=policy)
    forget(*servers)
    former = None
    for night in calendar.nights:
        for day in calendar.arriving(night, former):
            twin.deliver(name_of(day), usage_of(day))
        former = night
        if night.day == CLOSING_DAY:
            twin.through(night)
            sums_are_those_of_the_reference(twin, calendar, night)
            month_is_that_of_the_reference(twin, calendar, night)
    until_nothing_waits(twin)
    quiet = what_came(twin)

    print(
        f"\n{policy}, seed {seed}: {shop.tally}; {disturbed.repeated} messages came once more; {time.monotonic() - start:.0f} s"
    )
    assert shop.closed == twin.closed
    assert len(shop.closed) >= 2
    ledgers_are_equal(shop, twin)
    sums_are_those_of_the_reference(shop, calendar, calendar.nights[-1])
    verified, _ = shop.command("verify")
    assert verified.code == ExitCode.DONE, verified.said
    nothing_is_left_over(shop, twin)
    assert of_the_month(disturbed.told) == of_the_month(quiet.told)
    assert {kind for _, kind, *_ in disturbed.told} >= {"budget", "invoice", "run_done"}
    assert disturbed.repeated <= shop.tally.disturbed_alerts
    assert set(shop.tally.faults) >= set(kinds)
    shutil.rmtree(shop.root)


def forget(mail, hooks):
    mail.taken.clear()
    mail.recipients.clear()
    hooks.received.clear()


def until_nothing_waits(shop):
    """Days later everything has gone out."""
    for _ in range(4):
        shop.clock += timedelta(days=1)
        ended, told = shop.command("alerts")
        assert ended.code == ExitCode.DONE, ended.said
    assert (told["queued"], told["messages"], told["waiting"]) == ([], [], [])


@dataclass(frozen=True)
class Came:
    """What the servers took."""

    told: Counter
    """(recipient, kind, cause) → how many notifications of it there were."""
    repeated: int
    """Messages that came a second time."""


def what_came(shop):
    """Everything of the outbox was taken by the servers, under its key; and the outbox tells of nothing twice."""
    with shop.warehouse() as warehouse:
        outbox = rows(warehouse, "SELECT * FROM ops.notifications")
    assert {row["state"] for row in outbox} == {"sent"}
    taken = [request for request in shop.hooks.received if request.answer == 200]
    assert all(request.is_signed_with(SECRET) for request in taken)
    messages = Counter(
        (to, str(email["Message-ID"])) for to, email in zip(shop.mail.recipients, shop.mail.taken, strict=True)
    )
    posts = Counter(("erp", request.headers["idempotency-key"]) for request in taken)
    assert {*shop.mail.keys, *posts} == {(row["address"], row["notification_id"]) for row in outbox}
    told = Counter((row["address"], row["kind"], *cause(json.loads(row["payload"]))) for row in outbox)
    assert set(told.values()) == {1}, [key for key, count in told.items() if count > 1]
    return Came(told, sum(count - 1 for count in (*messages.values(), *posts.values())))


def cause(payload):
    """What makes a notification one thing and no other, in words that do not depend on the way there."""
    if "budget" in payload:
        return payload["budget"]["budget_id"], payload["period"], payload["threshold"]
    if "number" in payload:
        return (payload["number"], payload["amount"])
    if "run_id" in payload:
        return (payload["run_id"],)
    # The same files set aside are told of once, however many nights they stay so; a full disk is new each time.
    return tuple(payload["findings"]) or (payload["at"], payload["message"])


def of_the_month(told):
    """What does not tell of single runs."""
    return {key for key in told if not key[1].startswith("run_")}


# ------------------------------------------------------------------------------------------------------------ comparisons


def ledgers_are_equal(shop, twin):
    with shop.warehouse() as mine, twin.warehouse() as other:
        found, expected = issued_rows(mine), issued_rows(other)
    for key in sorted({*found, *expected}):
        assert found.get(key) == expected.get(key), key


def sums_are_those_of_the_reference(shop, calendar, night):
    """All that was ever issued for a closed month is what is right by what had come when the last one was closed."""
    usage = calendar.usage(night)
    with shop.warehouse() as warehouse:
        for month in shop.closed:
            world = World(book=Book(**vars(BOOK) | {"credits": ()}), usage=usage, period=month)
            expected = expected_for(world)
            assert expected
            assert differences_of(issued_for(warehouse, month), expected) == [], month


def month_is_that_of_the_reference(shop, calendar, night):
    """The invoices of the month just closed, with credits and taxes, where they bear no corrections."""
    month = shop.closed[-1]
    with shop.warehouse() as warehouse:
        drawn = rows(
            warehouse,
            """SELECT credit_id, sum(amount) AS amount FROM billing.credit_ledger JOIN billing.invoices USING (invoice_id)
            WHERE status = 'issued' AND period <> $month GROUP BY ALL""",
            month=month,
        )
        mine = rows(
            warehouse,
            """SELECT * FROM billing.invoices WHERE period = $month AND document = 'invoice' AND invoice_id NOT IN
            (SELECT invoice_id FROM billing.invoice_lines WHERE line_kind = 'correction')""",
            month=month,
        )
    world = World(
        book=BOOK,
        usage=calendar.usage(night),
        period=month,
        credits_drawn={row["credit_id"]: row["amount"] for row in drawn},
    )
    expected = {invoice.invoice_id: invoice for invoice in rate_month(world).invoices}
    amounts = [f"{name}_amount" for name in SUMS]
    for row in mine:
        invoice = expected[row["invoice_id"]]
        assert {name: row[name] for name in amounts} == {name: getattr(invoice, name) for name in amounts}, row
    assert mine or month != month_of(FIRST_DAY)


def nothing_is_left_over(shop, twin):
    """No half-built file, nothing spilled, no name of a process that is gone."""
    left = [
        name
        for name in names(shop.root)
        if any(part.startswith(".") or part.endswith(".tmp") for part in name.split("/"))
    ]
    assert left == []
    assert {path.name for path in (shop.root / "state").iterdir()} == {
        path.name for path in (twin.root / "state").iterdir()
    }
    assert {path.name for path in shop.root.iterdir()} == {path.name for path in twin.root.iterdir()}
    for part in ("out", "published"):
        assert [name for name in names(shop.root) if name.startswith(f"{part}/")] == [
            name for name in names(twin.root) if name.startswith(f"{part}/")
        ]
