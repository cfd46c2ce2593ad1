"""``ratemill simulate``: what invoices would have been, worked by hand, and that nothing is touched by asking.

September and October have a day of usage each. Acme: 24 h of a VM at 0.10 and 24 GiB of egress at 0.05 are 2.40 + 1.20,
less 10 % are 3.24, and 20 % tax is 0.65: 3.89. Globex: a disk of 1000 GiB for 24 of 720 or 744 hours at 0.0744 is 2.48
in September and 2.40 in October, with 19 % tax. A credit of 3.00 pays all of its September, and 0.52 of its October:
1.88 and 0.36 tax are 2.24.
"""

from __future__ import annotations

import csv
import io
import os
from decimal import Decimal

import polars as pl
import pytest

from ratemill.errors import ExitCode
from ratemill.io.lock import hold_lock
from workspaces import BOOK, PERIOD, good_usage, make_workspace, tree

D = Decimal
BOTH = "2026-09..2026-10"
DISCOUNT = {"discount_id": "ten", "account_id": "acme", "percent": "10", "note": "Ten"}
CREDIT = {"credit_id": "start", "account_id": "globex", "amount": "3.00", "currency": "EUR", "kind": "promotional",
          "granted_on": "2026-09-01", "note": "Welcome"}  # fmt: skip
TAXES = [row | {"category": "standard"} for row in BOOK["taxes"]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Two drafted months. No test may change it: that is what simulations promise."""
    usage = {
        "10.parquet": good_usage(),
        "09.parquet": good_usage().with_columns(pl.col("usage_start").dt.offset_by("-1mo")),
    }
    made = make_workspace(tmp_path_factory.mktemp("simulated") / "shop", usage=usage,
                          book={"discounts": [DISCOUNT], "credits": [CREDIT]})  # fmt: skip
    assert made.run(period=BOTH).code == ExitCode.DONE
    return made


@pytest.fixture(autouse=True)
def _untouched(shop):
    """The workspace is the same afterwards: every file, and the time of the warehouse."""
    warehouse = shop.root / "state" / "warehouse.duckdb"
    files, time = tree(shop.root, shop.root), warehouse.stat().st_mtime_ns
    yield
    assert tree(shop.root, shop.root) == files
    assert warehouse.stat().st_mtime_ns == time


def file(tmp_path, name, *rows):
    """A table with only a header where there are no rows."""
    path = tmp_path / name
    header = {"discounts.csv": "discount_id,account_id,percent,note\n"}
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), restval="")
        writer.writeheader()
        writer.writerows(rows)
    path.write_text(text.getvalue() or header[name], encoding="utf-8")
    return str(path)


def simulated(shop, *options, period=PERIOD):
    ended = shop.command("simulate", "--period", period, *options)
    assert ended.code == ExitCode.DONE, ended
    return ended.summary


def sums(summary, level="customer", sum_="taxed"):
    """Id → before, after, for what changes."""
    key = {"customer": "billing_account_id", "sku": "sku_id", "total": "currency", "month": "period"}[level]
    return {
        row[key]: (row[f"{sum_}_before"], row[f"{sum_}_after"])
        for row in summary["by"][level]
        if row[f"{sum_}_before"] != row[f"{sum_}_after"]
    }


def effect_of(summary):
    """The difference of the total with tax."""
    (total,) = summary["by"]["total"]
    return D(total["effect"])


# ---------------------------------------------------------------------------------------------------------- by hand


@pytest.mark.slow
def test_storage_five_percent_dearer(shop):
    """0.0744 becomes 0.07812: the disk is 2.52, less the 0.52 that is left of the credit 2.00, and 0.38 tax."""
    summary = simulated(shop, "--raise", "storage=5%")
    assert sums(summary) == {"globex": ("2.24", "2.38")}
    assert sums(summary, "sku", "billed") == {"disk": ("1.88", "2")}
    assert summary["customers"] == [{"currency": "EUR", "worse": 1, "better": 0, "same": 1}]
    assert "prices: disk-eur: unit_price 0.0744 → 0.07812" in summary["changes"]
    (globex, acme) = summary["by"]["customer"]
    # 0.14 of 2.24 is 6.25 %, and all of what goes up
    assert (globex["effect"], globex["change_percent"], globex["share_percent"]) == ("0.14", "6.3", "100")
    assert (acme["effect"], acme["change_percent"], acme["share_percent"]) == ("0", "0", None)


def test_two_months_in_a_row_share_the_credit(shop):
    """33.333… GiB-months at 0.07812 are 2.60, and the credit pays them; 0.40 of it is left for October: 2.12, tax 0.40."""
    summary = simulated(shop, "--raise", "storage=5%", period=BOTH)
    assert sums(summary) == {"globex": ("2.24", "2.52")}
    assert sums(summary, "month") == {PERIOD: ("6.13", "6.41")}
    assert sums(summary, "month", "list") == {"2026-09": ("6.0799999999999752", "6.20399999999997396"),
                                              PERIOD: ("5.9999999999999976", "6.11999999999999748")}  # fmt: skip


def test_a_discount_removed(shop, tmp_path):
    """Acme pays 3.60 and 0.72 tax."""
    summary = simulated(shop, "--discounts", file(tmp_path, "discounts.csv"))
    assert sums(summary) == {"acme": ("3.89", "4.32")}
    assert sums(summary, "sku", "billed") == {"vm": ("2.16", "2.4"), "egress": ("1.08", "1.2")}
    assert "discounts: ten: gone" in summary["changes"]
    steps = {row["step"]: (row["before"], row["after"]) for row in summary["steps"]}
    assert steps["discounts"] == ("-0.36", "0")
    assert steps["billed"] == ("5.12", "5.48")


def test_a_higher_tax(shop, tmp_path):
    """21 % of 3.24 is 0.68; what is billed before tax stays."""
    taxes = file(tmp_path, "taxes.csv", TAXES[0] | {"rate": "21"}, TAXES[1])
    summary = simulated(shop, "--taxes", taxes)
    assert sums(summary) == {"acme": ("3.89", "3.92")}
    assert sums(summary, "total", "billed") == {}
    assert effect_of(summary) == D("0.03")


def test_a_commitment_introduced(shop, tmp_path):
    """Acme promises 5.00 and spends 3.60: 3.24, 1.40 that are missing, and 20 % tax of 4.64, which is 0.93."""
    row = {"commitment_id": "five", "account_id": "acme", "amount": "5.00", "currency": "EUR", "note": "Five"}
    summary = simulated(shop, "--commitments", file(tmp_path, "commitments.csv", row))
    assert sums(summary) == {"acme": ("3.89", "5.57")}
    (shortfall,) = [row for row in summary["by"]["sku"] if row["sku_id"] is None]
    assert (shortfall["name"], shortfall["billed_before"], shortfall["billed_after"]) == (
        "Commitment shortfalls", "0", "1.4"
    )  # fmt: skip


def test_rows_over_the_books(shop, tmp_path):
    """One price of a file over the others, and the raise after it: 24 × 0.20 × 1.5, less 10 %."""
    dearer = BOOK["prices"][0] | {"unit_price": "0.20"}
    options = ["--prices", file(tmp_path, "prices.csv", dearer), "--merge", "--raise", "vm=50%"]
    assert sums(simulated(shop, *options), "sku", "billed") == {"vm": ("2.16", "6.48")}


def test_only_one_price_list(shop):
    assert effect_of(simulated(shop, "--raise", "*=5%", "--price-list", "public")) == effect_of(
        simulated(shop, "--raise", "*=5%")
    )


def test_the_same_book_makes_no_difference(shop):
    summary = simulated(shop, "--book", str(shop.root / "book"), period=BOTH)
    assert summary["changed"] is False
    for level, sum_ in (("customer", "taxed"), ("month", "due"), ("sku", "list"), ("sku", "billed")):
        assert sums(summary, level, sum_) == {}
    assert summary["notes"] == []


@pytest.mark.slow
def test_a_cheaper_price_makes_a_winner(shop):
    """Acme 24 × 0.05 + 1.20, less 10 %, is 2.16, with tax 2.59; and the table for people says so."""
    summary = simulated(shop, "--raise", "vm=-50%", "--raise", "storage=5%")
    assert sums(summary) == {"globex": ("2.24", "2.38"), "acme": ("3.89", "2.59")}
    assert summary["customers"] == [{"currency": "EUR", "worse": 1, "better": 1, "same": 0}]
    told = shop.command("simulate", "-p", PERIOD, "--raise", "vm=-50%", "--raise", "storage=5%", json=False).stdout
    assert "1 customer pays more, 1 less, 0 the same" in told
    assert "Total with tax" in told
    lines = {line.split()[0]: line.split()[1:] for line in told.splitlines() if line.startswith(("Acme", "Globex"))}
    assert lines == {"Globex": ["2.24", "2.38", "+0.14", "+6.3", "%"], "Acme": ["3.89", "2.59", "-1.30", "-33.4", "%"]}


# ------------------------------------------------------------------------------------------------------------- files


def test_files_of_every_kind(shop, tmp_path):
    folder = tmp_path / "results"
    summary = simulated(shop, "--raise", "storage=5%", "-o", str(folder), "-o", str(tmp_path / "one.csv"))
    names = ["simulation.html", "simulation.xlsx", "simulation.csv"]
    assert summary["files"] == [*(str(folder / name) for name in names), str(tmp_path / "one.csv")]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert (folder / "simulation.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    rows = list(csv.DictReader((tmp_path / "one.csv").read_text(encoding="utf-8-sig").splitlines()))
    totals = {row["level"]: D() for row in rows}
    for row in rows:
        totals[row["level"]] += D(row["billed_after"])
    assert set(totals.values()) == {D("5.24")}
    assert {*totals} == {"total", "month", "customer", "account", "service", "sku"}


# ----------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "nothing is different → give --raise"),
        (["--raise", "storag=5%"], "has no SKU, service or category 'storag'; it has Block Storage, Compute"),
        (["--raise", "storage=five"], "'storage=five' is no raise"),
        (["--raise", "vm=1%", "--raise", "VM=2%"], "'vm' is given twice"),
        (["--raise", "vm=1%", "--price-list", "gold"], "has no price list 'gold'; it has public"),
        (["--price-list", "gold", "--book", "."], "--price-list is for --raise"),
        (["--raise", "vm=1%", "--merge"], "--merge is for the files"),
        (["--prices", "nowhere.csv"], "--prices: there is no file nowhere.csv"),
        (["--book", "nowhere"], "--book: there is no folder nowhere"),
        (["--raise", "vm=1%", "-o", "report.pdf"], "unknown ending; name a folder, or a file that ends in .html"),
        (["--raise", "vm=1%", "-p", "2026-08..2026-10"], "2026-08 has no run yet"),
    ],
)
def test_what_cannot_be_meant_is_refused(shop, options, told):
    ended = shop.command("simulate", "--period", PERIOD, *options)
    assert ended.code == ExitCode.USAGE
    assert told in ended.summary["error"]


@pytest.mark.parametrize("folder", ["out", "state", "published", "book"])
def test_what_is_billed_is_no_place_for_results(shop, folder):
    ended = shop.command("simulate", "-p", PERIOD, "--raise", "vm=1%", "-o", str(shop.root / folder / "x.csv"))
    assert ended.code == ExitCode.USAGE
    assert f"is in {folder}/" in ended.summary["error"]


BROKEN = {
    "a price that is none": (
        "prices",
        [BOOK["prices"][0] | {"unit_price": "0,10"}, *BOOK["prices"][1:]],
        "{file}:2, column unit_price: unit_price is '0,10'",
    ),
    "two prices at once": (
        "prices",
        [*BOOK["prices"], BOOK["prices"][0] | {"price_id": "vm-2"}],
        "{file}:5",
    ),
    "a price for what is not sold": (
        "prices",
        [*BOOK["prices"], BOOK["prices"][0] | {"price_id": "x", "sku_id": "gpu"}],
        "{file}:5, column sku_id: price 'x' is for SKU 'gpu', which is not in the SKUs",
    ),
    "usage without a price": (
        "prices",
        BOOK["prices"][1:],
        "account acme: 24 Hours of vm from 2026-10-01 00:00 to 2026-10-02 00:00 UTC (24 records) have no price",
    ),
    "a country without tax": ("taxes", TAXES[:1], "globex"),
    "a discount of nobody": (
        "discounts",
        [DISCOUNT | {"account_id": "initech"}],
        "{file}:2, column account_id",
    ),
    "a commitment that is negative": (
        "commitments",
        [{"commitment_id": "c", "account_id": "acme", "amount": "-5", "currency": "EUR", "note": "Minus"}],
        "{file}:2, column amount",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_mistakes_of_the_files_are_told_as_those_of_the_book(shop, tmp_path, name):
    table, rows, told = BROKEN[name]
    path = file(tmp_path, f"{table}.csv", *rows)
    ended = shop.command("simulate", "-p", PERIOD, f"--{table}", path)
    assert ended.code == ExitCode.DATA_REFUSED, ended
    assert "nothing was simulated" in ended.summary["error"]
    findings = [f"{finding['file'] or ''}:{finding['row']}, column {finding['column']}: {finding['message']}"
                if finding["column"] else f"{finding['file'] or ''}:{finding['row']}: {finding['message']}"
                for finding in ended.findings]  # fmt: skip
    assert any(told.format(file=path) in finding for finding in findings), findings


def test_a_run_at_the_same_time_is_named(shop):
    with hold_lock(shop.root / "state" / "lock", command="ratemill run --period 2026-10"):
        ended = shop.command("simulate", "-p", PERIOD, "--raise", "vm=1%")
    assert ended.code == ExitCode.LOCKED
    assert "running `ratemill run --period 2026-10`" in ended.summary["error"]


def test_what_a_killed_simulation_left_goes_with_the_next(shop):
    left = shop.root / "state" / f".simulate.{os.getpid() + 1}.tmp" / "period=2026-10"
    left.mkdir(parents=True)
    simulated(shop, "--raise", "vm=1%")
    assert not left.parent.exists()


def test_a_workspace_without_a_run_has_nothing_to_compare(tmp_path):
    ended = make_workspace(tmp_path / "new").command("simulate", "-p", PERIOD, "--raise", "vm=1%")
    assert ended.code == ExitCode.USAGE
    assert "nothing was billed yet → run: ratemill run" in ended.summary["error"]
