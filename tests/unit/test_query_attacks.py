"""What somebody may try who can only ask: each attempt is refused or stopped, and told in words.

The attempts of tests/query_attacks.py are made on the very connection that the query's process uses, as a statement of
its own and in the condition of a report. tests/e2e/test_sql_terminal.py types them into the prompt.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import duckdb
import pyarrow as pa
import pytest

from query_attacks import CONDITIONS, STATEMENTS, TABLES
from ratemill.errors import DataRefusedError, RatemillError, TemporaryError, UsageError
from ratemill.io import query_worker
from ratemill.io.query import QueryLimits, run_query

BOMBS = {
    "deep": (f"SELECT {'(' * 50_000}1{')' * 50_000}", UsageError, "Max expression depth limit"),
    "deep, without brackets": (f"SELECT {'NOT ' * 50_000}true", UsageError, "Max expression depth limit"),
    "a recursion without an end": (
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t", TemporaryError, "stopped",
    ),
    "a cross join": ("SELECT count(*) FROM range(9000000) a, range(9000000) b, range(9) c", TemporaryError, "stopped"),
    "a huge text": ("SELECT string_agg(repeat('x', 1000000), '') FROM range(3000)", TemporaryError, "MiB of memory"),
    "a huge list": ("SELECT list(range) FROM range(100000000)", TemporaryError, "MiB of memory|stopped"),
    "many rows": ("FROM range(1000000000000)", UsageError, "the result is larger than 8 MiB; aggregate, add a LIMIT"),
    "a wide row": ("SELECT repeat('x', 9000000)", UsageError, "the result is larger than 8 MiB"),
}  # fmt: skip
"""What would fill the machine."""

LIMITS = QueryLimits(timeout_seconds=0.5, max_bytes=8 << 20, memory_bytes=256 << 20, threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a database of one table, and a link to a file elsewhere."""
    folder = tmp_path_factory.mktemp("published")
    with duckdb.connect(str(folder / "billing.duckdb")) as connection:
        connection.execute("CREATE TABLE charges AS SELECT 'acme' AS account_id, 1.5::DECIMAL(38, 18) AS cost")
    (folder / "link").symlink_to("/etc/passwd")
    return folder


@pytest.fixture(scope="module")
def connection(folder):
    """The connection that the query's process makes, in this one."""
    request = {"database": str(folder / "billing.duckdb"), "memory_bytes": 1 << 30, "threads": 1}
    with query_worker._open(request) as connection:
        yield connection


@pytest.fixture
def refused(folder, connection, monkeypatch):
    """``refused(sql, where=None)``: why; proven to have written nothing."""
    monkeypatch.chdir(folder)

    def attempt(sql: str, where: str | None = None) -> str:
        before = set(folder.iterdir())
        request = {"sql": sql, "where": where, "max_rows": 10, "max_bytes": 1 << 20}
        outcome = query_worker._outcome_of(lambda: query_worker._fetch(connection, request, io.BytesIO()))
        assert outcome["kind"] in {"refused", "bad_sql", "bad_option"}, outcome
        assert set(folder.iterdir()) == before
        assert "\n" not in outcome["message"]
        return str(outcome["message"])

    return attempt


@pytest.mark.parametrize("name", STATEMENTS)
def test_only_a_query_is_let_through(refused, name):
    statement, words = STATEMENTS[name]
    assert re.search(words, refused(statement))


@pytest.mark.parametrize("name", TABLES)
def test_a_query_reaches_nothing_but_the_database(refused, name):
    table, words = TABLES[name]
    request = pa.table({"secret": [1]})  # must not be found as a table
    assert re.search(words, refused(f"SELECT * FROM {table}"))
    assert re.search(words, refused(f"SELECT (SELECT count(*) FROM {table})"))
    assert request.num_rows == 1


@pytest.mark.parametrize("name", TABLES)
def test_nor_does_the_condition_of_a_report(refused, name):
    table, words = TABLES[name]
    assert re.search(words, refused("SELECT * FROM charges", where=f"cost > (SELECT count(*) FROM {table})"))


@pytest.mark.parametrize("name", [name for name, (sql, _) in STATEMENTS.items() if "explain" not in name])
def test_nor_is_a_statement_a_condition(refused, name):
    statement = STATEMENTS[name][0]
    assert refused("FROM charges", where=f"({statement})")
    assert re.search("syntax error|one condition", refused("FROM charges", where=f"true; {statement}"))


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_is_one_expression_and_nothing_else(refused, name):
    condition, words = CONDITIONS[name]
    assert re.search(words, refused("SELECT account_id, cost FROM charges", where=condition))


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("cost > 1", 1),
        ("cost > 1 -- only the large ones", 1),
        ("account_id IN (SELECT account_id FROM charges) AND cost BETWEEN 1 AND 2", 1),
        ("account_id = ') OR (true'", 0),
        ("false", 0),
    ],
)
def test_a_condition_that_is_one_is_applied(folder, condition, rows):
    result = run_query(folder / "billing.duckdb", "FROM charges ORDER BY cost; -- all", where=condition)
    assert result.table.num_rows == rows


def test_a_value_is_bound_and_stays_a_value(folder):
    evil = "x' OR true; DROP TABLE charges; --"
    result = run_query(folder / "billing.duckdb", "SELECT $name AS name FROM charges", parameters={"name": evil})
    assert result.table.to_pylist() == [{"name": evil}]


@pytest.mark.parametrize("name", BOMBS)
def test_what_would_fill_the_machine_is_stopped(folder, name):
    statement, kind, words = BOMBS[name]
    limits = LIMITS if "stopped" in words else replace(LIMITS, timeout_seconds=30)
    with pytest.raises(RatemillError, match=words) as caught:
        run_query(folder / "billing.duckdb", statement, limits=limits)
    assert type(caught.value) is kind


@pytest.mark.slow
def test_a_function_that_never_looks_up_is_ended_all_the_same(folder):
    """DuckDB can't interrupt the making of one text; the process ends itself two seconds later."""
    limits = QueryLimits(timeout_seconds=0.2, memory_bytes=8 << 30, threads=1)
    with pytest.raises(TemporaryError, match=r"stopped after 0.2 seconds|MiB of memory"):
        run_query(folder / "billing.duckdb", "SELECT length(repeat('x', 4000000000))", limits=limits)


def test_nothing_of_the_environment_is_there_to_be_read(folder, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    database = folder / "billing.duckdb"
    assert run_query(database, "FROM duckdb_secrets()").table.num_rows == 0
    settings = run_query(database, "SELECT name, value FROM duckdb_settings()").table.to_pylist()
    told = {row["name"]: row["value"] for row in settings}
    assert (told["enable_external_access"], told["lock_configuration"]) == ("false", "true")
    assert "s3cret" not in json.dumps(told)


def test_a_link_in_place_of_the_database_opens_no_other_kind_of_file(tmp_path):
    (tmp_path / "billing.duckdb").symlink_to("/etc/passwd")
    with pytest.raises((TemporaryError, DataRefusedError), match="can't be read"):
        run_query(tmp_path / "billing.duckdb", "SELECT 1")
