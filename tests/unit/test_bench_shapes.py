"""The books that the benchmark rates with are good books: a mistake would end it after minutes of preparation."""

from __future__ import annotations

import pytest

from ratemill.bench.shapes import SHAPES
from ratemill.period import BillingPeriod
from ratemill.samples.demo import write_demo
from ratemill.steps.check import checked_book
from ratemill.workspace import find_workspace

PERIOD = BillingPeriod.parse("2026-10")


@pytest.mark.slow
@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "hourly-prices"])  # 130,000 rows of prices
def test_a_shape_has_no_mistake(shape, tmp_path):
    write_demo(tmp_path / "demo", resources=1, months=1, until=PERIOD)
    SHAPES[shape](tmp_path / "demo", PERIOD)
    book, _ = checked_book(find_workspace(tmp_path / "demo"))  # raises where there is one
    assert book.prices.height
