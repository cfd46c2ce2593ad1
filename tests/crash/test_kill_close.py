"""Months run, closed and credited by processes that are killed: no number is missing or given twice, no invoice is half.

Method: two months of a small shop are run and closed, and an invoice is credited, each command in a process of its own
that gets SIGKILL at seeded random times, some of them aimed at the commit that issues documents. It is started again
until it succeeds; then everything in the workspace must be as in a twin that nobody disturbed.

``make kills N=200`` kills 200 times.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field

import duckdb
import pytest

from crash.forks import Forks
from crash.states import differences, state_of
from disks import fill, needs_root, small_disk
from ratemill.errors import ExitCode
from ratemill.invoicing.numbering import numbers_of
from workspaces import ADDRESSED, BOOK, NOW, PERIOD, SOURCE_ROOT, hours, make_workspace, month_of_usage, tree

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("KILLS", "25"))
SEED = int(os.environ.get("KILLS_SEED", "20261125"))
PER_ROUND = 10
ROUNDS = [min(PER_ROUND, KILLS - done) for done in range(0, KILLS, PER_ROUND)]
SEPTEMBER, OCTOBER = "2026-09", "2026-10"
CLOCK = "2026-11-03T06:00:00Z"
AIMED_AT_COMMIT = 0.3
COMMIT_SECONDS = 0.002
"""About as long as the commit that issues documents takes."""
POLICIES = ("next_invoice", "credit_note")
PAYERS = [{**ADDRESSED[0], "account_id": f"shop-{number}", "name": f"Shop {number}"} for number in range(4)]


@dataclass(frozen=True)
class Command:
    """One command of a shop's life: what it finds, and what it comes to when nobody disturbs it."""

    words: tuple[str, ...]
    expected: dict
    ledgers: tuple[dict, dict]
    """What is issued before and after it."""
    seconds: float

    @property
    def issues(self):
        return self.words[0] != "run"


@dataclass
class Tally:
    """What a round of kills came to."""

    kills: Counter = field(default_factory=Counter)
    most_in_a_row: int = 0
    too_late: int = 0

    def __str__(self):
        told = ", ".join(f"{count} {what}" for what, count in sorted(self.kills.items()))
        return (
            f"{self.kills.total()} kills ({told}), at most {self.most_in_a_row} in a row; {self.too_late} came too late"
        )


# --------------------------------------------------------------------------------------------------------- the shop


def waiting_shop(folder, policy):
    usage = {"2026-09.parquet": month_of_usage("2026-09-01T00:00:00Z", 720)}
    usage |= {
        f"2026-09-{row['account_id']}.parquet": hours(
            row["account_id"], first="2026-09-01T00:00:00Z", count=24 * (number + 1)
        )
        for number, row in enumerate(PAYERS)
    }
    config = {"policy": {"corrections": policy}, "engine": {"threads": 1}}
    return make_workspace(folder, usage=usage, book={"accounts": [*ADDRESSED, *PAYERS]}, config=config)


def october_comes(shop):
    """Its usage, less and more of September's, and another price of September's machines."""
    shop.write_usage("2026-10.parquet", month_of_usage())
    shop.write_usage("2026-10-late.parquet", hours("shop-1", first="2026-09-20T00:00:00Z", count=40))
    shop.write_usage("2026-09-shop-3.parquet", hours("shop-3", first="2026-09-01T00:00:00Z", count=50))
    shop.write_book(
        "prices", [row | {"unit_price": "0.09"} if row["sku_id"] == "vm" else row for row in BOOK["prices"]]
    )


def at(shop, name, *options):
    return (name, "-w", str(shop.root), *options, "--as-of", CLOCK, "--json", "-q")


def waivers(shop, month):
    looked = shop.command("close", "--period", month, "--as-of", CLOCK, "--check")
    return [
        f"--waive={row['point']}=known to the test" for row in looked.summary["checklist"] if row["status"] == "open"
    ]


LIFE = (
    lambda shop: at(shop, "run", "-p", SEPTEMBER),
    lambda shop: at(shop, "close", "-p", SEPTEMBER, *waivers(shop, SEPTEMBER)),
    lambda shop: (october_comes(shop), at(shop, "run", "-p", OCTOBER))[1],
    lambda shop: at(shop, "close", "-p", OCTOBER, *waivers(shop, OCTOBER)),
    lambda shop: at(shop, "credit-note", "--invoice", "2026-00001", "--amount", "3.33", "--reason", "Outage"),
)
"""What is done to a shop, one command after the other."""


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    with Forks(tmp_path_factory.mktemp("forks")) as started:
        yield started


@pytest.fixture(scope="module")
def shops(tmp_path_factory, forks):
    """Policy → a shop to begin with, and its commands. The same path every time, so that nothing can differ by it."""
    folder = tmp_path_factory.mktemp("shops")
    found = {}
    for policy in POLICIES[: len(ROUNDS)]:
        waiting = waiting_shop(folder / policy, policy)
        shop = type(waiting)(folder / "shop")
        shutil.copytree(waiting.root, shop.root)
        commands, before = [], ledger(shop.root)
        for step in LIFE:
            words = step(shop)
            ended = forks.run(*words)
            assert ended.code == ExitCode.DONE, ended.said
            after = ledger(shop.root)
            commands.append(Command(words, state_of(shop.root), (before, after), ended.seconds))
            before = after
        assert_whole(forks, shop.root)
        shutil.rmtree(shop.root)
        found[policy] = (waiting, shop, commands)
    return found


# ------------------------------------------------------------------------------------------------------- what must hold


def ledger(root):
    """What is issued, in numbers that only change together."""
    path = root / "state" / "warehouse.duckdb"
    if not path.exists():
        return {}
    with duckdb.connect(str(path), read_only=True) as warehouse:
        issued = "invoice_id IN (SELECT invoice_id FROM billing.invoices WHERE status = 'issued')"
        numbers = [
            row[0] for row in warehouse.execute(f"SELECT number FROM billing.invoices WHERE {issued}").fetchall()
        ]
        series = warehouse.execute("SELECT series, last FROM ops.number_series").fetchall()
        given = [number for name, last in series for number in numbers_of(name, 1, last)]
        assert sorted(numbers) == sorted(given), "numbers have a gap, or are there twice"
        counts = {
            table: warehouse.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0]
            for table, where in (
                ("billing.invoice_lines", issued),
                ("billing.tax_lines", issued),
                ("ops.closed_periods", "true"),
                ("ops.checklist", "true"),
                ("ops.documents", "true"),
                ("ops.events", "act IN ('closed', 'credited')"),
            )
        }
    return {"numbers": len(numbers), **counts}


def assert_whole(forks, root):
    """Every document that was issued is there with its hash, and no other; verify finds nothing."""
    with duckdb.connect(str(root / "state" / "warehouse.duckdb"), read_only=True) as warehouse:
        documents = dict(warehouse.execute("SELECT file, sha256 FROM ops.documents").fetchall())
        closed = [row[0] for row in warehouse.execute("SELECT period FROM ops.closed_periods").fetchall()]
    kept = {
        name: digest for name, digest in tree(root / "state" / "issued", root / "state" / "issued").items() if digest
    }
    assert kept == documents
    for file, digest in documents.items():
        month, name = file.removeprefix("period=").split("/", 1)
        assert hashlib.sha256((root / "out" / month / name).read_bytes()).hexdigest() == digest, name
    if closed:
        verified = forks.run("verify", "-w", str(root), "--json", "-q")
        assert verified.code == ExitCode.DONE, verified.said


# ------------------------------------------------------------------------------------------------------------ the kills


@pytest.mark.parametrize("number", range(len(ROUNDS)))
def test_killed_at_any_time_and_started_again(shops, forks, number):
    rng = random.Random(SEED + number)  # noqa: S311
    waiting, shop, commands = shops[POLICIES[number % len(POLICIES)]]
    tally = Tally()
    while tally.kills.total() < ROUNDS[number]:
        shutil.rmtree(shop.root, ignore_errors=True)
        shutil.copytree(waiting.root, shop.root)
        for place, command in enumerate(commands):
            if place == 2:
                october_comes(shop)
            before = tally.kills.total()
            for _ in range(min(rng.randint(0, 4), ROUNDS[number] - before)):
                if not killed(forks, shop.root, command, rng, tally):
                    break
            tally.most_in_a_row = max(tally.most_in_a_row, tally.kills.total() - before)
            again = forks.run(*command.words)
            assert again.code == ExitCode.DONE, again.said
            assert_whole(forks, shop.root)
            assert differences(command.expected, state_of(shop.root)) == [], command.words
    print(f"round {number}: {tally}")


def killed(forks, root, command, rng, tally):
    """Start the command and kill it at some time; whether it was killed before it came to its end."""
    due = command.issues and ledger(root) == command.ledgers[0]
    if due and rng.random() < AIMED_AT_COMMIT:
        when = {"at_issue": rng.uniform(0, COMMIT_SECONDS)}
    else:
        when = {"after_seconds": rng.uniform(0.01, command.seconds)}
    ended = forks.run(*command.words, signal=signal.SIGKILL, **when)
    if ended.code == ExitCode.DONE:
        tally.too_late += 1
        return False
    assert ended.code == -signal.SIGKILL, ended.said
    found = ledger(root)
    assert found in command.ledgers or not found, "half of it is issued"
    if due and ended.issue != "inside":
        assert found == command.ledgers[ended.issue == "after"]
    where = (
        f"{ended.issue if due else 'after'} the commit of a {command.words[0]}" if command.issues else "during a run"
    )
    tally.kills[where] += 1
    return True


# ------------------------------------------------------------------------------------------------------ several at once


@pytest.mark.parametrize("number", range(2))
def test_of_closes_at_once_one_wins_and_the_others_are_told(tmp_path, number):
    """Four processes that begin together: who comes while the winner is at work exits 4, who comes later finds it done."""
    shop = make_workspace(tmp_path / "shop", usage=month_of_usage(), book={"accounts": ADDRESSED})
    assert shop.run().code == ExitCode.DONE
    command = [sys.executable, "-m", "ratemill", "close", "-w", str(shop.root), "-p", PERIOD, "--as-of", NOW, "--json"]
    environment = {"PYTHONPATH": SOURCE_ROOT}
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    told = [process.communicate(timeout=240) for process in processes]
    codes = [process.returncode for process in processes]
    assert set(codes) <= {ExitCode.DONE, ExitCode.LOCKED}, told
    winners = [json.loads(out.splitlines()[-1]) for (out, _), code in zip(told, codes, strict=True) if code == 0]
    assert [winner["nothing_to_do"] for winner in winners].count(False) == 1
    for (_, err), code in zip(told, codes, strict=True):
        assert code == ExitCode.DONE or "the workspace is locked by" in err
    assert ledger(shop.root)["numbers"] == 2
    assert ledger(shop.root)["ops.events"] == 1
    assert shop.command("verify").code == ExitCode.DONE


# ---------------------------------------------------------------------------------------------------------- a full disk


@needs_root
def test_a_disk_that_is_full_during_a_close_issues_nothing_or_all_and_space_mends_it(tmp_path):
    """Between none and enough, it is full at another moment each time: documents, commit, out and published."""
    reference = make_workspace(tmp_path / "reference", usage=month_of_usage(), book={"accounts": ADDRESSED})
    assert reference.run().code == ExitCode.DONE
    drafts = ledger(reference.root)
    drafted = tmp_path / "drafted"
    shutil.copytree(reference.root, drafted)
    assert reference.close().code == ExitCode.DONE
    issued, expected = ledger(reference.root), state_of(reference.root)
    moments = set()
    for number, free in enumerate((0, *range(4, 64, 8), 800, 8000)):
        with small_disk(tmp_path / f"disk-{number}", megabytes=32) as disk:
            shop = type(reference)(disk / "shop")
            shutil.copytree(drafted, shop.root)
            ballast = fill(disk, free_kilobytes=free)
            ended = shop.close("-q")
            found = ledger(shop.root)
            ballast.unlink()
            if ended.code == ExitCode.DONE:
                moments.add("none")
            else:
                assert ended.code == ExitCode.TEMPORARY, ended
                assert "disk full" in ended.stderr
                assert found in (drafts, issued)
                told = f"{PERIOD} is closed and its invoices are issued, but out and published do not show it yet"
                assert (told in ended.stderr) == (found == issued)
                before = "commit" if "Failed to commit" in ended.stderr else "documents"
                moments.add("afterwards" if found == issued else before)
            again = shop.close("-q")
            assert again.code == ExitCode.DONE, again
            assert again.summary["nothing_to_do"] == (ended.code == ExitCode.DONE)
            assert differences(expected, state_of(shop.root)) == []
            assert shop.command("verify").code == ExitCode.DONE
    assert moments == {"documents", "commit", "afterwards", "none"}
