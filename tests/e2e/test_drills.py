"""Disasters that docs/operations.md has a line for and that no other test plays: what is said, and that the cure works."""

from __future__ import annotations

import shutil

import pytest

from ratemill.errors import ExitCode
from workspaces import ADDRESSED, PERIOD, TinyWorkspace, make_workspace, month_of_usage, run_here

pytestmark = pytest.mark.slow

NOVEMBER = "2026-11"
AFTER_NOVEMBER = "2026-12-02T06:00:00Z"


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """October closed, and a backup of it beside."""
    folder = tmp_path_factory.mktemp("closed")
    shop = make_workspace(folder / "shop", usage={"october.parquet": month_of_usage()}, book={"accounts": ADDRESSED})
    assert shop.run().code == ExitCode.DONE
    assert shop.close().code == ExitCode.DONE
    assert shop.command("backup", str(folder / "backups")).code == ExitCode.DONE
    return folder


@pytest.fixture
def place(closed, tmp_path):
    """A copy of both, for a test of its own."""
    shutil.copytree(closed, tmp_path / "place")
    return tmp_path / "place"


def restored(place):
    """A new workspace from the one backup."""
    (backup,) = (place / "backups").iterdir()
    target = TinyWorkspace(place / "restored")
    assert run_here(["restore", str(backup), str(target.root)]).code == ExitCode.DONE
    shutil.copytree(place / "shop" / "usage", target.root / "usage")
    return target


def overwrite(path, place, length=65_536):
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xa5" * length)


@pytest.mark.parametrize("where", ["its head", "its middle"])
def test_the_warehouse_is_damaged(place, where):
    shop = TinyWorkspace(place / "shop")
    warehouse = shop.root / "state" / "warehouse.duckdb"
    if where == "its head":
        overwrite(warehouse, 0)
    else:  # every block behind the headers
        overwrite(warehouse, 12_288, warehouse.stat().st_size - 12_288)
    ended = shop.run()
    assert ended.code in (ExitCode.USAGE, ExitCode.DATA_REFUSED), ended.stderr
    assert "ratemill restore" in ended.stderr
    assert "internal error" not in ended.stderr

    new = restored(place)
    assert new.run().code == ExitCode.DONE
    assert new.command("verify").code == ExitCode.DONE
    assert new.run().summary["periods"][0]["nothing_to_do"]


def test_all_usage_files_are_lost(place):
    shop = TinyWorkspace(place / "shop")
    shutil.rmtree(shop.root / "usage")
    ended = shop.run()
    assert ended.code == ExitCode.DONE
    assert ended.summary["periods"][0]["nothing_to_do"]
    assert ended.finding("usage.file_gone")["message"].endswith("its usage is still billed")
    proven = shop.command("verify")
    assert proven.code == ExitCode.DONE, "its rows are in the warehouse"
    assert proven.summary["periods"][0]["derived"]


def test_the_clock_is_wrong(place):
    shop = TinyWorkspace(place / "shop")
    late = shop.run("--as-of", "2025-01-01T00:00:00Z", period=NOVEMBER)
    assert late.code == ExitCode.USAGE
    assert "period 2026-11 has not begun" in late.stderr
    assert "or the clock" in late.stderr
    shop.write_usage("november.parquet", month_of_usage(first="2026-11-01T00:00:00Z", count=720))
    assert shop.run("--as-of", AFTER_NOVEMBER, period=NOVEMBER).code == ExitCode.DONE
    # A day that is before that of the document issued last gives no number: numbers follow dates.
    early = shop.close("--issue-date", "2026-11-01", period=NOVEMBER, now=AFTER_NOVEMBER)
    assert early.code == ExitCode.DATA_REFUSED
    assert "close.issue_date.in_order" in {finding["rule"] for finding in early.findings}
    closed = shop.close(period=NOVEMBER, now=AFTER_NOVEMBER)
    assert closed.code == ExitCode.DONE, closed.stderr
    assert closed.summary["closed"]["first_number"] == "2026-00003"
    assert shop.command("verify", "--period", PERIOD).code == ExitCode.DONE
