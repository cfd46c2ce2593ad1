"""Precision and recall of ``ratemill anomalies`` on the demo with forty planted anomalies.

``python -m pytest -s tests/e2e/test_planted_anomalies.py`` prints the figures of docs/forecast-and-anomalies.md.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from planted import KINDS, SIZES, judge, plant
from ratemill import pipeline
from ratemill.money import minor_unit_decimals
from ratemill.period import BillingPeriod
from ratemill.progress import make_progress
from ratemill.samples.demo import write_demo
from ratemill.steps.anomalies import anomalies, history_of
from ratemill.steps.check import checked_book
from ratemill.steps.load import load
from ratemill.workspace import find_workspace

pytestmark = pytest.mark.slow

MONTH = BillingPeriod(2026, 10)
PLANTS = 40


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "demo"
    write_demo(folder, resources=400, months=3, until=MONTH)
    workspace = find_workspace(folder)
    now = datetime(2026, 11, 3, tzinfo=UTC)

    def looked():
        with pipeline.open_run(workspace, make_progress(quiet=True), now=now, command="test") as context:
            load(context)
            book, _ = checked_book(workspace)
            history = history_of(context, book, MONTH, MONTH.widest_end)
            series = context.warehouse.frame("SELECT * FROM raw.series")
            return history, series, anomalies(context, MONTH)

    history, series, before = looked()
    plants, usage = plant(_with_facts(history), series, count=PLANTS, month=date(2026, 10, 1))
    usage.write_parquet(folder / "usage" / "planted.parquet")
    _, _, after = looked()
    return plants, before, after


def _with_facts(history):
    minor = {code: 10.0 ** -minor_unit_decimals(code) for code in history["currency"].unique()}
    noon = datetime(2026, 10, 1, tzinfo=UTC)
    shift = {
        zone: -int(noon.astimezone(ZoneInfo(zone)).utcoffset().total_seconds() // 3600)
        for zone in history["zone"].unique()
    }
    return history.with_columns(
        minor_unit=pl.col("currency").replace_strict(minor, return_dtype=pl.Float64),
        shift=pl.col("zone").replace_strict(shift, return_dtype=pl.Int64),
    )


def test_most_plants_are_found_and_most_alarms_are_plants(figures, capsys):
    plants, before, after = figures
    outcome = judge(plants, after)
    with capsys.disabled():
        print(
            f"\n{len(plants)} planted, {len(outcome.found)} found; {outcome.alarms} alarms, {outcome.true_alarms} of plants"
        )
        print(
            f"precision {outcome.precision:.0%}, recall {outcome.recall:.0%}; {before.height} alarms without any plant"
        )
        for name, values in (("size", SIZES), ("kind", KINDS)):
            for value in values:
                of = [one for one in plants if getattr(one, name) == value]
                hits = [one for one in outcome.found if getattr(one, name) == value]
                print(f"  {name} {value}: {len(hits)} of {len(of)}")
        for one in outcome.missed:
            print("  missed", one)
    assert len(plants) == PLANTS
    assert outcome.recall >= 0.85
    assert outcome.precision >= 0.8
    assert all(one in outcome.found for one in plants if one.size >= 2)
