"""``ratemill query``: report queries by name, with values that are bound, and a workspace's own beside the shipped ones.

What each shipped report shows is in its header, which tests/e2e/test_report_examples.py holds it to.
"""

from __future__ import annotations

import json
from decimal import Decimal

import duckdb
import openpyxl
import pyarrow.parquet as pq
import pytest

from ratemill.io.report_queries import (
    Parameter,
    find_report_queries,
    read_report_query,
    report_hashes,
    shipped_report_queries,
)
from ratemill.workspace import find_workspace
from workspaces import run_here

PURPOSE = "-- Purpose: for a test.\n-- Grain: one row.\n"
MARGIN = f"""{PURPOSE}-- Parameters:
--   $first_period, $last_period: months; from --period.
--   $least (number, default 1.5): the least cost
--          that is shown.
--   $name (text): whose.
--   $since (day, default today): from when.
SELECT period, account_id, cost, $since AS since -- not a $parameter
FROM charges
WHERE period BETWEEN $first_period AND $last_period AND cost >= $least AND account_id LIKE $name AND 'no $one' <> ''
ORDER BY cost;
"""
OWN = {
    "margin": MARGIN,
    "all_costs": f"{PURPOSE}-- Parameters: none.\nSELECT * FROM charges ORDER BY cost",
    "no_header": "SELECT count(*) AS charges FROM charges",
    "top_movers": "SELECT 1 AS mine",
    "Bad-Name": "SELECT 1",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A workspace with a published table, and reports of its own."""
    root = tmp_path_factory.mktemp("workspace")
    (root / "ratemill.toml").write_text('[seller]\nname = "Fjord Cloud"\ncountry = "NO"\n')
    (root / "published").mkdir()
    with duckdb.connect(str(root / "published" / "billing.duckdb")) as connection:
        connection.execute(
            """
            CREATE TABLE charges AS SELECT * FROM (VALUES
                ('2026-09', 'acme', 1::DECIMAL(38, 18)), ('2026-10', 'acme', 2), ('2026-10', 'brio', 3)
            ) t(period, account_id, cost)
            """
        )
    reports = root / "sql" / "reports"
    reports.mkdir(parents=True)
    for name, text in OWN.items():
        (reports / f"{name}.sql").write_text(text)
    (reports / "latin.sql").write_bytes("SELECT 'Zürich'".encode("latin-1"))
    (reports / "out.sql").symlink_to("/etc/hostname")
    return root


@pytest.fixture
def query(root):
    """``query("margin", …)``: how the command ended."""

    def ask(*arguments: str, json: bool = False):
        return run_here(["query", *arguments, "--workspace", str(root), *(["--json"] if json else [])])

    return ask


# Headers ---------------------------------------------------------------------------------------------------------------


def test_a_header_says_what_a_report_is_for_and_what_it_asks():
    report = read_report_query(MARGIN.encode(), name="margin", origin="workspace", file="sql/reports/margin.sql")
    assert (report.purpose, report.grain, report.is_view) == ("for a test.", "one row.", False)
    assert report.parameters == (
        Parameter("first_period", "text", None, "months; from --period."),
        Parameter("last_period", "text", None, "months; from --period."),
        Parameter("least", "number", "1.5", "the least cost that is shown."),
        Parameter("name", "text", None, "whose."),
        Parameter("since", "day", "today", "from when."),
    )


def test_an_example_is_a_command_and_what_it_prints():
    text = f"{PURPOSE}-- Example: ratemill query x --limit 1\n--   a  b\n--      1\n--\nSELECT 1"
    report = read_report_query(text.encode(), name="x", origin="shipped", file="x.sql")
    assert report.example == ("ratemill query x --limit 1", ("a  b", "   1", ""))
    assert report.is_view


@pytest.mark.parametrize("report", shipped_report_queries(), ids=lambda report: report.name)
def test_shipped_reports_explain_themselves(report):
    assert report.purpose.endswith((".", ".)"))
    assert report.grain.startswith("one ")
    assert report.example is not None
    assert report.example[0].startswith(f"ratemill query {report.name}")
    assert all(parameter.meaning.endswith(".") for parameter in report.parameters)
    own = [parameter for parameter in report.parameters if parameter.name not in ("first_period", "last_period")]
    assert all(parameter.default is not None for parameter in own), "a report answers without being told anything"


# Asking ----------------------------------------------------------------------------------------------------------------


def test_values_and_periods_are_bound(query):
    ended = query("margin", "--period", "2026-10", "--set", "name=%", "-s", "since=2026-01-02")
    assert ended.stdout == (
        "period   account_id  cost  since\n"
        "───────  ──────────  ────  ──────────\n"
        "2026-10  acme        2.00  2026-01-02\n"
        "2026-10  brio        3.00  2026-01-02\n"
        "(2 rows)\n"
    )


def test_without_a_period_every_month_is_shown(query):
    ended = query("margin", "--set", "name=acme", "--set", "least=0", json=True)
    assert [row["cost"] for row in ended.summary["data"]] == ["1.000000000000000000", "2.000000000000000000"]


def test_a_report_without_parameters_is_filtered_by_its_columns(query):
    ended = query("all_costs", "--period", "2026-09..2026-10", "--where", "cost > 1", "--columns", "cost,account_id")
    assert ended.stdout.splitlines()[2:] == ["2.00  acme", "3.00  brio", "(2 rows)"]


def test_rows_beyond_the_limit_are_cut_and_that_is_said(query):
    assert query("all_costs", "--limit", "1").stdout.splitlines()[-1] == "(1 row; there are more: --limit N)"


def test_a_report_goes_into_a_file_of_any_kind(query, tmp_path):
    for name in ("rows.csv", "rows.json", "rows.parquet", "rows.xlsx"):
        ended = query("all_costs", "--where", "cost = 3", "--output", str(tmp_path / name), json=True)
        assert (ended.code, ended.summary["rows"]) == (0, 1)
    assert (tmp_path / "rows.csv").read_text().splitlines()[1] == "2026-10,brio,3.000000000000000000"
    assert json.loads((tmp_path / "rows.json").read_text())["account_id"] == "brio"
    assert pq.read_table(tmp_path / "rows.parquet").to_pylist()[0]["cost"] == Decimal(3)
    book = openpyxl.load_workbook(tmp_path / "rows.xlsx")
    assert [cell.value for cell in book["Rows"][2]] == ["2026-10", "brio", 3]
    assert 'ratemill query all_costs --where "cost = 3"' in [cell.value for (cell,) in book["Query"].iter_rows()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name a report; ratemill query --list shows them"),
        (["margins"], "there is no report 'margins'; did you mean margin? → run: ratemill query --list"),
        (["margin"], "margin needs a value: --set name=…; whose."),
        (["margin", "--set", "name"], "--set name: write it as NAME=VALUE"),
        (["margin", "--set", "nome=x"], "--set nome: margin has least, name, since"),
        (["margin", "--set", "last_period=2026-10"], "it is given by --period"),
        (["margin", "-s", "name=x", "-s", "least=cheap"], "--set least=cheap: it has to be a number such as 12.5"),
        (["margin", "-s", "name=x", "-s", "least=nan"], "it has to be a number such as 12.5"),
        (["margin", "-s", "name=x", "-s", "since=soon"], "it has to be a day, YYYY-MM-DD"),
        (
            ["no_header", "--period", "2026-10"],
            "error: --period can't be given: this report has no column period to choose months by → leave --period out",
        ),
        (["all_costs", "--where", "price > 1"], 'Referenced column "price" not found'),
        (["all_costs", "--columns", "price"], "--columns: there is no price; the columns are period, account_id, cost"),
        (["all_costs", "--period", "October"], "--period"),
        (["Bad-Name"], "'Bad-Name' can't be the name of a report → name the file with small letters"),
        (["latin"], "sql/reports/latin.sql: it is not UTF-8 text (byte 9) → save it as UTF-8"),
        (["out"], "sql/reports/out.sql: it is a link that leads out of its folder"),
    ],
)
def test_mistakes_are_told_in_one_line(query, arguments, words):
    ended = query(*arguments)
    assert (ended.code, ended.stdout) == (2, "")
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_what_is_refused_in_a_condition_is_refused_here(query):
    ended = query("all_costs", "--where", "cost > (SELECT count(*) FROM read_text('/etc/passwd'))")
    assert ended.code == 3
    assert "error: the query is refused: Permission Error: Cannot access file" in ended.stderr


# A workspace's own -----------------------------------------------------------------------------------------------------


def test_a_shipped_name_stays_the_shipped_report(root):
    reports, findings = find_report_queries(find_workspace(root))
    (movers,) = [report for report in reports if report.name == "top_movers"]
    assert movers.origin == "shipped"
    told = {finding.file: finding for finding in findings}
    assert told["sql/reports/top_movers.sql"].message == "top_movers is the name of a report that is shipped"
    assert told["sql/reports/top_movers.sql"].cure == "rename the file"
    assert len(told) == 4


def test_the_list_shows_what_there_is_and_what_is_wrong(query):
    ended = query("--list")
    shown = (
        "margin  (sql/reports/margin.sql)\n  for a test\n"
        "  --set least=… (default 1.5): the least cost that is shown.\n  --set name=… (needed): whose.\n"
    )
    assert shown in ended.stdout
    assert "--set name=… (needed): whose." in ended.stdout
    assert "warning: sql/reports/top_movers.sql: top_movers is the name of a report that is shipped" in ended.stdout
    listed = {report["name"]: report for report in query("--list", json=True).summary["reports"]}
    assert listed["no_header"]["origin"] == "workspace"
    assert len(listed["no_header"]["sha256"]) == 64
    assert {"by", "then_by"} < {parameter["name"] for parameter in listed["cost_by"]["parameters"]}


def test_the_time_of_a_report_is_measured_and_a_failure_is_told_in_its_place(query):
    (time,) = query("all_costs", "--timing", json=True).summary["reports"]
    assert (time["rows"], time["problem"]) == (3, None)
    assert time["seconds"] > time["database_seconds"] > 0
    shown = query("margin", "--timing")
    assert shown.code == 0
    assert "margin needs a value" in shown.stdout


def test_every_file_counts_when_it_changes(root):
    workspace = find_workspace(root)
    before = report_hashes(workspace)
    (root / "sql" / "reports" / "no_header.sql").write_text("SELECT count(*) AS charges FROM charges -- changed")
    after = report_hashes(workspace)
    assert {file for file in before if before[file] != after[file]} == {"sql/reports/no_header.sql"}
    assert sum(file.startswith("shipped/sql/reports/") for file in after) == len(shipped_report_queries())
