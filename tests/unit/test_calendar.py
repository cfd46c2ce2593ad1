"""Cells of a month: days of 23 and 25 hours, zones, price changes, windows, projects that move."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from engine import make_book
from ratemill.period import BillingPeriod
from ratemill.rating.calendar import make_calendars
from ratemill.rating.owners import owners_in, owners_of
from ratemill.rating.versions import PriceVersions
from reference.model import Account, Book, PriceTier, Project, Window

NIGHT = Window(window="night", days="sun", from_time="02:00", to_time="03:00")


def calendars(first, hours, *, zone="UTC", period="2026-10", detail="day", step=60, **tables):
    """Calendars of account a's SKU s, over instants every ``step`` minutes."""
    accounts = (Account(account_id="a", time_zone=zone), Account(account_id="b", time_zone="Asia/Tokyo"))
    book = make_book(Book(accounts=accounts, **({"prices": (PriceTier(price_id="p", sku_id="s"),)} | tables)))
    month = BillingPeriod.parse(period)
    metered = [("a", "x", "s"), ("a", None, "s")]
    series = pl.DataFrame(
        metered, schema=dict.fromkeys(("account_id", "project_id", "sku_id"), pl.String), orient="row"
    )
    owners = owners_of(series.select("account_id", "project_id"), book.accounts, book.projects, time_zone="UTC")
    instants = [first + timedelta(minutes=minute) for minute in range(0, hours * 60, step)]
    return make_calendars(
        series,
        owners_in(owners, month.widest_start, month.widest_end),
        PriceVersions.of(book.prices),
        book.windows,
        pl.DataFrame({"usage_start": pl.Series(instants, dtype=pl.Datetime("us", "UTC"))}),
        period=month,
        detail=detail,
    )


def of_project(found, project):
    """Each instant with its cell, for the project's series."""
    calendar = found.assigned.filter(pl.col("project_id").eq_missing(project))["calendar_id"].item()
    cells = found.cells.filter(calendar_id=calendar)
    return (
        found.instants.filter(calendar_id=calendar)
        .join(cells, on=["calendar_id", "cell"], validate="m:1")
        .sort("usage_start")
    )


DAYS = [  # (why, zone, period, local day, its first instant, hours)
    ("clocks go back", "Europe/Berlin", "2026-10", date(2026, 10, 25), datetime(2026, 10, 24, 22, tzinfo=UTC), 25),
    ("clocks go forward", "Europe/Berlin", "2026-03", date(2026, 3, 29), datetime(2026, 3, 28, 23, tzinfo=UTC), 23),
    ("half an hour off", "Asia/Kolkata", "2026-10", date(2026, 10, 9), datetime(2026, 10, 8, 18, 30, tzinfo=UTC), 24),
    ("back in autumn of the south", "Pacific/Auckland", "2026-04", date(2026, 4, 5), datetime(2026, 4, 4, 11, tzinfo=UTC), 25),
]  # fmt: skip


@pytest.mark.parametrize(("why", "zone", "period", "day", "first", "hours"), DAYS)
def test_a_local_day_is_one_cell_however_long_it_is(why, zone, period, day, first, hours):  # noqa: PLR0917
    around = of_project(calendars(first - timedelta(hours=3), hours + 6, zone=zone, period=period, step=30), None)
    inside = around.filter(local_date=day)
    assert inside["usage_start"].to_list() == [first + timedelta(minutes=30 * half) for half in range(2 * hours)], why
    assert inside["cell"].n_unique() == 1
    assert around["cell"].n_unique() == 3
    assert not around["shares_charge"].any()


@pytest.mark.parametrize(("why", "zone", "period", "day", "first", "hours"), DAYS)
def test_hours_are_real_hours_counted_from_the_first_of_the_month(why, zone, period, day, first, hours):  # noqa: PLR0917
    found = of_project(calendars(first, hours, zone=zone, period=period, detail="hour", step=30), None)
    month = BillingPeriod.parse(period).start(zone)
    expected = [(first + timedelta(minutes=30 * half) - month) // timedelta(hours=1) for half in range(2 * hours)]
    assert found["hour"].to_list() == found["moment"].to_list() == expected, why
    assert found["cell"].n_unique() == hours


def test_only_instants_of_the_payers_month_are_there():
    first = datetime(2026, 9, 30, 12, tzinfo=UTC)
    found = of_project(calendars(first, 24, zone="America/New_York"), None)
    assert found["usage_start"].min() == datetime(2026, 10, 1, 4, tzinfo=UTC)
    last = of_project(calendars(datetime(2026, 10, 31, 18, tzinfo=UTC), 24, zone="America/New_York"), None)
    assert last["usage_start"].max() == datetime(2026, 11, 1, 3, tzinfo=UTC)


def test_a_price_change_inside_a_day_cuts_it():
    noon = datetime(2026, 10, 8, 12, tzinfo=UTC)
    prices = (
        PriceTier(price_id="p", sku_id="s", valid_to=noon),
        PriceTier(price_id="q", sku_id="s", valid_from=noon),
        PriceTier(price_id="other", sku_id="t", valid_from=noon + timedelta(hours=3)),
    )
    found = of_project(calendars(datetime(2026, 10, 7, tzinfo=UTC), 72, prices=prices), None)
    month = BillingPeriod.parse("2026-10").widest_start
    cells = found.group_by("cell", maintain_order=True).agg(pl.len(), pl.col("slot_start", "shares_charge").first())
    assert cells.select("len", "slot_start", "shares_charge").rows() == [
        (24, month, False), (12, month, True), (12, noon, True), (24, noon, False),
    ]  # fmt: skip


def test_a_window_sees_the_clock_on_the_wall():
    prices = (PriceTier(price_id="p", sku_id="s"), PriceTier(price_id="n", sku_id="s", window="night"))
    for period, day, twice in (("2026-10", date(2026, 10, 25), 2), ("2026-03", date(2026, 3, 29), 0)):
        first = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=2)
        found = of_project(
            calendars(first, 24, zone="Europe/Berlin", period=period, prices=prices, windows=(NIGHT,)), None
        )
        night = found.filter(windows="night")
        assert night.height == twice
        assert found.filter(pl.col("windows") != "night")["windows"].unique().to_list() == [""]
        assert night["local_date"].unique().to_list() == ([day] if twice else [])


def test_windows_that_no_price_of_the_sku_asks_for_cut_nothing():
    found = of_project(calendars(datetime(2026, 10, 25, tzinfo=UTC), 24, windows=(NIGHT,)), None)
    assert found["cell"].n_unique() == 1


def test_a_project_that_moves_takes_the_new_payers_days_from_then_on():
    move = datetime(2026, 10, 8, 12, tzinfo=UTC)
    projects = (
        Project(project_id="x", account_id="a", valid_to=move),
        Project(project_id="x", account_id="b", valid_from=move),
    )
    found = calendars(datetime(2026, 10, 8, tzinfo=UTC), 24, projects=projects)
    moved = (
        of_project(found, "x")
        .group_by("cell", maintain_order=True)
        .agg(pl.len(), pl.col("local_date", "owner_from").first())
    )
    month = BillingPeriod.parse("2026-10").widest_start
    assert moved.select("len", "local_date", "owner_from").rows() == [
        (12, date(2026, 10, 8), month),
        (3, date(2026, 10, 8), move),  # 21:00 to 24:00 in Tokyo
        (9, date(2026, 10, 9), move),
    ]
    assert of_project(found, None)["cell"].n_unique() == 1


def test_series_of_one_kind_share_a_calendar():
    found = calendars(datetime(2026, 10, 8, tzinfo=UTC), 2)
    assert found.assigned["calendar_id"].n_unique() == 1
    assert found.assigned.height == 2
