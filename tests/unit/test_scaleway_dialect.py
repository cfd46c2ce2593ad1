"""Values of the Scaleway dialect: UUIDs, numbers, money, instants, and how requests are read."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratemill.api.problems import Problem
from ratemill.api.scaleway.ids import Ids, invoice_number
from ratemill.api.scaleway.parameters import Arguments
from ratemill.api.scaleway.wire import (
    end_of,
    instant,
    last_instant_of,
    money,
    money_of_nanos,
    slice_of,
    utc,
    whole_or_decimal,
)

START, END = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 10, 2, tzinfo=UTC)


def test_uuids_are_made_of_the_seller_and_the_name_alone():
    ids = Ids.of("Example Cloud")
    assert ids.organization("acme") == Ids.of("Example Cloud").organization("acme")
    assert UUID(ids.organization("acme")).version == 5
    names = [
        ids.organization("acme"), ids.project("acme", "web"), ids.project("globex", "web"), ids.invoice("acme"),
        ids.discount("credit", "acme"), ids.discount("discount", "acme"), Ids.of("Another Cloud").organization("acme"),
        ids.project("a", "b-c"), ids.project("a-b", "c"),
    ]  # fmt: skip
    assert len(set(names)) == len(names)
    assert ids.project("acme", None) == ids.organization("acme")  # the default project has the organization's id


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2026-00012", 202600012), ("CN-2026-00001", 202600001), ("2026/11/000012", 12), ("F7", 7),
        ("2026-99999999", 99999999), (None, 0),
    ],
)  # fmt: skip
def test_the_number_of_an_invoice_is_its_digits(text, number):
    """As long as they are a whole number of 32 bits, which clients in Go want; else the running number alone."""
    assert invoice_number(text) == number


@given(st.integers(-(10**20), 10**20))
def test_money_has_one_sign(nanos):
    made = money_of_nanos(nanos, "EUR")
    assert made["units"] * 10**9 + made["nanos"] == nanos
    assert made["units"] * made["nanos"] >= 0
    assert abs(made["nanos"]) < 10**9


def test_money_is_never_rounded_in_silence():
    assert money(Decimal("-1.75"), "EUR") == {"currency_code": "EUR", "units": -1, "nanos": -750_000_000}
    with pytest.raises(ValueError, match="more than nine decimals"):
        money(Decimal("0.0000000001"), "EUR")


@given(st.integers(-(10**15), 10**15), st.lists(st.integers(-86_400, 2 * 86_400), min_size=1))
def test_windows_side_by_side_add_up_to_the_charge(nanos, borders):
    cuts = [datetime(2026, 9, 1, tzinfo=UTC), *sorted(START + timedelta(seconds=one) for one in borders), datetime(2026, 11, 1, tzinfo=UTC)]  # fmt: skip
    parts = [slice_of(nanos, START, END, since, until) for since, until in pairwise(cuts)]
    assert sum(parts) == nanos


def test_instants_end_within_and_days_by_the_calendar():
    assert utc(START) == "2026-10-01T00:00:00Z"
    assert end_of(datetime(2026, 10, 31, 23, 59, 59, 999999, tzinfo=UTC)) == datetime(2026, 11, 1, tzinfo=UTC)
    assert end_of(START) == START
    assert instant(last_instant_of(date(2026, 10, 25), "Europe/Paris")) == "2026-10-25T23:59:59.999999+01:00"
    assert instant(None) is None
    assert [whole_or_decimal(value) for value in (None, Decimal("744.000"), Decimal("1E+3"), Decimal("0.0500"))] == [
        "1", "744", "1000", "0.05",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["2026-10-01T02:00:00+02:00", "2026-10-01 00:00:00+00:00", "2026-10-01T00:00:00Z", "2026-10-01", "2026-10",
     "2026-10-01T00:00:00", "2026-10-01 00:00:00 00:00"],
)  # fmt: skip
def test_instants_are_read_in_every_spelling(text):
    assert Arguments([("startDateAfter", text)]).instant("start_date_after") == START


def test_arguments_come_in_snake_and_camel_case_and_as_lists():
    asked = Arguments([("pageSize", "7"), ("skus[]", "a"), ("skus", "b"), ("clampToTimeRange", "True"), ("x", "y")])
    assert (asked.page(), asked.texts("skus"), asked.truth("clamp_to_time_range")) == ((0, 7), ["a", "b"], True)
    assert str(Arguments([("billingPeriod", "2026-10-01T00:00:00Z")]).period("billing_period")) == "2026-10"
    assert Arguments([("enabled", False), ("consumption_limit", 5)]).truth("enabled") is False
    asked.refuse()


def test_every_mistake_is_told_at_once():
    asked = Arguments([
        ("page", "-1"), ("page_size", "1001"), ("organization_id", "kestrel"), ("order_by", "odd"), ("enabled", "maybe"),
        ("billing_period", "October"), ("start", "noon"), ("name", "a\x00b"), ("page_token", "a"), ("page_token", "b"),
    ])  # fmt: skip
    asked.page()
    asked.uuid("organization_id")
    asked.choice("order_by", ("a", "b"), "a")
    asked.truth("enabled")
    asked.period("billing_period")
    asked.instant("start")
    asked.text("name")
    asked.text("page_token")
    asked.text("code", required=True)
    with pytest.raises(Problem) as raised:
        asked.refuse()
    assert {error.name: error.kind for error in raised.value.errors} == {
        "page": "constraint", "page_size": "constraint", "organization_id": "format", "order_by": "constraint",
        "enabled": "format", "billing_period": "format", "start": "format", "name": "format", "page_token": "format",
        "code": "required",
    }  # fmt: skip


@pytest.mark.parametrize("body", [b"[]", b"nothing", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(body):
    with pytest.raises(Problem):
        Arguments.of_body(body)
    assert not Arguments.of_body(b"").has("anything")
