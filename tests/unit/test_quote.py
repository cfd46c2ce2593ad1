"""What given quantities would cost: quotes by the code that bills."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest

from ratemill.book.model import Book
from ratemill.insight.quote import Item, Terms, quote
from ratemill.tables.book import PRICES, SKUS

D = Decimal
TERMS = Terms("acme", "acme", "EUR", "Europe/Paris", "contract")
OCTOBER = datetime(2026, 10, 20, tzinfo=UTC)
"""A month of 745 hours in Paris."""


def sku(sku_id, **columns):
    return {
        "sku_id": sku_id, "service": "Cloud", "category": "Compute", "name": sku_id, "usage_unit": "Hours",
        "pricing_unit": "Hours", "units_per_pricing_unit": "1", "aggregation": "sum", **columns,
    }  # fmt: skip


def price(sku_id, unit_price, **columns):
    return {
        "price_id": f"{sku_id}-1", "price_list": "public", "sku_id": sku_id, "currency": "EUR", "mode": "per_unit",
        "unit_price": D(unit_price), **columns,
    }  # fmt: skip


def frame(table, rows):
    """Rows as a frame: the columns that any of them has, with the types of the table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pl.DataFrame(
        [{name: row.get(name) for name in names} for row in rows],
        {name: table.polars_schema.get(name, pl.String) for name in names},
    )


def quoted(items, skus, prices, *, at=OCTOBER):
    book = Book.of(skus=frame(SKUS, skus), prices=frame(PRICES, prices))
    return quote(items, TERMS, at=at, skus=book.skus, prices=book.prices, fx_rates=book.fx_rates)


def costs(rated):
    sums = rated.charges.group_by("resource_id").agg(pl.col("cost").sum()).sort("resource_id")
    return dict(sums.iter_rows())


def test_an_item_costs_quantity_times_price():
    rated = quoted([Item("vm", D(744))], [sku("vm")], [price("vm", "0.05")])
    assert costs(rated) == {"0": D("37.2")}
    assert rated.charges["period"].to_list() == ["2026-10"]


def test_tiers_count_the_items_of_an_account_together():
    """The first 100 hours at 1, what is above at 0.50: 80 + 40 hours cost 80 + 20 + 10, whoever used them."""
    tiers = [price("vm", "1", mode="graduated", up_to=D(100)), price("vm", "0.5", mode="graduated")]
    rated = quoted([Item("vm", D(80)), Item("vm", D(40))], [sku("vm")], tiers)
    assert sum(costs(rated).values()) == D(110)
    alone = quoted([Item("vm", D(40))], [sku("vm")], tiers)
    assert costs(alone) == {"0": D(40)}


def test_caps_count_each_item_by_itself():
    rated = quoted([Item("vm", D(744)), Item("vm", D(10))], [sku("vm")], [price("vm", "0.05", cap=D(20))])
    assert costs(rated) == {"0": D(20), "1": D("0.5")}


def test_a_level_is_that_of_every_hour():
    """50 GiB throughout the month, billed by the 95th percentile, are 50 GiB; so are those of the mean and the peak."""
    for aggregation in ("p95", "mean", "max"):
        rated = quoted(
            [Item("disk", D(50))], [sku("disk", usage_unit="GiB", pricing_unit="GiB", aggregation=aggregation)],
            [price("disk", "0.2")],
        )  # fmt: skip
        assert costs(rated) == {"0": D(10)}, aggregation
        assert rated.charges["pricing_quantity"].to_list() == [D(50)]


def test_units_for_a_month_are_divided_by_its_hours():
    disk = sku("disk", usage_unit="GiB-Hours", pricing_unit="GiB-Months", units_per_pricing_unit="hours_in_month")
    rated = quoted([Item("disk", D(74500))], [disk], [price("disk", "0.1")])
    assert costs(rated) == {"0": D(10)}  # 100 GiB for the 745 hours of October in Paris


def test_ones_own_list_comes_first_and_the_public_price_is_told_beside_it():
    prices = [price("vm", "0.05"), price("vm", "0.04", price_id="own", price_list="contract")]
    rated = quoted([Item("vm", D(100))], [sku("vm")], prices)
    assert rated.charges.select("price_id", "cost", "list_cost").rows() == [("own", D(4), D(5))]


def test_conditions_choose_among_prices():
    prices = [
        price("vm", "1"),
        price("vm", "2", price_id="paris", region="paris"),
        price("vm", "3", price_id="big", **{"attr.size": "big"}),
    ]
    items = [Item("vm", D(1)), Item("vm", D(1), region="paris"), Item("vm", D(1), attributes={"size": "big"})]
    assert costs(quoted(items, [sku("vm")], prices)) == {"0": D(1), "1": D(2), "2": D(3)}


def test_what_has_no_price_is_told_and_the_rest_is_quoted():
    rated = quoted([Item("vm", D(1)), Item("gpu", D(1))], [sku("vm"), sku("gpu")], [price("vm", "1")])
    assert costs(rated) == {"0": D(1)}
    assert rated.unpriced.select("sku_id", "quantity").rows() == [("gpu", D(1))]


def test_prices_are_those_of_the_instant():
    change = datetime(2026, 11, 1, tzinfo=UTC)
    prices = [price("vm", "1", valid_to=change), price("vm", "2", price_id="vm-2", valid_from=change)]
    for at, cost in ((OCTOBER, D(1)), (change, D(2))):
        assert costs(quoted([Item("vm", D(1))], [sku("vm")], prices, at=at)) == {"0": cost}


def test_a_cost_that_is_too_large_is_refused():
    with pytest.raises(pl.exceptions.ComputeError):
        quoted([Item("vm", D(10) ** 15)], [sku("vm")], [price("vm", "99999999999")])
