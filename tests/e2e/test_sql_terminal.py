"""``ratemill sql`` on a terminal, typed on as a person does, attempts to get out of it included."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from query_attacks import STATEMENTS, TABLES
from ratemill.cli.prompt import Prompt
from ratemill.io.query import QueryLimits
from ratemill.workspace import find_workspace
from workspaces import SOURCE_ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc"),
]

CTRL_C, CTRL_D = "\x03", "\x04"
ENDLESS = "SELECT count(*) FROM range(9000000) a, range(9000000) b, range(9000000) c;"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "ratemill.toml").write_text('[seller]\nname = "Fjord Cloud"\ncountry = "NO"\n')
    for name in ("state", "published"):
        (tmp_path / name).mkdir()
    with duckdb.connect(str(tmp_path / "published" / "billing.duckdb")) as connection:
        connection.execute("CREATE TABLE charges AS SELECT 'acme' AS account_id, 1.5::DECIMAL(38, 18) AS cost")
    (tmp_path / "published" / "link").symlink_to("/etc/passwd")
    return tmp_path


class Terminal:
    """``ratemill sql`` in a process whose terminal this is."""

    def __init__(self, root: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": SOURCE_ROOT, "PAGER": "cat", "PROMPT_TOOLKIT_NO_CPR": "1",
                       "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}  # fmt: skip
        self.process, self._side = pty.fork()
        if self.process == 0:
            os.execve(sys.executable, [sys.executable, "-m", "ratemill", "sql", "-w", str(root)], environment)  # noqa: S606
        self.shown = self._unread = ""

    def type(self, text: str) -> None:
        os.write(self._side, text.encode())

    def enter(self, line: str) -> None:
        self.type(f"{line}\r")

    def until(self, words: str, seconds: float = 60) -> str:
        """What is shown from the last time on until ``words``."""
        deadline = time.monotonic() + seconds
        while words not in self._unread:
            assert time.monotonic() < deadline, f"{words!r} did not come; the terminal shows {self.shown[-2000:]!r}"
            if select.select([self._side], [], [], 0.2)[0]:
                part = ESCAPES.sub("", os.read(self._side, 65536).decode("utf-8", "replace"))
                self._unread += part
                self.shown += part
        before, found, self._unread = self._unread.partition(words)
        return before + found

    def children(self) -> list[str]:
        return Path(f"/proc/{self.process}/task/{self.process}/children").read_text().split()

    def end(self) -> int:
        """Its exit code."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if select.select([self._side], [], [], 0.1)[0]:
                try:
                    os.read(self._side, 65536)
                except OSError:  # it is gone, and the terminal with it
                    break
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


def test_an_hour_at_the_prompt(root):
    terminal = Terminal(root)
    assert "published/billing.duckdb, read-only: 1 tables and views" in terminal.until("sql>")

    terminal.enter("SELECT account_id, cost")
    terminal.enter("FROM charges;")
    assert "acme        1.50" in terminal.until("(1 row)")

    terminal.until("sql>")
    terminal.type("SELECT count(*) AS rows FROM cha\t")
    terminal.until("rges")
    terminal.enter(";")
    assert "1" in terminal.until("(1 row)")

    terminal.until("sql>")
    terminal.enter(ENDLESS)
    deadline = time.monotonic() + 30
    while not terminal.children():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
    (child,) = terminal.children()
    terminal.type(CTRL_C)
    terminal.until("stopped")
    terminal.until("sql>")
    assert not Path("/proc", child).exists()

    terminal.type(f"SELECT half a query {CTRL_C}")
    terminal.until("sql>")
    terminal.enter("SELECT * FROM read_text('/etc/passwd');")
    assert "root:" not in terminal.until("error: the query is refused: Permission Error: Cannot access file")
    terminal.until("sql>")
    terminal.enter("SELECT 40 + 2 AS answer;")
    assert "42" in terminal.until("(1 row)")
    terminal.until("sql>")
    terminal.type(CTRL_D)
    assert terminal.end() == 0
    history = root / "state" / "sql_history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert ENDLESS in history.read_text()


def test_a_signal_to_end_ends_the_query_as_well(root):
    terminal = Terminal(root)
    terminal.until("sql>")
    terminal.enter(ENDLESS)
    deadline = time.monotonic() + 30
    while not terminal.children():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (child,) = terminal.children()
    os.kill(terminal.process, signal.SIGTERM)
    assert terminal.end() == 128 + signal.SIGTERM
    assert not Path("/proc", child).exists()


def test_without_a_terminal_there_is_no_prompt(root):
    ended = subprocess.run(
        [sys.executable, "-m", "ratemill", "sql", "-w", str(root)],
        env={**os.environ, "PYTHONPATH": SOURCE_ROOT},
        input="SELECT 7 AS x",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ended.stdout == "x\n─\n7\n(1 row)\n"


def test_no_attempt_gets_out_of_the_prompt(root, capsys, monkeypatch):
    monkeypatch.chdir(root / "published")
    before = sorted(root.rglob("*"))
    attempts = {**STATEMENTS, **{name: (f"SELECT * FROM {table}", words) for name, (table, words) in TABLES.items()}}
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        prompt = Prompt(find_workspace(root), QueryLimits(timeout_seconds=20, max_rows=3))
        for statement, _ in attempts.values():
            keys.send_text(f"{' '.join(statement.splitlines())};\r" if "--" not in statement else f"{statement} ;\r")
        keys.send_text(CTRL_D)
        prompt.run()
    shown = capsys.readouterr().out
    errors = [line for line in shown.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(attempts)
    for (_, words), error in zip(attempts.values(), errors, strict=True):
        assert re.search(words, error)
    assert "root:" not in shown
    assert sorted(path for path in root.rglob("*") if path.name != "sql_history") == before
