"""A query sees one state of the published data, also when a run publishes while it is at work."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from ratemill.io.query import run_query
from workspaces import BOOK, make_workspace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc"),
]

LONG = """
SELECT
    (SELECT sum(cost) FROM charges) AS before,
    (SELECT count(*) FROM range(30000) AS a, range(30000) AS b WHERE a.range * b.range % 7 = 8) AS nothing,
    (SELECT sum(untaxed_amount) FROM invoices) AS invoiced,
    (SELECT sum(cost) FROM charges WHERE account_id = 'acme') AS acme
"""
SHORT = "SELECT sum(cost) AS cost FROM charges"


def test_a_query_that_a_publish_overtakes_answers_from_the_state_it_began_with(tmp_path):
    shop = make_workspace(tmp_path, config={"output": {"workbook": False}})
    assert shop.run().code == 0
    database = shop.root / "published" / "billing.duckdb"
    (old,) = run_query(database, SHORT).table.to_pylist()
    answers = []
    asking = threading.Thread(target=lambda: answers.append(run_query(database, LONG).table.to_pylist()[0]))
    asking.start()
    child = _process_that_holds(database)
    os.kill(child, signal.SIGSTOP)  # in the middle of its query, and kept there until the run has published
    try:
        shop.write_book("prices", [row | {"unit_price": "1"} for row in BOOK["prices"]])
        assert shop.run().code == 0
        (new,) = run_query(database, SHORT).table.to_pylist()
        assert not answers
    finally:
        os.kill(child, signal.SIGCONT)
    asking.join(timeout=120)
    (answer,) = answers

    assert new["cost"] > old["cost"]
    assert answer["before"] == old["cost"] == answer["invoiced"]
    assert 0 < answer["acme"] < old["cost"]
    assert run_query(database, SHORT).table.to_pylist() == [new]


def _process_that_holds(database: Path) -> int:
    """The child of this process that has the file open."""
    deadline = time.monotonic() + 30
    me = os.getpid()
    while time.monotonic() < deadline:
        for children in Path(f"/proc/{me}/task").glob("*/children"):
            for child in children.read_text().split():
                if str(database) in {_target(link) for link in _open_files(child)}:
                    return int(child)
        time.sleep(0.01)
    raise TimeoutError("no process has opened the database")


def _open_files(process: str) -> list[Path]:
    try:
        return list(Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return []


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""
