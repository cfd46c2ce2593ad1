"""Numbers of documents: patterns, series without a gap, and what must never happen to them."""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
import pytest

from ratemill.config import Engine, parse_config
from ratemill.errors import InvariantError, UsageError
from ratemill.invoicing.numbering import LONGEST, NumberPattern, numbers_of
from ratemill.io.warehouse import Warehouse
from ratemill.steps.numbers import assert_gap_free, coming_numbers, day_of_issue, last_issue_date, next_numbers
from ratemill.tables.invoices import INVOICES
from ratemill.tables.runs import NUMBER_SERIES

DAY = date(2026, 11, 2)
PLAIN = "{year}-{number:05}"


# ---------------------------------------------------------------------------------------------------- patterns


@pytest.mark.parametrize(
    ("pattern", "day", "series", "first_two"),
    [
        (PLAIN, date(2026, 11, 2), "2026-{number:05}", ["2026-00001", "2026-00002"]),
        (PLAIN, date(2027, 1, 1), "2027-{number:05}", ["2027-00001", "2027-00002"]),
        ("{year}{month}/{number:03}", date(2026, 3, 9), "202603/{number:03}", ["202603/001", "202603/002"]),
        ("{number}", date(2026, 11, 2), "{number}", ["1", "2"]),
        ("RE {number} of {year}", date(2026, 11, 2), "RE {number} of 2026", ["RE 1 of 2026", "RE 2 of 2026"]),
        ("{{{year}}}{number:04}", date(2026, 11, 2), "{{2026}}{number:04}", ["{2026}0001", "{2026}0002"]),
        ("Ré-{year}-{number:02}", date(2026, 11, 2), "Ré-2026-{number:02}", ["Ré-2026-01", "Ré-2026-02"]),
    ],
)
def test_a_pattern_and_a_day_make_a_series(pattern, day, series, first_two):
    made = NumberPattern.parse(pattern).series(day)
    assert made == series
    assert numbers_of(made, 1, 2) == first_two


def test_a_width_is_the_least_a_number_takes():
    assert numbers_of("2026-{number:02}", 99, 101) == ["2026-99", "2026-100", "2026-101"]


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("{year}-{seq:05}", "{seq} is no field; the fields are {year}, {month}, {number}"),
        ("{year}-{number.real}", "{number.real} is no field"),
        ("{year}-{0}", "{0} is no field"),
        ("{year}-{}", "{} is no field"),
        ("{year}", "{number} must be in it once"),
        ("", "{number} must be in it once"),
        ("{number}-{number}", "{number} must be in it once"),
        ("{month}-{number}", "{month} needs {year}"),
        ("{year}-{number", "expected '}' before end of string"),
        ("{year}-{number:5}", "only {number} takes a width"),
        ("{year}-{number:x}", "only {number} takes a width"),
        ("{year:06}-{number}", "only {number} takes a width"),
        ("{year}-{number!r}", "only {number} takes a width"),
        ("{year}-{number:{year}}", "only {number} takes a width"),
        ("{year}\n{number}", "only printable characters"),
        (" {year}-{number}", "no blanks around it"),
        ("x" * LONGEST + "{number}", f"at most {LONGEST} characters"),
    ],
)
@pytest.mark.parametrize("key", ["invoice_number", "credit_note_number"])
def test_a_wrong_pattern_is_refused_with_the_configuration(pattern, complaint, key):
    with pytest.raises(UsageError) as caught:
        parse_config({"seller": {"name": "Example", "country": "FR", key: pattern}})
    assert str(caught.value).startswith(f"ratemill.toml: seller.{key} = {pattern!r}: ")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("seller_zone", "period_zone", "now", "day"),
    [
        ("", "UTC", "2026-12-31T23:30:00Z", date(2026, 12, 31)),
        ("", "Europe/Paris", "2026-12-31T23:30:00Z", date(2027, 1, 1)),
        ("America/New_York", "Europe/Paris", "2027-01-01T04:59:00Z", date(2026, 12, 31)),
        ("Asia/Kathmandu", "UTC", "2026-12-31T18:15:00Z", date(2027, 1, 1)),
    ],
)
def test_days_of_issue_are_the_sellers(seller_zone, period_zone, now, day):
    config = parse_config(
        {
            "seller": {"name": "Example", "country": "FR", "time_zone": seller_zone},
            "period": {"time_zone": period_zone},
        }
    )
    assert day_of_issue(config, datetime.fromisoformat(now).astimezone(UTC)) == day


def test_an_unknown_zone_of_the_seller_is_refused():
    with pytest.raises(UsageError, match=r"seller\.time_zone = 'Europe/Atlantis'"):
        parse_config({"seller": {"name": "Example", "country": "FR", "time_zone": "Europe/Atlantis"}})


# ---------------------------------------------------------------------------------------------------- series


@pytest.fixture
def warehouse(tmp_path):
    with Warehouse.open(tmp_path / "warehouse.duckdb", Engine(threads=1)) as opened:
        yield opened


def issue(warehouse, numbers, *, day=DAY):
    """Store documents that bear ``numbers``."""
    rows = [
        dict.fromkeys(INVOICES.names, 0)
        | {
            "invoice_id": f"i-{number}-{day}",
            "document": "invoice",
            "period": "2026-10",
            "billing_account_id": "a",
            "currency": "EUR",
            "status": "issued",
            "number": number,
            "issue_date": day,
            "due_date": None,
            "corrects_invoice_id": None,
            "origin": "run",
            "run_id": "r",
        }
        for number in numbers
    ]
    schema = {name: pl.Int64 if dtype.is_decimal() else dtype for name, dtype in INVOICES.polars_schema.items()}
    warehouse.insert("billing", INVOICES, pl.DataFrame(rows, schema=schema))


def taken(warehouse, pattern, day, count, *, borne=None):
    """Take numbers for documents that bear them (or what they should not)."""
    with warehouse.transaction():
        numbers = next_numbers(warehouse, pattern, day, count)
        issue(warehouse, numbers if borne is None else borne, day=day)
        assert_gap_free(warehouse)
    return numbers


def test_numbers_go_on_where_they_stopped_and_begin_again_each_year(warehouse):
    assert taken(warehouse, PLAIN, DAY, 2) == ["2026-00001", "2026-00002"]
    assert taken(warehouse, PLAIN, DAY, 0) == []
    assert taken(warehouse, PLAIN, date(2026, 12, 31), 1) == ["2026-00003"]
    assert taken(warehouse, PLAIN, date(2027, 1, 1), 2) == ["2027-00001", "2027-00002"]
    assert taken(warehouse, f"CN-{PLAIN}", date(2027, 1, 1), 1) == ["CN-2027-00001"]
    assert dict(warehouse.table("ops", NUMBER_SERIES).sort("series").iter_rows()) == {
        "2026-{number:05}": 3,
        "2027-{number:05}": 2,
        "CN-2027-{number:05}": 1,
    }
    assert last_issue_date(warehouse) == date(2027, 1, 1)


def test_numbers_of_a_transaction_that_fails_are_given_again(warehouse):
    taken(warehouse, PLAIN, DAY, 2)
    with pytest.raises(InvariantError):
        taken(warehouse, PLAIN, DAY, 3, borne=["2026-00003"])
    assert taken(warehouse, PLAIN, DAY, 1) == ["2026-00003"]


def test_looking_at_the_coming_numbers_takes_none(warehouse):
    assert coming_numbers(warehouse, PLAIN, DAY, 2) == ["2026-00001", "2026-00002"]
    assert coming_numbers(warehouse, PLAIN, DAY, 1) == ["2026-00001"]
    assert last_issue_date(warehouse) is None


def test_a_pattern_that_gives_a_number_again_is_refused(warehouse):
    """A width that was changed makes another series; beyond the width both write alike."""
    with warehouse.transaction():
        next_numbers(warehouse, "{year}-{number:01}", DAY, 9)
        issue(warehouse, numbers_of("2026-{number}", 1, 9))
    assert taken(warehouse, "{year}-{number:02}", DAY, 9)[-1] == "2026-09"
    assert taken(warehouse, "{year}-{number:02}", DAY, 1) == ["2026-10"]
    with pytest.raises(UsageError, match="gives the number 2026-10, which a document bears already"):
        taken(warehouse, "{year}-{number:01}", DAY, 1)


@pytest.mark.parametrize(
    ("borne", "complaint"),
    [
        (["2026-00001", "2026-00003"], "without a document: 2026-00002"),
        (["2026-00001", "2026-00002", "2026-00002"], "without a document: 2026-00003; double, or of no series: 2026-00002"),
        (["2026-00001", "2026-00002", "2026-00003", "X"], "double, or of no series: X"),
        (["2026-00001", "2026-00002", "2026-00003", None], "double, or of no series: None"),
        ([], "without a document: 2026-00001, 2026-00002, 2026-00003"),
    ],
)  # fmt: skip
def test_a_gap_or_a_double_is_found_before_the_commit(warehouse, borne, complaint):
    with pytest.raises(InvariantError) as caught:
        taken(warehouse, PLAIN, DAY, 3, borne=borne)
    assert complaint in str(caught.value)
    assert last_issue_date(warehouse) is None, "rolled back"
