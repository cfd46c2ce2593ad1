"""``ratemill forecast --backtest``, and a forecast of every day of a month, on real runs."""

from __future__ import annotations

import shutil
from decimal import Decimal

import polars as pl
import pytest

from ratemill.errors import ExitCode
from workspaces import ADDRESSED, PERIOD, TinyWorkspace, hours, make_workspace, month_of_usage

pytestmark = pytest.mark.slow

D = Decimal
SINCE = "2026-09-01T00:00:00Z"


def in_office_hours(frame: pl.DataFrame) -> pl.DataFrame:
    """Monday to Friday, from 8 to 18 o'clock."""
    start = pl.col("usage_start")
    return frame.filter(start.dt.weekday() <= 5, start.dt.hour().is_between(8, 17))


def test_backtest_of_months_that_went_on_evenly(tmp_path):
    """The office closes at weekends: a run rate is off by that; the forecast is not."""
    usage = [hours(first=SINCE, count=61 * 24), in_office_hours(hours("globex", first=SINCE, count=61 * 24))]
    shop = make_workspace(tmp_path / "shop", usage=usage)
    shop.command("load")
    ended = shop.command("forecast", "--backtest", "--periods", "1")
    assert ended.code == ExitCode.DONE, ended
    assert [(row["period"], row["day"]) for row in ended.summary["scores"]] == [
        (PERIOD, day) for day in (5, 10, 15, 20, 25)
    ]
    for row in ended.summary["days"]:
        assert abs(row["wape"]) < 1e-9
        assert row["coverage"] == 1
    assert ended.summary["days"][0]["naive_wape"] > 0.02
    told = shop.command("forecast", "--backtest", "--periods", "1", json=False).stdout
    assert "held" in told


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """September and October, and September closed."""
    usage = {
        "september.parquet": month_of_usage(SINCE, 720),
        "october.parquet": month_of_usage("2026-10-01T00:00:00Z", 744),
    }
    shop = make_workspace(tmp_path_factory.mktemp("closed") / "shop", usage=usage, book={"accounts": ADDRESSED})
    for period in ("2026-09", PERIOD):
        assert shop.run(period=period).code == ExitCode.DONE
    asked = shop.close(period="2026-09")
    points = [finding["rule"].removeprefix("close.") for finding in asked.findings]
    assert shop.close(period="2026-09", waive=points).code == ExitCode.DONE
    return shop


def test_closed_month_is_not_forecast_but_may_be_looked_at_from_within(closed):
    ended = closed.command("forecast", "-p", "2026-09")
    assert ended.code == ExitCode.LOCKED
    assert "2026-09 is closed: what it cost is on its invoices" in ended.summary["error"]
    within = closed.command("forecast", "-p", "2026-09", "--as-of", "2026-09-15")
    assert within.code == ExitCode.DONE
    # 720 hours at 0.10, and a disk of 1000 GiB for a month
    assert round(D(within.summary["totals"][0]["forecast_cost"]), 4) == D("146.40")


def test_what_closed_months_leave_to_bill_is_in_the_forecast(closed, tmp_path):
    """A machine of September that came late is billed with October, and so it is forecast: as the run will bill it."""
    shop = TinyWorkspace(shutil.copytree(closed.root, tmp_path / "shop"))
    shop.write_usage("late.parquet", hours(resource="late", first=SINCE, count=100))
    assert shop.command("load").code == ExitCode.DONE
    within = shop.command("forecast", "-p", PERIOD, "--as-of", "2026-10-10")
    corrected = sum(D(row["correction_amount"]) for row in within.summary["invoices"])
    assert corrected == D(10)
    at_end = shop.command("forecast", "-p", PERIOD, "--as-of", "2026-11-02")
    billed = shop.run().summary["periods"][0]["totals"][0]
    assert sum(D(row["untaxed_amount"]) for row in at_end.summary["invoices"]) == D(billed["untaxed"])
    assert sum(D(row["total_amount"]) for row in at_end.summary["invoices"]) == D(billed["total"])


def test_backtest_says_where_the_book_changed_since(closed, tmp_path):
    shop = TinyWorkspace(shutil.copytree(closed.root, tmp_path / "shop"))
    shop.write_usage("late.parquet", hours(resource="late", first=SINCE, count=100))
    assert shop.command("load").code == ExitCode.DONE
    assert shop.command("forecast", "--backtest", "--periods", "2").summary["changed"] == ["2026-09"]
