"""The files under docs/examples that people copy: valid where they are used, and about commands that exist."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from ratemill.cli import COMMANDS, LazyCommand
from ratemill.errors import ExitCode
from ratemill.memory import parse_size
from ratemill.period import parse_periods

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
DOCS = EXAMPLES.parent / "orchestrators.md"
KNOWN = {command.name: LazyCommand(command) for command in COMMANDS}

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def unit(name):
    """A unit file as sections of settings; of a setting that is given twice, the last counts."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=["="])
    parser.optionxform = str
    parser.read_string((EXAMPLES / "systemd" / name).read_text(encoding="utf-8"))
    return parser


def crontab():
    """The lines of the crontab that run something: five fields of time, and the command."""
    lines = (EXAMPLES / "cron" / "crontab").read_text(encoding="utf-8").splitlines()
    return [line.split(None, 5) for line in lines if re.match(r"[\d*]", line)]


def assert_is_a_command(line):
    words = shlex.split(line.partition(" >")[0])
    assert Path(words[0]).name == "ratemill"
    command = KNOWN[words[1]].load()
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words[2:] if word.startswith("-")} <= options, line
    if "--period" in words:
        assert [str(month) for month in parse_periods(words[words.index("--period") + 1], today=date(2026, 11, 1))] == ["2026-10"]  # fmt: skip


# systemd ---------------------------------------------------------------------------------------------------------------


def test_the_service_maps_exit_codes_and_keeps_to_the_workspace():
    settings = unit("ratemill.service")["Service"]
    assert_is_a_command(settings["ExecStart"])
    assert int(settings["SuccessExitStatus"]) == ExitCode.NOTHING_TO_BILL
    assert int(settings["RestartForceExitStatus"]) == ExitCode.TEMPORARY
    workspace = shlex.split(settings["ExecStart"])[3]
    assert settings["ReadWritePaths"] == workspace == unit("ratemill.service")["Unit"]["RequiresMountsFor"]
    text = (EXAMPLES / "systemd" / "ratemill.service").read_text(encoding="utf-8")
    engine = parse_size(re.search(r'memory = "(.+?)"', text)[1])
    assert parse_size(f"{settings['MemoryMax'].removesuffix('G')}GiB") > engine


@pytest.fixture
def installed(tmp_path):
    """The units as somebody installs them: with a command and a user that are there."""
    program = tmp_path / "ratemill"
    program.write_text(f"#!{sys.executable}\n")
    program.chmod(0o755)
    for source in sorted((EXAMPLES / "systemd").iterdir()):
        text = source.read_text(encoding="utf-8").replace("/opt/ratemill/bin/ratemill", str(program))
        (tmp_path / source.name).write_text(re.sub(r"^(User|Group)=.*", r"\1=root", text, flags=re.MULTILINE))
    return tmp_path


@needs_systemd
def test_systemd_takes_the_units_without_a_word(installed):
    units = [str(installed / f"ratemill.{kind}") for kind in ("service", "timer")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
def test_systemd_calls_the_service_well_confined(installed):
    """Exposure from 0 (confined) to 10; the example here runs as root, which counts for 0.4 of it."""
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(installed / "ratemill.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@needs_systemd
def test_the_timer_runs_on_the_first_five_days():
    when = unit("ratemill.timer")["Timer"]["OnCalendar"]
    command = ["systemd-analyze", "calendar", "--base-time=2026-10-28 00:00:00 UTC", "--iterations=6", when]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", told) == [
        f"2026-{day} 06:00:00 UTC" for day in ("11-01", "11-02", "11-03", "11-04", "11-05", "12-01")
    ]


# cron ------------------------------------------------------------------------------------------------------------------


def test_the_crontab_runs_commands_that_exist_in_a_shell_that_takes_them():
    lines = crontab()
    assert len(lines) >= 2
    for *when, command in lines:
        assert all(re.fullmatch(r"\*|\d+([-,]\d+)*", field) for field in when), when
        assert "%" not in command, "cron makes line breaks of them"
        assert subprocess.run(["sh", "-n", "-c", command], check=False).returncode == 0
        assert_is_a_command(command)


def test_the_docs_show_the_lines_of_the_crontab():
    page = DOCS.read_text(encoding="utf-8")
    for line in crontab():
        assert " ".join(line) in page


# the examples that are programs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dagster/definitions.py", "airflow/ratemill_billing.py"])
def test_examples_are_programs_that_the_docs_link_to(name):
    source = (EXAMPLES / name).read_text(encoding="utf-8")
    compile(source, name, "exec")
    assert f"](examples/{name})" in DOCS.read_text(encoding="utf-8")
