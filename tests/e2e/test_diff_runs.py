"""``ratemill diff`` on real runs: which are compared, what is said, and what is refused."""

from __future__ import annotations

import csv
import shutil
from decimal import Decimal

import pytest

from ratemill.errors import ExitCode
from workspaces import BOOK, PERIOD, TinyWorkspace, good_usage, hours, make_workspace

pytestmark = pytest.mark.slow


def prices(**changed: str) -> list[dict[str, str]]:
    return [row | {"unit_price": changed.get(row["sku_id"], row["unit_price"])} for row in BOOK["prices"]]


def run(shop: TinyWorkspace) -> str:
    ended = shop.run()
    assert ended.code == ExitCode.DONE, ended
    return ended.summary["periods"][0]["run_id"]


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three runs: as it was, with a dearer VM and more of them, and with a discount as well."""
    shop = make_workspace(tmp_path_factory.mktemp("runs") / "shop", usage={"a.parquet": good_usage()})
    runs = [run(shop)]
    shop.write_book("prices", prices(vm="0.20"))
    shop.write_usage("b.parquet", hours(resource="vm-2"))
    runs.append(run(shop))
    shop.write_book("discounts", [{"discount_id": "ten", "account_id": "acme", "percent": "10", "valid_from":
                                   "2026-01-01", "note": "Ten"}])  # fmt: skip
    runs.append(run(shop))
    return shop, runs


def untaxed(ended) -> dict[str, Decimal]:
    (total,) = ended.summary["totals"]
    return {name: Decimal(total[name]) for name in ("before", "after", "difference")}


def causes(ended) -> list[tuple[str, str, str, Decimal, str]]:
    return [
        (group["account_id"], group["sku_id"], group["cause"], Decimal(group["effect"]), group["detail"])
        for group in ended.summary["groups"]
    ]


def test_current_run_is_compared_with_the_one_it_replaced(three):
    shop, runs = three
    ended = shop.command("diff", "--period", PERIOD, process=True)
    assert ended.code == ExitCode.DONE, ended
    assert (ended.summary["from"], ended.summary["to"]) == (runs[1], runs[2])
    assert ended.summary["inputs"]["book"] == ["discounts"]
    # 10 % of 9.60 and of 1.20
    assert causes(ended) == [
        ("acme", "vm", "discount", Decimal("-0.96"), "ten: new"),
        ("acme", "egress", "discount", Decimal("-0.12"), "ten: new"),
    ]
    assert untaxed(ended) == {"before": Decimal("13.20"), "after": Decimal("12.12"), "difference": Decimal("-1.08")}


def test_any_two_runs_by_id_or_hash(three):
    shop, runs = three
    ended = shop.command("diff", "-p", PERIOD, "--from", runs[0], "--to", runs[1].rpartition("-")[2][:6])
    assert (ended.summary["from"], ended.summary["to"]) == (runs[0], runs[1])
    # 24 hours of vm-1 at 0.20 instead of 0.10, and 24 hours of vm-2, which is all usage
    assert causes(ended) == [
        ("acme", "vm", "usage", Decimal("4.80"), "usage/b.parquet: new"),
        ("acme", "vm", "price", Decimal("2.40"), "vm-eur: unit_price 0.1 → 0.2"),
    ]
    assert untaxed(ended)["difference"] == Decimal("7.20")
    back = shop.command("diff", "-p", PERIOD, "--from", runs[1], "--to", runs[0])
    assert untaxed(back)["difference"] == Decimal("-7.20")


def test_table_for_people_ends_with_the_difference(three):
    shop, runs = three
    told = shop.command("diff", "-p", PERIOD, "--from", runs[0], "--to", runs[1], json=False).stdout
    assert "usage/b.parquet: new" in told
    assert "book: prices" in told
    assert "untaxed 6.00 → 13.20" in told
    assert told.split("Total")[1].split() == ["+7.20"]


def test_spreadsheet_has_every_charge_that_differs(three, tmp_path):
    shop, runs = three
    file = tmp_path / "changes.csv"
    ended = shop.command("diff", "-p", PERIOD, "--from", runs[0], "--to", runs[1], "--csv", str(file))
    rows = list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines()))
    assert {(row["resource_id"], row["status"], row["causes"]) for row in rows} == {
        ("vm-1", "changed", "price"), ("vm-2", "added", "usage")
    }  # fmt: skip
    assert sum(Decimal(row["effect"]) for row in rows) == untaxed(ended)["difference"]


def test_same_run_twice_differs_in_nothing(three):
    shop, runs = three
    ended = shop.command("diff", "-p", PERIOD, "--from", runs[1], "--to", runs[1])
    assert causes(ended) == []
    assert untaxed(ended)["difference"] == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["-p", "2026-09"], "2026-09 has no run yet → run: ratemill run --period 2026-09"),
        (["-p", PERIOD, "--from", "zzz"], "'zzz' is no run of 2026-10; its runs are 2026-10-"),
        (["-p", PERIOD, "--to", "2026"], "'2026' fits 3 runs of 2026-10"),
        (["-p", "2026-09..2026-10"], "names 2 periods, and this command takes one"),
    ],
)
def test_runs_that_are_not_there_are_refused(three, options, told):
    ended = three[0].command("diff", *options)
    assert ended.code == ExitCode.USAGE
    assert told in ended.summary["error"]


def test_first_run_has_nothing_to_be_compared_with(three):
    shop, runs = three
    ended = shop.command("diff", "-p", PERIOD, "--to", runs[0])
    assert ended.code == ExitCode.USAGE
    assert "replaced no other" in ended.summary["error"]


@pytest.mark.parametrize("how", ["removed", "exchanged"])
def test_charges_that_are_not_what_was_drafted_are_refused(three, tmp_path, how):
    root, runs = shutil.copytree(three[0].root, tmp_path / "shop"), three[1]
    first, second = (root / "state" / "charges" / f"period={PERIOD}" / f"run={name}" for name in runs[:2])
    if how == "removed":
        shutil.rmtree(first)
    else:
        shutil.copy(second / "shard-0000.parquet", first / "shard-0000.parquet")
    ended = TinyWorkspace(root).command("diff", "-p", PERIOD, "--from", runs[0], "--to", runs[1])
    if how == "removed":
        assert ended.code == ExitCode.USAGE
        assert f"the charges of run {runs[0]} are no longer kept; those of " in ended.summary["error"]
    else:
        assert ended.code == ExitCode.DATA_REFUSED
        assert "add up to 13.2 EUR, and 6 was drafted with them" in ended.summary["error"]
