"""Which price applies, and at which exchange rate."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest

from engine import bill, make_book
from ratemill.rating.calendar import WINDOW_SEPARATOR
from ratemill.rating.owners import EVER
from ratemill.rating.prices import exchange_rates, find_prices, why_unpriced
from ratemill.rating.versions import PriceVersions
from ratemill.tables.charges import CHARGE_ORDER
from reference.model import Account, Book, FxRate, PriceTier, Sku, Tax, Usage, World

D = Decimal
NOON = datetime(2026, 10, 8, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def price(price_id, unit="1", **given):
    return PriceTier(price_id=price_id, sku_id="s", unit_price=D(unit), **given)


def rate(day, base, quote, value):
    return FxRate(date=date.fromisoformat(day), base=base, quote=quote, rate=D(value))


RATES = (
    rate("2026-10-05", "EUR", "USD", "1.2"),
    rate("2026-10-09", "EUR", "USD", "1.3"),
    rate("2026-10-07", "USD", "KWD", "0.3"),
    rate("2026-10-20", "JPY", "USD", "0.0067"),
)
EU, PEAK, GOLD = {"region": "eu-1"}, {"window": "peak"}, {"attributes": {"plan": "gold"}}
KEY = {
    "price_lists": "", "currency": "USD", "sku_id": "s", "region": None, "windows": "", "slot_start": NOON,
    "attr.plan": None, "local_date": NOON.date(),
}  # fmt: skip

SEARCHES = [  # (why, prices, what is asked, (price, rate, reason), (public price, rate))
    ("the public list is everybody's", [price("p")], {}, ("p", None, None), ("p", None)),
    ("a named list comes first", [price("p"), price("d", price_list="deal")], {"price_lists": "deal"}, ("d", None, None), ("p", None)),
    ("in the order they are named", [price("d", price_list="deal"), price("g", price_list="gold")],
     {"price_lists": "gold deal"}, ("g", None, None), (None, None)),
    ("public where it is named", [price("p"), price("d", price_list="deal")], {"price_lists": "public deal"}, ("p", None, None), ("p", None)),
    ("a list that has no row for the region is passed by", [price("p"), price("d", price_list="deal", **EU)],
     {"price_lists": "deal", "region": "us-1"}, ("p", None, None), ("p", None)),
    ("more conditions win", [price("p"), price("r", **EU), price("w", **EU, **PEAK)],
     EU | {"windows": "peak"}, ("w", None, None), ("w", None)),
    ("but not over an earlier list", [price("w", **EU, **PEAK), price("d", price_list="deal")],
     EU | {"windows": "peak", "price_lists": "deal"}, ("d", None, None), ("w", None)),
    ("one of several windows", [price("w", **PEAK)], {"windows": WINDOW_SEPARATOR.join(["night", "peak"])}, ("w", None, None), ("w", None)),
    ("outside of the window", [price("p"), price("w", **PEAK)], {"windows": "night"}, ("p", None, None), ("p", None)),
    ("an attribute", [price("p"), price("g", **GOLD)], {"attr.plan": "gold"}, ("g", None, None), ("g", None)),
    ("another attribute", [price("g", **GOLD)], {"attr.plan": "tin"}, (None, None, "no_price"), (None, None)),
    ("no region is no region of a price", [price("r", **EU)], {}, (None, None, "no_price"), (None, None)),
    ("valid_from is inclusive", [price("v", valid_from=NOON)], {}, ("v", None, None), ("v", None)),
    ("valid_to is exclusive", [price("v", valid_to=NOON)], {}, (None, None, "no_price"), (None, None)),
    ("a later version hides no open hole", [price("v", valid_to=NOON - HOUR), price("w", valid_from=NOON + HOUR)], {},
     (None, None, "no_price"), (None, None)),
    ("another SKU", [price("p")], {"sku_id": "t"}, (None, None, "no_price"), (None, None)),
    ("converted at the latest rate by the day", [price("e", currency="EUR")], {}, ("e", D("1.2"), None), ("e", D("1.2"))),
    ("on the day itself", [price("e", currency="EUR")], {"local_date": date(2026, 10, 9)}, ("e", D("1.3"), None), ("e", D("1.3"))),
    ("the other way round, twelve places", [price("k", currency="KWD")], {}, ("k", D("3.333333333333"), None), ("k", D("3.333333333333"))),
    ("not before the first rate", [price("e", currency="EUR")], {"local_date": date(2026, 10, 4)}, (None, None, "no_exchange_rate"), (None, None)),
    ("a later list would be a wrong price", [price("y", currency="JPY", price_list="deal"), price("p")],
     {"price_lists": "deal"}, (None, None, "no_exchange_rate"), ("p", None)),
    ("a currency without any rate is no price", [price("c", currency="CHF", price_list="deal"), price("p")],
     {"price_lists": "deal"}, ("p", None, None), ("p", None)),
    ("the own currency comes before conditions", [price("e", currency="EUR", **EU), price("p")], EU, ("p", None, None), ("p", None)),
    ("of equal foreign rows the first currency that has a rate",
     [price("k", currency="KWD"), price("e", currency="EUR"), price("y", currency="JPY")], {}, ("e", D("1.2"), None), ("e", D("1.2"))),
    ("without a rate by then the next", [price("k", currency="KWD"), price("y", currency="JPY")], {},
     ("k", D("3.333333333333"), None), ("k", D("3.333333333333"))),
    ("not through a third currency", [price("e", currency="EUR")], {"currency": "KWD"}, (None, None, "no_price"), (None, None)),
]  # fmt: skip


def tables(prices, rates=RATES):
    """(price versions, exchange rates) of a book; it always knows the attribute plan."""
    book = make_book(
        Book(prices=(*prices, PriceTier(price_id="x", sku_id="x", attributes={"plan": "x"})), fx_rates=rates)
    )
    return PriceVersions.of(book.prices), book.fx_rates


def key_frame(*rows):
    texts = dict.fromkeys(KEY, pl.String)
    return pl.DataFrame(list(rows), schema=texts | {"slot_start": pl.Datetime("us", "UTC"), "local_date": pl.Date})


@pytest.mark.parametrize(("why", "prices", "asked", "contracted", "public"), SEARCHES)
def test_the_price_that_applies(why, prices, asked, contracted, public):
    versions, rates = tables(prices)
    row = find_prices(key_frame(KEY | asked), versions, rates).row(0, named=True)
    assert (row["price_id"], row["exchange_rate"], row["no_price"]) == contracted, why
    assert (row["list_price_id"], row["list_exchange_rate"]) == public, why


def test_many_keys_at_once_are_told_apart():
    versions, rates = tables(
        [price("p"), price("r", **EU), price("g", **GOLD), price("d", price_list="deal", valid_from=NOON)]
    )
    asked = [
        KEY,
        KEY | EU,
        KEY | {"attr.plan": "gold"},
        KEY | {"price_lists": "deal"},
        KEY | {"price_lists": "deal", "slot_start": NOON - HOUR},
        KEY | {"price_lists": "deal", "local_date": date(2026, 10, 9)},
    ]
    found = find_prices(key_frame(*asked, *asked), versions, rates)
    assert found.height == len(asked)
    keys = [name for name in KEY if name in found.columns]
    by_key = {tuple(row[name] for name in keys): row["price_id"] for row in found.iter_rows(named=True)}
    assert [by_key[tuple(row[name] for name in keys)] for row in asked] == ["p", "r", "g", "d", "p", "d"]


INVERSES = [
    ("3", "0.333333333333"),
    ("0.3", "3.333333333333"),
    ("6", "0.166666666667"),
    ("0.000000000003", "333333333333.333333333333"),
]


@pytest.mark.parametrize(("written", "turned"), INVERSES)
def test_a_rate_is_turned_round_at_twelve_places(written, turned):
    _, rates = tables([], (rate("2026-10-01", "USD", "EUR", written),))
    offers = pl.DataFrame(
        {"price_currency": ["EUR", "USD"], "currency": ["USD", "EUR"], "local_date": [NOON.date()] * 2}
    )
    found = exchange_rates(offers, rates)
    assert dict(found.select("price_currency", "exchange_rate").iter_rows()) == {"EUR": D(turned), "USD": D(written)}


def test_a_rate_that_is_written_comes_before_a_later_one_turned_round():
    _, rates = tables([], (rate("2026-10-01", "EUR", "USD", "2"), rate("2026-10-07", "USD", "EUR", "4")))
    offers = pl.DataFrame({"price_currency": ["EUR"], "currency": ["USD"], "local_date": [NOON.date()]})
    assert exchange_rates(offers, rates)["exchange_rate"].to_list() == [D(2)]


REASONS = [  # (prices, asked, words)
    ([price("p")], {"sku_id": "t"}, "no price list has a price for SKU t"),
    ([price("e", currency="CHF"), price("f", currency="GBP")], {}, "SKU s is priced in CHF, GBP, the account is billed in USD"),
    ([price("r", price_list="deal", **EU)], {}, ("no price of SKU s in USD applies at that time in region (none) on the account's"
     " price lists (it is on: deal)")),
    ([price("y", currency="JPY")], {}, "the price of SKU s is in another currency, and fx_rates has no rate to USD by then"),
]  # fmt: skip


@pytest.mark.parametrize(("prices", "asked", "words"), REASONS)
def test_why_there_is_no_price(prices, asked, words):
    versions, rates = tables(prices)
    rows = key_frame(KEY | asked)
    found = rows.join(find_prices(rows, versions, rates), on=list(KEY), nulls_equal=True)
    assert why_unpriced(found, versions)["reason"].to_list() == [words]


# Every hour another price --------------------------------------------------------------------------------------------

MONTH = datetime(2026, 10, 1, tzinfo=UTC)
HOURS = 744


@pytest.mark.parametrize("detail", ["day", "hour"])
def test_a_price_that_changes_every_hour(detail):
    """Hour n costs n: whatever is added up before it is priced, no hour may get its neighbour's price.

    The ids of prices run against time, charges stand in the order of time.
    """
    edges = [None, *(MONTH + hour * HOUR for hour in range(1, HOURS)), None]
    prices = [
        price(f"{HOURS - hour:03d}", str(hour), valid_from=edges[hour], valid_to=edges[hour + 1])
        for hour in range(HOURS)
    ]
    usage = [
        Usage(account_id="a", sku_id="s", resource_id=resource, usage_start=MONTH + hour * HOUR + late, quantity=D(2))
        for hour in range(HOURS)
        for resource, late in (("first", timedelta()), ("last", HOUR - timedelta(microseconds=1)))
    ]
    book = Book(
        accounts=(Account(account_id="a", time_zone="Africa/Abidjan"),),
        skus=(Sku(sku_id="s"),),
        prices=tuple(prices),
        taxes=(Tax(tax_code="none", country="US", rate=D(0), kind="outside_scope"),),
    )
    engine = bill(World(book=book, usage=tuple(usage), period="2026-10", detail=detail))
    assert engine.charges.height == 2 * HOURS
    assert engine.charges.equals(engine.charges.sort(CHARGE_ORDER))
    hours = (engine.charges["charge_start"] - MONTH).dt.total_hours()
    assert engine.charges["price_id"].to_list() == [f"{HOURS - hour:03d}" for hour in hours]
    assert engine.charges["cost"].to_list() == [2 * hour for hour in hours]
    assert engine.invoices["untaxed_amount"].to_list() == [2 * HOURS * (HOURS - 1)]


# Versions and their runs ---------------------------------------------------------------------------------------------


def test_versions_of_one_track_count_together_until_one_starts_anew():
    later, last = NOON + HOUR, NOON + 2 * HOUR
    versions, _ = tables(
        [
            price("c", valid_from=later, valid_to=last, tier_reset=True),
            price("a", valid_to=NOON),
            price("d", valid_from=last),
            price("b", valid_from=NOON, valid_to=later),
            price("eu", **EU),
            price("euro", currency="EUR"),
            price("deal", price_list="deal"),
            price("gone", price_list="gone", valid_to=NOON - HOUR),
        ]
    )
    runs = dict(versions.rows.select("price_id", "run").iter_rows())
    assert runs["a"] == runs["b"] != runs["c"] == runs["d"]
    assert len({runs[name] for name in ("a", "c", "eu", "euro", "deal")}) == 5
    places = dict(versions.rows.select("price_id", "place").iter_rows())
    assert [places[name] for name in "abcd"] == [0, 1, 2, 3]
    edges = versions.cuts.filter(sku_id="s")["cut"].to_list()
    assert edges == [NOON - HOUR, NOON, later, last]


def test_only_a_plain_price_is_a_unit_price():
    open_tier = {"mode": "graduated", "price_id": "t", "sku_id": "s"}
    versions, _ = tables(
        [
            price("plain", "7"),
            PriceTier(**open_tier, up_to=D(1), unit_price=D(1)),
            PriceTier(**open_tier, unit_price=D(2)),
            PriceTier(price_id="fee", sku_id="s", mode="volume", unit_price=D(3), flat_fee=D(1)),
            PriceTier(price_id="pack", sku_id="s", mode="volume", unit_price=D(4), package_size=D(10)),
            PriceTier(price_id="one", sku_id="s", mode="volume", unit_price=D(5)),
        ]
    )
    found = dict(versions.rows.select("price_id", "unit_price").iter_rows())
    assert {name: found[name] for name in ("plain", "t", "fee", "pack", "one")} == {
        "plain": 7, "t": None, "fee": None, "pack": None, "one": 5,
    }  # fmt: skip
    assert [versions.tiers["t"].graduated(units * 10**12) for units in (0, 1, 2)] == [0, 10**18, 3 * 10**18]
    assert versions.rows.filter(price_id="plain").select(pl.col("valid_from") == EVER).item()
