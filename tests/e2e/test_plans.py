"""The plan, held against the run that follows: what it foretold is what happens, and looking changed nothing."""

from __future__ import annotations

import json
import shutil

import pytest

from crash.states import differences, state_of
from ratemill.errors import ExitCode
from ratemill.insight.plan import STEPS
from ratemill.io.lock import hold_lock
from workspaces import ADDRESSED, BOOK, NOW, PERIOD, hours, make_workspace, month_of_usage

pytestmark = pytest.mark.slow

CONFIG = {"output": {"pdf": False, "html": True}}


@pytest.fixture
def shop(tmp_path):
    return make_workspace(tmp_path / "shop", config=CONFIG)


def plan(shop, period=PERIOD, now=NOW):
    """``ratemill plan`` of one period, with what it says of usage files."""
    ended = shop.command("plan", "--period", period, "--as-of", now)
    assert ended.code == ExitCode.DONE, ended.stderr
    assert (ended.summary["status"], ended.summary["exit_code"]) == ("done", 0)
    return ended.summary


def only(summary):
    (period,) = summary["periods"]
    return period


def why(period, name):
    return next(step["why"] for step in period["steps"] if step["name"] == name)


def would_run(period):
    return [step["name"] for step in period["steps"] if step["would_run"]]


def foretold(shop, period=PERIOD):
    """The plan; then the run, which must do just that."""
    has_state = (shop.root / "published").exists()
    before = state_of(shop.root) if has_state else shop.written()
    planned = plan(shop, period)
    assert differences(before, state_of(shop.root)) == [] if has_state else shop.written() == before
    one = only(planned)
    ended = shop.run(period=period)
    assert ended.code == one["expected_exit_code"], (one, ended.stderr)
    if "periods" in ended.summary:
        done = only(ended.summary)
        billed = [name for name in would_run(one) if name != "load"]
        assert done["nothing_to_do"] == (billed == []), one
        if one["next_run_id"] is not None:
            assert done["run_id"] == one["next_run_id"]
        usage = planned["usage"]
        read = sum(len(usage[kind]) for kind in ("new", "changed", "settings", "again"))
        assert ended.summary["files"]["loaded"] == read - len(usage["refused"])
        assert ended.summary["files"]["refused"] == len(usage["refused"])
    return one


def test_before_anything_was_billed(shop):
    one = foretold(shop)
    assert (one["state"], one["run_id"], one["why"]) == ("open", None, "drafts are made")
    assert would_run(one) == ["load", "check", "rate", "invoice", "report", "publish"]
    assert why(one, "load") == "usage/usage.parquet is new"
    assert why(one, "rate") == "the period was never billed; usage/usage.parquet is to be loaded"
    assert foretold(shop)["would_run"] is False


def test_the_manifest_names_inputs_outputs_and_what_comes_before(shop):
    steps = {step["name"]: step for step in only(plan(shop))["steps"]}
    assert list(steps) == list(STEPS)
    assert steps["load"]["inputs"] == ["usage/*.parquet"]
    assert steps["rate"]["depends_on"] == ["check"]
    assert steps["rate"]["outputs"] == ["state/charges/period=2026-10"]
    assert {"book/prices.csv", "ratemill.toml"} < set(steps["check"]["inputs"])
    assert steps["report"]["outputs"] == ["out/2026-10"]
    assert steps["publish"]["outputs"] == ["published/billing.duckdb", "published/parquet"]
    assert not (shop.root / "state" / "warehouse.duckdb").exists(), "looking makes no warehouse"


def test_each_kind_of_change_is_named_and_billed(shop):
    shop.run()
    shop.write_book("prices", [row | {"unit_price": "0.20"} for row in BOOK["prices"]])
    dearer = foretold(shop)
    assert why(dearer, "rate").startswith(f"not as in run {dearer['run_id']}: book: prices")

    shop.write_book("prices", BOOK["prices"])
    back = foretold(shop)
    assert why(back, "rate") == "charges of these inputs stand already"
    assert "rate" not in would_run(back)

    shop.write_config(CONFIG | {"policy": {"max_total_change": "0.7"}})
    assert "ratemill.toml" in why(foretold(shop), "invoice")

    shop.write_usage("usage-2.parquet", hours(resource="vm-9"))
    assert "usage/usage-2.parquet is to be loaded" in why(foretold(shop), "rate")
    shop.write_usage("usage-2.parquet", hours(resource="vm-9", count=23))
    changed = foretold(shop)
    assert why(changed, "load") == "usage/usage-2.parquet is changed"


def test_usage_of_another_month_is_loaded_and_bills_nothing(shop):
    shop.run()
    shop.write_usage("usage-2.parquet", hours(first="2026-06-02T00:00:00Z"))
    one = foretold(shop)
    assert would_run(one) == ["load"]
    shop.write_usage("usage-3.parquet", hours(first="2026-06-03T00:00:00Z"), statistics=False)
    unsaid = only(plan(shop))
    assert "usage/usage-3.parquet is to be loaded, and its footer does not say which time it covers" in why(
        unsaid, "rate"
    )


@pytest.mark.parametrize("lost", ["out", "published"])
def test_what_was_lost_is_made_again(shop, lost):
    shop.run()
    shutil.rmtree(shop.root / lost)
    one = only(plan(shop))
    assert one["why"] == "the run is finished"
    assert would_run(one) == ["check", "invoice", "report", "publish"]
    assert only(shop.run().summary)["run_id"] == one["next_run_id"]


def test_refusals_are_foreseen(shop):
    (shop.root / "usage" / "cut.parquet").write_bytes(b"PAR1")
    cut = foretold(shop)
    assert cut["expected_exit_code"] == ExitCode.DATA_REFUSED
    assert "tried again" in why(foretold(shop), "load")
    (shop.root / "usage" / "cut.parquet").unlink()

    shop.write_book("prices", BOOK["prices"][1:])
    plan_before = only(plan(shop))
    assert plan_before["expected_exit_code"] == ExitCode.DONE, "that a price is missing shows when usage is rated"
    assert shop.run().code == ExitCode.DATA_REFUSED
    assert "24 usage records have no price" in why(foretold(shop), "rate")

    shop.write_book("prices", [row | {"unit_price": "cheap"} for row in BOOK["prices"]])
    wrong = foretold(shop)
    assert why(wrong, "check").startswith("it would refuse: the book has 3 mistakes")

    shop.write_book("prices", BOOK["prices"])
    assert foretold(shop, "2026-05")["expected_exit_code"] == ExitCode.NOTHING_TO_BILL
    assert foretold(shop, "2026-12")["state"] == "future"


def test_a_range_follows_its_order(shop):
    shop.write_usage("september.parquet", hours(first="2026-09-03T00:00:00Z"))
    shop.run(period="2026-10")
    summary = plan(shop, "2026-09..2026-10")
    september, october = summary["periods"]
    assert september["why"] == "drafts are made"
    assert october["would_run"], "its reports compare with September"
    both = shop.run(period="2026-09..2026-10").summary["periods"]
    assert [one["nothing_to_do"] for one in both] == [False, False]
    assert [one["would_run"] for one in plan(shop, "2026-09..2026-10")["periods"]] == [False, False]
    without_period = shop.command("plan", "--as-of", NOW).summary["periods"]
    assert [one["period"] for one in without_period] == ["2026-09", "2026-10"]


def test_after_the_close(tmp_path):
    shop = make_workspace(tmp_path / "shop", usage=month_of_usage(), book={"accounts": ADDRESSED}, config=CONFIG)
    assert shop.run().code == ExitCode.DONE
    assert shop.close("--issue-date", "2026-11-02").code == ExitCode.DONE
    closed = foretold(shop)
    assert (closed["state"], closed["would_run"]) == ("closed", False)
    shutil.rmtree(shop.root / "out")
    assert would_run(only(plan(shop))) == ["report"]
    shop.run()
    shop.write_book("prices", [row | {"unit_price": "0.20"} for row in BOOK["prices"]])
    differs = foretold(shop)
    assert differs["expected_exit_code"] == ExitCode.LOCKED
    assert differs["why"].endswith("what changed since is billed by 2026-11")


def test_usage_that_is_late_for_a_closed_month_is_billed_by_the_next(tmp_path):
    shop = make_workspace(tmp_path / "shop", usage=month_of_usage(), book={"accounts": ADDRESSED}, config=CONFIG)
    shop.run()
    assert shop.close("--issue-date", "2026-11-02").code == ExitCode.DONE
    shop.write_usage("november.parquet", hours(first="2026-11-01T00:00:00Z", count=48))
    november = foretold(shop, "2026-11")
    assert november["why"] == "drafts are made"
    assert why(november, "correct") == "no closed month is to be corrected"
    shop.write_usage("late.parquet", hours(first="2026-10-07T00:00:00Z", resource="vm-late"))
    late = foretold(shop, "2026-11")
    assert "usage/late.parquet is to be loaded, and holds usage of 2026-10, which is closed" in why(late, "rate")
    assert why(late, "correct") == "2026-10 would be billed otherwise today"
    assert (
        "state/charges/period=2026-10" in next(step for step in late["steps"] if step["name"] == "correct")["outputs"]
    )
    assert foretold(shop, "2026-11")["would_run"] is False


def test_people_read_it_at_a_glance(shop):
    shop.run()
    shop.write_book("prices", [row | {"unit_price": "0.20"} for row in BOOK["prices"]])
    told = shop.command("plan", "--period", PERIOD, "--as-of", NOW, json=False)
    lines = [" ".join(line.split()) for line in told.stdout.splitlines()]
    assert lines[1].startswith(f"{PERIOD} drafts replace those that stand run {PERIOD}-")
    assert "correct no no closed month is to be corrected" in lines
    assert "publish yes as above" in lines


def test_while_a_run_is_at_work_its_holder_is_named(shop):
    with hold_lock(shop.root / "state" / "lock", command="ratemill run --period 2026-10"):
        ended = shop.command("plan", "--period", PERIOD, "--as-of", NOW)
    assert ended.code == ExitCode.LOCKED
    assert "ratemill run --period 2026-10" in json.loads(ended.stdout)["error"]
