"""Reports of a workspace's own become views of the published database, and a broken one is told and stops nothing."""

from __future__ import annotations

import os

import pytest

from ratemill.errors import ExitCode
from ratemill.io.query import run_query
from workspaces import make_workspace

pytestmark = pytest.mark.slow

REPORTS = {
    # Read by name before the one they are made of: the order of files does not matter.
    "a_summary": "SELECT sum(cost) AS cost FROM by_team",
    "by_team": "-- Purpose: costs by team.\n-- Grain: one team.\nSELECT account_id AS team, sum(cost) AS cost FROM charges"
    " GROUP BY ALL ORDER BY ALL; -- done",
    "of_one": "SELECT sum(cost) AS cost FROM charges WHERE account_id = $account",
    "misspelt": "SELECT price FROM charges",
    "reads_files": "SELECT * FROM read_csv('/etc/passwd')",
    "writes": "COPY charges TO 'x.csv'",
    "two": "SELECT 1; DROP TABLE charges",
    "charges": "SELECT 1 AS mine",
    "unit_costs": "SELECT 1 AS mine",
}
PROBLEMS = {
    "misspelt": 'Binder Error: Referenced column "price" not found',
    "reads_files": "it reads files, and a report reads the published tables only",
    "writes": "it is not one SELECT",
    "two": "it is not one SELECT",
    "charges": "already exists",
    "unit_costs": "unit_costs is the name of a report that is shipped",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    shop = make_workspace(tmp_path_factory.mktemp("shop"), config={"output": {"workbook": False}})
    folder = shop.root / "sql" / "reports"
    folder.mkdir(parents=True)
    for name, text in REPORTS.items():
        (folder / f"{name}.sql").write_text(text)
    return shop


def ask(shop, sql):
    return run_query(shop.root / "published" / "billing.duckdb", sql).table.to_pylist()


def broken(ended):
    return {
        finding["file"].removeprefix("sql/reports/").removesuffix(".sql"): finding
        for finding in ended.findings
        if finding["rule"] == "reports.broken"
    }


def test_own_reports_from_the_first_run_to_the_last_change(shop):
    first = shop.run()
    assert first.code == ExitCode.DONE
    told = broken(first)
    assert told.keys() == PROBLEMS.keys()
    for name, words in PROBLEMS.items():
        assert words in told[name]["message"]
        assert (told[name]["severity"], bool(told[name]["cure"])) == ("warning", True)

    assert [row["team"] for row in ask(shop, "FROM by_team")] == ["acme", "globex"]
    assert ask(shop, "FROM a_summary") == ask(shop, "SELECT sum(cost) AS cost FROM charges")
    assert ask(shop, "SELECT comment FROM duckdb_views() WHERE view_name = 'by_team'") == [
        {"comment": "costs by team."}
    ]
    recorded = {row["name"]: row for row in ask(shop, "FROM report_queries WHERE origin = 'workspace'")}
    assert recorded.keys() == REPORTS.keys()
    assert {name for name, row in recorded.items() if row["is_view"]} == {"a_summary", "by_team"}
    assert {name for name, row in recorded.items() if row["problem"]} == PROBLEMS.keys()
    assert recorded["of_one"]["parameters"] == "account"
    assert all(len(row["sha256"]) == 64 for row in recorded.values())
    assert not os.path.lexists(shop.root / "x.csv")

    one = shop.command("query", "of_one", "--set", "account=acme")
    assert one.summary["data"] == [{"cost": "3.600000000000000000"}]

    again = shop.run()
    assert again.summary["periods"][0]["nothing_to_do"]
    assert broken(again).keys() == PROBLEMS.keys()

    (shop.root / "sql" / "reports" / "misspelt.sql").write_text("SELECT cost AS price FROM charges")
    mended = shop.run()
    assert broken(mended).keys() == PROBLEMS.keys() - {"misspelt"}
    assert len(ask(shop, "FROM misspelt")) > 0
    assert mended.summary["periods"][0]["run_id"] == first.summary["periods"][0]["run_id"]

    published = shop.command("publish")
    assert {finding["rule"] for finding in published.summary["findings"]} == {"reports.broken"}
