"""A month is a calendar month in a time zone; its hours are counted, not assumed."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratemill.period import BillingPeriod, is_time_zone, parse_periods

TODAY = date(2026, 11, 25)

HOURS = [  # (month, zone, real hours, why)
    ("2026-02", "UTC", 672, "28 days"),
    ("2028-02", "UTC", 696, "29 days"),
    ("2026-10", "UTC", 744, "UTC never changes"),
    ("2026-03", "Europe/Paris", 743, "clocks go forward on the 29th"),
    ("2026-10", "Europe/Paris", 745, "clocks go back on the 25th"),
    ("2026-07", "Europe/Paris", 744, "summer time throughout"),
    ("2026-03", "America/New_York", 743, "forward on the 8th"),
    ("2026-11", "America/New_York", 721, "back on the 1st"),
    ("2026-10", "Australia/Sydney", 743, "southern summer begins"),
    ("2026-04", "Australia/Sydney", 721, "southern summer ends"),
    ("2026-10", "Asia/Kathmandu", 744, "UTC+05:45, no changes"),
    ("2026-10", "Pacific/Tongatapu", 744, "UTC+13"),
    ("2026-10", "Pacific/Pago_Pago", 744, "UTC-11"),
    ("2011-12", "Pacific/Apia", 720, "the 30th did not take place: the date line moved"),
    ("2026-11", "America/Havana", 721, "midnight of the 1st happens twice; the month starts at the first"),
    ("2017-10", "America/Asuncion", 743, "midnight of the 1st does not happen; the month starts at 01:00"),
]


@pytest.mark.parametrize(("month", "zone", "hours", "why"), HOURS)
def test_hours_are_the_real_ones(month, zone, hours, why):
    assert BillingPeriod.parse(month).hours(zone) == hours, why


STARTS = [  # (month, zone, first instant in UTC, first instant after it)
    ("2026-10", "UTC", "2026-10-01T00:00", "2026-11-01T00:00"),
    ("2026-10", "Asia/Kathmandu", "2026-09-30T18:15", "2026-10-31T18:15"),
    ("2026-10", "Pacific/Tongatapu", "2026-09-30T11:00", "2026-10-31T11:00"),
    ("2026-10", "Pacific/Pago_Pago", "2026-10-01T11:00", "2026-11-01T11:00"),
    ("2026-10", "Europe/Paris", "2026-09-30T22:00", "2026-10-31T23:00"),
    ("2026-12", "Pacific/Kiritimati", "2026-11-30T10:00", "2026-12-31T10:00"),
    ("2026-11", "America/Havana", "2026-11-01T04:00", "2026-12-01T05:00"),
    ("2017-10", "America/Asuncion", "2017-10-01T04:00", "2017-11-01T03:00"),
]


@pytest.mark.parametrize(("month", "zone", "start", "end"), STARTS)
def test_a_month_starts_at_local_midnight(month, zone, start, end):
    period = BillingPeriod.parse(month)
    assert period.start(zone) == datetime.fromisoformat(start).replace(tzinfo=UTC)
    assert period.end(zone) == datetime.fromisoformat(end).replace(tzinfo=UTC)
    assert period.start(zone).tzinfo is UTC


def test_usage_around_new_york_month_ends():
    """Nine hours of usage around the ends of local months: March 3, April 4, May 2."""
    local = [
        "2023-03-01 04:00", "2023-03-15 00:00", "2023-03-31 23:59",
        "2023-04-01 00:00", "2023-04-01 00:01", "2023-04-15 00:00", "2023-04-30 23:59",
        "2023-05-01 00:00", "2023-05-01 00:01",
    ]  # fmt: skip
    new_york = "America/New_York"
    instants = [datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(new_york)).astimezone(UTC) for text in local]

    counts = {
        str(period): sum(period.start(new_york) <= instant < period.end(new_york) for instant in instants)
        for period in parse_periods("2023-02..2023-06", today=TODAY)
    }

    assert counts == {"2023-02": 0, "2023-03": 3, "2023-04": 4, "2023-05": 2, "2023-06": 0}


ZONES = [
    "UTC",
    "Europe/Paris",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Etc/GMT+12",
]


@given(st.integers(1000, 2998), st.integers(1, 12), st.sampled_from(ZONES))
def test_months_follow_each_other_without_gap_or_overlap(year, month, zone):
    period = BillingPeriod(year, month)
    assert period.end(zone) == period.shift(1).start(zone)
    assert period.start(zone) < period.end(zone)
    assert period.shift(1).shift(-1) == period
    assert BillingPeriod.parse(str(period)) == period


@pytest.mark.parametrize("zone", ZONES)
def test_the_widest_bounds_hold_every_zone_s_month(zone):
    period = BillingPeriod.parse("2026-10")
    assert period.widest_start <= period.start(zone)
    assert period.end(zone) <= period.widest_end


def test_the_widest_bounds_are_no_wider_than_the_earth():
    period = BillingPeriod.parse("2026-10")
    assert period.widest_start == period.start("Pacific/Kiritimati")
    assert period.widest_end == period.end("Etc/GMT+12")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026",
        "2026-1",
        "2026-00",
        "2026-13",
        "2026-10-01",
        " 2026-10",
        "2026-10\n",
        "0000-01",
        "9999-12",
        "\N{FULLWIDTH DIGIT TWO}026-10",
    ],
)
def test_what_is_no_period_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"write it as YYYY-MM, for example 2026-10"):
        BillingPeriod.parse(text)


def test_days():
    period = BillingPeriod.parse("2028-02")
    assert (period.first_day, period.last_day, period.days) == (date(2028, 2, 1), date(2028, 2, 29), 29)
    assert BillingPeriod.containing(date(2028, 2, 29)) == period
    assert (str(period.shift(-2)), str(period.shift(11))) == ("2027-12", "2029-01")


def test_periods_on_the_command_line():
    assert [str(p) for p in parse_periods("2026-10", today=TODAY)] == ["2026-10"]
    assert [str(p) for p in parse_periods("2025-11..2026-02", today=TODAY)] == [
        "2025-11", "2025-12", "2026-01", "2026-02",
    ]  # fmt: skip
    assert [str(p) for p in parse_periods("last", today=TODAY)] == ["2026-10"]
    assert [str(p) for p in parse_periods("last", today=date(2026, 1, 1))] == ["2025-12"]


def test_a_range_is_in_order_and_whole():
    periods = parse_periods("1999-01..2026-12", today=TODAY)
    assert len(periods) == 28 * 12
    assert all(later.first_day - earlier.last_day == timedelta(days=1) for earlier, later in pairwise(periods))


@pytest.mark.parametrize("text", ["2026-10..2026-09", "2026-10..", "..2026-10", "2026-01..2026-02..2026-03", "LAST"])
def test_wrong_ranges_are_refused(text):
    with pytest.raises(ValueError, match=r"runs backwards; write the earlier|is not a billing period"):
        parse_periods(text, today=TODAY)


def test_time_zones():
    assert all(is_time_zone(zone) for zone in ZONES)
    # a file name, another case, a path out of the zone folder, and the two entries that depend on the machine
    wrong = ["", "CEST", "europe/paris", "../../etc/passwd", "Europe/", "UTC+1", "localtime", "Factory"]
    assert [zone for zone in wrong if is_time_zone(zone)] == []
