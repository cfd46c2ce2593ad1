"""The steps one at a time: the same results as ``run``, in any order that makes sense, and a word where it makes none."""

from __future__ import annotations

import pytest

from crash.states import differences, state_of
from ratemill.errors import ExitCode
from ratemill.io.lock import hold_lock
from workspaces import ADDRESSED, BOOK, NOW, PERIOD, good_usage, hours, make_workspace, month_of_usage

pytestmark = pytest.mark.slow

STEPS = ("load", "check", "rate", "invoice", "report", "publish")
WITH_PERIOD = ("check", "rate", "invoice", "report")
CONFIG = {"output": {"pdf": False, "html": True}, "policy": {"max_rejected_share": "1"}}


@pytest.fixture
def shop(tmp_path):
    """A workspace with a rejected row and a duplicated file, that was never run."""
    usage = [good_usage(), good_usage(), hours(quantity="-1", resource="vm-2", count=1)]
    return make_workspace(tmp_path / "shop", usage=usage, config=CONFIG)


def step(shop, name):
    return shop.command(name, *(["--period", PERIOD, "--as-of", NOW] if name in WITH_PERIOD else []))


def test_steps_one_at_a_time_give_the_bytes_of_run(shop, tmp_path):
    for name in STEPS:
        ended = step(shop, name)
        assert ended.code == ExitCode.DONE, ended.stderr
    at_once = make_workspace(tmp_path / "at-once", usage=[good_usage(), good_usage(), hours(quantity="-1", resource="vm-2", count=1)], config=CONFIG)  # fmt: skip
    assert at_once.run().code == ExitCode.DONE
    assert differences(state_of(at_once.root), state_of(shop.root)) == []
    # And run finds all of it done.
    (period,) = shop.run().summary["periods"]
    assert period["nothing_to_do"]


@pytest.mark.parametrize("name", STEPS)
def test_step_done_again_changes_nothing(shop, name):
    assert shop.run().code == ExitCode.DONE
    before = state_of(shop.root)
    assert step(shop, name).code == ExitCode.DONE
    if name in ("invoice", "report"):  # what they lead to is to be done again
        assert shop.run().code == ExitCode.DONE
    assert differences(before, state_of(shop.root)) == []


@pytest.mark.parametrize("name", ["check", "rate", "invoice", "report"])
def test_step_before_load_has_nothing_to_bill(shop, name):
    ended = step(shop, name)
    assert ended.code == ExitCode.NOTHING_TO_BILL
    assert "nothing to bill → run: ratemill load" in ended.stderr
    assert not (shop.root / "out").exists()


def test_report_before_invoice_names_the_missing_step(shop):
    step(shop, "load")
    ended = step(shop, "report")
    assert ended.code == ExitCode.USAGE
    assert f"ratemill invoice --period {PERIOD}" in ended.stderr
    assert not (shop.root / "out").exists()


def test_report_refuses_invoices_of_other_inputs(shop):
    assert shop.run().code == ExitCode.DONE
    before = shop.documents()
    shop.write_usage("usage-9.parquet", hours(resource="vm-9"))
    step(shop, "load")
    ended = step(shop, "report")
    assert ended.code == ExitCode.USAGE
    assert f"ratemill invoice --period {PERIOD}" in ended.stderr
    assert shop.documents() == before


def test_steps_of_a_closed_month_have_nothing_to_do(tmp_path):
    """A scheduler that goes step by step meets closed months every day."""
    shop = make_workspace(tmp_path / "shop", usage=month_of_usage(), book={"accounts": ADDRESSED})
    assert shop.run().code == ExitCode.DONE
    assert shop.close().code == ExitCode.DONE
    before = shop.documents()
    told = {name: step(shop, name).summary for name in STEPS}
    assert {summary["exit_code"] for summary in told.values()} == {ExitCode.DONE}
    assert told["rate"]["closed"] == told["invoice"]["closed"]
    assert told["invoice"]["closed"]["last_number"] == "2026-00002"
    assert told["invoice"]["totals"][0]["untaxed"] == "148.8000"
    assert shop.documents() == before
    shop.write_usage("late.parquet", hours(resource="vm-9"))
    assert step(shop, "load").code == ExitCode.DONE
    for name in ("rate", "invoice"):
        late = step(shop, name)
        assert late.code == ExitCode.LOCKED
        assert "run: ratemill run --period 2026-11, which bills the difference" in late.stderr
    assert shop.documents() == before


def test_publish_removes_charges_that_nobody_needs_as_a_run_does(shop):
    for price in ("0.1", "0.2", "0.3", "0.4", "0.5"):
        shop.write_book("prices", [row | {"unit_price": price} for row in BOOK["prices"]])
        for name in STEPS:
            assert step(shop, name).code == ExitCode.DONE
    kept = list((shop.root / "state" / "charges").glob("period=*/run=*"))
    assert len(kept) == 3, "as many as [policy] keep_drafts says"


def test_status_tells_what_was_run_and_what_waits(shop):
    none = shop.command("status").summary
    assert (none["runs"], none["at_work"]) == ([], None)
    assert sorted(none["waiting_files"]) == [f"usage/usage-{number}.parquet" for number in range(3)]
    assert shop.run().code == ExitCode.DONE
    shop.write_usage("usage-9.parquet", hours(resource="vm-9"))
    (shop.root / "usage" / "broken.parquet").write_bytes(b"PAR1")
    status = shop.command("status").summary
    (run,) = status["runs"]
    assert (run["period"], run["status"], run["invoices"]) == (PERIOD, "done", 2)
    assert sorted(status["waiting_files"]) == ["usage/broken.parquet", "usage/usage-9.parquet"]


def test_status_answers_while_another_process_is_at_work(shop):
    assert shop.run().code == ExitCode.DONE
    before = shop.command("status").summary
    with hold_lock(shop.root / "state" / "lock", command="ratemill run --period 2026-11"):
        status = shop.command("status")
        refused = shop.run()
    assert status.code == ExitCode.DONE
    assert "ratemill run --period 2026-11" in status.summary["at_work"]
    assert status.summary["runs"] == before["runs"]
    assert refused.code == ExitCode.LOCKED
    assert "ratemill run --period 2026-11" in refused.stderr
    assert shop.command("status").summary["at_work"] is None
