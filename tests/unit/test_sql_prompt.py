"""The prompt of ``ratemill sql``: what it completes, what Enter does, and what is shown; keys come through a pipe.

tests/e2e/test_sql_terminal.py types on a terminal.
"""

from __future__ import annotations

import stat

import duckdb
import openpyxl
import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from ratemill.cli.prompt import HISTORY_FILE, Catalogue, Prompt, SqlCompleter, is_finished
from ratemill.io.query import QueryLimits, run_query
from ratemill.resources import sql
from ratemill.workspace import find_workspace

pytestmark = pytest.mark.slow  # each test starts processes of its own

CTRL_C, CTRL_D, ENTER, UP = "\x03", "\x04", "\r", "\x1b[A"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("workspace")
    (root / "ratemill.toml").write_text('[seller]\nname = "Fjord Cloud"\ncountry = "NO"\n')
    (root / "state").mkdir()
    (root / "published").mkdir()
    with duckdb.connect(str(root / "published" / "billing.duckdb")) as connection:
        connection.execute("CREATE TABLE charges AS SELECT 'acme' AS account_id, 1.5::DECIMAL(38, 18) AS cost")
        connection.execute("COMMENT ON TABLE charges IS 'One row is one charge.'")
        connection.execute("COMMENT ON COLUMN charges.cost IS 'What it adds'")
        connection.execute("CREATE VIEW by_account AS SELECT account_id, sum(cost) AS total FROM charges GROUP BY ALL")
    return root


@pytest.fixture
def typed(root, capsys):
    """``typed("SELECT 1;", …)``: what was shown after these lines and Ctrl-D."""

    def type_lines(*lines: str) -> str:
        with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
            keys.send_text("".join(line if line.endswith(ENTER) else f"{line}{ENTER}" for line in lines) + CTRL_D)
            Prompt(find_workspace(root), QueryLimits(timeout_seconds=5, max_rows=3)).run()
        return capsys.readouterr().out.split("\n", 1)[1]

    return type_lines


@pytest.fixture(scope="module")
def completer(root):
    completer = SqlCompleter()
    result = run_query(root / "published" / "billing.duckdb", sql("prompt/catalogue"))
    completer.catalogue = Catalogue.of(result.table.to_pylist())
    return completer


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("SELECT * FROM |", ["by_account", "charges"]),
        ("SELECT * FROM ch|", ["charges"]),
        ("SELECT | FROM charges", ["account_id", "cost"]),
        ("SELECT co| FROM charges", ["cost"]),
        ("SELECT c.| FROM charges AS c", ["account_id", "cost"]),
        ("SELECT t.| FROM charges c JOIN by_account t USING (account_id)", ["account_id", "total"]),
        ("SELECT charges.c|", ["cost"]),
        ("SEL|", ["SELECT"]),
        ("sel|", ["select"]),
        ("SELECT string_a|", ["string_agg"]),
        ("|", []),
        (".|", [".tables", ".schema", ".reports", ".output", ".help", ".quit"]),
        (".sc|", [".schema"]),
        (".schema b|", ["by_account"]),
    ],
)
def test_what_is_completed(completer, text, first):
    before, _, after = text.partition("|")
    offered = [found.text for found in completer.get_completions(Document(before + after, len(before)), None)]
    assert offered[: len(first)] == first
    assert first or not offered


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        ("SELECT 1;", True),
        ("SELECT 1 ; -- one", True),
        (".tables", True),
        ("", True),
        ("SELECT 1", False),
        ("SELECT ';'", False),
        ("SELECT 'a;", False),
        ("SELECT 1 -- ;", False),
        ("SELECT 1 /* ;", False),
        ('SELECT ";"";', False),
    ],
)
def test_enter_ends_a_query_at_its_semicolon(text, finished):
    assert is_finished(text) is finished


def test_a_query_of_several_lines_is_one(typed):
    shown = typed("SELECT account_id,", "cost", "FROM charges;")
    assert shown.startswith("account_id  cost\n──────────  ────\nacme        1.50\n(1 row) ")


def test_a_mistake_ends_the_query_and_not_the_prompt(typed):
    shown = typed(
        "SELECT price FROM charges;", "COPY charges TO 'x';", "SELECT 1; SELECT 2;", ".nonsense", "SELECT 7 AS x;"
    )
    assert 'error: the query is wrong: Binder Error: Referenced column "price" not found' in shown
    assert "error: the query is refused: only SELECT" in shown
    assert "error: the query is refused: one statement at a time, and this is 2" in shown
    assert "error: there is no .nonsense; try .help" in shown
    assert "\n7\n" in shown.replace(" ", "")


def test_rows_beyond_the_limit_are_cut_and_that_is_said(typed):
    assert "(3 rows; there are more: start with --limit-rows N)" in typed("FROM range(9);")


def test_ctrl_c_drops_what_is_typed(typed):
    assert typed(f"SELECT nonsense {CTRL_C}SELECT 7 AS x;").splitlines()[2].strip() == "7"


def test_dot_commands_tell_what_there_is(typed):
    tables = typed(".tables")
    assert "charges     table     1  One row is one charge." in tables
    assert "by_account  view" in tables
    assert "cost        DECIMAL(38,18)  What it adds" in typed(".schema charges")
    assert "error: there is no table 'charge'; did you mean charges?" in typed(".schema charge")
    assert "name a table: .schema charges" in typed(".schema")
    reports = typed(".reports")
    assert "cost_by                   by then_by  what anything costs" in reports
    assert ".output FILE" in typed(".help")
    assert typed(".quit", "SELECT 7 AS x;") == ""


def test_the_next_result_goes_to_a_file(typed, tmp_path):
    target = tmp_path / "two words.xlsx"
    shown = typed(f".output '{target}'", "SELECT * FROM charges;", "SELECT 7 AS x;")
    assert f"1 rows written to {target}" in shown
    assert "7" in shown.splitlines()[-2]
    assert openpyxl.load_workbook(target)["Rows"]["B2"].value == 1.5
    assert "unknown ending; use .csv" in typed(".output x.doc")
    assert "results are shown here" in typed(".output")
    assert "put a name with blanks in quotes" in typed(".output a b.csv")
    assert "error: .output 'a.csv: a quote is not closed" in typed(".output 'a.csv")


def test_the_history_is_kept_for_its_owner_alone(typed, root):
    history = root / "state" / HISTORY_FILE
    history.unlink(missing_ok=True)
    typed("SELECT 'kept' AS word;")
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert "SELECT 'kept' AS word;" in history.read_text()
    assert "kept" in typed(f"{UP}")
    history.chmod(0o644)
    typed(".help")
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_a_link_in_place_of_the_history_is_not_followed(typed, root, tmp_path):
    history, victim = root / "state" / HISTORY_FILE, tmp_path / "victim"
    victim.write_text("mine\n")
    history.unlink(missing_ok=True)
    history.symlink_to(victim)
    assert "7" in typed("SELECT 7 AS x;")
    assert victim.read_text() == "mine\n"
    history.unlink()


def test_names_are_read_anew_when_something_else_is_published(root, typed):
    database = root / "published" / "billing.duckdb"
    before = database.read_bytes()
    try:
        aside = database.with_name("next")
        with duckdb.connect(str(aside)) as connection:
            connection.execute("CREATE TABLE taxes AS SELECT 20 AS rate")
        aside.replace(database)
        assert "taxes  table" in typed(".tables")
    finally:
        database.write_bytes(before)
