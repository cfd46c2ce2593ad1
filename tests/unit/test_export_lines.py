"""``ratemill export lines``: every line once, to the last digit, in both formats."""

from __future__ import annotations

import csv
from decimal import Decimal

import polars as pl
import pytest

from ratemill.errors import ExitCode
from ratemill.tables.invoices import EXPORTED_LINES
from workspaces import GOOD_TOTAL, PERIOD, make_workspace, run_here


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    shop = make_workspace(tmp_path_factory.mktemp("shop"))
    assert shop.run().code == ExitCode.DONE
    return shop


def export(shop, *options, period=PERIOD):
    return run_here(["export", "lines", "-w", str(shop.root), "--period", period, *options, "--json"])


@pytest.mark.slow
def test_both_formats_say_the_same_and_add_up_to_the_invoices(shop):
    told = export(shop).summary
    assert told["file"] == "exports/lines-2026-10.csv"
    assert told["rows"] == 3
    assert Decimal(told["net_amount"]["EUR"]) == sum(map(Decimal, GOOD_TOTAL.values()))
    with (shop.root / told["file"]).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == EXPORTED_LINES.names
    lines = pl.read_parquet(shop.root / export(shop, "--format", "parquet").summary["file"])
    assert lines.schema == EXPORTED_LINES.polars_schema
    for row, line in zip(rows, lines.iter_rows(named=True), strict=True):
        for name, value in line.items():
            expected = "" if value is None else value
            assert (Decimal(row[name]) if isinstance(value, Decimal) else row[name]) == (
                expected if isinstance(value, Decimal) else str(expected)
            ), name
    disk = next(row for row in rows if row["sku_id"] == "disk")
    assert (disk["account_id"], disk["unit_price"], disk["net_amount"], disk["first_day"]) == (
        "globex", "0.0744", "2.4", "2026-10-01",
    )  # fmt: skip


def test_again_gives_the_same_bytes(shop):
    file = shop.root / export(shop, "--format", "parquet").summary["file"]
    before = file.read_bytes()
    export(shop, "--format", "parquet")
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "period", "words"),
    [
        ((), "2026-09", "2026-09 has no invoices to export → run: ratemill run --period 2026-09"),
        (("--to", "lines.xlsx"), PERIOD, "lines.xlsx is no name of a csv file → name a file that ends in .csv"),
        (("--to", "lines.csv", "--format", "parquet"), PERIOD, "name a file that ends in .parquet"),
    ],
)
def test_what_is_refused_is_told(shop, options, period, words):
    ended = export(shop, *options, period=period)
    assert ended.code == ExitCode.USAGE
    assert words in ended.stderr
