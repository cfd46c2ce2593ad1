"""How every command starts and ends, in real processes."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import ratemill
from ratemill import __version__, cli, logs, progress
from ratemill.cli import COMMANDS, GROUPS
from ratemill.cli.shared import opened_workspace, print_entry, wrapped

SOURCE_ROOT = str(Path(ratemill.__file__).resolve().parents[1])

TRIAL = '''
import os, signal, sys, time, errno, logging
from pathlib import Path
import ratemill.cli as cli
from ratemill.cli.shared import JsonOption, LogFormatOption, QuietOption, WorkspaceOption, finish, open_workspace, print_text, set_up_logging
from ratemill.errors import *
from ratemill.findings import Finding, Severity
from ratemill.logs import UNWATCHED
from ratemill.progress import make_progress


class Panic(BaseException):
    """What Polars raises from Rust is no Exception either."""


def found(count):
    return [Finding(Severity.ERROR, "prices.overlap", f"row {n} overlaps", cure="end one", file="prices.csv", row=n)
            for n in range(1, count + 1)]


def trial(what: str, workspace: WorkspaceOption = None, json: JsonOption = False, log_format: LogFormatOption = "text",
          quiet: QuietOption = False):
    """Try."""
    set_up_logging(log_format=log_format, quiet=quiet)
    if what == "done":
        finish({"rows": 7}, json=json)
    elif what == "refused":
        raise DataRefusedError("the book is wrong", findings=found(2))
    elif what == "many":
        raise DataRefusedError("the book is wrong", findings=found(1234))
    elif what == "hostile":
        raise DataRefusedError("account \\x1b[2Jacme")
    elif what == "locked":
        raise LockedError("the period is closed")
    elif what == "nothing":
        raise NothingToBillError("no usage for 2026-10")
    elif what == "memory":
        raise MemoryError
    elif what == "disk":
        raise OSError(errno.ENOSPC, "No space left on device", "x")
    elif what == "rights":
        raise PermissionError(errno.EACCES, "Permission denied", "book/prices.csv")
    elif what == "panic":
        raise Panic("index out of bounds\\nsecond line")
    elif what == "bug":
        if workspace is not None:
            open_workspace(workspace)
        {}["missing"]
    elif what == "duckdb-memory":
        import duckdb
        duckdb.connect(config={"memory_limit": "10MB", "temp_directory": ""}).execute(
            "SELECT list(range) FROM range(10000000)").fetchall()
    elif what == "flood":
        print_text("x\\n" * 1000000)
    elif what == "wait":
        try:
            print("waiting", flush=True)
            time.sleep(60)
        finally:
            Path("cleaned").touch()
    elif what == "swallow":
        try:
            print("waiting", flush=True)
            time.sleep(60)
        except BaseException:
            raise RuntimeError("Query interrupted") from None
    elif what == "steps":
        with make_progress(quiet=quiet) as progress, progress.step("load", total=2, unit="files") as step:
            step.advance(rows=720000)
            step.advance(rows=720000)
            logging.getLogger("ratemill.io").warning("a\\nwarning")
            logging.getLogger("ratemill.io").info("for the log", extra=UNWATCHED)


if __name__ == "__main__":
    cli._BY_NAME["trial"] = cli.Command("trial", "__main__:trial", "Try.")
    cli.main()
'''


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """The command line with one more command, which ends in the way it is told to."""
    path = tmp_path_factory.mktemp("trial") / "trial_command.py"
    path.write_text(TRIAL)
    return path


@pytest.fixture
def run(program, tmp_path, monkeypatch, capsys):
    """``run("trial", "refused")``: exit code, stdout and stderr of one command line, run in this process."""
    monkeypatch.syspath_prepend(program.parent)
    monkeypatch.setitem(cli._BY_NAME, "trial", cli.Command("trial", "trial_command:trial", "Try."))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    logger = logging.getLogger("ratemill")
    before = logger.handlers[:], logger.level, logger.propagate
    workspace = opened_workspace.set(None)

    def run_one(*arguments: str) -> tuple[int, str, str]:
        code = cli.run_command(list(arguments))
        return (code, *capsys.readouterr())

    yield run_one
    for number, handler in handlers.items():
        signal.signal(number, handler)
    logger.handlers[:], logger.level, logger.propagate = before
    opened_workspace.reset(workspace)


def start(program, *arguments):
    """The same in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(program), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": SOURCE_ROOT},
        cwd=program.parent,
    )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_registered_command_exists_and_says_in_help_what_its_docstring_says(command):
    module, _, function = command.function.partition(":")
    documentation = inspect.getdoc(getattr(importlib.import_module(module), function))
    assert documentation.splitlines()[0] == command.help


def test_help_lists_every_command_and_imports_none_of_the_heavy_libraries():
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ratemill", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": SOURCE_ROOT},
    )
    words = dict.fromkeys(command.name.partition(" ")[0] for command in COMMANDS)
    assert re.findall(r"^  ([\w-]+) +\S", result.stdout.partition("Commands:")[2], re.MULTILINE) == list(words)
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert imported & {"polars", "duckdb", "pyarrow", "pydantic", "pandera", "rich", "altair", "typst"} == set()


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_a_group_lists_its_commands_and_is_none_itself(group):
    def ratemill(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "ratemill", *arguments],
            capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": SOURCE_ROOT},
        )  # fmt: skip

    names = [command.name.partition(" ")[2] for command in COMMANDS if command.name.startswith(f"{group} ")]
    told = ratemill(group, "--help")
    assert re.findall(r"^  ([\w-]+) +\S", told.stdout.partition("Commands:")[2], re.MULTILINE) == names
    assert ratemill(group).returncode == 2
    assert "No such command 'nothing'" in ratemill(group, "nothing").stderr


def test_version_and_no_command_at_all(run):
    assert run("--version") == (0, f"ratemill {__version__}\n", "")
    code, output, error = run()
    assert (code, output) == (2, "")
    assert error.startswith("Usage: ratemill ")


@pytest.mark.parametrize(
    ("what", "code", "status", "words"),
    [
        ("refused", 3, "refused", "error: the book is wrong\n  error: prices.csv:1: row 1 overlaps → end one\n"),
        ("locked", 4, "locked", "error: the period is closed\n"),
        ("nothing", 99, "nothing_to_bill", "error: no usage for 2026-10\n"),
        ("memory", 75, "temporary", "error: not enough memory → run again when the machine is less busy"),
        ("duckdb-memory", 75, "temporary", "error: not enough memory → raise [engine] memory"),
        ("disk", 75, "temporary", "error: disk full"),
        ("rights", 2, "usage_error", "is not allowed: permission denied (book/prices.csv)"),
        ("panic", 1, "internal_error", "internal error: Panic: index out of bounds second line; details written to "),
        ("bug", 1, "internal_error", "internal error: KeyError: 'missing'; details written to "),
        ("hostile", 3, "refused", "error: account \\x1b[2Jacme\n"),
    ],
)
def test_errors_become_words_exit_codes_and_json(run, what, code, status, words):
    returned, output, error = run("trial", what, "--json")
    assert returned == code
    assert words in error
    assert "Traceback" not in error
    summary = json.loads(output)
    assert (summary["status"], summary["exit_code"]) == (status, code)
    assert output.count("\n") == 1
    assert run("trial", what)[:2] == (code, "")


def test_many_findings_are_cut_for_people_and_whole_for_machines(run):
    _, output, error = run("trial", "many", "--json")
    assert len(error.splitlines()) == 22
    assert error.splitlines()[-1] == "  … and 1,214 more (--json lists all 1,234)"
    findings = json.loads(output)["findings"]
    assert len(findings) == 1234
    assert findings[0] == {
        "severity": "error",
        "rule": "prices.overlap",
        "message": "row 1 overlaps",
        "cure": "end one",
        "file": "prices.csv",
        "row": 1,
        "column": None,
        "value": None,
    }


def test_success_ends_with_one_json_line(run):
    assert run("trial", "done", "--json") == (0, '{"status": "done", "exit_code": 0, "rows": 7}\n', "")
    assert run("trial", "done") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trial", "done", "--nope"], "error: No such option: --nope (see: ratemill trial --help)\n"),
        (["nope"], "error: No such command 'nope' (see: ratemill --help)\n"),
        (["trial"], "error: Missing argument 'what' (see: ratemill trial --help)\n"),
        (["trial", "done", "--log-format", "xml"], "'xml' is not one of 'text', 'json'"),
        (["sql", "SELECT 1", "--workspace", "nowhere"], "error: no workspace found; tried in order: --workspace:"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(run, arguments, words):
    code, output, error = run(*arguments)
    assert (code, output) == (2, "")
    assert words in error


def test_details_of_a_bug_go_to_the_workspace_and_stay_private(run, tmp_path):
    (tmp_path / "ratemill.toml").write_text('[seller]\nname = "Fjord Cloud"\ncountry = "NO"\n')
    _, _, error = run("trial", "bug", "--workspace", str(tmp_path))
    (details,) = (tmp_path / "state" / "errors").iterdir()
    assert str(details) in error
    assert details.stat().st_mode & 0o777 == 0o600
    text = details.read_text()
    assert f"ratemill {__version__}, Python " in text
    assert "ratemill trial bug --workspace" in text
    assert text.rstrip().endswith("KeyError: 'missing'")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "number", "code", "message"),
    [
        ("wait", signal.SIGTERM, 143, "stopped by SIGTERM; nothing half-written\n"),
        ("wait", signal.SIGHUP, 129, "stopped by SIGHUP; nothing half-written\n"),
        ("wait", signal.SIGINT, 130, "stopped; nothing half-written\n"),
        ("swallow", signal.SIGTERM, 143, "stopped by SIGTERM; nothing half-written\n"),  # as databases do
        ("swallow", signal.SIGINT, 130, "stopped; nothing half-written\n"),
    ],
)
def test_a_signal_runs_the_clean_up_and_ends_with_its_code(program, what, number, code, message):
    cleaned = program.parent / "cleaned"
    cleaned.unlink(missing_ok=True)
    with start(program, "trial", what, "--json") as process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(number)
        output, error = process.communicate(timeout=20)
    assert (process.returncode, error) == (code, message)
    assert json.loads(output)["exit_code"] == code
    assert cleaned.exists() == (what == "wait")


def test_json_log_lines_hold_the_fields_and_text_lines_the_same_in_words(run):
    code, _, error = run("trial", "steps", "--log-format", "json")
    warning, line, step = map(json.loads, error.splitlines())
    assert (code, warning["level"], warning["message"]) == (0, "warning", "a\nwarning")
    assert set(line) == {"time", "level", "message"}
    assert (step["level"], step["message"], step["step"], step["rows"]) == ("info", "load: 2 files", "load", 1440000)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", step["time"])
    assert step["seconds"] >= 0

    _, _, error = run("trial", "steps")
    warning, line, step = error.splitlines()
    assert warning.endswith("Z warning: a warning")
    assert line.endswith("Z for the log")
    assert "Z load: 2 files (step load, rows 1,440,000, files 2, seconds " in step


def test_a_long_step_says_that_it_is_alive_and_lines_name_their_run(capsys, monkeypatch, run):
    def fail_after_a_while():
        time.sleep(0.1)
        raise ZeroDivisionError

    monkeypatch.setattr(progress, "_HEARTBEAT_SECONDS", 0.03)
    logs.configure("json")
    with logs.bound(run_id="2026-10-abc", period="2026-10"):
        with progress.LogProgress().step("load", total=2, unit="files") as step:
            step.advance(rows=5)
            time.sleep(0.1)
            step.done("5 rows")
        with pytest.raises(ZeroDivisionError), progress.LogProgress().step("rate"):
            fail_after_a_while()  # is not told as finished
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    *alive, finished = (line for line in lines if line["step"] == "load")
    assert {(line["message"], line["rows"], line["run_id"]) for line in alive} == {
        ("load: 1/2 files so far", 5, "2026-10-abc")
    }
    assert (finished["message"], finished["run_id"], finished["period"]) == ("load: 5 rows", "2026-10-abc", "2026-10")
    assert {(line["message"], line["period"]) for line in lines if line["step"] == "rate"} == {
        ("rate: at work", "2026-10")
    }


def test_quiet_shows_warnings_only(run):
    _, _, error = run("trial", "steps", "--quiet")
    assert error.splitlines()[0].endswith("Z warning: a warning")
    assert len(error.splitlines()) == 1


def test_errors_are_log_lines_when_the_log_is_json(run):
    _, _, error = run("trial", "refused", "--log-format=json")
    (line,) = map(json.loads, error.splitlines())
    assert (line["level"], line["message"], line["exit_code"]) == ("error", "the book is wrong", 3)
    assert [finding["row"] for finding in line["findings"]] == [1, 2]


def test_a_bug_shows_its_traceback_only_to_who_asks(run, monkeypatch):
    monkeypatch.setenv("RATEMILL_DEBUG", "1")
    assert "Traceback (most recent call last)" in run("trial", "bug")[2]


@pytest.mark.slow
def test_a_large_output_is_whole_or_an_error_also_when_unbuffered(program):
    """With an unbuffered stdout Python drops the rest of a text in silence when its reader leaves."""
    for unbuffered in ("", "1"):
        command = [sys.executable, str(program), "trial", "flood"]
        environment = {**os.environ, "PYTHONPATH": SOURCE_ROOT, "PYTHONUNBUFFERED": unbuffered}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
            assert process.stdout.readline() == b"x\n"
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 128 + signal.SIGPIPE


def test_a_terminal_shows_bars_and_keeps_log_lines_apart(program):
    """On a pseudo terminal, as a person sees it."""
    controller, terminal = os.openpty()
    command = [sys.executable, str(program), "trial", "steps"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": SOURCE_ROOT}
    with subprocess.Popen(command, stderr=terminal, stdout=subprocess.DEVNULL, env=environment) as process:
        os.close(terminal)
        shown = b""
        while chunk := _read(controller):
            shown += chunk
    os.close(controller)
    text = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", shown).decode()
    assert process.returncode == 0
    assert "load" in text
    assert "2/2 files, 1,440,000 rows" in text
    assert re.search(r"[\r\n]warning: a warning *[\r\n]", text)
    assert "for the log" not in text


class Terminal(io.StringIO):
    """Somebody looks at it."""

    def isatty(self) -> bool:
        return True


def test_long_lines_wrap_at_words_on_a_terminal_only(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = "sent      email    a@b.example: budget acme reached 80%: EUR\N{NO-BREAK SPACE}1,234.56"
    assert wrapped(text, io.StringIO(), under=19) == text
    assert wrapped(text, Terminal(), under=19).splitlines() == [
        "sent      email    a@b.example: budget",
        "                   acme reached 80%:",
        "                   EUR\N{NO-BREAK SPACE}1,234.56",
    ]


def test_an_entry_of_a_list_has_colour_on_a_terminal_only(monkeypatch):
    monkeypatch.setenv("COLUMNS", "32")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    shown = {}
    for stream in (io.StringIO(), Terminal()):
        monkeypatch.setattr(sys, "stdout", stream)
        print_entry("OPEN    usage.holes    ", "3 hours\x1b[2J are missing", colour="red")
        shown[stream.isatty()] = stream.getvalue()
    assert shown[False] == "OPEN    usage.holes    3 hours\\x1b[2J are missing\n"
    assert shown[True].startswith("\x1b[31mOPEN\x1b[0m    usage.holes    3\n")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # Linux says EIO when the other end is closed
        return b""
