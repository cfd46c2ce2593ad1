"""The reference reproduces every worked example of "How we bill", and keeps the laws it is there to defend."""

import csv
import random
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from reference.exact import EXACT, shares, to_cost, to_money
from reference.ledger import spread
from reference.model import (
    Account,
    Adjustment,
    Book,
    BookError,
    Commitment,
    Correction,
    Credit,
    Discount,
    FxRate,
    PriceTier,
    Project,
    Recurring,
    Sku,
    Tax,
    Usage,
    Window,
    World,
    midnight,
    month_hours,
)
from reference.prices import exchange_rate, in_window, runs
from reference.prices import price_versions as versions_of
from reference.quantity import aggregate, billable, deduplicate
from reference.rating import rate_month
from reference.tiers import Tier, graduated, tiers_are_valid, volume
from strategies import MOST_RECORDS, worlds
from worlds import write_world

D = Decimal
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NO_TAX = Tax(tax_code="none", country="US", rate=D(0), kind="outside_scope")


def tier(up_to, unit="0", flat="0", package=None):
    return Tier(
        up_to=None if up_to is None else D(up_to),
        unit_price=D(unit),
        flat_fee=D(flat),
        package_size=None if package is None else D(package),
    )


def price(price_id="p", unit="1", **given):
    return PriceTier(price_id=price_id, sku_id="s", unit_price=D(unit), **given)


def tiered(price_id, mode, tiers, **given):
    return tuple(
        PriceTier(
            price_id=price_id,
            sku_id="s",
            mode=mode,
            up_to=t.up_to,
            unit_price=t.unit_price,
            flat_fee=t.flat_fee,
            package_size=t.package_size,
            **given,
        )
        for t in tiers
    )


def book(*prices, **given):
    tables = {"accounts": (Account(account_id="a"),), "skus": (Sku(sku_id="s"),), "taxes": (NO_TAX,)}
    return Book(prices=prices, **(tables | given))


def used(quantity, day=1, hour=0, **given):
    given = {"account_id": "a", "sku_id": "s", "resource_id": "r"} | given
    return Usage(usage_start=OCTOBER + timedelta(days=day - 1, hours=hour), quantity=D(quantity), **given)


def rate(book, *usage, period="2026-10", **given):
    return rate_month(World(book=book, usage=usage, period=period, **given))


def costs(bill, *, kinds=("usage", "cap", "minimum")):
    """Cost by price version, without rounding."""
    found = defaultdict(D)
    for charge in bill.charges:
        if charge.charge_kind in kinds:
            found[charge.price_id] += charge.cost
    return dict(found)


# Worked examples -----------------------------------------------------------------------------------------------------

EXAMPLE_1 = [tier("10", "10", "2"), tier("20", "5", "3"), tier(None, "5", "3")]
EXAMPLE_2 = [tier("100", "2", "10"), tier("200", "1"), tier(None, "0.5", "50")]
EXAMPLE_3 = [tier("10"), tier(None, "100", package="10")]
EXAMPLE_4 = [tier("1000", "1", package="100"), tier(None, "1", package="1000")]

TIER_EXAMPLES = [  # (number, F, tiers, quantity, cost)
    *[
        (1, graduated, EXAMPLE_1, quantity, cost)
        for quantity, cost in [
            ("0", "2"),
            ("1", "12"),
            ("10", "102"),
            ("10.5", "107.5"),
            ("11", "110"),
            ("12", "115"),
            ("21", "163"),
        ]
    ],
    *[
        (2, volume, EXAMPLE_2, quantity, cost)
        for quantity, cost in [("100", "210"), ("100.5", "100.5"), ("101", "101"), ("200", "200"), ("300", "200")]
    ],
    (3, graduated, EXAMPLE_3, "121", "1200"),
    (4, graduated, EXAMPLE_4, "5325", "15"),
    (13, volume, [tier("15", "10"), tier(None, "5")], "15", "150"),
    (13, volume, [tier("15", "10"), tier(None, "5")], "16", "80"),
]


@pytest.mark.parametrize(("number", "function", "tiers", "quantity", "cost"), TIER_EXAMPLES)
def test_examples_1_to_4_and_13_of_tiers(number, function, tiers, quantity, cost):
    assert function(tiers, D(quantity), flat_at_zero=True) == D(cost)
    rows = tiered("p", function.__name__, tiers, flat_at_zero=True)
    assert costs(rate(book(*rows), used(quantity))) == {"p": D(cost)}


@pytest.mark.parametrize("function", [graduated, volume])
def test_without_flat_at_zero_nothing_is_due_for_nothing(function):
    assert function(EXAMPLE_1, D(0)) == 0


CHANGE = midnight(date(2026, 10, 8))
V1 = [tier("1000", "1.5"), tier(None, "2")]
V2 = [tier("1000", "2.5"), tier(None, "3")]

VERSION_EXAMPLES = [  # (number, prices, usage, cost by version)
    (5, [price("v1", "1.50", valid_to=CHANGE), price("v2", "2.50", valid_from=CHANGE)],
     [used(100, 2), used(100, 10)], {"v1": "150", "v2": "250"}),
    (6, [*tiered("v1", "graduated", V1, valid_to=CHANGE), *tiered("v2", "graduated", V2, valid_from=CHANGE)],
     [used(900, 2), used(200, 10)], {"v1": "1350", "v2": "550"}),
    (6, [*tiered("v1", "graduated", V1, valid_to=CHANGE),
         *tiered("v2", "graduated", V2, valid_from=CHANGE, tier_reset=True)],
     [used(900, 2), used(200, 10)], {"v1": "1350", "v2": "500"}),
]  # fmt: skip


@pytest.mark.parametrize(("number", "prices", "usage", "expected"), VERSION_EXAMPLES)
def test_examples_5_and_6_of_price_changes(number, prices, usage, expected):
    bill = rate(book(*prices), *usage)
    assert costs(bill) == {version: D(cost) for version, cost in expected.items()}
    assert {line.price_id: line.amount for line in bill.lines} == costs(bill)


ROUNDING_EXAMPLES = [  # (number, currency, costs, amounts, total, rounding)
    (7, "USD", ["10.333333"] * 3, ["10.33"] * 3, "30.99", "-0.009999"),
    (8, "JPY", ["100.4", "200.5", "300.6"], ["100", "201", "301"], "602", "0.5"),
]


@pytest.mark.parametrize(("number", "currency", "line_costs", "amounts", "total", "rounding"), ROUNDING_EXAMPLES)
def test_examples_7_and_8_of_rounding(number, currency, line_costs, amounts, total, rounding):  # noqa: PLR0917
    world = book(price(currency=currency), accounts=(Account(account_id="a", currency=currency),))
    bill = rate(world, *(used(cost, project_id=f"project-{place}") for place, cost in enumerate(line_costs)))
    assert [line.amount for line in bill.lines] == [D(amount) for amount in amounts]
    (invoice,) = bill.invoices
    assert (invoice.untaxed_amount, invoice.rounding) == (D(total), D(rounding))
    rows = [charge.cost for charge in bill.charges if charge.charge_kind == "rounding"]
    assert sum(rows) == D(rounding)
    assert sum(charge.cost for charge in bill.charges) == D(total)


def test_example_11_of_a_cap():
    usage = [used(1, hour=hour) for hour in range(744)]
    bill = rate(book(price(unit="0.0074", cap=D("4.9728"))), *usage)
    assert costs(bill, kinds=("usage",)) == {"p": D("5.5056")}
    assert costs(bill) == {"p": D("4.9728")}
    assert bill.invoices[0].untaxed_amount == D("4.97")


def test_example_12_of_month_ends():
    local = [
        "2023-03-01T04:00", "2023-03-15T00:00", "2023-03-31T23:59", "2023-04-01T00:00", "2023-04-01T00:01",
        "2023-04-15T00:00", "2023-04-30T23:59", "2023-05-01T00:00", "2023-05-01T00:01",
    ]  # fmt: skip
    hours_behind_utc = 4  # summer time, but for the first one
    instants = [datetime.fromisoformat(text).replace(tzinfo=UTC) + timedelta(hours=hours_behind_utc) for text in local]
    instants[0] += timedelta(hours=1)
    usage = [Usage(account_id="a", sku_id="s", usage_start=instant, quantity=D(1)) for instant in instants]
    accounts = (Account(account_id="a", time_zone="America/New_York"),)
    counted = {
        month: len(rate(book(price(), accounts=accounts), *usage, period=month).accepted)
        for month in ("2023-02", "2023-03", "2023-04", "2023-05", "2023-06")
    }
    assert counted == {"2023-02": 0, "2023-03": 3, "2023-04": 4, "2023-05": 2, "2023-06": 0}


def test_example_14_of_tax():
    lines = ["68.33", "68.33", "57.50", "85.00"]
    world = book(price(), taxes=(Tax(tax_code="vat", country="US", rate=D(20)),))
    bill = rate(world, *(used(cost, project_id=f"project-{place}") for place, cost in enumerate(lines)))
    (tax,) = bill.tax_lines
    assert (tax.base_amount, tax.tax_amount, bill.invoices[0].total_amount) == (D("279.16"), D("55.83"), D("334.99"))


# Duplicates ----------------------------------------------------------------------------------------------------------

ONE = used(1)
DUPLICATES = [  # (why, records, kept, copies, conflicts)
    ("the same twice", [ONE, ONE], 1, 1, 0),
    ("a name is a label", [ONE, replace(ONE, resource_name="web")], 1, 1, 0),
    ("no end is one hour", [ONE, replace(ONE, usage_end=OCTOBER + timedelta(hours=1))], 1, 1, 0),
    ("another quantity", [ONE, used(2)], 0, 0, 2),
    ("a third that agrees with one changes nothing", [ONE, ONE, used(2)], 0, 0, 3),
    ("another end", [ONE, replace(ONE, usage_end=OCTOBER + timedelta(minutes=30))], 0, 0, 2),
    ("another unit", [ONE, replace(ONE, unit="hour")], 0, 0, 2),
    ("another hour", [ONE, used(1, hour=1)], 2, 0, 0),
    ("other tags", [ONE, used(1, tags={"a": "b"})], 2, 0, 0),
    ("tags in another order", [used(1, tags={"a": "b", "c": "d"}), used(1, tags={"c": "d", "a": "b"})], 1, 1, 0),
    ("another id", [used(1, record_id="x"), used(1, record_id="y")], 2, 0, 0),
    ("an id and none", [used(1, record_id="x"), used(1)], 2, 0, 0),
    ("the same id", [used(1, record_id="x"), used(1, record_id="x")], 1, 1, 0),
    ("the same id elsewhere", [used(1, record_id="x"), used(1, record_id="x", region="eu-1")], 0, 0, 2),
    ("the same id at another hour", [used(1, record_id="x"), used(1, hour=1, record_id="x")], 0, 0, 2),
]


@pytest.mark.parametrize(("why", "records", "kept", "copies", "conflicts"), DUPLICATES)
def test_duplicates(why, records, kept, copies, conflicts):
    assert tuple(map(len, deduplicate(records))) == (kept, copies, conflicts), why


# Quantities ----------------------------------------------------------------------------------------------------------

INCREMENTS = [("1", "1"), ("0.2", "1"), ("1.000000000001", "2"), ("0", "0")]


@pytest.mark.parametrize(("quantity", "counted"), INCREMENTS)
def test_every_started_increment_counts(quantity, counted):
    assert billable(used(quantity), Sku(sku_id="s", record_increment=D(1))) == D(counted)
    assert billable(used(quantity), Sku(sku_id="s")) == D(quantity)


FULL = {hour: D(hour + 1) for hour in range(744)}
AGGREGATES = [  # (aggregation, quantity by hour, hours, result, why)
    ("sum", {0: D(1), 5: D(2)}, 744, "3", ""),
    ("max", {0: D(1), 5: D(2)}, 744, "2", ""),
    ("max", {}, 744, "0", "no usage"),
    ("mean", {0: D(744), 5: D(372)}, 744, "1.5", "over all hours, not only those with usage"),
    ("mean", {0: D(1)}, 743, "0.001345895020", "a month in which the clocks go forward; half-even at 12 places"),
    ("p95", FULL, 744, "707", "rank ceil(0.95 x 744) = 707 from below"),
    ("p95", {hour: D(9) for hour in range(37)}, 744, "0", "37 hours are forgiven"),
    ("p95", {hour: D(9) for hour in range(38)}, 744, "9", "the 38th counts"),
    ("p95", {hour: D(9) for hour in range(37)}, 720, "9", "720 hours: 36 are forgiven"),
]


@pytest.mark.parametrize(("aggregation", "by_hour", "hours", "result", "why"), AGGREGATES)
def test_aggregation(aggregation, by_hour, hours, result, why):
    assert aggregate(by_hour, aggregation, hours) == D(result), why


def test_a_price_change_splits_a_months_maximum_and_does_not_bill_it_twice():
    prices = (price("v1", "1", valid_to=CHANGE), price("v2", "2", valid_from=CHANGE))
    world = book(*prices, skus=(Sku(sku_id="s", aggregation="max"),))
    bill = rate(world, used(10, 1), used(5, 2), used(15, 10))
    quantities = {c.charge_start.day: c.pricing_quantity for c in bill.charges}
    assert quantities == {1: D(5), 2: D("2.5"), 10: D("7.5")}  # 15, shared 10 : 5 : 15
    assert costs(bill) == {"v1": D("7.5"), "v2": D(15)}
    assert [c.usage_quantity for c in bill.charges] == [10, 5, 15]


DIVISORS = [  # (month, zone, divisor, pricing quantity of 743 hours)
    ("2026-03", "Europe/Berlin", "hours_in_month", "1"),
    ("2026-03", "UTC", "hours_in_month", "0.998655913978"),
    ("2026-03", "UTC", "730", "1.017808219178"),
]


@pytest.mark.parametrize(("month", "zone", "divisor", "expected"), DIVISORS)
def test_conversion_counts_the_real_hours_of_the_local_month(month, zone, divisor, expected):
    accounts = (Account(account_id="a", time_zone=zone),)
    world = book(price(), accounts=accounts, skus=(Sku(sku_id="s", units_per_pricing_unit=divisor),))
    usage = Usage(account_id="a", sku_id="s", usage_start=datetime(2026, 3, 10, tzinfo=UTC), quantity=D(743))
    (charge,) = [c for c in rate(world, usage, period=month).charges if c.charge_kind == "usage"]
    assert charge.pricing_quantity == D(expected)


MONTH_HOURS = [
    ("2026-02", "UTC", 672), ("2026-03", "Europe/Berlin", 743), ("2026-10", "Europe/Berlin", 745),
    ("2026-11", "America/New_York", 721), ("2026-04", "Pacific/Auckland", 721),
]  # fmt: skip


@pytest.mark.parametrize(("month", "zone", "hours"), MONTH_HOURS)
def test_hours_of_a_month(month, zone, hours):
    assert month_hours(month, zone) == hours


# Finding a price -----------------------------------------------------------------------------------------------------

PEAK = Window(window="peak", days="thu", from_time="08:00", to_time="20:00")
SEARCHES = [  # (why, prices, usage, account's lists, the price that applies, the public price)
    ("the public list is everybody's", [price("p")], {}, (), "p", "p"),
    ("a named list comes first", [price("p"), price("d", price_list="deal")], {}, ("deal",), "d", "p"),
    ("a list nobody named is not searched", [price("p"), price("d", price_list="deal")], {}, (), "p", "p"),
    ("order of lists", [price("d", price_list="deal"), price("g", price_list="gold")], {}, ("gold", "deal"), "g", None),
    ("public where it is named", [price("p"), price("d", price_list="deal")], {}, ("public", "deal"), "p", "p"),
    ("a list without the region is passed by", [price("p"), price("d", price_list="deal", region="us-1")],
     {"region": "eu-1"}, ("deal",), "p", "p"),
    ("more conditions win inside a list", [price("p"), price("r", region="eu-1")], {"region": "eu-1"}, (), "r", "r"),
    ("a list comes before conditions of a later one", [price("r", region="eu-1"), price("d", price_list="deal")],
     {"region": "eu-1"}, ("deal",), "d", "r"),
    ("no region is no region of a price", [price("r", region="eu-1")], {}, (), None, None),
    ("attributes", [price("p"), price("g", attributes={"plan": "gold"})], {"attributes": {"plan": "gold"}}, (), "g", "g"),
    ("attributes that differ", [price("g", attributes={"plan": "gold"})], {"attributes": {"plan": "tin"}}, (), None, None),
    ("inside the window", [price("p"), price("w", window="peak")], {"hour": 8}, (), "w", "w"),
    ("the window's end is outside", [price("p"), price("w", window="peak")], {"hour": 20}, (), "p", "p"),
    ("another day than the window's", [price("p"), price("w", window="peak")], {"day": 2, "hour": 8}, (), "p", "p"),
    ("valid_from is inclusive", [price("v", valid_from=CHANGE)], {"day": 8}, (), "v", "v"),
    ("valid_to is exclusive", [price("v", valid_to=CHANGE)], {"day": 8}, (), None, None),
]  # fmt: skip


@pytest.mark.parametrize(("why", "prices", "usage", "lists", "contracted", "public"), SEARCHES)
def test_the_price_that_applies(why, prices, usage, lists, contracted, public):  # noqa: PLR0917
    world = book(*prices, accounts=(Account(account_id="a", price_lists=lists),), windows=(PEAK,))
    bill = rate(world, used(3, **usage))
    found = [(charge.price_id, charge.list_price_id) for charge in bill.charges]
    assert found == ([] if contracted is None else [(contracted, public)]), why
    assert [row.quantity for row in bill.unpriced] == ([D(3)] if contracted is None else [])


def test_two_prices_as_specific_are_refused():
    with pytest.raises(BookError, match="p and q overlap"):
        rate(book(price("p"), price("q")), used(1))


NIGHT = (Window(window="night", days="sun", from_time="02:00", to_time="03:00"),)


def test_a_window_sees_the_clock_on_the_wall():
    accounts = (Account(account_id="a", time_zone="Europe/Berlin"),)
    world = book(price("p"), price("n", window="night"), accounts=accounts, windows=NIGHT)
    back = [used(1, 25, hour) for hour in range(-1, 4)]  # 25 October: 2:00 to 3:00 comes twice, at 0:00 and 1:00 UTC
    assert costs(rate(world, *back)) == {"p": D(3), "n": D(2)}
    forward = [replace(record, usage_start=record.usage_start.replace(month=3, day=29)) for record in back[1:]]
    assert costs(rate(world, *forward, period="2026-03")) == {"p": D(4)}  # 29 March: no 2:00 to 3:00
    assert in_window(NIGHT, "night", datetime(2026, 10, 25, 2, 59, tzinfo=UTC))
    assert not in_window(NIGHT, "night", datetime(2026, 10, 24, 2, 30, tzinfo=UTC))


def test_a_project_moves_on_its_date_and_takes_the_payers_zone_with_it():
    accounts = (
        Account(account_id="a"),
        Account(account_id="b", time_zone="Asia/Kolkata"),
        Account(account_id="c", billing_account_id="b"),
    )
    projects = (
        Project(project_id="x", account_id="a", name="Old", valid_to=CHANGE),
        Project(project_id="x", account_id="c", name="New", valid_from=CHANGE),
    )
    world = book(price(), accounts=accounts, projects=projects)
    last_of_month = used(1, 31, 18, project_id="x")  # 23:30 of the 31st in Kolkata
    too_late = used(1, 31, 19, project_id="x")  # 0:30 of the 1st there
    bill = rate(world, used(1, 7, 23, project_id="x"), used(1, 8, 0, project_id="x"), last_of_month, too_late)
    assert [(line.invoice_id, line.account_id, line.project_name, line.amount) for line in bill.lines] == [
        ("2026-10-a-USD", "a", "Old", 1),
        ("2026-10-b-USD", "c", "New", 2),
    ]
    assert bill.lines[1].last_day == date(2026, 10, 31)


def test_prices_of_another_currency_are_converted_at_the_days_rate():
    rates = (
        FxRate(date=date(2026, 9, 30), base="EUR", quote="USD", rate=D("1.10")),
        FxRate(date=date(2026, 10, 5), base="EUR", quote="USD", rate=D("1.20")),
        FxRate(date=date(2026, 10, 5), base="USD", quote="KWD", rate=D("0.3")),
    )
    world = book(price(currency="EUR", unit="10"), fx_rates=rates)
    bill = rate(world, used(1, 4), used(1, 5), used(1, 9))
    assert [(c.cost, c.exchange_rate, c.contracted_unit_price) for c in bill.charges] == [
        (D(11), D("1.10"), D(11)),
        (D(12), D("1.20"), D(12)),
        (D(12), D("1.20"), D(12)),
    ]
    assert bill.lines[0].unit_price is None
    assert exchange_rate(rates, "KWD", "USD", date(2026, 10, 5)) == D("3.333333333333")
    assert exchange_rate(rates, "KWD", "USD", date(2026, 10, 4)) is None
    assert exchange_rate(rates, "EUR", "KWD", date(2026, 10, 9)) is None  # not through USD
    deal = (Account(account_id="a", price_lists=("deal",)),)
    rows = (price("k", currency="KWD", price_list="deal"), price("p"))
    early = rate(book(*rows, accounts=deal, fx_rates=rates), used(1, 1))
    assert [row.reason for row in early.unpriced] == ["no_exchange_rate"]  # no rate yet: public would be a wrong price
    unknown = rate(book(*rows, accounts=deal), used(1, 1))
    assert costs(unknown) == {"p": D(1)}  # a currency that the book never converts is no price at all
    own = book(price("e", currency="EUR", region="eu-1"), price("u"), fx_rates=rates)
    assert costs(rate(own, used(1, region="eu-1"))) == {"u": D(1)}  # the account's currency comes first


# Tiers over charges --------------------------------------------------------------------------------------------------


def test_days_take_the_tiers_in_turn_and_share_a_day_by_quantity():
    rows = tiered("p", "graduated", [tier("10", "3"), tier(None, "1", "6")])
    usage = [used(6, 1), used(6, 2), used(2, 2, 1, resource_id="other"), used(5, 3)]
    bill = rate(book(*rows), *usage)
    found = {(c.charge_start.day, c.resource_id): c.cost for c in bill.charges}
    # day 1: 6 at 3; day 2: 4 at 3, the fee of 6, 4 at 1 = 22 for 6 and 2; day 3: 5 at 1
    assert found == {(1, "r"): 18, (2, "r"): D("16.5"), (2, "other"): D("5.5"), (3, "r"): 5}


SCOPES = [  # (scope, cost of 2 units of each of four series when the first unit of a scope costs 3 more)
    ("account", 8 + 3),  # one payer
    ("project", 8 + 3 * 3),  # x, y, and what is in no project
    ("resource", 8 + 3 * 4),  # r and q of x, r of y, r of no project
]


@pytest.mark.parametrize(("scope", "expected"), SCOPES)
def test_scope_of_the_count(scope, expected):
    rows = tiered("p", "graduated", [tier("1", "4"), tier(None, "1")], scope=scope)
    series = [("x", "r"), ("x", "q"), ("y", "r"), (None, "r")]
    usage = [
        used(2, day, project_id=project, resource_id=resource) for day, (project, resource) in enumerate(series, 1)
    ]
    assert costs(rate(book(*rows), *usage)) == {"p": expected}


def test_two_regions_of_one_price_list_row_share_the_accounts_count():
    rows = tiered("p", "graduated", [tier("1", "4"), tier(None, "1")])
    assert costs(rate(book(*rows), used(2, region="eu-1"), used(2, region="us-1"))) == {"p": 7}
    by_region = [
        *tiered("e", "graduated", [tier("1", "4"), tier(None, "1")], region="eu-1"),
        *tiered("u", "graduated", [tier("1", "4"), tier(None, "1")], region="us-1"),
    ]
    assert costs(rate(book(*by_region), used(2, region="eu-1"), used(2, region="us-1"))) == {"e": 5, "u": 5}


def test_a_volume_price_written_as_two_versions_costs_the_same():
    tiers = [tier("10", "3", "7"), tier(None, "2", "5", package="4")]
    once = rate(book(*tiered("v", "volume", tiers)), used(9, 2), used(6, 20))
    twice = book(*tiered("v1", "volume", tiers, valid_to=CHANGE), *tiered("v2", "volume", tiers, valid_from=CHANGE))
    bill = rate(twice, used(9, 2), used(6, 20))
    assert costs(once) == {"v": D(13)}  # 15 are four packages at 2, and the fee of 5
    assert costs(bill) == {"v1": D("7.8"), "v2": D("5.2")}


def test_remainders_of_sharing_go_to_the_largest_the_first_of_equals():
    assert shares(D(1), [D(1), D(1), D(1)], 2) == [D("0.34"), D("0.33"), D("0.33")]
    assert shares(D(1), [D(1), D(2), D(3)], 1) == [D("0.2"), D("0.3"), D("0.5")]
    assert shares(D("0.01"), [D(0), D(0)], 2) == [D("0.01"), 0]


CAPS = [  # (why, prices, usage, total)
    ("each resource has its own cap", [price(cap=D(5))], [used(9), used(9, 2, resource_id="q")], "10"),
    ("below the cap nothing changes", [price(cap=D(5))], [used(4)], "4"),
    ("a cap of 0", [price(cap=D(0))], [used(4)], "0"),
    ("a price change brings no second cap", [price("v1", cap=D(5), valid_to=CHANGE), price("v2", cap=D(5), valid_from=CHANGE)],
     [used(9, 1), used(9, 10)], "5"),
    ("unless it starts anew", [price("v1", cap=D(5), valid_to=CHANGE),
                               price("v2", cap=D(5), valid_from=CHANGE, tier_reset=True)],
     [used(9, 1), used(9, 10)], "10"),
    ("a lower cap later takes nothing back", [price("v1", cap=D(5), valid_to=CHANGE), price("v2", cap=D(3), valid_from=CHANGE)],
     [used(9, 1), used(9, 10)], "5"),
    ("a minimum tops up", [price(minimum=D(5))], [used(2), used(1, 2)], "5"),
    ("for each resource", [price(minimum=D(5))], [used(2), used(9, 2, resource_id="q")], "14"),
    ("a record of 0 is no usage", [price(minimum=D(5))], [used(0)], "0"),
    ("once a month, over a price change", [price("v1", minimum=D(5), valid_to=CHANGE), price("v2", minimum=D(5), valid_from=CHANGE)],
     [used(1, 1), used(1, 10)], "5"),
]  # fmt: skip


@pytest.mark.parametrize(("why", "prices", "usage", "total"), CAPS)
def test_caps_and_minimums(why, prices, usage, total):
    bill = rate(book(*prices), *usage)
    assert sum(costs(bill).values()) == D(total), why
    assert sum(charge.list_cost for charge in bill.charges) == D(total), why


def test_the_public_price_counts_its_own_tiers_and_caps():
    rows = [
        *tiered("p", "graduated", [tier("2", "10"), tier(None, "5")], cap=D(40)),
        price("d", "3", price_list="deal"),
    ]
    accounts = (Account(account_id="a", price_lists=("deal",)),)
    bill = rate(book(*rows, accounts=accounts), used(4, 1), used(6, 2))
    found = [(c.charge_kind, c.cost, c.list_cost) for c in bill.charges]
    assert found == [("usage", 12, 30), ("cap", 0, -20), ("usage", 18, 30)]
    assert bill.invoices[0].list_amount == 40


# Invoices ------------------------------------------------------------------------------------------------------------

TAXES = (
    Tax(tax_code="de", country="DE", rate=D(19), valid_to=midnight(date(2026, 11, 1), "Europe/Berlin")),
    Tax(tax_code="de", country="DE", rate=D(20), valid_from=midnight(date(2026, 11, 1), "Europe/Berlin")),
    Tax(tax_code="de-by", country="DE", region="BY", rate=D(10)),
    Tax(tax_code="rc", country="FR", rate=D(0), kind="reverse_charge", note="Reverse charge"),
)
TAX_SEARCHES = [  # (account, tax code and rate, why)
    ({"country": "DE", "time_zone": "Europe/Berlin"}, ("de", 19), "the month ends as the new rate begins"),
    ({"country": "DE", "time_zone": "UTC"}, ("de", 20), "an hour later the new rate is valid at its last instant"),
    ({"country": "DE", "state": "BY"}, ("de-by", 10), "a row for the state comes first"),
    ({"country": "DE", "state": "HE", "time_zone": "Europe/Berlin"}, ("de", 19), "a state without a row of its own"),
    ({"country": "DE", "state": "BY", "tax_code": "rc"}, ("rc", 0), "a code that is named wins"),
]


@pytest.mark.parametrize(("account", "expected", "why"), TAX_SEARCHES)
def test_the_tax_that_applies(account, expected, why):
    bill = rate(book(price(), accounts=(Account(account_id="a", **account),), taxes=TAXES), used(100))
    (line,) = bill.tax_lines
    assert (line.tax_code, line.rate) == expected, why
    assert line.tax_amount == expected[1]


def test_no_tax_is_no_answer():
    with pytest.raises(BookError, match="0 taxes"):
        rate(book(price(), taxes=()), used(1))


@pytest.mark.parametrize(
    ("value", "rounded"), [("0.125", "0.13"), ("-0.125", "-0.13"), ("0.1249", "0.12"), ("-0.001", "0.00")]
)
def test_money_is_rounded_away_from_zero(value, rounded):
    assert str(to_money(D(value), "USD")) == rounded


def test_a_cost_is_rounded_half_even_at_18_places_and_never_wraps():
    assert to_cost(D("0.0000000000000000005")) == 0
    assert to_cost(D("0.0000000000000000015")) == D("0.000000000000000002")
    with pytest.raises(OverflowError):
        to_cost(D(10) ** 20)


@pytest.mark.parametrize("bounds", [[None, "1"], ["2", "1", None], ["1", "1", None], ["1"]])
def test_tiers_must_rise_to_one_open_end(bounds):
    assert not tiers_are_valid([tier(bound) for bound in bounds])
    assert tiers_are_valid([tier("1"), tier("2"), tier(None)])


# Fees and adjustments ------------------------------------------------------------------------------------------------

BERLIN = Account(account_id="a", time_zone="Europe/Berlin")


def berlin(day, hour=0):
    return midnight(date(2026, 10, day), "Europe/Berlin") + timedelta(hours=hour)


FEES = [  # (why, fee, what the line says: amount, first day, last day)
    ("a whole month", {}, ("310.00", 1, 31)),
    ("from the 11th: 21 of 31 days", {"valid_from": berlin(11)}, ("210.00", 11, 31)),
    ("to the 11th, exclusive", {"valid_to": berlin(11)}, ("100.00", 1, 10)),
    ("a day counts when its noon does", {"valid_from": berlin(11, 12)}, ("210.00", 11, 31)),
    ("a minute later it does not", {"valid_from": berlin(11, 12) + timedelta(minutes=1)}, ("200.00", 12, 31)),
    ("nor on the day it ends at noon", {"valid_to": berlin(11, 12)}, ("100.00", 1, 10)),
    ("noon of the day of 25 hours", {"valid_from": berlin(25, 13)}, ("70.00", 25, 31)),
    ("an hour between two noons is no day", {"valid_from": berlin(11, 13), "valid_to": berlin(11, 14)}, None),
    ("another month", {"valid_from": berlin(31) + timedelta(days=1)}, None),
]


@pytest.mark.parametrize(("why", "fee", "expected"), FEES)
def test_a_fee_is_due_for_the_days_it_is_valid(why, fee, expected):
    row = Recurring(recurring_id="support", account_id="a", amount=D(310), description="Support", **fee)
    bill = rate(book(price(), accounts=(BERLIN,), recurring=(row,)))
    found = [(str(line.amount), line.first_day.day, line.last_day.day) for line in bill.lines]
    assert found == ([] if expected is None else [expected]), why
    assert len(bill.invoices) == len(found)
    assert [(c.charge_kind, c.cost, c.source_id) for c in bill.charges] == [
        ("recurring", D(x[0]), "support") for x in found
    ]


def test_fees_and_adjustments_stand_behind_the_usage_of_their_account():
    accounts = (Account(account_id="a"), Account(account_id="b", billing_account_id="a"))
    fee = Recurring(recurring_id="fee", account_id="a", amount=D(10), sku_id="s", currency="JPY")
    adjustments = (
        Adjustment(adjustment_id="sorry", account_id="a", period="2026-10", amount=D("-7.5"), reason="Outage"),
        Adjustment(adjustment_id="then", account_id="a", period="2026-09", amount=D(1)),
    )
    whole = book(
        price(), accounts=accounts, adjustments=adjustments,
        recurring=(fee, replace(fee, recurring_id="own", currency=None)),
    )  # fmt: skip
    bill = rate(whole, used(1, account_id="b"), used(2))
    assert [
        (line.invoice_id, line.account_id, line.line_kind, line.description, line.amount) for line in bill.lines
    ] == [
        ("2026-10-a-JPY", "a", "recurring", None, 10),
        ("2026-10-a-USD", "a", "usage", None, 2),
        ("2026-10-a-USD", "a", "recurring", None, 10),
        ("2026-10-a-USD", "a", "adjustment", "Outage", D("-7.5")),
        ("2026-10-a-USD", "b", "usage", None, 1),
    ]
    assert [(i.subtotal_amount, i.list_amount, i.document) for i in bill.invoices] == [
        (10, 0, "invoice"),
        (D("5.5"), 3, "invoice"),
    ]


# Discounts -----------------------------------------------------------------------------------------------------------


def percent(discount_id, value, **given):
    return Discount(discount_id=discount_id, percent=D(value), **given)


def fixed(discount_id, value, **given):
    return Discount(discount_id=discount_id, amount=D(value), currency="USD", **given)


TWO_SKUS = (Sku(sku_id="s"), Sku(sku_id="t", service="Disks", category="Storage"))
DISCOUNTS = [  # (why, discounts, what they take off lines of 100 (SKU s, project x) and 50 (SKU t))
    ("percent", [percent("d", 10)], "10 5"),
    ("each on what the former left", [percent("d", 10), percent("e", 10)], "19 9.5"),
    ("additive ones on the whole", [percent("d", 10), percent("e", 10, mode="additive")], "20 10"),
    ("additive ones take no more than there is", [percent("d", 80), percent("e", 80, mode="additive")], "100 50"),
    ("percents before amounts", [fixed("d", 30, priority=1), percent("e", 10, priority=2)], "30 15"),
    ("priority before id", [percent("e", 50, priority=1), percent("d", 10, mode="additive")], "60 30"),
    ("an amount is shared by what is left", [percent("d", 50, sku_ids=("s",)), fixed("e", 10)], "55 5"),
    ("an amount takes no more than there is", [fixed("d", 1000)], "100 50"),
    ("an amount of another currency", [replace(fixed("d", 10), currency="EUR")], "0 0"),
    ("largest remainder", [fixed("d", "0.01")], "0.01 0"),
    ("a percent is rounded once", [percent("d", "0.005")], "0.01 0"),
    ("by service", [percent("d", 10, service="Disks")], "0 5"),
    ("by category", [percent("d", 10, category="Compute")], "10 0"),
    ("by SKU", [percent("d", 10, sku_ids=("s", "t"))], "10 5"),
    ("all but a SKU", [percent("d", 10, excludes=("t",))], "10 0"),
    ("by project", [percent("d", 10, project_id="x")], "10 0"),
    ("all conditions at once", [percent("d", 10, project_id="x", sku_ids=("t",))], "0 0"),
    ("for the account that uses", [percent("d", 10, account_id="b")], "0 5"),
    ("for the account that pays", [percent("d", 10, account_id="a")], "10 5"),
    ("from the 8th: the part of the cost that starts then", [percent("d", 10, valid_from=CHANGE)], "7.5 0"),
    ("until the 8th", [percent("d", 10, valid_to=CHANGE)], "2.5 5"),
]


@pytest.mark.parametrize(("why", "discounts", "expected"), DISCOUNTS)
def test_discounts(why, discounts, expected):
    accounts = (Account(account_id="a"), Account(account_id="b", billing_account_id="a"))
    prices = (price(), replace(price("t"), sku_id="t"))
    usage = [used(25, 1, project_id="x"), used(75, 8, project_id="x"), used(50, account_id="b", sku_id="t")]
    bill = rate(book(*prices, accounts=accounts, skus=TWO_SKUS, discounts=tuple(discounts)), *usage)
    assert [line.amount for line in bill.lines] == [100, 50]
    assert [-line.discount_amount for line in bill.lines] == [D(text) for text in expected.split()], why
    assert bill.invoices[0].discount_amount == -sum(D(text) for text in expected.split())
    rows = [charge.cost for charge in bill.charges if charge.charge_kind == "discount"]
    assert sorted(rows) == sorted(row.amount for row in bill.deductions)


def test_a_discount_is_for_usage_and_fees_but_for_no_adjustment():
    fee = Recurring(recurring_id="fee", account_id="a", amount=D(100), description="Support")
    adjustment = Adjustment(adjustment_id="more", account_id="a", period="2026-10", amount=D(100))
    rows = {"recurring": (fee,), "adjustments": (adjustment,)}
    ended = percent("e", 10, valid_to=midnight(date(2026, 10, 31)))  # not valid at the tax point: fees do without
    bill = rate(book(price(), discounts=(percent("d", 10), ended), **rows), used(100))
    assert [(line.line_kind, line.discount_amount) for line in bill.lines] == [
        ("usage", -19),
        ("recurring", -10),
        ("adjustment", 0),
    ]
    assert [(row.deduction_number, row.line_number, row.source_id) for row in bill.deductions] == [
        (1, 1, "d"),
        (1, 2, "d"),
        (2, 1, "e"),
    ]


def test_a_cap_may_not_make_a_part_of_a_line_more_than_the_line():
    """100 on the 1st, 100 on the 10th, capped at 150 there: the part before the 8th is 100, the part after it 50."""
    rows = (price(cap=D(150)),)
    for discount, expected in ((percent("d", 10, valid_to=CHANGE), -10), (percent("d", 10, valid_from=CHANGE), -5)):
        assert (
            rate(book(*rows, discounts=(discount,)), used(100), used(100, 10)).invoices[0].discount_amount == expected
        )
    tighter = (price(cap=D(60)),)
    for discount, expected in ((percent("d", 10, valid_to=CHANGE), -6), (percent("d", 10, valid_from=CHANGE), 0)):
        bill = rate(book(*tighter, discounts=(discount,)), used(100), used(100, 10))
        assert bill.invoices[0].discount_amount == expected


def test_what_is_left_over_by_sharing_goes_to_the_largest_remainders():
    assert spread(D("1.00"), [D(1), D(1), D(1)], "USD") == [D("0.34"), D("0.33"), D("0.33")]
    assert spread(D("0.05"), [D(70), D(20), D(10)], "USD") == [D("0.04"), D("0.01"), 0]
    assert spread(D(10), [D(3), D(3), D(4)], "JPY") == [3, 3, 4]
    assert spread(D("0.002"), [D(1), D(2), D(3)], "KWD") == [D("0.000"), D("0.001"), D("0.001")]


# Commitments ---------------------------------------------------------------------------------------------------------


def committed(amount, discount="0", **given):
    return Commitment(
        commitment_id="c", account_id="a", amount=D(amount), discount_percent=D(discount), note="1 year", **given
    )


COMMITTED = [  # (number of the example, why, lines, commitment, lines' amounts, discount, untaxed)
    (9, "more than committed", ["5.95", "895.35"], committed(900, 10), ["5.95", "895.35"], "90", "811.30"),
    (10, "less than committed", ["500"], committed(900, 10), ["500", "400"], "90", "810"),
    (0, "nothing used at all", [], committed(900, 10), ["900"], "90", "810"),
    (0, "no discount is a minimum spend", ["500"], committed(900), ["500", "400"], "0", "900"),
    (
        0,
        "10 of 31 days",
        ["100"],
        committed(930, 10, valid_to=midnight(date(2026, 10, 11))),
        ["100", "200"],
        "30",
        "270",
    ),
    (0, "other usage does not count", ["500"], committed(900, 10, sku_ids=("t",)), ["500", "900"], "90", "1310"),
    (0, "another month", ["500"], committed(900, 10, valid_to=midnight(date(2026, 10, 1))), ["500"], "0", "500"),
    (0, "all of it off, and no more", ["500"], committed(400, 100), ["500"], "400", "100"),
]


@pytest.mark.parametrize(("number", "why", "usage", "commitment", "amounts", "off", "untaxed"), COMMITTED)
def test_examples_9_and_10_of_commitments(number, why, usage, commitment, amounts, off, untaxed):  # noqa: PLR0917
    records = (used(cost, project_id=f"project-{place}") for place, cost in enumerate(usage))
    bill = rate(book(price(), commitments=(commitment,)), *records)
    (invoice,) = bill.invoices
    assert [line.amount for line in bill.lines] == [D(amount) for amount in amounts], why
    assert (invoice.commitment_amount, invoice.untaxed_amount) == (-D(off), D(untaxed))
    for month in bill.commitments:
        assert month.shortfall_amount == max(0, month.committed_amount - month.eligible_amount)
        assert month.discount_amount == -D(off)
    assert sum(charge.cost for charge in bill.charges) == D(untaxed)


def test_a_commitment_counts_usage_before_discounts_and_takes_its_own_after_them():
    rows = {"commitments": (committed(100, 20),), "discounts": (percent("d", 95),)}
    bill = rate(book(price(), **rows), used(100))
    (invoice,) = bill.invoices
    assert (invoice.discount_amount, invoice.commitment_amount, invoice.untaxed_amount) == (-95, -5, 0)
    assert (bill.commitments[0].shortfall_amount, bill.commitments[0].discount_amount) == (0, -5)


# Credits -------------------------------------------------------------------------------------------------------------

GRANTED = datetime(2026, 1, 1, tzinfo=UTC)
TAX_10 = (Tax(tax_code="vat", country="US", rate=D(10)),)


def credit(credit_id, amount, kind="promotional", **given):
    given = {"granted_on": GRANTED} | given
    return Credit(credit_id=credit_id, account_id="a", amount=D(amount), kind=kind, **given)


END = midnight(date(2026, 11, 1))
CREDITS = [  # (why, credits, what is drawn on each, untaxed, due), of usage of 100 and 10 % tax
    ("before tax", [credit("c", 30)], {"c": 30}, 70, 77),
    ("after tax", [credit("c", 30, "prepaid")], {"c": 30}, 100, 80),
    ("never below zero", [credit("c", 300)], {"c": 100}, 0, 0),
    ("nor what is due", [credit("c", 300, "prepaid")], {"c": 110}, 100, 0),
    ("promotional before prepaid", [credit("b", 30, "prepaid"), credit("c", 100)], {"c": 100}, 0, 0),
    ("soonest expiry first", [credit("a", 80), credit("b", 70, expires_on=END)], {"a": 30, "b": 70}, 0, 0),
    ("then by id", [credit("b", 80), credit("a", 70)], {"a": 70, "b": 30}, 0, 0),
    ("expired before the month's last instant", [credit("c", 30, expires_on=END - timedelta(microseconds=1))], {}, 100, 110),
    ("granted in it", [credit("c", 30, granted_on=END - timedelta(microseconds=1))], {"c": 30}, 70, 77),
    ("granted after it", [credit("c", 30, granted_on=END)], {}, 100, 110),
    ("for other usage", [credit("c", 30, sku_ids=("t",))], {}, 100, 110),
    ("in another currency", [credit("c", 30, currency="EUR")], {}, 100, 110),
]  # fmt: skip


@pytest.mark.parametrize(("why", "some", "drawn", "untaxed", "due"), CREDITS)
def test_credits(why, some, drawn, untaxed, due):
    bill = rate(book(price(), taxes=TAX_10, credits=tuple(some)), used(100))
    (invoice,) = bill.invoices
    assert {row.credit_id: row.amount for row in bill.credits} == drawn, why
    assert (invoice.untaxed_amount, invoice.due_amount) == (untaxed, due)


def test_what_earlier_months_drew_is_gone():
    whole = book(price(), credits=(credit("c", 30), credit("d", 5)))
    bill = rate(whole, used(100), credits_drawn={"c": D("12.5"), "d": D(5)})
    assert [(row.credit_id, row.balance_before, row.amount, row.balance_after) for row in bill.credits] == [
        ("c", D("17.5"), D("17.5"), 0)
    ]


def test_a_credit_pays_adjustments_but_no_more_than_the_whole_invoice():
    rows = tuple(
        Adjustment(adjustment_id=f"x{amount}", account_id="a", period="2026-10", amount=D(amount))
        for amount in (50, -120)
    )
    bill = rate(book(price(), adjustments=rows, credits=(credit("c", 1000),)), used(100))
    assert [(line.amount, line.credit_amount) for line in bill.lines] == [(100, -20), (-120, 0), (50, -10)]
    assert bill.invoices[0].due_amount == 0


def test_an_invoice_below_zero_is_a_credit_note_that_no_credit_pays():
    row = Adjustment(adjustment_id="back", account_id="a", period="2026-10", amount=D(-150))
    some = (credit("c", 30), credit("p", 30, "prepaid"))
    bill = rate(book(price(), taxes=TAX_10, adjustments=(row,), credits=some), used(100))
    (invoice,) = bill.invoices
    assert (invoice.document, invoice.total_amount, invoice.due_amount) == ("credit_note", -55, -55)
    assert not bill.credits


# Corrections ---------------------------------------------------------------------------------------------------------


def test_a_correction_is_billed_with_the_tax_and_for_the_time_of_the_month_it_corrects():
    """A fee of 200 that ended after the first of 30 days, found out a month later: 193.33 and its 25 % go back."""
    ended = Correction(
        billing_account_id="a", currency="USD", corrects_period="2026-09", corrects_invoice_id="2026-09-a-USD",
        corrected_kind="recurring", account_id="a", source_id="fee", first_day=date(2026, 9, 1),
        last_day=date(2026, 9, 30), billed_amount=D(200), correct_amount=D("6.67"), amount=D("-193.33"),
        tax_code="vat", tax_category="standard", tax_kind="standard", tax_rate=D(25), tax_note=None,
    )  # fmt: skip
    whole = book(price(), taxes=TAX_10, discounts=(percent("d", 50),), commitments=(committed(1),))
    bill = rate(whole, used(2), corrections=(ended,))
    assert [(row.rate, row.base_amount, row.tax_amount) for row in bill.tax_lines] == [
        (10, 1, D("0.1")),
        (25, D("-193.33"), D("-48.33")),
    ]
    (line,) = (line for line in bill.lines if line.line_kind == "correction")
    assert (line.net_amount, line.tax_rate, line.corrects_period) == (D("-193.33"), 25, "2026-09")
    (charge,) = (charge for charge in bill.charges if charge.charge_kind == "correction")
    assert (charge.period, charge.charge_start.month, charge.cost) == ("2026-10", 9, D("-193.33"))
    assert bill.invoices[0].document == "credit_note"
    upward = replace(ended, billed_amount=D("6.67"), correct_amount=D(200), amount=D("193.33"))
    paid = rate(replace(whole, credits=(credit("c", 1000),)), used(2), corrections=(upward,))
    assert (paid.invoices[0].credit_amount, paid.invoices[0].due_amount) == (D("-194.33"), 0)


# Laws ----------------------------------------------------------------------------------------------------------------

examples = hypothesis_settings(max_examples=15)


def total_cost(bill):
    return sum((charge.cost for charge in bill.charges), Decimal(0))


def shape(bill):
    """What must not depend on the order of records."""
    return (
        bill.charges, bill.unpriced, bill.invoices, bill.lines, bill.deductions, bill.tax_lines, bill.credits,
        bill.commitments,
    )  # fmt: skip


@given(worlds("everything"))
@examples
def test_usage_charges_lines_and_invoices_add_up(world):
    bill = rate_month(world)
    with localcontext(EXACT):  # sums here have more digits than Python's usual 28
        usage_is_conserved(world, bill)
        for invoice in bill.invoices:
            charges_add_up_to(invoice, bill)
        assert total_cost(bill) == sum(invoice.untaxed_amount for invoice in bill.invoices)
    assert all(row.balance_after >= 0 for row in bill.credits)


def usage_is_conserved(world, bill):
    assert len(world.usage) == len(deduplicate(world.usage)[0]) + len(bill.copies) + len(bill.conflicts)
    metered, found = defaultdict(Decimal), defaultdict(Decimal)
    for record in bill.accepted:
        metered[record.sku_id] += record.quantity
    for charge in bill.charges:
        if charge.usage_quantity is not None:
            found[charge.sku_id] += charge.usage_quantity
    for row in bill.unpriced:
        found[row.sku_id] += row.quantity
    assert {sku: found[sku] for sku in metered} == metered


def charges_add_up_to(invoice, bill):
    lines, charges, taxes = (
        [row for row in rows if row.invoice_id == invoice.invoice_id]
        for rows in (bill.lines, bill.charges, bill.tax_lines)
    )
    assert sum(charge.cost for charge in charges) == sum(line.net_amount for line in lines) == invoice.untaxed_amount
    assert sum(line.base_amount for line in taxes) == invoice.untaxed_amount
    off = (invoice.discount_amount, invoice.commitment_amount, invoice.credit_amount)
    assert invoice.untaxed_amount == invoice.subtotal_amount + sum(off)
    assert invoice.total_amount == invoice.untaxed_amount + invoice.tax_amount
    assert invoice.due_amount == invoice.total_amount + invoice.prepaid_amount
    usage = [line for line in lines if line.line_kind == "usage"]
    assert sum(line.cost if line.list_cost is None else line.list_cost for line in usage) == invoice.list_amount
    for key in {line_key(line) for line in lines}:
        mine = [line for line in lines if line_key(line) == key]
        assert sum(charge.cost for charge in charges if line_key(charge) == key) == sum(
            line.net_amount for line in mine
        )
    for line in lines:
        taken = sum(row.amount for row in bill.deductions if row_of(row) == row_of(line))
        assert line.amount == line.cost + line.rounding
        assert line.net_amount == line.amount + taken
        assert line.line_kind in ("adjustment", "correction") or 0 <= line.net_amount <= line.amount


def row_of(row):
    return row.invoice_id, row.line_number


def line_key(row):
    return row.account_id, row.project_id, row.sku_id, row.region, row.price_id


@given(worlds("everything"), st.randoms(use_true_random=False))
@examples
def test_the_order_of_records_and_rows_changes_nothing(world, chance: random.Random):
    def shuffled(rows):
        return tuple(chance.sample(rows, len(rows)))

    tables = {name: shuffled(rows) for name, rows in vars(world.book).items()}
    other = replace(world, usage=shuffled(world.usage), book=Book(**tables))
    assert shape(rate_month(other)) == shape(rate_month(world))


@given(worlds("everything"), st.data())
@examples
def test_splitting_a_record_changes_no_total(world, data):
    skus = tuple(replace(sku, record_increment=None) for sku in world.book.skus)
    kept, _, _ = deduplicate(world.usage)
    whole = replace(world, book=replace(world.book, skus=skus), usage=tuple(kept))
    if not kept:
        return
    chosen = data.draw(st.sampled_from(kept))
    part = (chosen.quantity * data.draw(st.integers(0, 10)) / 10).quantize(Decimal("1e-12"))
    parts = [
        replace(chosen, quantity=part, record_id="part-1"),
        replace(chosen, quantity=chosen.quantity - part, record_id="part-2"),
    ]
    split = replace(whole, usage=(*(record for record in kept if record is not chosen), *parts))
    assert shape(rate_month(split))[2:] == shape(rate_month(whole))[2:]


@given(worlds("everything"), st.sampled_from([Decimal(0), Decimal("0.5"), Decimal(3)]))
@examples
def test_a_tighter_cap_never_raises_a_bill(world, cap):
    # in one currency: where a rate moves between two versions, less of the one can leave more of a dearer other
    prices = tuple(replace(row, minimum=None) for row in world.book.prices)
    tighter = tuple(replace(row, cap=cap if row.cap is None else min(row.cap, cap)) for row in prices)
    before, after = (
        rate_month(replace(world, book=replace(world.book, prices=rows, fx_rates=()))) for rows in (prices, tighter)
    )
    kinds = ("usage", "cap")
    assert sum(costs(after, kinds=kinds).values()) <= sum(costs(before, kinds=kinds).values())


@given(
    st.lists(
        st.tuples(st.integers(1, 50), st.integers(0, 20), st.integers(0, 20), st.sampled_from([None, 1, 3])), max_size=3
    ),
    st.integers(0, 200),
    st.integers(0, 200),
)
@examples
def test_graduated_cost_never_falls_as_quantity_grows(rows, one, other):
    bounds = sorted({bound for bound, *_ in rows})
    tiers = [
        Tier(up_to=D(bound), unit_price=D(unit), flat_fee=D(flat), package_size=package and D(package))
        for bound, (_, unit, flat, package) in zip(bounds, rows, strict=False)
    ] + [Tier(unit_price=D(1))]
    low, high = sorted((one, other))
    assert graduated(tiers, D(low)) <= graduated(tiers, D(high))


def cut_in_two(row, instant):
    """The row as two versions, the later one under another price_id, where it is valid around ``instant``."""
    if (row.valid_from and row.valid_from >= instant) or (row.valid_to and row.valid_to <= instant):
        return [row]
    return [replace(row, valid_to=instant), replace(row, valid_from=instant, price_id=f"{row.price_id}-later")]


@given(worlds("everything"))
@examples
def test_a_price_change_to_the_same_price_changes_no_bill(world):
    middle = datetime.fromisoformat(f"{world.period}-14T12:00:00+00:00")
    once = [replace(row, tier_reset=False) for row in world.book.prices]
    twice = [half for row in once for half in cut_in_two(row, middle)]
    # rounding to twelve places charge by charge would hide the law
    skus = tuple(replace(sku, units_per_pricing_unit="1", aggregation="sum") for sku in world.book.skus)
    # what a cap takes off stands beside a charge and is exchanged at its rate: one rate, or the cut moves it to another
    one_rate = {(rate.base, rate.quote): rate for rate in reversed(world.book.fx_rates)}
    book = replace(world.book, skus=skus, fx_rates=tuple(one_rate.values()))
    before, after = (rate_month(replace(world, book=replace(book, prices=tuple(rows)))) for rows in (once, twice))
    assert abs(sum(costs(before).values()) - sum(costs(after).values())) <= Decimal("1e-14")


@given(worlds("per_unit"))
@examples
def test_worlds_of_part_one_have_no_tiers_and_add_up_by_hand(world):
    bill = rate_month(world)
    for charge in bill.charges:
        assert charge.charge_kind in ("usage", "rounding")
        if charge.charge_kind == "usage":
            assert charge.cost == to_cost(charge.pricing_quantity * charge.contracted_unit_price)
    assert {row.mode for row in world.book.prices} == {"per_unit"}


@given(worlds("everything"))
@examples
def test_books_of_worlds_have_no_overlapping_versions(world):
    versions = versions_of(world.book.prices)
    assert set(runs(versions)) == {version.price_id for version in versions}
    assert 1 <= len(world.usage) <= MOST_RECORDS


@given(world=worlds("everything"), files=st.integers(1, 3))
@hypothesis_settings(max_examples=8)
def test_a_written_world_says_the_same(world, files, tmp_path_factory):
    folder = write_world(world, tmp_path_factory.mktemp("world"), files=files)
    rows = [row for path in sorted((folder / "usage").iterdir()) for row in pq.read_table(path).to_pylist()]
    written = sorted((row["usage_start"], row["quantity"], row["sku_id"], str(row["tags"] or None)) for row in rows)
    asked = [
        (record.usage_start, record.quantity, record.sku_id, str(list(record.tags.items()) if record.tags else None))
        for record in world.usage
    ]
    assert written == sorted(asked)
    with (folder / "book" / "prices.csv").open(encoding="utf-8", newline="") as file:
        prices = list(csv.DictReader(file))
    assert [(row["price_id"], D(row["unit_price"])) for row in prices] == [
        (row.price_id, row.unit_price) for row in world.book.prices
    ]
