"""Unusual spend, by worked examples: a service costs 100 a day, and then something happens."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import polars as pl
import pytest

from ratemill.errors import ExitCode
from ratemill.insight.anomalies import GROUP, SCHEMA, find_anomalies
from workspaces import PERIOD, hours, make_workspace

D = Decimal
BEGIN = date(2026, 8, 1)
FIRST, LAST = date(2026, 10, 1), date(2026, 10, 31)
HISTORY = pl.Schema(
    {"day": pl.Date, **dict.fromkeys((*GROUP, "resource_id", "sku_id"), pl.String), "value": pl.Float64}
)


def spend(values, *, service="Compute", resource="vm-1", account="acme", currency="EUR", sku="vm", begin=BEGIN):
    """``values``: by day from ``begin``, or the same for every day until the end of October."""
    if not isinstance(values, list):
        values = [values] * ((LAST - begin).days + 1)
    rows = [
        (begin + timedelta(days=number), account, account, service, currency, resource, sku, float(value))
        for number, value in enumerate(values)
        if value
    ]
    return pl.DataFrame(rows, schema=HISTORY, orient="row")


def on(day, value, **columns):
    return spend([value], begin=date(2026, 10, day), **columns)


def found(*frames, **options):
    return find_anomalies(pl.concat(frames), first_day=FIRST, last_day=options.pop("last", LAST), **options)


def told(frame):
    return [
        (row["day"].day, row["last_day"].day, row["kind"], row["expected"], row["excess"]) for row in frame.to_dicts()
    ]


EXAMPLES = {
    "nothing happens": ([spend(100)], []),
    "one day costs twice": ([spend(100), on(14, 100, resource="vm-2")], [(14, 14, "spike", D(100), D(100))]),
    "two days": (
        [spend(100), on(14, 100, resource="vm-2"), on(15, 90, resource="vm-2")],
        [(14, 15, "spike", D(200), D(190))],
    ),
    "from one day on it costs twice": (
        [spend(100), *(on(day, 100, resource="vm-2") for day in range(14, 32))],
        [(14, 15, "shift", D(200), D(200))],
    ),
    "the last day that is known": ([spend(100), on(31, 100, resource="vm-2")], [(31, 31, "rise", D(100), D(100))]),
    "a fifth more is no news": ([spend(100), on(14, 19, resource="vm-2")], []),
    "a service that was never used": (
        [spend(100), *(on(day, 40, service="GPU") for day in range(14, 32))],
        [(14, 15, "new", D(0), D(80))],
    ),
    "cents": ([spend("0.50"), on(14, 9)], []),
    "cents of another currency": ([spend(50, currency="JPY"), on(14, 900, currency="JPY")], []),
    "enough of another currency": (
        [spend(5000, currency="JPY"), on(14, 9000, currency="JPY", resource="vm-2")],
        [(14, 14, "spike", D(5000), D(9000))],
    ),
    "less than usual": ([spend([100] * 74 + [0] * 3 + [100] * 15)], []),
    "weekends cost nothing": (
        [spend([100 if (BEGIN + timedelta(days=n)).weekday() < 5 else 0 for n in range(92)])], [],
    ),
    "a Sunday that costs as much as a working day": (
        [spend([100 if (BEGIN + timedelta(days=n)).weekday() < 5 or n == 78 else 0 for n in range(92)])], [],
    ),
    "every Saturday costs more": (
        [spend([300 if (BEGIN + timedelta(days=n)).weekday() == 5 else 100 for n in range(92)])], [],
    ),
    "a job that runs on some days": ([spend([100 if n % 5 == 0 else 0 for n in range(92)])], []),
    "it always varies by half": ([spend([100 if n * 7 % 11 % 2 else 60 for n in range(92)])], []),
    "a customer that began this month": ([spend(100, begin=date(2026, 10, 5)), spend(5, account="globex")], []),
    "each account by itself": (
        [spend(100), spend(100, account="globex"), on(14, 100, account="globex", resource="vm-2")],
        [(14, 14, "spike", D(100), D(100))],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name):
    frames, expected = EXAMPLES[name]
    assert told(found(*frames)) == expected


def test_resources_behind_it_are_named_the_largest_first():
    anomaly = found(
        spend(100), spend(20, resource="vm-9"), on(14, 70, resource="vm-2"), on(14, 50, resource="vm-3", sku="gpu"),
        on(14, 30, resource="vm-9"), on(14, 1, resource="small"),
    ).row(0, named=True)  # fmt: skip
    assert anomaly["drivers"] == [
        {"resource_id": "vm-2", "sku_id": "vm", "excess": D(70)},
        {"resource_id": "vm-3", "sku_id": "gpu", "excess": D(50)},
        {"resource_id": "vm-9", "sku_id": "vm", "excess": D(30)},
    ]
    assert (anomaly["expected"], anomaly["actual"], anomaly["excess"]) == (D(120), D(271), D(151))
    assert anomaly["recent"][-2:] == [120, 271]


def test_largest_excess_of_each_currency_comes_first():
    frame = found(
        spend(100), on(14, 100), on(20, 300), spend(100, currency="CHF", account="globex"),
        on(7, 50, currency="CHF", account="globex"),
    )  # fmt: skip
    assert frame.select("currency", "excess").rows() == [("CHF", D(50)), ("EUR", D(300)), ("EUR", D(100))]


def test_how_much_is_worth_an_alarm_is_a_choice():
    frames = [spend(100), on(14, 100, resource="vm-2")]
    assert found(*frames, at_least=D(101)).height == 0
    assert found(*frames, at_least=D(100)).height == 1


def test_what_is_not_over_is_not_looked_at():
    frames = [spend(100), on(14, 100, resource="vm-2")]
    assert told(found(*frames, last=date(2026, 10, 13))) == []
    assert told(found(*frames, last=date(2026, 10, 14))) == [(14, 14, "rise", D(100), D(100))]


@pytest.mark.parametrize("history", [pl.DataFrame(schema=HISTORY), spend(100, begin=date(2026, 10, 30))])
def test_nothing_to_compare_with_is_no_anomaly(history):
    frame = find_anomalies(history, first_day=FIRST, last_day=LAST)
    assert frame.height == 0
    assert frame.schema == SCHEMA


# ----------------------------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Ten machines from August on; on 14 October somebody forgets a hundred others."""
    steady = [hours(resource=f"vm-{n}", first="2026-08-01T00:00:00Z", count=92 * 24, quantity="10") for n in range(10)]
    forgotten = hours(resource="load-test", first="2026-10-14T06:00:00Z", count=12, quantity="100")
    made = make_workspace(tmp_path_factory.mktemp("anomalies") / "shop", usage=[pl.concat([*steady, forgotten])])
    assert made.command("load").code == ExitCode.DONE
    return made


@pytest.mark.slow
def test_command_names_day_account_and_resource(shop):
    ended = shop.command("anomalies", "-p", PERIOD)
    assert ended.code == ExitCode.DONE, ended
    (anomaly,) = ended.summary["anomalies"]
    assert anomaly["drivers"] == [{"resource_id": "load-test", "sku_id": "vm", "excess": "120.0000"}]
    assert {name: anomaly[name] for name in ("day", "account_id", "service", "kind", "expected", "excess")} == {
        "day": "2026-10-14", "account_id": "acme", "service": "Compute", "kind": "spike", "expected": "240.0000",
        "excess": "120.0000",
    }  # fmt: skip
    table = shop.command("anomalies", "-p", PERIOD, json=False).stdout
    assert "load-test vm +120.00" in table
    assert "+120.00" in shop.command("anomalies", "-p", PERIOD, "--at-least", "120", json=False).stdout
    assert shop.command("anomalies", "-p", PERIOD, "--at-least", "121").summary["anomalies"] == []


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["-p", "2026-09"], ExitCode.DONE, None),
        (["-p", PERIOD, "--as-of", "2026-10-14"], ExitCode.DONE, None),
        (["-p", "2026-10", "--as-of", "2026-09-01"], ExitCode.USAGE, "2026-10 has not begun"),
        (["-p", "2024-02"], ExitCode.NOTHING_TO_BILL, "no whole day of 2024-02 is loaded"),
        (["-p", PERIOD, "--at-least", "much"], ExitCode.USAGE, "--at-least: 'much' is no amount"),
    ],
)
def test_other_ends(shop, options, code, said):
    ended = shop.command("anomalies", *options)
    assert ended.code == code, ended
    assert ended.summary["anomalies"] == [] if said is None else said in ended.summary["error"]
