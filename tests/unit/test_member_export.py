"""``ratemill export member``: the folder it writes, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import stat

import pytest

from members import MEMBERS
from ratemill.errors import ExitCode
from workspaces import run_here

AS_OF = ("--as-of", "2026-11-02T06:00:00Z")


@pytest.fixture(scope="module")
def shop(billed_customers):
    return billed_customers


def export(shop, principal, *options, period="2026-10"):
    return run_here(
        ["export", "member", principal, "-w", str(shop.root), "--period", period, *AS_OF, *options, "--json"]
    )


@pytest.mark.slow
def test_the_folder_is_private_whole_and_told_by_its_manifest(shop):
    ended = export(shop, "dev@falcon.example")
    assert ended.code == ExitCode.DONE, ended.stderr
    folder = shop.root / ended.summary["folder"]
    assert folder.parent.parent == shop.root / "exports/members"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["member"], manifest["periods"]) == ("dev@falcon.example", ["2026-10"])
    assert manifest["scope"] == [{"role": "billing_reader", "account_id": "falcon"}]
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert manifest["files"].keys() == files.keys() - {"manifest.json"}
    for name, facts in manifest["files"].items():
        assert facts["sha256"] == hashlib.sha256(files[name].read_bytes()).hexdigest(), name
    assert {"index.html", "workbook.xlsx", "billing.duckdb", "csv/charges.csv", "parquet/charges.parquet",
            "parquet/focus_cost_and_usage.parquet", "2026-10/reports/kestrel-EUR.html"} <= files.keys()  # fmt: skip
    assert manifest["files"]["csv/invoice_lines.csv"]["rows"] == 4  # a machine, quartz, a fee, a gift
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}
    assert modes == {0o700, 0o600}


def test_the_report_of_a_part_has_no_total_and_no_tax(shop):
    ended = export(shop, "quartz-key")
    page = (shop.root / ended.summary["folder"] / "2026-10/reports/kestrel-EUR.html").read_text()
    assert "<h1>Project Quartz Works</h1>" in page
    assert "As billed to Kestrel Group" in page
    assert "Cost before tax" in page
    for word in ("Total with tax", 'id="taxes"', "All invoices", "../invoices/"):
        assert word not in page


def test_what_is_no_export_is_left_alone(shop, tmp_path):
    folder = tmp_path / "shared" / "quartz-key" / "2026-10"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"member": "somebody@else.example"}')
    ended = export(shop, "quartz-key", "--output", str(tmp_path / "shared"))
    assert ended.code == ExitCode.USAGE
    assert "is no export for quartz-key → move it away" in ended.stderr
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    ("principal", "period", "words"),
    [
        ("cfo@kestrel.exampel", "2026-10", ["is no member", "did you mean cfo@kestrel.example?", "book/members.csv"]),
        ("CFO@KESTREL.EXAMPLE", "2026-10", ["is no member"]),
        ("%", "2026-10", ["'%' is no member"]),
        ("gone@osprey.example", "2026-10", ["no row of 'gone@osprey.example'", "valid_to", "--as-of"]),
        ("cfo@kestrel.example", "2026-08", ["2026-08 has no invoices to export", "ratemill run --period 2026-08"]),
    ],
)
def test_what_is_refused_is_told(shop, principal, period, words):
    ended = export(shop, principal, period=period)
    assert ended.code == ExitCode.USAGE
    assert [word for word in words if word not in ended.stderr] == []
    assert not (shop.root / "exports" / "members" / "CFO").exists()


def test_a_member_of_what_was_not_used_gets_nothing(shop):
    shop.write_book("members", [*MEMBERS, {"principal": "new", "role": "billing_reader", "account_id": "osprey",
                                           "project_id": "quartz"}])  # fmt: skip
    ended = export(shop, "new")
    shop.write_book("members", MEMBERS)
    assert ended.code == ExitCode.NOTHING_TO_BILL
    assert "nothing was billed in 2026-10 to what new may see: project quartz, account osprey" in ended.stderr


def test_a_book_with_a_mistake_shows_nothing_to_anybody(shop):
    """A row that could mean everything stops every export, not only the one of its member."""
    shop.write_book("members", [*MEMBERS, {"principal": "new", "role": "billing_reader"}])
    ended = export(shop, "cfo@kestrel.example")
    shop.write_book("members", MEMBERS)
    assert ended.code == ExitCode.DATA_REFUSED
    assert "book/members.csv:10" in ended.stderr
    assert "nothing is not everything" in ended.stderr


@pytest.mark.slow
def test_who_may_see_it_changes_nothing_about_what_is_billed(shop):
    """The run is the same run, with nothing to do; and the file may be missing altogether."""
    before = shop.run().summary["periods"][0]["run_id"]
    for rows in (MEMBERS[:1], None):
        shop.write_book("members", rows)
        ended = shop.run()
        assert ended.summary["periods"][0]["run_id"] == before
        assert ended.summary["periods"][0]["nothing_to_do"]
    shop.write_book("members", MEMBERS)


def test_published_data_that_is_behind_is_not_shown(shop):
    (shop.root / "published" / "manifest.json").rename(shop.root / "published" / "aside.json")
    ended = export(shop, "cfo@kestrel.example")
    (shop.root / "published" / "aside.json").rename(shop.root / "published" / "manifest.json")
    assert ended.code == ExitCode.USAGE
    assert "2026-10 is not published as it was billed → run: ratemill publish" in ended.stderr
