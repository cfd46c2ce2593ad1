"""``ratemill forecast`` by worked examples: each account shows one thing, looked at from the middle of the month."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from ratemill.errors import ExitCode
from workspaces import BOOK, PERIOD, hours, make_workspace, tree

D = Decimal
HALF = "2026-10-15T00:00:00Z"
SINCE = "2026-09-01T00:00:00Z"
UNTIL_HALF = 44 * 24
"""Hours from the first of September to the middle of October."""


def account(name: str, **columns: str) -> dict[str, str]:
    return BOOK["accounts"][0] | {"account_id": name, "name": name.capitalize(), **columns}


def price(price_id: str, sku: str, unit_price: str, **columns: str) -> dict[str, str]:
    blank = dict.fromkeys(("valid_from", "valid_to", "up_to", "cap"), "")
    return (
        BOOK["prices"][0]
        | blank
        | {"price_id": price_id, "sku_id": sku, "unit_price": unit_price, "mode": "graduated", **columns}
    )


def sku(name: str, **columns: str) -> dict[str, str]:
    return BOOK["skus"][0] | {"sku_id": name, "name": name, "aggregation": "sum", **columns}


def in_office_hours(frame: pl.DataFrame) -> pl.DataFrame:
    """Monday to Friday, from 8 to 18 o'clock."""
    start = pl.col("usage_start")
    return frame.filter(start.dt.weekday() <= 5, start.dt.hour().is_between(8, 17))


USAGE = [
    hours("constant", first=SINCE, count=UNTIL_HALF),
    hours("stopped", first=SINCE, count=39 * 24),  # until 10 October
    hours("started", first="2026-10-13T00:00:00Z", count=48),
    in_office_hours(hours("office", "desktop", first=SINCE, count=UNTIL_HALF)),
    hours("dearer", "gpu", first=SINCE, count=UNTIL_HALF),
    hours("tiered", "egress", first=SINCE, count=UNTIL_HALF),
    hours("capped", "capped-vm", first=SINCE, count=UNTIL_HALF),
    hours("committed", first=SINCE, count=UNTIL_HALF),
    hours("moving", first=SINCE, count=UNTIL_HALF, project_id="p"),
    # every other day another job, each for a day: half a machine on average
    *(hours("batch", resource=f"job-{day}", first=f"2026-{9 + day // 30:02d}-{day % 30 + 1:02d}T00:00:00Z")
      for day in range(0, 44, 2)),
    # a third of a unit an hour, counted in whole units
    *(hours("whole", "egress", resource="nic", first=f"2026-10-{day:02d}T{hour:02d}:00:00Z", count=1)
      for day in range(1, 15) for hour in range(0, 24, 3)),
    # 1 by day, 11 in each Monday's first hour: the peak counts
    hours("peaks", "port", first=SINCE, count=UNTIL_HALF).with_columns(
        quantity=pl.when((pl.col("usage_start").dt.weekday() == 1) & (pl.col("usage_start").dt.hour() == 0))
        .then(pl.lit(D(11))).otherwise(pl.lit(D(1))).cast(pl.Decimal(38, 12))),
]  # fmt: skip
NAMES = ["constant", "stopped", "started", "office", "dearer", "tiered", "capped", "committed", "moving", "moved-to",
         "batch", "whole", "peaks"]  # fmt: skip
THE_BOOK: dict[str, Any] = {
    "accounts": [account(name) for name in NAMES],
    "skus": [sku("vm"), sku("desktop"), sku("gpu"), sku("capped-vm"), sku("egress", usage_unit="GiB", pricing_unit="GiB"),
             sku("port", aggregation="max")],
    "prices": [
        price("vm", "vm", "0.10"),
        price("desktop", "desktop", "0.10"),
        price("gpu-old", "gpu", "1", valid_to="2026-10-20"),
        price("gpu-new", "gpu", "2", valid_from="2026-10-20"),
        price("egress", "egress", "0.05", up_to="500"),
        price("egress", "egress", "0.01"),
        price("capped", "capped-vm", "0.10", cap="50"),
        price("port", "port", "1"),
    ],
    "projects": [
        {"project_id": "p", "account_id": "moving", "name": "P", "valid_from": "", "valid_to": "2026-10-25"},
        {"project_id": "p", "account_id": "moved-to", "name": "P", "valid_from": "2026-10-25", "valid_to": ""},
    ],
    "commitments": [
        {"commitment_id": "c", "account_id": "committed", "amount": "100", "currency": "EUR", "valid_from": "2026-01-01",
         "note": "At least 100"}
    ],
    "taxes": [{"tax_code": "fr", "country": "FR", "rate": "20", "kind": "standard"}],
}  # fmt: skip

EXPECTED = {  # account: so far, at the end of the month
    "constant": ("33.60", "74.40"),  # 336 and 744 hours at 0.10
    "stopped": ("21.60", "21.60"),  # 9 days
    "started": ("4.80", "45.60"),  # 2 and 19 days
    "office": ("10.00", "22.00"),  # 10 and 22 working days of 10 hours
    "dearer": ("336", "1032"),  # 19 days at 1.00 an hour, 12 days at 2.00
    "tiered": ("16.80", "27.44"),  # 500 GiB at 0.05, 244 at 0.01
    "capped": ("33.60", "50"),
    "committed": ("33.60", "74.40"),
    "moving": ("33.60", "57.60"),  # 24 days, then the project is another account's
    "moved-to": ("0", "16.80"),
    "batch": ("16.80", "37.20"),
    "peaks": ("11", "11"),
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    made = make_workspace(
        tmp_path_factory.mktemp("forecast") / "shop", usage=[pl.concat(USAGE, how="diagonal")], book=THE_BOOK
    )
    assert made.command("load").code == ExitCode.DONE
    return made


@pytest.fixture(scope="module")
def half(shop):
    ended = shop.command("forecast", "-p", PERIOD, "--as-of", HALF, "--by", "account")
    assert ended.code == ExitCode.DONE, ended
    return ended.summary


@pytest.mark.parametrize("name", EXPECTED)
def test_each_account_ends_the_month_as_expected(half, name):
    (row,) = [row for row in half["rows"] if row["account_id"] == name]
    assert (D(row["actual_cost"]), D(row["forecast_cost"])) == tuple(map(D, EXPECTED[name]))


def test_small_hours_are_not_rounded_away(half):
    """One unit every third hour: 248 in October, and 500 are at 0.05; each of them a whole one, as the meter counts."""
    (row,) = [row for row in half["rows"] if row["account_id"] == "whole"]
    assert D(row["forecast_cost"]) == D("12.40")


def test_what_never_changed_has_no_spread_and_what_is_over_has_none(half):
    rows = {row["account_id"]: row for row in half["rows"]}
    for name in ("constant", "stopped"):
        assert D(rows[name]["low"]) <= D(rows[name]["forecast_cost"]) <= D(rows[name]["high"])
    assert D(rows["constant"]["low"]) == D(rows["constant"]["high"]) == D("74.40")
    assert D(rows["stopped"]["low"]) == D(rows["stopped"]["high"]) == D("21.60")


def test_invoices_have_commitments_and_taxes(half):
    invoices = {row["billing_account_id"]: row for row in half["invoices"]}
    committed = {name: D(value) for name, value in invoices["committed"].items() if name.endswith("_amount")}
    assert committed["usage_amount"] == D("74.40")
    assert committed["shortfall_amount"] == D("25.60")
    assert committed["untaxed_amount"] == D(100)
    assert committed["total_amount"] == D(120)
    assert sum(D(row["usage_amount"]) for row in half["invoices"]) == sum(
        D(row["forecast_cost"]) for row in half["rows"]
    )


def test_forecast_says_what_it_knows(half):
    assert (half["as_of"], half["known_until"]) == (HALF, HALF)
    assert half["findings"] == []


def test_nothing_is_written(shop):
    before = (tree(shop.root / "state" / "charges", shop.root), shop.written())
    ended = shop.command("forecast", "-p", PERIOD, "--as-of", HALF, json=False)
    assert "expected" in ended.stdout
    assert (tree(shop.root / "state" / "charges", shop.root), shop.written()) == before
    assert not list((shop.root / "state" / "spill").glob("forecast/*/*"))


def test_hours_that_are_not_loaded_yet_are_expected_too(shop, half):
    """Two days later, with no usage since: nothing has stopped, it is late; and the forecast is the same."""
    ended = shop.command("forecast", "-p", PERIOD, "--as-of", "2026-10-17T00:00:00Z", "--by", "account")
    assert ended.summary["known_until"] == HALF
    assert [D(row["forecast_cost"]) for row in ended.summary["rows"]] == [
        D(row["forecast_cost"]) for row in half["rows"]
    ]
    assert "48 hours before" in ended.finding("forecast.late_usage")["message"]


def test_first_instant_of_a_month_is_all_history(shop):
    ended = shop.command("forecast", "-p", PERIOD, "--as-of", "2026-10-01", "--by", "account")
    rows = {row["account_id"]: (D(row["actual_cost"]), D(row["forecast_cost"])) for row in ended.summary["rows"]}
    assert rows["constant"] == (D(0), D("74.40"))
    assert rows["dearer"] == (D(0), D(1032))
    assert "started" not in rows


def test_month_of_the_standpoint_is_the_default(shop):
    ended = shop.command("forecast", "--as-of", HALF, "--by", "service,currency")
    assert ended.summary["period"] == PERIOD
    assert [(row["service"], row["currency"]) for row in ended.summary["rows"]] == [("Compute", "EUR")]


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["-p", "2026-12", "--as-of", HALF], ExitCode.USAGE, "2026-12 has not begun at 2026-10-15 00:00 UTC"),
        (["-p", "2026-10", "--as-of", "2099-01-01"], ExitCode.USAGE, "lies in the future"),
        (["-p", "2024-01", "--as-of", "2024-01-15"], ExitCode.NOTHING_TO_BILL, "there is no usage to forecast 2024-01 from"),
        (["-p", PERIOD, "--by", "colour"], ExitCode.USAGE, "--by: 'colour' is none of payer, account"),
        (["-p", PERIOD, "--by", ""], ExitCode.USAGE, "--by: nothing is none of"),
        (["-p", PERIOD, "--backtest"], ExitCode.USAGE, "leave out --period"),
        (["--as-of", "yesterday"], ExitCode.USAGE, "--as-of: 'yesterday' is no instant"),
    ],
)  # fmt: skip
def test_what_cannot_be_forecast_is_said(shop, options, code, told):
    ended = shop.command("forecast", *options)
    assert ended.code == code, ended
    assert told in ended.summary["error"]


@pytest.mark.slow
def test_as_far_as_the_month_is_over_the_forecast_is_what_a_run_bills(tmp_path):
    """From the month's end on, nothing is expected, however far usage goes."""
    shop = make_workspace(tmp_path / "shop")
    run = shop.run()
    ended = shop.command("forecast", "-p", PERIOD, "--as-of", "2026-11-02")
    (total,) = ended.summary["totals"]
    assert {round(D(total[name]), 4) for name in ("actual_cost", "forecast_cost", "low", "high")} == {D(6)}
    untaxed = sum(D(row["untaxed_amount"]) for row in ended.summary["invoices"])
    assert untaxed == D(run.summary["periods"][0]["totals"][0]["untaxed"])


@pytest.mark.slow
def test_without_history_the_interval_is_as_wide_as_what_is_expected(tmp_path):
    shop = make_workspace(tmp_path / "shop", usage=hours())
    shop.command("load")
    ended = shop.command("forecast", "-p", PERIOD, "--as-of", "2026-10-02")
    (total,) = ended.summary["totals"]
    assert [D(total[name]) for name in ("actual_cost", "forecast_cost", "low", "high")] == [D("2.40"), D("74.40"), D("2.40"), D("146.40")]  # fmt: skip


@pytest.mark.slow
def test_backtest_needs_a_whole_month(tmp_path):
    shop = make_workspace(tmp_path / "shop")
    shop.command("load")
    ended = shop.command("forecast", "--backtest")
    assert ended.code == ExitCode.USAGE
    assert "no month's usage is loaded from its first day to its last" in ended.summary["error"]


def test_clocks_of_the_test_are_what_it_says():
    assert datetime(2026, 9, 1, tzinfo=UTC) + timedelta(hours=UNTIL_HALF) == datetime(2026, 10, 15, tzinfo=UTC)
