"""Every report of sql/reports, on the small shop of tests/report_shop.py: it prints what the example in its header shows.

To make an example anew, run its command on the shop and read the difference before you keep it.
"""

from __future__ import annotations

import shlex
from decimal import Decimal

import pytest

from ratemill.io.query import run_query
from ratemill.io.report_queries import shipped_report_queries
from report_shop import report_shop
from workspaces import run_here

pytestmark = pytest.mark.slow

REPORTS = {report.name: report for report in shipped_report_queries()}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return report_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def ask(shop):
    """``ask("SELECT …")``: rows."""

    def rows(sql: str, **parameters):
        return run_query(shop.root / "published" / "billing.duckdb", sql, **parameters).table.to_pylist()

    return rows


@pytest.mark.parametrize("name", REPORTS)
def test_the_example_in_the_header_is_what_is_printed(shop, name):
    command, lines = REPORTS[name].example
    words = shlex.split(command)
    assert words[0] == "ratemill"
    ended = run_here([*words[1:], "--workspace", str(shop.root)])
    assert ended.code == 0, ended.stderr
    assert tuple(line.rstrip() for line in ended.stdout.splitlines()) == lines


def test_reports_without_parameters_are_views_and_all_are_on_record(shop, ask):
    views = {row["name"] for row in ask("SELECT view_name AS name FROM duckdb_views() WHERE NOT internal")}
    assert views == {name for name, report in REPORTS.items() if report.is_view} | {"usage"}
    recorded = {row["name"]: row for row in ask("FROM report_queries")}
    assert recorded.keys() == REPORTS.keys()
    for name, report in REPORTS.items():
        row = recorded[name]
        assert (row["origin"], row["sha256"], row["is_view"]) == ("shipped", report.sha256, report.is_view)
    assert ask("FROM unit_costs") == ask(REPORTS["unit_costs"].text)


@pytest.mark.parametrize(
    "by", ["account", "payer", "project", "service", "category", "sku", "region", "resource", "kind", "day", "tag.env"]
)
def test_whatever_costs_are_added_up_by_they_come_to_the_same(ask, by):
    (whole,) = ask("SELECT sum(cost) AS cost FROM charges WHERE period = '2026-10'")
    for then_by in ("all", by):
        rows = ask(
            REPORTS["cost_by"].text, parameters={"by": by, "then_by": then_by}, periods=("2026-10", "2026-10")
        )  # fmt: skip
        assert sum(row["cost"] for row in rows) == whole["cost"]
        assert len(rows) > 1 or by == "region"
        assert all(row["then_value"] == (None if then_by == "all" else row["value"]) for row in rows)


def test_all_reports_are_timed_at_once(shop):
    times = {report["name"]: report for report in shop.command("query", "--timing").summary["reports"]}
    assert times.keys() == REPORTS.keys()
    assert {report["problem"] for report in times.values()} == {None}
    assert all(report["seconds"] > report["database_seconds"] > 0 for report in times.values())


def test_what_a_report_can_not_add_up_by_is_told(shop):
    for name in ("cost_by", "month_over_month"):
        ended = shop.command("query", name, "--set", "by=colour", json=False)
        assert ended.code == 2
        assert "by: colour is nothing to" in ended.stderr


def test_nothing_leaks_between_list_price_and_invoice_unseen(ask):
    rows = ask("FROM discount_leakage")
    assert len(rows) >= 8
    for row in rows:
        parts = ("list_cost", "price_effect", "rounding", "discount_amount", "commitment_amount", "credit_amount")
        assert sum(row[part] for part in parts) == row["net_amount"]


def test_month_over_month_starts_where_something_is_known(ask):
    every = ("0000-01", "9999-12")
    rows = ask(REPORTS["month_over_month"].text, parameters={"by": "account"}, periods=every)
    first = [row for row in rows if row["period"] == "2026-08"]
    assert first
    assert all(row["cost_before"] is None and row["change"] is None for row in first)
    new = [row for row in rows if (row["period"], row["value"]) == ("2026-09", "acme-lab")]
    assert [(row["cost_before"], row["change_percent"]) for row in new] == [(Decimal(0), None)]
    changes = sum(row["change"] for row in rows if row["period"] == "2026-10")
    (months,) = ask(
        "SELECT sum(cost) FILTER (period = '2026-10') - sum(cost) FILTER (period = '2026-09') AS change FROM charges"
    )
    assert changes == months["change"]


def test_ageing_moves_with_the_day_and_loses_nothing(ask):
    totals = []
    for day in ("2026-10-04", "2026-10-05", "2027-12-31"):
        rows = ask(f"SELECT sum(total) AS total, sum(late_over_90) AS late FROM ({REPORTS['ageing'].text})"
                   .replace("$as_of", f"DATE '{day}'"))  # fmt: skip
        totals.append((rows[0]["total"], rows[0]["late"]))
    (before, _), (credited, _), (late, over_90) = totals
    assert credited == before - 15  # the credit note of 5 October
    assert (late, over_90) == (credited, credited)
