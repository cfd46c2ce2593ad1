"""Worked examples: each folder of tests/scenarios goes through the whole run and must give the bill it expects.

How a scenario is written is told in tests/scenarios/README.md. What is compared is what an analyst sees: the tables of
the published database. Expected files are worked out by hand, and their README shows the arithmetic.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ratemill import pipeline
from ratemill.period import BillingPeriod
from ratemill.progress import make_progress
from ratemill.steps.close import close
from ratemill.tables.charges import CHARGES
from ratemill.tables.invoices import BILLING_TABLES
from ratemill.tables.usage import USAGE
from ratemill.workspace import find_workspace

SCENARIOS = Path(__file__).resolve().parents[1] / "scenarios"
NAMES = sorted(path.name for path in SCENARIOS.iterdir() if path.is_dir())
LATER = datetime(2030, 1, 1, tzinfo=UTC)
"""The clock of every scenario: after its periods, so that none is refused as not begun."""
CLOSED_ON = 3
"""Day of the following month on which a month is closed."""

SETTINGS = """\
[seller]
name = "Example Cloud"
country = "FR"
[output]
pdf = false
html = false
workbook = false
"""
TABLES = {table.name: table for table in (*BILLING_TABLES, CHARGES)}
REQUIRED = {
    "invoice_lines": {"account_id", "sku_id", "pricing_quantity", "amount"},
    "tax_lines": {"tax_code", "rate", "base_amount", "tax_amount"},
    "invoices": {"billing_account_id", "currency", "untaxed_amount", "tax_amount", "total_amount"},
}
"""Files every period must have, and the columns they can't do without."""
SHOWN_IN_README = {
    "invoice_lines": ["amount"],
    "tax_lines": ["tax_amount"],
    "invoices": ["untaxed_amount", "tax_amount", "total_amount"],
    "invoice_deductions": ["amount"],
    "credit_ledger": ["amount", "balance_after"],
    "commitment_ledger": ["committed_amount", "shortfall_amount"],
}
MONTH = "period"
"""Column of a file in expected/ itself, which has the rows of several months."""


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def usage_table(rows):
    """Usage as a meter delivers it, from a file a person can read.

    Blank cells are nulls. A column ``hours`` (ours, not a meter's) makes so many records of a row, one an hour; ``tags``
    are written as JSON.
    """
    texts = [name for name in (rows[0] if rows else USAGE.names) if name not in {"hours", *_TYPES}]
    schema = pa.schema([*_TYPES.items(), *((name, pa.string()) for name in texts)])
    records = []
    for row in rows:
        start = datetime.fromisoformat(row["usage_start"])
        assert start.tzinfo is not None, f"usage_start {row['usage_start']} says no offset; end it with Z or +02:00"
        given = {name: row[name] or None for name in texts} | {
            "tags": sorted(json.loads(row["tags"]).items()) if row.get("tags") else None,
            "quantity": Decimal(row["quantity"]),
        }
        for hour in range(int(row.get("hours") or 1)):
            begin = start.astimezone(UTC) + timedelta(hours=hour)
            end = datetime.fromisoformat(row["usage_end"]) if row.get("usage_end") else begin + timedelta(hours=1)
            records.append(given | {"usage_start": begin, "usage_end": end})
    return pa.Table.from_pylist(records, schema=schema)


_TYPES = {
    "usage_start": pa.timestamp("us", tz="UTC"),
    "usage_end": pa.timestamp("us", tz="UTC"),
    "quantity": pa.decimal128(38, 12),
    "tags": pa.map_(pa.string(), pa.string()),
}


@dataclass(frozen=True)
class Delivery:
    """What arrives together, and which months are closed after it."""

    usage: list[Path]
    book: list[Path]
    """Tables that replace those of before."""
    closes: list[str]


def deliveries(scenario):
    """What arrives, in order: ``usage.csv``, or the folders of ``deliveries/`` by their names."""
    if (scenario / "usage.csv").is_file():
        return [Delivery([scenario / "usage.csv"], [], [])]
    return [
        Delivery(
            usage=sorted(folder.glob("*.csv")),
            book=sorted(folder.glob("book/*.csv")),
            closes=path.read_text(encoding="utf-8").split() if (path := folder / "close.txt").is_file() else [],
        )
        for folder in sorted((scenario / "deliveries").iterdir())
    ]


def expected_of(scenario):
    """What each month must give: month → table → rows.

    A month's files are in a folder of its own, or each file has all months, told apart by its column ``period``.
    """
    expected = {}
    for path in sorted((scenario / "expected").glob("*/*.csv")):
        expected.setdefault(path.parent.name, {})[path.stem] = read_csv(path)
    of_all_months = {path.stem: read_csv(path) for path in sorted((scenario / "expected").glob("*.csv"))}
    for month in {row[MONTH] for rows in of_all_months.values() for row in rows}:
        for table, rows in of_all_months.items():
            own = [{name: row[name] for name in row if name != MONTH} for row in rows if row[MONTH] == month]
            expected.setdefault(month, {})[table] = own  # possibly none: then there must be none
    return expected


def bill(scenario, workspace):
    """What happens in the scenario, delivery by delivery; the summary of each period's last run."""
    shutil.copytree(scenario / "book", workspace / "book")
    (workspace / "usage").mkdir()
    settings = scenario / "ratemill.toml"
    (workspace / "ratemill.toml").write_text(settings.read_text() if settings.is_file() else SETTINGS)
    months, summaries, issued = sorted(expected_of(scenario)), {}, {}
    for delivery in deliveries(scenario):
        for file in delivery.usage:
            pq.write_table(usage_table(read_csv(file)), workspace / "usage" / f"{file.stem}.parquet")
        for file in delivery.book:
            shutil.copy(file, workspace / "book")
        for month in delivery.closes:
            summaries |= run_months(workspace, [month])
            close_month(workspace, month)
            issued[month] = all_published(workspace, month)
        if not delivery.closes:
            summaries |= run_months(workspace, [month for month in months if month not in issued])
    for month, rows in issued.items():
        assert all_published(workspace, month) == rows, f"{month} was changed after it was closed"
    return summaries


def run_months(workspace, months):
    with opened(workspace, LATER) as context:
        loaded, summaries = pipeline.run(context, [BillingPeriod.parse(month) for month in months])
    assert not loaded.refused
    return {summary.period: summary for summary in summaries}


def close_month(workspace, month):
    period = BillingPeriod.parse(month)
    day = datetime.combine(period.shift(1).first_day, datetime.min.time(), UTC) + timedelta(days=CLOSED_ON - 1)
    with opened(workspace, day) as context:
        looked = close(context, period, waivers={}, check_only=True).checklist
        waivers = dict.fromkeys(looked.filter(status="open")["point"], "an example is no whole month")
        close(context, period, waivers=waivers)


@contextmanager
def opened(workspace, now):
    """The workspace, locked, at a time."""
    with (
        make_progress(quiet=True) as progress,
        pipeline.open_run(find_workspace(workspace), progress, now=now, command="scenario", actor="example") as context,
    ):
        yield context


def published(workspace, table, period):
    """The rows of a published table that belong to a period, as dictionaries."""
    with duckdb.connect(str(workspace / "published" / "billing.duckdb"), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows = connection.sql(f'SELECT * FROM "{table}"').to_arrow_table().to_pylist()
    key = MONTH if rows and MONTH in rows[0] else "invoice_id"
    return [row for row in rows if row[key].startswith(period)]


def all_published(workspace, period):
    """Everything that invoices of a period consist of, in an order that is always the same."""
    return {
        table.name: sorted(published(workspace, table.name, period), key=lambda row: tuple(map(str, row.values())))
        for table in BILLING_TABLES
    }


def comparable(value):
    """A value of a table, or of an expected file, as text that is equal when the values are."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case Decimal():
            return f"{value.normalize():f}" if value else "0"
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case _:
            return str(value)


def expected_value(text, column):
    if not text:
        return ""
    is_number = column.dtype.is_decimal() if column is not None else re.fullmatch(r"-?\d+(\.\d+)?", text)
    return comparable(Decimal(text)) if is_number else text


def assert_same_rows(name, rows, expected, table=None):
    """The same rows in any order, in the columns that the expected file has."""
    columns = list(expected[0])
    kinds = {column: table[column] if table is not None else None for column in columns}
    wanted = sorted(tuple(expected_value(row[column], kinds[column]) for column in columns) for row in expected)
    seen = sorted(tuple(comparable(row[column]) for column in columns) for row in rows)
    assert seen == wanted, f"{name}: {', '.join(columns)}"


def row_counts(summary):
    return {name.removeprefix("rows_"): count for name, count in summary.facts.items() if name.startswith("rows_")}


FAST = {"discount-and-credit-and-tax", "price-change-mid-month", "project-moves", "volume-tiers", "yen-and-dinars"}
"""Each takes more than a second. Their parts are also billed in memory, by test_engine_cases.py and others."""


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_scenario_gives_the_expected_bill(name, tmp_path):
    scenario = SCENARIOS / name
    summaries = bill(scenario, tmp_path)

    for month, files in expected_of(scenario).items():
        assert files.keys() >= REQUIRED.keys(), f"{month} of {name} lacks {REQUIRED.keys() - files.keys()}"
        for table, expected in files.items():
            place = f"{name}, {table} of {month}"
            assert expected or table not in REQUIRED, f"{place} has no rows: nothing to compare"
            if table == "rows":
                (wanted,) = expected
                counts = row_counts(summaries[month])
                assert {key: counts[key] for key in wanted} == {key: int(count) for key, count in wanted.items()}, place
                continue
            assert table in TABLES, f"{place} is no table that can be compared: {', '.join([*TABLES, 'rows'])}"
            rows = published(tmp_path, table, month)
            if not expected:
                assert rows == [], place
                continue
            assert set(expected[0]) >= REQUIRED.get(table, set()), f"{place} lacks columns"
            assert_same_rows(place, rows, expected, TABLES[table])


@pytest.mark.parametrize("name", NAMES)
def test_scenario_shows_its_arithmetic(name):
    """Every amount that is expected stands in the README, so that a reader can follow how it comes about."""
    text = (SCENARIOS / name / "README.md").read_text(encoding="utf-8")
    title, *_, prose = text.partition("\n")
    assert title.startswith("# "), "the first line is what the scenario is about"
    assert len(re.findall(r"[.:](\s|$)", prose)) >= 3, "a few sentences on why this matters"
    shown = {Decimal(number) for number in re.findall(r"-?\d+(?:\.\d+)?", prose.replace(",", ""))}
    for month, files in expected_of(SCENARIOS / name).items():
        for table, columns in SHOWN_IN_README.items():
            for row in files.get(table, []):
                missing = [row[column] for column in columns if column in row and Decimal(row[column]) not in shown]
                assert not missing, f"{missing} of {table} of {month} is not in the README"


def test_the_list_of_scenarios_is_complete():
    """tests/scenarios/README.md names every folder, and no other."""
    text = (SCENARIOS / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\(([a-z0-9-]+)/README\.md\)", text)) == NAMES


def test_a_wrong_amount_is_told():
    """The comparison itself: one cent too much, one row too many, a column that says something else."""
    rows = [{"sku_id": "vm", "amount": Decimal("10.3300"), "project_id": None}]
    right = [{"sku_id": "vm", "amount": "10.33", "project_id": ""}]
    assert_same_rows("lines", rows, right)
    for wrong in (
        [{"sku_id": "vm", "amount": "10.34", "project_id": ""}],
        [{"sku_id": "vm", "amount": "10.33", "project_id": "web"}],
        [*right, *right],
    ):
        with pytest.raises(AssertionError, match="lines: sku_id, amount, project_id"):
            assert_same_rows("lines", rows, wrong)
