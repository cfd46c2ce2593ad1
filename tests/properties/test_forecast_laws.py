"""What must hold of every forecast: from the month's end it is the bill, and wherever it looks from it adds up."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from engine import bill, make_book, make_config, store
from ratemill.config import Engine
from ratemill.errors import NothingToBillError
from ratemill.insight.forecast import INVOICES_SCHEMA, KEY
from ratemill.io.warehouse import Warehouse
from ratemill.period import BillingPeriod
from ratemill.progress import make_progress
from ratemill.steps.context import Context
from ratemill.steps.forecast import Forecaster
from ratemill.workspace import Workspace
from strategies import neighbours, side_by_side

pytestmark = pytest.mark.slow

some_worlds = neighbours("everything", most=4).map(side_by_side)
some_deals = neighbours("deals", most=4).map(side_by_side)


def look(world, *instants):
    """Forecasts of the world's month from each of ``instants``; None where there is nothing at all."""
    period = BillingPeriod.parse(world.period)
    config = make_config(world)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with Warehouse.open(root / "state" / "warehouse.duckdb", Engine(threads=1)) as warehouse:
            store(warehouse, world.usage, config.usage, name="usage.parquet")
            warehouse.usage.settle_duplicates()
            later = period.widest_end + timedelta(days=1)
            forecaster = Forecaster(
                Context(Workspace(root, config), warehouse, make_progress(quiet=True), later), make_book(world.book)
            )
            found = []
            for instant in instants:
                try:
                    found.append(forecaster.forecast(period, instant))
                except NothingToBillError:
                    found.append(None)
    return found


@given(some_worlds | some_deals)
@settings(max_examples=15)
def test_from_the_months_end_it_is_the_bill_to_the_last_digit(world):
    world = replace(world, credits_drawn={}, corrections=())
    billed = bill(world)
    (found,) = look(world, BillingPeriod.parse(world.period).widest_end)
    if found is None:
        assert billed.charges.height == billed.invoices.height == 0
        return
    skus = make_book(world.book).skus.select("sku_id", "service", "category")
    costs = (
        billed.charges.filter(pl.col("charge_kind").is_in(["usage", "cap", "minimum"]))
        .join(skus, on="sku_id", how="left")
        .group_by(KEY)
        .agg(pl.col("cost").sum())
        .sort(KEY)
    )
    for name in ("actual_cost", "forecast_cost"):
        assert_frame_equal(found.rows.select(*KEY, cost=name), costs)
    totals = [name for name in INVOICES_SCHEMA if name in billed.invoices.columns]
    sums = billed.invoices.group_by("billing_account_id", "currency").agg(pl.col(name).sum() for name in totals[2:])
    assert_frame_equal(found.invoices.select(totals), sums.select(totals).sort("billing_account_id", "currency"))
    assert found.is_complete


@given(some_worlds, st.integers(0, 31 * 24))
@settings(max_examples=15)
def test_wherever_it_looks_from_it_adds_up(world, hour):
    world = replace(world, credits_drawn={}, corrections=())
    period = BillingPeriod.parse(world.period)
    instant = period.widest_start + timedelta(hours=hour)
    once, again = look(world, instant, instant)
    if once is None:
        return
    assert_frame_equal(once.rows, again.rows)
    whole = once.interval(None, [])
    assert sum(whole["forecast_cost"]) == sum(once.rows["forecast_cost"])
    assert whole.filter(pl.col("low") > pl.col("high")).height == 0
    by_sku = once.interval(None, ["account_id", "sku_id"])
    assert sum(by_sku["actual_cost"]) == sum(once.rows["actual_cost"])
    some = by_sku.head(1)
    if some.height:
        account = some["account_id"][0]
        only = once.interval(pl.col("account_id") == account, ["account_id"])
        assert only["account_id"].unique().to_list() == [account]
