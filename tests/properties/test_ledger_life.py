"""The life of a ledger, in any order: whatever happens, customers are in the end billed what is right, once.

A machine plays a provider's months on a real workspace: usage arrives, late or twice or other than before; prices,
projects, payers, discounts, commitments, credits, fees and taxes are changed, also for months that are closed; months
are run and closed, invoices are credited, and processes are killed and started again. After each step all that was
issued must still be what it was, numbers gap-free, the audit log whole and ``verify`` content. After each close the sum
of everything that was ever issued for a closed month is, line by line and tax by tax, what the reference says of the
month with the usage and the book of now.

``LIVES=300 pytest tests/properties/test_ledger_life.py`` plays 300 lives of each kind.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from billed import SUMS, differences_of, expected_for, issued_for, rows
from crash.forks import Forks
from ratemill.errors import ExitCode
from ratemill.io import atomic, usage_reader_worker
from ratemill.io.usage_reader import ReadFile
from ratemill.io.warehouse import Warehouse
from ratemill.memory import MOST_SLICE_ROWS
from ratemill.steps.check import checked_book
from ratemill.tables.invoices import BILLING_TABLES
from reference.model import (
    Account,
    Adjustment,
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
    month_start,
)
from reference.rating import rate_month
from workspaces import TinyWorkspace, as_toml
from worlds import usage_table, write_book

pytestmark = pytest.mark.slow

D = Decimal
LIVES = int(os.environ.get("LIVES", "15"))
STEPS = 12
AFTER = {
    "2026-09": "2026-10-03T06:00:00Z",
    "2026-10": "2026-11-03T06:00:00Z",
    "2026-11": "2026-12-03T06:00:00Z",
    "2026-12": "2027-01-03T06:00:00Z",
    "2027-01": "2027-02-03T06:00:00Z",
}
"""Month → when it is over everywhere."""
*MONTHS, RECKONING = AFTER
"""Months in which something happens, and one to bill what is left to correct of them."""
MEMORY = Path("/dev/shm")  # noqa: S108 - files that live for a second, on every Linux

CONFIG = {
    "seller": {"name": "Example Cloud", "country": "FR"},
    "output": {"pdf": False, "html": False},
    "policy": {"max_rejected_share": 1, "unpriced": "warn"},
    "engine": {"threads": 1},
}


# ------------------------------------------------------------------------------------------------------------ the book


def instant(month, day):
    return month_start(month, "UTC") + timedelta(days=day - 1)


def flat(price_id, sku_id, unit_price, **more):
    return PriceTier(price_id=price_id, sku_id=sku_id, unit_price=D(unit_price), **more)


def tiered(mode, bound):
    """Two tiers; under ``volume`` more usage may cost less."""
    same = {"price_id": "net-EUR", "sku_id": "net", "currency": "EUR", "mode": mode}
    return PriceTier(**same, up_to=D(bound), unit_price=D(10)), PriceTier(**same, unit_price=D(5))


SEPTEMBER = instant(MONTHS[0], 1)
VM = (flat("vm-EUR", "vm", "0.10", currency="EUR"),)
NET = tiered("volume", "15")
YEN = (flat("vm-JPY", "vm", "14.3", currency="JPY"), flat("net-JPY", "net", "99.5", currency="JPY"))
TAXES = (
    Tax(tax_code="fr", country="FR", rate=D(20)),
    Tax(tax_code="de", country="DE", rate=D(19)),
    Tax(tax_code="jp", country="JP", rate=D(10)),
)
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
        Sku(sku_id="disk", service="Disks", category="Storage", usage_unit="GB-hour", pricing_unit="GB-month",
            units_per_pricing_unit="hours_in_month"),
    ),
    prices=(*VM, *NET, flat("disk-EUR", "disk", "7.44", currency="EUR"), *YEN),
    taxes=TAXES,
    discounts=(Discount(discount_id="d1", account_id="acme", percent=D(10), sku_ids=("vm",)),),
    commitments=(
        Commitment(commitment_id="c-acme", account_id="acme", amount=D("99.50"), discount_percent=D(10), currency="EUR"),
    ),
    credits=(
        Credit(credit_id="promotional-acme", account_id="acme", amount=D(20), currency="EUR", granted_on=SEPTEMBER),
        Credit(credit_id="prepaid-globex", account_id="globex", amount=D(90), currency="EUR", granted_on=SEPTEMBER,
               kind="prepaid"),
    ),
    recurring=(Recurring(recurring_id="r1", account_id="lab", amount=D(31), description="Support"),),
)  # fmt: skip


def with_prices(book, sku_id, currency, *rows):
    kept = [row for row in book.prices if (row.sku_id, row.currency) != (sku_id, currency)]
    return replace(book, prices=(*kept, *rows))


def price_of_machines(unit_price):
    return lambda book: with_prices(book, "vm", "EUR", flat("vm-EUR", "vm", unit_price, currency="EUR"))


def price_of_machines_from(start, unit_price):
    """A second version from some day on."""
    versions = (
        flat("vm-EUR", "vm", "0.10", currency="EUR", valid_to=start),
        flat("vm-EUR-2", "vm", unit_price, currency="EUR", valid_from=start),
    )
    return lambda book: with_prices(book, "vm", "EUR", *versions)


def price_of_traffic(mode, bound):
    return lambda book: with_prices(book, "net", "EUR", *tiered(mode, bound))


def price_in_yen(unit_price):
    return lambda book: with_prices(book, "vm", "JPY", flat("vm-JPY", "vm", unit_price, currency="JPY"))


def project_moves(start, account):
    def change(book):
        before, after = Project(project_id="web", account_id="acme", valid_to=start), Project(
            project_id="web", account_id=account, valid_from=start)  # fmt: skip
        return replace(book, projects=(before, after) if account else (Project(project_id="web", account_id="acme"),))

    return change


def with_account(name, **changes):
    def change(book):
        rows = tuple(replace(row, **changes) if row.account_id == name else row for row in book.accounts)
        return replace(book, accounts=rows)

    return change


def tax_rate(code, rate):
    def change(book):
        return replace(book, taxes=tuple(replace(t, rate=D(rate)) if t.tax_code == code else t for t in book.taxes))

    return change


def row_of(table, row):
    """Add a row to a table of the book, or put it in place of the one with its id."""
    key = f"{table.removesuffix('s')}_id"

    def change(book):
        kept = [other for other in getattr(book, table) if getattr(other, key) != getattr(row, key)]
        return replace(book, **{table: (*kept, row)})

    return change


def without(table):
    return lambda book: replace(book, **{table: ()})


months = st.sampled_from(MONTHS)
some_days = st.builds(instant, months, st.sampled_from([1, 10, 16]))
maybe_days = st.none() | some_days
cents = st.integers(1, 9_999).map(lambda number: D(number) / 100)
percents = st.sampled_from([D(10), D("33.333"), D(100)])
payers = st.sampled_from(["acme", "globex"])
scopes = st.sampled_from([{}, {"sku_ids": ("vm",)}, {"category": "Networking"}, {"project_id": "web"}, {"excludes": ("net",)}])  # fmt: skip


@st.composite
def discounts(draw):
    by_percent = draw(st.booleans())
    start = draw(maybe_days)
    return Discount(
        discount_id=draw(st.sampled_from(["d1", "d2"])),
        account_id=draw(st.sampled_from([None, "acme", "lab"])),
        percent=draw(percents) if by_percent else None,
        amount=None if by_percent else draw(cents),
        currency=None if by_percent else "EUR",
        mode=draw(st.sampled_from(["compound", "additive"])),
        valid_from=start,
        valid_to=start and start + timedelta(days=draw(st.sampled_from([7, 40]))),
        **draw(scopes),
    )


@st.composite
def commitments(draw):
    payer, start = draw(payers), draw(maybe_days)
    return Commitment(
        commitment_id=f"c-{payer}",
        account_id=payer,
        amount=draw(cents),
        discount_percent=draw(st.sampled_from([D(0), D(10)])),
        currency="EUR",
        valid_from=start,
        valid_to=start and start + timedelta(days=40),
        **draw(scopes),
    )


@st.composite
def credits_given(draw):
    payer, kind, start = draw(payers), draw(st.sampled_from(["promotional", "prepaid"])), draw(some_days)
    return Credit(
        credit_id=f"{kind}-{payer}",
        account_id=payer,
        amount=draw(cents),
        currency="EUR",
        kind=kind,
        granted_on=start,
        expires_on=draw(st.sampled_from([None, start + timedelta(days=45)])),
    )


fees = st.builds(
    Recurring,
    recurring_id=st.sampled_from(["r1", "r2"]),
    account_id=st.sampled_from(["acme", "lab"]),
    amount=cents,
    description=st.just("Support"),
    valid_from=maybe_days,
)
adjustments = st.builds(
    Adjustment,
    adjustment_id=st.sampled_from(["a1", "a2"]),
    account_id=st.sampled_from(["acme", "lab", "globex"]),
    period=months,
    amount=cents.flatmap(lambda amount: st.sampled_from([amount, -amount])),
    currency=st.just("EUR"),
)
changes_of_book = st.one_of(
    st.builds(price_of_machines, st.sampled_from(["0", "0.10", "0.12", "3.333333"])),
    st.builds(price_of_machines_from, some_days, st.sampled_from(["0.05", "2.5"])),
    st.builds(price_of_traffic, st.sampled_from(["volume", "graduated"]), st.sampled_from(["15", "40"])),
    st.builds(price_in_yen, st.sampled_from(["14.3", "15.5"])),
    st.builds(project_moves, some_days, st.sampled_from([None, "lab", "globex", "tokyo"])),
    st.builds(lambda payer: with_account("lab", billing_account_id=payer), st.sampled_from([None, "acme", "globex"])),
    st.builds(lambda zone: with_account("globex", time_zone=zone), st.sampled_from([None, "America/New_York"])),
    st.builds(lambda code: with_account("acme", tax_code=code), st.sampled_from([None, "de"])),
    st.builds(tax_rate, st.just("fr"), st.sampled_from(["20", "5.5"])),
    st.builds(row_of, st.just("discounts"), discounts()),
    st.builds(row_of, st.just("commitments"), commitments()),
    st.builds(row_of, st.just("credits"), credits_given()),
    st.builds(row_of, st.just("recurring"), fees),
    st.builds(row_of, st.just("adjustments"), adjustments),
    st.builds(without, st.sampled_from(["discounts", "commitments", "recurring", "adjustments"])),
)


# ----------------------------------------------------------------------------------------------------------- the usage


@st.composite
def records_of(draw, month):
    """A few records about a month, some at its very ends. Few names, so that records meet and contradict each other."""

    @st.composite
    def record(draw):
        account = draw(st.sampled_from(["acme", "acme", "globex", "lab", "tokyo"]))
        day, hour = draw(st.sampled_from([(1, 0), (1, 5), (9, 12), (16, 0), (28, 23), (31, 2)]))
        sku = draw(st.sampled_from(["vm", "net"] if account == "tokyo" else ["vm", "net", "disk"]))
        return Usage(
            account_id=account,
            project_id=draw(st.sampled_from([None, "web"])) if account == "acme" else None,
            resource_id=draw(st.sampled_from(["one", "two"])),
            sku_id=sku,
            usage_start=instant(month, day) + timedelta(hours=hour),
            quantity=draw(st.sampled_from([D(1), D("10.333333"), D(15), D(700)])),
            unit={"vm": "hour", "net": "GB", "disk": "GB-hour"}[sku],
        )

    return tuple(draw(st.lists(record(), min_size=1, max_size=6)))


FIRST_USAGE = tuple(
    Usage(
        account_id=account,
        project_id="web" if account == "acme" else None,
        resource_id="one",
        sku_id=sku,
        usage_start=SEPTEMBER + timedelta(days=day, hours=5),
        quantity=D("10.333333"),
    )
    for account, sku, day in (
        ("acme", "vm", 1), ("acme", "vm", 15), ("acme", "net", 8), ("lab", "disk", 8), ("lab", "net", 20),
        ("globex", "net", 0), ("globex", "vm", 29), ("tokyo", "vm", 9), ("tokyo", "net", 9),
    )
)  # fmt: skip
deliveries = months.flatmap(lambda month: st.tuples(st.just(month), records_of(month)))


# ------------------------------------------------------------------------------------------------------------ the life


@contextmanager
def read_here(engine, _warehouse):
    """Usage files read in this process by the code of the reading process, which takes most of a small load to start."""
    folder = engine.workspace.state / "reading"

    class Here:
        def read(self, files):
            for number, file in enumerate(files):
                request = {
                    "path": str(file.path), "name": file.name, "sha256": file.sha256, "folder": str(folder / str(number)),
                    "config": engine.workspace.config.usage.model_dump(mode="json"), "most_rows": MOST_SLICE_ROWS,
                }  # fmt: skip
                yield ReadFile(file, usage_reader_worker.read(request))

    yield Here()
    shutil.rmtree(folder, ignore_errors=True)


def book_read_once(workspace):
    """The book of the workspace; the same files are not read and checked again."""
    key = tuple((path.name, path.read_bytes()) for path in sorted(workspace.book.iterdir()))
    if key not in _books:
        _books.clear()
        _books[key] = checked_book(workspace)
    return _books[key]


_books = {}


@contextmanager
def in_haste():
    """In this process: without starting one that reads, without reading the same book again and again, and without
    FOCUS rows, which are no part of the ledger. Together they would take most of the time."""
    with (
        patch("ratemill.engines.local.LocalEngine.reader", read_here),
        patch("ratemill.steps.check.checked_book", book_read_once),
        patch("ratemill.steps.closed.checked_book", book_read_once),
        patch("ratemill.steps.publish._add_focus", lambda *_: []),
    ):
        yield


def blows(turns):
    """The how-manieth place, and whether a process is killed for real: otherwise an exception that nothing in the
    program catches ends the command, which takes a quarter of the time."""
    return st.tuples(st.integers(1, turns), st.sampled_from([False, False, False, True]))


class Killed(BaseException):
    """Stands for a kill."""


@contextmanager
def cut_short(turn):
    """Raise :class:`Killed` right before or after the commit or rename that takes that turn; the turns taken."""
    turns = []

    def take_turn():
        if threading.current_thread() is not threading.main_thread():
            return  # the heartbeat, which may write at any moment: only the process as a whole is killed
        turns.append(len(turns) + 1)
        if len(turns) == turn:
            raise Killed

    def around(function):
        def killed_around(*arguments):
            take_turn()
            function(*arguments)
            take_turn()

        return killed_around

    transaction = Warehouse.transaction

    @contextmanager
    def killed_transaction(self):
        with transaction(self):
            yield
            take_turn()
        take_turn()

    with (
        patch.object(Warehouse, "transaction", killed_transaction),
        patch.object(atomic, "_swap", around(atomic._swap)),
        patch.object(Path, "replace", around(Path.replace)),
    ):
        yield turns


class Ledger(RuleBasedStateMachine):
    """One provider's months."""

    policy = "next_invoice"
    forks = None
    first = None
    """The life that others go on from: its first month is closed."""
    played: ClassVar = Counter()
    """How many lives, steps, commands and kills."""

    def __init__(self):
        super().__init__()
        self.played["lives"] += 1
        self.folder = Path(tempfile.mkdtemp(prefix="life-", dir=MEMORY if MEMORY.is_dir() else None))
        self.shop = TinyWorkspace(self.folder / "shop")
        self.book, self.files, self.clock, self.kept, self.acts = BOOK, {}, AFTER[MONTHS[0]], {}, []
        self.verified = None
        self.months_by_state = (None, [], [])
        if self.first is None:
            for name in ("book", "usage"):
                (self.shop.root / name).mkdir(parents=True)
            config = CONFIG | {"policy": CONFIG["policy"] | {"corrections": self.policy}}
            (self.shop.root / "ratemill.toml").write_text(as_toml(config), encoding="utf-8")
            self.write_book()
            self.deliver(MONTHS[0], FIRST_USAGE)
            self.run(MONTHS[0])
            self.close_all(MONTHS[0])
        else:
            shutil.copytree(self.first.shop.root, self.shop.root)
            self.files |= self.first.files

    def teardown(self):
        try:
            if sys.exc_info()[0] is None:
                self.reckoning()
        finally:
            shutil.rmtree(self.folder)

    def reckoning(self):
        """In the end all that happened is billed."""
        if not self.drafted():
            self.run(self.next_month() or RECKONING)
        if self.drafted():
            self.close_all(self.drafted()[-1])
            self.all_is_well()
        event(f"{len(self.closed())} months closed")

    # -------------------------------------------------------------------------------------------------- what may happen

    @rule(data=st.data(), closes=st.booleans())
    def month_passes(self, data, closes):
        """The next month's usage comes, it is run, and may be closed."""
        month = self.next_month()
        if month is None:
            return
        self.deliver(month, data.draw(records_of(month), "usage"))
        self.run(month)
        if closes:
            self.close_all(month)

    @rule(delivery=deliveries)
    def usage_comes(self, delivery):
        """For a month that was never run, has drafts, or is closed."""
        self.deliver(*delivery)

    @rule(data=st.data())
    def file_comes_again(self, data):
        name = data.draw(st.sampled_from(sorted(self.files)), "file")
        records = data.draw(records_of(name[:7]), "usage")
        kept = self.files[name][: data.draw(st.integers(0, len(self.files[name])), "kept")]
        self.write_usage(name, (*kept, *records))

    @rule(change=changes_of_book)
    def book_is_changed(self, change):
        self.book = change(self.book)
        self.write_book()

    @rule(change=changes_of_book)
    def book_is_changed_once_more(self, change):
        self.book_is_changed(change)

    @rule(month=months)
    def month_is_run(self, month):
        self.run(month)

    @precondition(lambda self: self.drafted())
    @rule()
    def month_is_closed(self):
        self.close_all(self.drafted()[0])

    @rule(data=st.data())
    def invoice_is_credited(self, data):
        event(f"credit note: {self.command(*self.some_credit(data), codes={ExitCode.DONE, ExitCode.USAGE}).code}")

    @precondition(lambda self: self.drafted())
    @rule(blow=blows(18))
    def close_is_killed(self, blow):
        month = self.drafted()[0]
        self.killed(blow, lambda: self.close_command(month))
        self.settle(month)

    @rule(month=months, blow=blows(26))
    def run_is_killed(self, month, blow):
        self.killed(blow, lambda: self.run_command(month))
        self.run(month)

    @rule(data=st.data(), blow=blows(18))
    def credit_note_is_killed(self, data, blow):
        words = self.some_credit(data)
        self.killed(blow, lambda: words)
        self.command(*words, codes={ExitCode.DONE, ExitCode.USAGE})

    # ------------------------------------------------------------------------------------------------ what always holds

    @invariant()
    def all_is_well(self):
        self.played["steps"] += 1
        if self.version() in (None, self.verified):
            return
        self.look()
        if self.closed():
            ended = self.shop.command("verify")
            assert ended.code == ExitCode.DONE, "\n".join(
                f"{found['rule']}: {found['message']}" for found in ended.summary["findings"]
            )
        self.verified = self.version()

    def look(self):
        """What must hold even between a kill and the next try."""
        with self.warehouse() as warehouse:
            invoices = rows(warehouse, "SELECT * FROM billing.invoices WHERE status = 'issued'")
            self.numbers_are_gap_free(invoices)
            self.nothing_issued_changed(warehouse)
            self.chain_is_whole(warehouse)
            for row in rows(warehouse, "SELECT * FROM billing.credit_ledger"):
                assert row["amount"] > 0, row
                assert row["balance_before"] - row["amount"] == row["balance_after"] >= 0, row

    @staticmethod
    def numbers_are_gap_free(invoices):
        series = defaultdict(list)
        for row in invoices:
            head, number = re.fullmatch(r"(.*-)(\d+)", row["number"]).groups()
            series[head].append((int(number), row["issue_date"]))
        for head, numbers in series.items():
            assert [number for number, _ in sorted(numbers)] == list(range(1, len(numbers) + 1)), head
            dates = [day for _, day in sorted(numbers)]
            assert dates == sorted(dates), head

    def nothing_issued_changed(self, warehouse):
        now = {}
        for table in BILLING_TABLES:
            query = f"SELECT * FROM billing.{table.name} WHERE invoice_id IN (SELECT invoice_id FROM billing.invoices WHERE status = 'issued')"
            by_invoice = defaultdict(list)
            for row in rows(warehouse, query):
                by_invoice[row["invoice_id"]].append(repr(sorted(row.items())))
            for invoice_id, lines in by_invoice.items():
                now[f"{table.name} of {invoice_id}"] = hashed("\n".join(sorted(lines)).encode())
        for name in ("closed_periods", "checklist", "documents"):
            for row in rows(warehouse, f"SELECT * FROM ops.{name}"):
                key = " ".join(str(row.get(part)) for part in ("period", "point", "file") if part in row)
                now[f"{name} {key}"] = hashed(repr(sorted(row.items())).encode())
        issued = self.shop.root / "state" / "issued"
        for row in rows(warehouse, "SELECT * FROM ops.documents"):
            data = (issued / row["file"]).read_bytes()
            assert hashed(data) == row["sha256"], row["file"]
            now[row["file"]] = row["sha256"]
        for row in rows(warehouse, "SELECT period, run_id FROM ops.closed_periods"):
            folder = self.shop.root / "state" / "charges" / f"period={row['period']}" / f"run={row['run_id']}"
            for path in folder.iterdir():
                now[path.relative_to(self.shop.root).as_posix()] = hashed(path.read_bytes())
        for name, digest in self.kept.items():
            assert now.get(name) == digest, f"{name} was changed"
        self.kept = now

    def chain_is_whole(self, warehouse):
        """Each act follows the one before, and those of before are still there."""
        acts = rows(warehouse, "SELECT sequence, previous_sha256, sha256, act FROM ops.events ORDER BY sequence")
        assert [row["sequence"] for row in acts] == list(range(1, len(acts) + 1))
        assert [row["previous_sha256"] for row in acts[1:]] == [row["sha256"] for row in acts[:-1]]
        assert acts[: len(self.acts)] == self.acts
        self.acts = acts

    def billed_is_right(self, upto):
        """Of each closed month until ``upto``, which has just been closed: what was issued is what is right."""
        usage = tuple(record for name in sorted(self.files) for record in self.files[name])
        with self.warehouse() as warehouse:
            for month in [month for month in self.closed() if month <= upto]:
                world = World(book=replace(self.book, credits=()), usage=usage, period=month)
                found, expected = issued_for(warehouse, month), expected_for(world)
                different = differences_of(found, expected)
                assert not different, f"{month} after the close of {upto}:\n" + "\n".join(different)
            self.invoices_are_right(warehouse, World(book=self.book, usage=usage, period=upto))

    def invoices_are_right(self, warehouse, world):
        """The invoices just issued, with credits and taxes; those that bear corrections are more than a month's bill."""
        others = "SELECT credit_id, sum(amount) AS amount FROM billing.credit_ledger JOIN billing.invoices USING (invoice_id) WHERE status = 'issued' AND period <> $period GROUP BY ALL"
        drawn = {row["credit_id"]: row["amount"] for row in rows(warehouse, others, period=world.period)}
        mine = "SELECT * FROM billing.invoices WHERE period = $period AND origin = 'run' AND invoice_id NOT IN (SELECT invoice_id FROM billing.invoice_lines WHERE line_kind = 'correction')"
        expected = {invoice.invoice_id: invoice for invoice in rate_month(replace(world, credits_drawn=drawn)).invoices}
        for row in rows(warehouse, mine, period=world.period):
            invoice = expected[row["invoice_id"]]
            names = [f"{name}_amount" for name in SUMS]
            assert {name: row[name] for name in names} == {name: getattr(invoice, name) for name in names}, row

    # --------------------------------------------------------------------------------------------------------- commands

    def command(self, *words, codes):
        self.played["commands"] += 1
        with in_haste():
            ended = self.shop.command(*words)
        assert ended.code in codes, ended.stderr
        return ended

    def killed(self, blow, command):
        """The command, cut short where something is about to take effect, or has just done so: see ``blows``."""
        turn, for_real = blow
        name, *options = command()
        if for_real:
            request = {"signal": signal.SIGKILL, "at_turn": turn}
            ended = self.forks.run(name, "-w", str(self.shop.root), *options, "--json", "-q", **request)
            was_killed, told = ended.code == -signal.SIGKILL, ended.said
        else:
            with in_haste(), cut_short(turn) as turns:
                ended = self.shop.command(name, *options)
            was_killed, told = len(turns) >= turn, ended.stderr
            assert (ended.code == ExitCode.INTERNAL) == was_killed, told
        self.played["kills"] += was_killed
        event(f"{name} {'killed' if was_killed else 'not killed in time'}")
        if not was_killed:
            assert ended.code in (ExitCode.DONE, ExitCode.USAGE, ExitCode.NOTHING_TO_BILL, ExitCode.LOCKED), told
        self.months_by_state = (None, [], [])
        self.look()

    def deliver(self, month, records):
        count = sum(name.startswith(month) for name in self.files)
        self.write_usage(f"{month}-{count}.parquet", records)

    def write_usage(self, name, records):
        self.files[name] = records
        pq.write_table(usage_table(records, []), self.shop.root / "usage" / name)

    def write_book(self):
        for path in (self.shop.root / "book").iterdir():
            path.unlink()
        write_book(self.book, self.shop.root / "book")

    def run_command(self, month):
        self.clock = max(self.clock, AFTER[month])
        return "run", "--period", month, "--as-of", self.clock

    def run(self, month):
        """A closed month is left alone, and says so where it would be billed otherwise; a month without usage is not
        billed."""
        codes = {ExitCode.DONE, ExitCode.NOTHING_TO_BILL}
        if month in self.closed():
            codes = {ExitCode.DONE, ExitCode.LOCKED}
        return self.command(*self.run_command(month), codes=codes)

    def close_command(self, month):
        """With a waiver for each point of the checklist that is open; run again where the drafts are not of now."""
        words = ("close", "--period", month, "--as-of", self.clock)
        looked = self.command(*words, "--check", codes={ExitCode.DONE, ExitCode.DATA_REFUSED, ExitCode.USAGE})
        if looked.code == ExitCode.USAGE:
            assert "→ run: ratemill run --period" in looked.stderr, looked.stderr
            self.run(month)
            looked = self.command(*words, "--check", codes={ExitCode.DONE, ExitCode.DATA_REFUSED})
        points = [row["point"] for row in looked.summary["checklist"] if row["status"] == "open"]
        return (*words, *(f"--waive={point}=seen" for point in points))

    def close_all(self, upto):
        """Close every month with drafts until ``upto``, in order."""
        for month in [month for month in self.drafted() if month <= upto]:
            self.command(*self.close_command(month), codes={ExitCode.DONE})
            self.billed_is_right(month)

    def settle(self, month):
        """A close that was killed, tried again."""
        if month in self.closed():
            self.command("close", "--period", month, "--as-of", self.clock, codes={ExitCode.DONE})
            self.billed_is_right(month)
        else:
            self.close_all(month)

    def some_credit(self, data):
        query = "SELECT invoice_id, number, currency, lines FROM billing.invoices WHERE status = 'issued' ORDER BY ALL"
        with self.warehouse() as warehouse:
            invoice = data.draw(st.sampled_from(rows(warehouse, query) or [None]), "invoice")
        if invoice is None:
            return ("status",)
        lines = data.draw(st.lists(st.integers(1, invoice["lines"]), max_size=2, unique=True), "lines")
        amount = data.draw(st.sampled_from([None, "1", "0.37", "250"]), "amount")
        return (
            "credit-note", "--invoice", invoice["number"], "--reason", "Outage", "--as-of", self.clock,
            *(f"--line={line}" for line in lines), *(["--amount", amount] if amount else []),
        )  # fmt: skip

    # ----------------------------------------------------------------------------------------------------- the state

    @contextmanager
    def warehouse(self):
        with duckdb.connect(str(self.shop.root / "state" / "warehouse.duckdb"), read_only=True) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection

    def version(self):
        """Another one whenever the warehouse was written to; None where there is none yet."""
        path = self.shop.root / "state" / "warehouse.duckdb"
        return (path.stat().st_mtime_ns, path.stat().st_size) if path.exists() else None

    def months(self):
        """Closed months, and open ones with drafts."""
        version = self.version()
        if version is not None and version != self.months_by_state[0]:
            with self.warehouse() as warehouse:
                closed = [row["period"] for row in rows(warehouse, "SELECT period FROM ops.closed_periods")]
                run = [row["period"] for row in rows(warehouse, "SELECT period FROM ops.runs WHERE is_current")]
            self.months_by_state = version, sorted(closed), sorted({*run} - {*closed})
        return self.months_by_state[1:]

    def closed(self):
        return self.months()[0]

    def drafted(self):
        return self.months()[1]

    def next_month(self):
        """The first month after all that were run."""
        known = {*self.closed(), *self.drafted()}
        last = max(known, default="")
        return next((month for month in MONTHS if month > last), None)


def hashed(data):
    return hashlib.sha256(data).hexdigest()


class LedgerOfDocuments(Ledger):
    """The same, where corrections are documents of their own."""

    policy = "credit_note"
    played: ClassVar = Counter()


@pytest.fixture(scope="module", autouse=True)
def forks(tmp_path_factory):
    with Forks(tmp_path_factory.mktemp("forks")) as started:
        Ledger.forks = started
        yield
    Ledger.forks = None


@pytest.fixture(scope="class", autouse=True)
def first(request, forks):
    kind = request.cls.kind
    kind.first = first = kind()
    start = time.monotonic()
    yield
    print(f"{kind.__name__}: {dict(kind.played)} in {time.monotonic() - start:.0f} s")
    kind.first = None
    shutil.rmtree(first.folder)


LIFE = settings(
    max_examples=LIVES,
    stateful_step_count=STEPS,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


class TestCorrectionsOnTheNextInvoice(Ledger.TestCase):
    settings = LIFE
    kind = Ledger


class TestCorrectionsAsDocuments(LedgerOfDocuments.TestCase):
    settings = LIFE
    kind = LedgerOfDocuments
