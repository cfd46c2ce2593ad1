"""Which charges are kept: what counts always, of the others the newest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import duckdb
import pytest

from ratemill.io.charge_store import ChargeStore, StoredRun
from ratemill.retention import collectable, correction_runs
from workspaces import BOOK, PERIOD, make_workspace

if TYPE_CHECKING:
    from pathlib import Path

KEY = "0123456789abcdef" * 4


def stored(*names: str) -> list[StoredRun]:
    """Runs in the order in which they were written: ``2026-10-a``, size 1, 2, …"""
    return [StoredRun(name[:7], name, number, number) for number, name in enumerate(names, start=1)]


def run(run_id: str, **corrections: str) -> dict[str, str]:
    """A run that counts, as ops.runs has it."""
    named = {period.removeprefix("p").replace("_", "-"): key for period, key in corrections.items()}
    return {"period": run_id[:7], "run_id": run_id, "inputs": json.dumps({"corrections": named})}


@pytest.mark.parametrize(
    ("on_disk", "counting", "keep", "given_up"),
    [
        # the current run is one of those that are kept
        (["2026-10-a", "2026-10-b", "2026-10-c"], ["2026-10-c"], 3, []),
        (["2026-10-a", "2026-10-b", "2026-10-c"], ["2026-10-c"], 2, ["2026-10-a"]),
        (["2026-10-a", "2026-10-b", "2026-10-c"], ["2026-10-c"], 1, ["2026-10-a", "2026-10-b"]),
        # … also where it is the oldest: somebody went back to a former book
        (["2026-10-a", "2026-10-b", "2026-10-c"], ["2026-10-a"], 2, ["2026-10-b"]),
        (["2026-10-a", "2026-10-b", "2026-10-c"], ["2026-10-a"], 1, ["2026-10-b", "2026-10-c"]),
        # every period for itself
        (["2026-09-a", "2026-09-b", "2026-10-a", "2026-10-b"], ["2026-09-b", "2026-10-b"], 1, ["2026-09-a", "2026-10-a"]),
        # rated, but never invoiced
        (["2026-10-a", "2026-10-b"], [], 1, ["2026-10-a"]),
        ([], ["2026-10-a"], 1, []),
    ],
)  # fmt: skip
def test_newest_are_kept_and_those_that_count_always(on_disk, counting, keep, given_up):
    found = collectable(stored(*on_disk), [run(name) for name in counting], keep_drafts=keep)
    assert [one.run_id for one in found] == given_up


def test_ratings_of_closed_periods_that_were_billed_as_corrections_are_kept():
    settled, superseded, issued = f"2026-09-{KEY[:12]}", "2026-09-ffffffffffff", "2026-09-a"
    counting = [run(issued), run("2026-10-a", p2026_09=KEY)]
    on_disk = stored(settled, issued, "2026-09-draft", superseded, "2026-10-a")
    found = collectable(on_disk, counting, keep_drafts=1)
    assert [one.run_id for one in found] == ["2026-09-draft", superseded]


def test_runs_of_before_there_were_corrections_have_none():
    assert correction_runs("{}") == []
    assert correction_runs(json.dumps({"corrections": {"2026-09": KEY}})) == [("2026-09", "2026-09-0123456789ab")]


# ------------------------------------------------------------------------------------------------------ on real folders


def prices(price: str) -> list[dict[str, str]]:
    return [row | {"unit_price": price} if row["sku_id"] == "vm" else dict(row) for row in BOOK["prices"]]


def kept(root: Path) -> set[str]:
    return {one.run_id for one in ChargeStore(root / "state" / "charges").stored()}


@pytest.mark.slow
def test_run_removes_what_is_not_kept_and_says_so_in_the_audit_log(tmp_path):
    shop = make_workspace(tmp_path, config={"policy": {"keep_drafts": 2}})
    runs = []
    for price in ("0.10", "0.20", "0.30"):
        shop.write_book("prices", prices(price))
        (period,) = shop.run().summary["periods"]
        runs.append(period["run_id"])
    assert kept(shop.root) == {*runs[1:]}
    acts = audit_log(shop.root)
    assert [(act, period) for act, period, _ in acts if act != "loaded"] == [
        ("drafted", PERIOD), ("drafted", PERIOD), ("drafted", PERIOD), ("collected", PERIOD)
    ]  # fmt: skip
    details = json.loads(acts[-1][2])
    assert [*details["runs"]] == [runs[0]]
    assert details["bytes"] == details["runs"][runs[0]] > 0
    sizes = shop.command("status").summary["sizes"]
    assert sizes["charges_kept"] > 0
    assert sizes["charges_collectable"] == 0


@pytest.mark.slow
def test_what_a_killed_run_did_not_remove_is_removed_by_the_next_though_nothing_changed(tmp_path):
    shop = make_workspace(tmp_path, config={"policy": {"keep_drafts": 1}})
    (first,) = shop.run().summary["periods"]
    shop.write_book("prices", prices("0.20"))
    (second,) = shop.run().summary["periods"]
    assert kept(shop.root) == {second["run_id"]}
    store = ChargeStore(shop.root / "state" / "charges")
    folder, lost = store.folder(PERIOD, second["run_id"]), store.folder(PERIOD, first["run_id"])
    lost.mkdir()
    (lost / "shard-0000.parquet").write_bytes((folder / "shard-0000.parquet").read_bytes())
    assert shop.command("status").summary["sizes"]["charges_collectable"] > 0
    assert shop.run().summary["periods"][0]["nothing_to_do"]
    assert kept(shop.root) == {second["run_id"]}


def audit_log(root: Path) -> list[tuple[str, str | None, str]]:
    with duckdb.connect(str(root / "state" / "warehouse.duckdb"), read_only=True) as warehouse:
        return warehouse.execute("SELECT act, period, details FROM ops.events ORDER BY sequence").fetchall()
