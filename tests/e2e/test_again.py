"""Run again: the same inputs change nothing and say so, what was lost comes back, what changed replaces the drafts."""

from __future__ import annotations

import json

import duckdb
import pytest

from crash.states import differences, state_of
from ratemill.errors import ExitCode
from workspaces import BOOK, PERIOD, good_usage, hours, make_workspace, run_here, tree

pytestmark = pytest.mark.slow

NO_PDF = {"output": {"pdf": False, "html": True}}


def times(root):
    """When each file was written, to the nanosecond."""
    return {path: path.stat().st_mtime_ns for part in ("out", "published", "state") for path in (root / part).rglob("*")
            if path.is_file() and "lock" not in path.name}  # fmt: skip


def only(ended):
    (period,) = ended.summary["periods"]
    return period


def with_price(sku, price):
    return [row | {"unit_price": price} if row["sku_id"] == sku else row for row in BOOK["prices"]]


@pytest.fixture
def shop(tmp_path):
    """A workspace that was run once."""
    made = make_workspace(tmp_path / "shop", config=NO_PDF)
    first = made.run()
    assert first.code == ExitCode.DONE, first.stderr
    assert not only(first)["nothing_to_do"]
    return made


def test_second_run_does_nothing_and_says_so(shop):
    before = times(shop.root)
    first = shop.run()
    assert first.code == ExitCode.DONE
    assert only(first)["nothing_to_do"]
    assert first.summary["files"]["loaded"] == 0
    assert times(shop.root) == before
    told = shop.command("run", "--period", PERIOD, "--as-of", "2026-11-02T06:00:00Z", json=False)
    assert told.code == ExitCode.DONE
    assert "nothing to do" in told.stdout
    assert times(shop.root) == before


def test_second_run_says_the_same_as_the_first(tmp_path):
    shop = make_workspace(tmp_path, usage=[good_usage(), hours(quantity="-1", resource="vm-2", count=1)],
                          config={"policy": {"max_rejected_share": "1"}})  # fmt: skip
    first, second = only(shop.run()), only(shop.run())
    assert first["findings"], "a rejected row is a finding"
    assert second == first | {"nothing_to_do": True}


@pytest.mark.parametrize(
    "lost",
    [
        "out",
        "published",
        f"out/{PERIOD}/index.html",
        f"out/{PERIOD}/invoices/acme-EUR.json",
        "published/billing.duckdb",
    ],
)
def test_what_was_lost_is_built_again(shop, lost):
    before = state_of(shop.root)
    path = shop.root / lost
    if path.is_dir():
        for file in sorted(path.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        path.rmdir()
    else:
        path.unlink()
    again = shop.run()
    assert again.code == ExitCode.DONE
    assert not only(again)["nothing_to_do"]
    assert differences(before, state_of(shop.root)) == []
    assert only(shop.run())["nothing_to_do"]


def test_lost_state_is_built_again_from_the_inputs(shop):
    before = state_of(shop.root)
    for file in sorted((shop.root / "state").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    assert shop.run().code == ExitCode.DONE
    assert differences(before, state_of(shop.root)) == []


def test_changed_price_replaces_the_drafts_and_changing_it_back_brings_the_former_bytes(shop):
    first, before = only(shop.run()), shop.written()
    former_charges = tree(shop.root / "state" / "charges", shop.root)

    shop.write_book("prices", with_price("vm", "0.20"))
    dearer = only(shop.run())
    assert dearer["run_id"] != first["run_id"]
    assert not dearer["nothing_to_do"]
    assert shop.invoice("acme")["totals"]["untaxed"] == "6.00"
    with duckdb.connect(str(shop.root / "published" / "billing.duckdb"), read_only=True) as published:
        for table in ("charges", "invoices", "runs"):
            assert published.execute(f"SELECT DISTINCT run_id FROM {table}").fetchall() == [(dearer["run_id"],)]
    # Charges of the former run stay, for whoever asks what changed.
    assert former_charges.items() <= tree(shop.root / "state" / "charges", shop.root).items()

    shop.write_book("prices", BOOK["prices"])
    back = only(shop.run())
    assert back["run_id"] == first["run_id"]
    documents = {name: digest for name, digest in before.items() if not name.endswith(".duckdb")}
    assert documents.items() <= shop.written().items()
    assert only(shop.run())["nothing_to_do"]


def test_going_back_to_a_former_book_brings_its_rejects_back(tmp_path):
    """Charges of a known run are not computed again; what its book rejected must still be this book's."""
    lenient = {"policy": {"max_rejected_share": "1"}}
    shop = make_workspace(tmp_path, usage=[good_usage(), hours(sku="gpu", resource="gpu-1")], config=lenient)
    unknown = only(shop.run())
    assert [finding["rule"] for finding in unknown["findings"]] == ["usage.sku_id.unknown"]
    assert unknown["rows"]["rejected"] == 24
    before = tree(shop.root / "out", shop.root)

    gpu = BOOK["skus"][0] | {"sku_id": "gpu"}
    shop.write_book("skus", [*BOOK["skus"], gpu])
    shop.write_book("prices", [*BOOK["prices"], BOOK["prices"][0] | {"price_id": "gpu-eur", "sku_id": "gpu"}])
    assert only(shop.run())["rows"]["rejected"] == 0

    shop.write_book("skus", BOOK["skus"])
    shop.write_book("prices", BOOK["prices"])
    assert only(shop.run()) == unknown
    assert tree(shop.root / "out", shop.root) == before


def test_list_of_unpriced_usage_goes_when_it_is_priced(tmp_path):
    shop = make_workspace(tmp_path, book={"prices": BOOK["prices"][:2]})
    assert shop.run().code == ExitCode.DATA_REFUSED
    assert (tmp_path / "out" / f"{PERIOD}-unpriced.csv").is_file()
    shop.write_book("prices", BOOK["prices"])
    assert shop.run().code == ExitCode.DONE
    assert not (tmp_path / "out" / f"{PERIOD}-unpriced.csv").exists()


def test_record_id_that_comes_back_in_another_month_is_no_longer_billed(tmp_path):
    """No file of the period changed, but what may be billed from them did: the drafts must follow."""
    october = hours(count=1, record_id="R1")
    november = hours(count=1, first="2026-11-01T00:00:00Z", record_id="R1")
    other = hours(resource="vm-2")
    lenient = {"policy": {"max_rejected_share": "1"}}
    late = make_workspace(tmp_path / "late", usage=[october, other], config=lenient)
    assert late.run().rows["billed"] == 25
    late.write_usage("usage-2.parquet", november)
    again = late.run()
    assert again.rows["billed"] == 24

    at_once = make_workspace(tmp_path / "at-once", usage=[october, other, november], config=lenient)
    assert only(at_once.run()) == only(again)
    assert {name for name in late.documents() if "shard" in name} > {
        name for name in at_once.documents() if "shard" in name
    }
    assert tree(late.root / "out", late.root) == tree(at_once.root / "out", at_once.root)


def test_range_of_periods_is_the_same_as_one_after_the_other(tmp_path):
    usage = [good_usage(), hours(first="2026-09-03T00:00:00Z", count=48)]
    at_once = make_workspace(tmp_path / "at-once", usage=usage, config=NO_PDF)
    both = at_once.run(period="2026-09..2026-10")
    assert [period["period"] for period in both.summary["periods"]] == ["2026-09", "2026-10"]
    one_by_one = make_workspace(tmp_path / "one-by-one", usage=usage, config=NO_PDF)
    for period in ("2026-09", "2026-10"):
        assert one_by_one.run(period=period).code == ExitCode.DONE
    assert one_by_one.documents() == at_once.documents()
    before = times(at_once.root)
    again = at_once.run(period="2026-09..2026-10")
    assert [period["nothing_to_do"] for period in again.summary["periods"]] == [True, True]
    assert times(at_once.root) == before


def test_change_in_the_month_before_renews_the_comparison_with_it(tmp_path):
    """October's report shows September's totals, so it is written anew though October's own inputs stand."""
    shop = make_workspace(tmp_path, usage=[good_usage(), hours(first="2026-09-03T00:00:00Z")], config=NO_PDF)
    shop.run(period="2026-10")
    alone = tree(shop.root / "out" / "2026-10", shop.root)
    shop.run(period="2026-09")
    assert not only(shop.run(period="2026-10"))["nothing_to_do"]
    compared = tree(shop.root / "out" / "2026-10", shop.root)
    assert compared != alone
    manifest = json.loads((shop.root / "out" / "2026-10" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["previous_run_id"].startswith("2026-09-")
    assert only(shop.run(period="2026-10"))["nothing_to_do"]


def test_second_run_of_the_demo_does_nothing(tmp_path):
    root = tmp_path / "demo"
    assert run_here(["init", str(root), "--sample", "demo", "--resources", "6", "--months", "1", "-q"]).code == 0
    with (root / "ratemill.toml").open("a", encoding="utf-8") as config:
        config.write("\n[output]\npdf = false\nhtml = false\n")
    arguments = ["run", "-w", str(root), "-p", PERIOD, "--as-of", "2026-11-02T06:00:00Z", "-q", "--json"]
    assert not only(run_here(arguments))["nothing_to_do"]
    before = times(root)
    assert only(run_here(arguments))["nothing_to_do"]
    assert times(root) == before
