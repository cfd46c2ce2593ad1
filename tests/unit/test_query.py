"""``ratemill sql`` on a published file: what it prints exactly, and what it refuses."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ratemill
from ratemill.cli import run_command
from ratemill.errors import DataRefusedError, TemporaryError, UsageError
from ratemill.io import query_worker
from ratemill.io.formats import to_csv, to_json_lines, to_rows, to_text_table
from ratemill.io.query import QueryLimits, run_query


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A workspace with a small published database."""
    root = tmp_path_factory.mktemp("workspace")
    (root / "ratemill.toml").write_text('[seller]\nname = "Fjord Cloud"\ncountry = "NO"\n')
    (root / "published").mkdir()
    with duckdb.connect(str(root / "published" / "billing.duckdb")) as connection:
        connection.execute(
            """
            CREATE TABLE charges AS SELECT * FROM (VALUES
                ('acme', 0.1::DECIMAL(38, 18), TIMESTAMPTZ '2026-10-01 00:00:00+02', MAP {'env': 'prod'}),
                ('brio', 0::DECIMAL(38, 18), NULL, NULL),
                ('', 12345678901234567890.123456789012345678, TIMESTAMPTZ '2026-10-31 23:59:59.5+00', MAP {})
            ) t(account_id, cost, charge_start, tags)
            """
        )
    return root


@pytest.fixture(scope="module")
def database(workspace):
    return workspace / "published" / "billing.duckdb"


@pytest.fixture
def ratemill_sql(workspace, capsys, monkeypatch):
    """``ratemill_sql("SELECT 1")``: exit code, stdout and stderr of the command, run in this process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    logger = logging.getLogger("ratemill")
    before = logger.handlers[:], logger.level, logger.propagate

    def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = run_command(["sql", "-w", str(workspace), *arguments])
        return (code, *capsys.readouterr())

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)
    logger.handlers[:], logger.level, logger.propagate = before


def start_sql(workspace, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "ratemill", "sql", "-w", str(workspace), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(ratemill.__file__).resolve().parents[1])},
    )


def test_decimals_come_back_with_every_digit(database):
    result = run_query(database, "SELECT sum(cost) AS cost FROM charges")
    assert result.table.to_pylist() == [{"cost": Decimal("12345678901234567890.223456789012345678")}]
    assert not result.truncated


@pytest.mark.parametrize(
    "statement",
    ["SET threads = 64", "SELECT * FROM read_csv('/etc/passwd')", "EXPLAIN ANALYZE COPY charges TO 'x.csv'"],
)
def test_what_is_refused_is_refused_in_the_child(database, statement):
    with pytest.raises(DataRefusedError, match="the query is refused: "):
        run_query(database, statement)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELEC 1", 'the query is wrong: Parser Error: syntax error at or near "SELEC"'),
        (
            "SELECT * FROM charge",
            'the query is wrong: Catalog Error: Table with name charge does not exist! Did you mean "charges"?',
        ),
        ("SELECT 'a'::INT", "the query is wrong: Conversion Error: Could not convert string 'a' to INT32"),
        ("SELECT error('no')", "the query is wrong: Invalid Input Error: no"),
        ("-- nothing", "the query is wrong: there is no statement in it"),
    ],
)
def test_wrong_sql_gives_the_message_of_the_database_in_one_line(database, statement, message):
    with pytest.raises(UsageError) as caught:
        run_query(database, statement)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "statement",
    ["SHOW TABLES", "DESCRIBE charges", "SUMMARIZE charges", "EXPLAIN SELECT 1", "FROM charges", "VALUES (1)"],
)
def test_statements_that_only_read_are_let_through(database, statement):
    request = {"database": str(database), "memory_bytes": 1 << 30, "threads": 1}
    with query_worker._open(request) as connection:
        query_worker._let_only_a_query_through(connection, statement)
        assert len(connection.sql(statement).fetchall()) > 0


def test_a_result_without_rows_keeps_its_columns(database):
    table = run_query(database, "SELECT account_id FROM charges WHERE false").table
    assert to_csv(table) == "account_id\n"
    assert to_json_lines(table) == ""
    assert to_text_table(table, width=80).splitlines()[-1] == "(0 rows)"


def test_a_query_is_stopped_at_its_deadline(database):
    started = time.monotonic()
    endless = "SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000000) c"
    with pytest.raises(TemporaryError, match=r"stopped after 0.3 seconds; narrow it .* or raise --timeout"):
        run_query(database, endless, limits=QueryLimits(timeout_seconds=0.3))
    assert time.monotonic() - started < 8


def test_rows_beyond_the_limit_are_cut_and_that_is_said(database):
    result = run_query(database, "FROM range(100000)", limits=QueryLimits(max_rows=3))
    assert result.table.column(0).to_pylist() == [0, 1, 2]
    assert result.truncated
    assert not run_query(database, "FROM range(3)", limits=QueryLimits(max_rows=3)).truncated


def test_a_huge_result_is_refused(database):
    with pytest.raises(UsageError, match="the result is larger than 1 MiB; aggregate, add a LIMIT"):
        run_query(database, "SELECT repeat('x', 3000000)", limits=QueryLimits(max_bytes=1 << 20))


def test_a_query_out_of_memory_ends_alone(database):
    with pytest.raises(TemporaryError, match="needs more than the 64 MiB of memory"):
        run_query(
            database,
            "SELECT list(a.range) FROM range(10000000) a",
            limits=QueryLimits(memory_bytes=64 << 20),
        )


def test_nothing_published_yet_says_what_to_do(tmp_path):
    with pytest.raises(UsageError, match=r"nothing is published yet: .*billing.duckdb .*; run `ratemill run` first"):
        run_query(tmp_path / "billing.duckdb", "SELECT 1")


def test_a_damaged_database_is_told(tmp_path):
    (tmp_path / "billing.duckdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(TemporaryError, match=r"the published database can't be read: .*publish it again"):
        run_query(tmp_path / "billing.duckdb", "SELECT 1")


def test_the_session_is_in_utc_whatever_the_machine_is_in(database, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    table = run_query(database, "SELECT charge_start::VARCHAR FROM charges WHERE account_id = 'acme'").table
    assert table.column(0).to_pylist() == ["2026-09-30 22:00:00+00"]


EVERY_TYPE = """
SELECT 0::DECIMAL(38, 18) AS zero, 1::HUGEINT AS whole, -0.5::DECIMAL(4, 2) AS cents, 'a,"b' AS words, '' AS empty,
    NULL AS nothing, true AS yes, DATE '2026-10-01' AS day, TIMESTAMP '2026-10-01 12:00' AS wall,
    TIMESTAMPTZ '2026-10-01 12:00:00.25+02' AS instant, TIMESTAMP_NS '2026-10-01 00:00:00.123456789' AS nanos,
    TIME '10:30' AS clock, INTERVAL '1 month 2 days 1.5 seconds' AS span, MAP {'env': 0.10} AS tags,
    [{'a': NULL::INT}] AS nested, 'x'::BLOB AS bytes, 0.1::DOUBLE AS float, 'nan'::DOUBLE AS nan
"""


def test_every_type_has_one_exact_form(database):
    table = run_query(database, EVERY_TYPE).table
    assert list(to_rows(table)) == [
        {
            "zero": "0.000000000000000000",
            "whole": 1,
            "cents": "-0.50",
            "words": 'a,"b',
            "empty": "",
            "nothing": None,
            "yes": True,
            "day": "2026-10-01",
            "wall": "2026-10-01T12:00:00",
            "instant": "2026-10-01T10:00:00.250000Z",
            "nanos": "2026-10-01T00:00:00.123456789",
            "clock": "10:30:00",
            "span": "P1M2DT1.5S",
            "tags": {"env": "0.10"},
            "nested": [{"a": None}],
            "bytes": "78",
            "float": 0.1,
            "nan": "nan",
        }
    ]
    header, row = to_csv(table).splitlines()
    assert header.startswith("zero,whole,cents,words,empty,nothing,")
    assert row.startswith('0.000000000000000000,1,-0.50,"a,""b","",,true,2026-10-01,2026-10-01T12:00:00,')


def test_equal_column_names_are_refused_where_a_name_is_a_key():
    table = pa.table([[1], [2]], names=["a", "a"])
    assert to_csv(table) == "a,a\n1,2\n"
    with pytest.raises(UsageError, match="two columns are called 'a': give each its own name with AS"):
        to_json_lines(table)


def test_a_table_is_aligned_and_shows_null_and_no_control_characters(ratemill_sql):
    statement = "SELECT account_id, cost, chr(27) || '[2J' AS evil FROM charges WHERE cost < 1 ORDER BY 1"
    assert ratemill_sql(statement)[1] == (
        "account_id  cost  evil\n"
        "──────────  ────  ───────\n"
        "acme        0.10  \\x1b[2J\n"
        "brio        0.00  \\x1b[2J\n"
        "(2 rows)\n"
    )


def test_zeros_that_no_row_needs_are_left_out_and_points_stand_below_each_other():
    table = pa.table(
        {
            "cost": pa.array([Decimal("1.5"), Decimal("-1200.0625"), None], type=pa.decimal128(38, 18)),
            "whole": pa.array([Decimal(7), Decimal(10), Decimal(0)], type=pa.decimal128(38, 12)),
            "cents": pa.array([Decimal("1.00"), Decimal("2.50"), Decimal("3.00")], type=pa.decimal128(12, 2)),
        }
    )
    assert to_text_table(table, width=None) == (
        "      cost  whole  cents\n"
        "──────────  ─────  ─────\n"
        "    1.5000   7.00   1.00\n"
        "-1200.0625  10.00   2.50\n"
        "      NULL   0.00   3.00\n"
        "(3 rows)\n"
    )
    assert to_csv(table).splitlines()[1] == "1.500000000000000000,7.000000000000,1.00"


def test_a_narrow_terminal_cuts_texts_and_columns_but_no_number():
    table = pa.table(
        {
            "account_id": ["a-very-long-account-name-indeed", None],
            "cost": [Decimal("12345678901234567890.123456789012345678"), Decimal(1).scaleb(-18)],
            "middle": ["m" * 20, "m"],
            "note": ["n" * 20, "n"],
        }
    )
    text = to_text_table(table, width=64)
    assert max(map(len, text.splitlines()[:-1])) <= 64
    assert "12345678901234567890.123456789012345678" in text
    assert "0.000000000000000001" in text
    assert "NULL" in text
    assert "mmm" not in text
    assert text.splitlines()[-1].startswith("(2 rows; 3 of 4 columns shown")
    assert "a-very-long-account-name-indeed" in to_text_table(table, width=None)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["SELECT nope FROM charges"], 2, 'error: the query is wrong: Binder Error: Referenced column "nope"'),
        (["COPY charges TO 'x'"], 3, "error: the query is refused: only SELECT"),
        (["SELECT 1", "--format", "parquet"], 2, "--format parquet needs --output FILE"),
        (["SELECT 1", "--format", "xlsx"], 2, "--format xlsx needs --output FILE"),
        (["SELECT 1 AS a, 2 AS A", "-o", "x.xlsx"], 2, "a sheet can't tell two columns called 'A' apart"),
        (["FROM range(100001)", "-o", "x.xlsx"], 2, "100,001 rows of 1 columns are more than a workbook is good for"),
        (["SELECT 1", "--output", "x.doc"], 2, "--output x.doc: unknown ending; use .csv"),
        (["SELECT 1", "--file", "q.sql"], 2, "as an argument or with --file, not both"),
        (["--file", "missing.sql"], 2, "missing.sql can't be read: no such file or directory"),
        (["SELECT 1", "--timeout", "0"], 2, "--timeout"),
        (["SELECT count(*) FROM range(1000000) a, range(1000000) b", "--timeout", "0.2"], 75, "stopped after 0.2"),
    ],
)
def test_mistakes_end_with_their_exit_code_and_one_line(ratemill_sql, arguments, code, words):
    returned, output, error = ratemill_sql(*arguments)
    assert (returned, output) == (code, "")
    assert words in error
    assert error.count("\n") == 1


def test_sql_comes_from_a_file_or_stdin_and_goes_to_a_file(ratemill_sql, tmp_path):
    (tmp_path / "q.sql").write_text("SELECT account_id, cost FROM charges ORDER BY cost")
    from_file = ratemill_sql("--file", str(tmp_path / "q.sql"), "--format", "csv")
    assert from_file[1] == (
        "account_id,cost\nbrio,0.000000000000000000\nacme,0.100000000000000000\n"
        '"",12345678901234567890.123456789012345678\n'
    )
    target = tmp_path / "costs.parquet"
    written = ratemill_sql("-", "-o", str(target), "--json", stdin="SELECT cost FROM charges ORDER BY 1")
    assert json.loads(written[1]) == {
        "status": "done",
        "exit_code": 0,
        "rows": 3,
        "truncated": False,
        "columns": ["cost"],
        "output": str(target),
    }
    assert pq.read_table(target).column("cost").to_pylist()[2] == Decimal("12345678901234567890.123456789012345678")


def test_a_workbook_has_text_as_text_and_numbers_as_far_as_they_are_exact(ratemill_sql, tmp_path):
    target = tmp_path / "rows.xlsx"
    statement = """
        SELECT '=1+1' AS note, 0.1::DECIMAL(38, 18) AS price, 123456789012345.678::DECIMAL(38, 18) AS large,
            2026 AS year, 9007199254740993 AS beyond, DATE '2026-10-31' AS day, NULL AS nothing, 0.5::DOUBLE AS share,
            TIMESTAMPTZ '2026-10-01 12:00:00+02' AS instant, MAP {'env': 'prod'} AS tags
    """
    assert ratemill_sql(statement, "--output", str(target))[0] == 0
    book = openpyxl.load_workbook(target)
    headings, row = ([cell.value for cell in line] for line in book["Rows"].iter_rows())
    assert dict(zip(headings, row, strict=True)) == {
        "note": "=1+1",
        "price": 0.1,
        "large": "123456789012345.678",
        "year": 2026,
        "beyond": "9007199254740993",
        "day": datetime(2026, 10, 31),  # noqa: DTZ001 - the format knows no zones
        "nothing": None,
        "share": 0.5,
        "instant": "2026-10-01T10:00:00Z",
        "tags": '{"env": "prod"}',
    }
    assert book["Rows"]["A2"].data_type == "s"
    assert book["Rows"]["B2"].number_format.startswith("#,##0.00")
    assert book["Query"]["A3"].value == "1 row"
    assert any("9007199254740993 AS beyond" in str(cell.value) for (cell,) in book["Query"].iter_rows())


def test_json_holds_the_rows(ratemill_sql):
    _, output, _ = ratemill_sql("SELECT account_id, cost, tags FROM charges WHERE account_id = 'acme'", "--json")
    assert json.loads(output)["data"] == [
        {"account_id": "acme", "cost": "0.100000000000000000", "tags": {"env": "prod"}}
    ]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_the_child_sees_no_secret_of_its_parent_and_an_interrupt_ends_it_as_well(workspace, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    endless = "SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000000) c"
    with start_sql(workspace, endless) as process:
        child = _running_query(process.pid)
        environment = (child / "environ").read_bytes()
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
    assert (process.returncode, error) == (130, "stopped; nothing half-written\n")
    assert not (child / "stat").exists() or ") Z " in (child / "stat").read_text()
    assert b"PATH=" in environment
    assert b"s3cret" not in environment


def _running_query(pid: int) -> Path:
    """The child of ``pid`` once it may write no file any more, which it sees to before it opens the database."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if "Max file size             0" in Path(f"/proc/{child}/limits").read_text():
                return Path("/proc", child)
        time.sleep(0.02)
    raise TimeoutError("the query's process did not start")
