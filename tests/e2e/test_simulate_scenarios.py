"""The same book in: no invoice differs, in any digit, in any scenario, and nothing on disk does.

Every month is rated once more, also where a simulation would take its charges as they stand.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest

from ratemill import pipeline
from ratemill.book.what_if import Raise
from ratemill.errors import ExitCode
from ratemill.period import BillingPeriod
from ratemill.progress import make_progress
from ratemill.proof import different_values
from ratemill.steps.simulate import Question, simulate
from ratemill.tables.invoices import Billed
from ratemill.workspace import find_workspace
from unit.test_scenarios import NAMES, SCENARIOS, bill
from workspaces import ADDRESSED, BOOK, SOURCE_ROOT, hours, make_workspace, month_of_usage, tree

pytestmark = pytest.mark.slow

D = Decimal
LATER = datetime(2030, 1, 1, tzinfo=UTC)


def simulated(root, periods, question, *, always_rate=True):
    """What a simulation finds; the workspace is the same afterwards."""
    stood = snapshot(root)
    opened = find_workspace(root)
    with (
        make_progress(quiet=True) as progress,
        pipeline.open_run(opened, progress, now=LATER, command="simulate", read_only=True) as context,
    ):
        found = simulate(context, [BillingPeriod.parse(name) for name in periods], question, always_rate=always_rate)
    assert snapshot(root) == stood
    return found


def snapshot(root):
    """Every file with its bytes, and the times of those that hold what is billed."""
    times = {path: path.stat().st_mtime_ns for folder in ("state", "out", "published")
             for path in (root / folder).rglob("*") if path.is_file() and path.name != "lock"}  # fmt: skip
    return tree(root, root), times


def without_run(billed):
    """Both sides have run ids of their own."""
    return Billed.of(
        rows.drop("run_id").with_columns(run_id=pl.lit("")).select(table.names) if "run_id" in rows.columns else rows
        for table, rows in billed.frames()
    )


def assert_nothing_differs(found):
    assert all(change.startswith(("the whole book", "prices: every price +0 %")) for change in found.changes)
    assert not found.effects.changed()
    for month in found.months:
        assert different_values(without_run(month.after), without_run(month.before), {}) == []
        assert month.before.invoices.height


@pytest.mark.parametrize("name", NAMES)
def test_the_same_book_makes_no_difference_and_twice_the_price_is_twice_the_usage(name, tmp_path):
    """Each month by the book of its own run, which a later correction may have changed.

    A raise is of every amount on a price, so whatever the tiers, packages and caps, usage costs twice as much.
    """
    periods = sorted(bill(SCENARIOS / name, tmp_path))
    assert_nothing_differs(simulated(tmp_path, periods, Question(raises=(Raise("*", D(0)),))))

    doubled = simulated(tmp_path, periods, Question(raises=(Raise("*", D(100)),)))
    for total in doubled.effects.levels["total"].iter_rows(named=True):
        for sum_ in ("list", "contracted"):
            # each charge is rounded at its 18th place, once
            assert abs(total[f"{sum_}_after"] - 2 * total[f"{sum_}_before"]) <= D("1e-14"), sum_


# ---------------------------------------------------------------------------------------------------- after the close


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A closed September, whose bills a credit paid in part."""
    credit = {"credit_id": "start", "account_id": "acme", "amount": "90.00", "currency": "EUR", "kind": "promotional",
              "granted_on": "2026-09-01", "note": "Welcome"}  # fmt: skip
    usage = {"09.parquet": month_of_usage("2026-09-01T00:00:00Z", 720), "10.parquet": month_of_usage()}
    shop = make_workspace(tmp_path_factory.mktemp("closed") / "shop", usage=usage,
                          book={"accounts": ADDRESSED, "credits": [credit]})  # fmt: skip
    assert shop.run(period="2026-09").code == ExitCode.DONE
    assert shop.close(period="2026-09", now="2026-10-03T06:00:00Z").code == ExitCode.DONE
    return shop


@pytest.fixture(scope="module")
def corrected(closed, tmp_path_factory):
    """A file of that September that came late, and October, whose draft bills the difference."""
    shop = replace(closed, root=shutil.copytree(closed.root, tmp_path_factory.mktemp("corrected") / "shop"))
    shop.write_usage("late.parquet", hours(resource="vm-late", first="2026-09-10T00:00:00Z", count=100))
    ended = shop.run(period="2026-10")
    assert ended.code == ExitCode.DONE, ended
    return shop


def test_a_closed_month_is_simulated_as_it_was_issued(closed):
    found = simulated(closed.root, ["2026-09"], Question(book=closed.root / "book"))
    assert_nothing_differs(found)
    assert found.notes == ()
    # acme's 720 × 0.10 = 72.00 are paid by the credit; 36.00 more would leave 18.00 to pay
    found = simulated(closed.root, ["2026-09"], Question(raises=(Raise("vm", D(50)),)))
    (row,) = found.effects.levels["customer"].filter(billing_account_id="acme").iter_rows(named=True)
    assert (row["billed_before"], row["billed_after"]) == (D(0), D(18))


def test_corrections_are_on_neither_side(corrected):
    found = simulated(corrected.root, ["2026-09", "2026-10"], Question(book=corrected.root / "book"))
    assert_nothing_differs(found)
    assert [note.partition(" ")[0] for note in found.notes] == ["2026-09", "2026-10"]
    assert "usage file usage/late.parquet: it came or changed since" in found.notes[0]
    assert "bills corrections of earlier months" in found.notes[1]
    # September with the late hours is 82.00 of the 90.00; October's 74.40 find 8.00
    assert {row["period"]: row["billed_after"] for row in found.effects.levels["month"].iter_rows(named=True)} == {
        "2026-09": D("74.40"), "2026-10": D("74.40") + D("66.40")
    }  # fmt: skip


def test_charges_that_are_not_what_was_billed_are_refused(corrected, tmp_path):
    root = shutil.copytree(corrected.root, tmp_path / "shop")
    for shard in (root / "state" / "charges" / "period=2026-10").rglob("shard-*.parquet"):
        frame = pl.read_parquet(shard, glob=False)
        frame.with_columns(cost=pl.col("cost") * 2).cast(frame.schema).write_parquet(shard)
    ended = replace(corrected, root=root).command("simulate", "-p", "2026-10", "--raise", "vm=1%")
    assert ended.code == ExitCode.DATA_REFUSED
    assert "no longer leads to what its run" in ended.summary["error"]
    assert "ratemill verify --period 2026-10" in ended.summary["error"]


# -------------------------------------------------------------------------------------------------------------- killed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_simulation_leaves_nothing(corrected, number):
    stood = snapshot(corrected.root)
    state = corrected.root / "state"
    arguments = [
        sys.executable,
        "-m",
        "ratemill",
        "simulate",
        "-w",
        str(corrected.root),
        "-p",
        "2026-10",
        "--raise",
        "vm=1%",
    ]
    for _ in range(20):
        process = subprocess.Popen(arguments, env={**os.environ, "PYTHONPATH": SOURCE_ROOT}, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)  # fmt: skip
        while process.poll() is None and not list(state.glob(".simulate.*.tmp")):
            time.sleep(0.001)
        process.send_signal(number)
        process.wait()
        if process.returncode:
            break
    assert process.returncode
    if number == signal.SIGKILL:
        assert corrected.command("simulate", "-p", "2026-10", "--raise", "vm=1%").code == ExitCode.DONE
    assert not list(state.glob(".simulate.*"))
    (state / "lock.holder.json").unlink(missing_ok=True)
    assert snapshot(corrected.root) == stood


def test_prices_given_from_the_book_cost_the_same(corrected):
    """A table in place of the book's own, with the same rows."""
    found = simulated(corrected.root, ["2026-10"], Question(tables={"prices": corrected.root / "book" / "prices.csv"}))
    assert not found.effects.changed()
    assert len(BOOK["prices"]) == 3
