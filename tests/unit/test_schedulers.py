"""What all schedulers share: which month is due, the commands of its steps, and a command that ends or is stopped."""

from __future__ import annotations

import logging
import os
import signal
import sys
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from ratemill.cli import COMMANDS, LazyCommand
from ratemill.errors import ExitCode
from ratemill.integrations.calls import call
from ratemill.integrations.steps import STEPS, due_period
from ratemill.io.lock import hold_lock, read_holder
from workspaces import PERIOD, SOURCE_ROOT, make_workspace

pytestmark = pytest.mark.slow  # each test starts processes of its own

RATEMILL = (sys.executable, "-m", "ratemill")


# Which month -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instant", "zone", "month"),
    [
        ("2026-11-01T00:00:00+00:00", "UTC", "2026-10"),
        ("2026-11-30T23:59:59+00:00", "UTC", "2026-10"),
        ("2026-10-31T23:30:00+00:00", "UTC", "2026-09"),
        ("2026-10-31T23:30:00+00:00", "Europe/Berlin", "2026-10"),  # it is November there
        ("2026-11-01T03:30:00+00:00", "America/New_York", "2026-09"),  # it is still October there
        ("2026-11-01T04:00:00+00:00", "America/New_York", "2026-10"),
        ("2026-10-31T10:00:00+00:00", "Pacific/Kiritimati", "2026-10"),
        ("2026-11-01T11:59:00+00:00", "Etc/GMT+12", "2026-09"),
        ("2027-01-01T06:00:00+01:00", "Europe/Berlin", "2026-12"),
        ("2028-03-01T00:00:00+05:45", "Asia/Kathmandu", "2028-02"),
    ],
)
def test_the_month_before_is_due_by_the_clocks_of_the_zone(instant, zone, month):
    assert str(due_period(datetime.fromisoformat(instant), zone)) == month


def test_an_instant_without_an_offset_is_refused():
    with pytest.raises(ValueError, match="no offset from UTC"):
        due_period(datetime(2026, 11, 1), "UTC")  # noqa: DTZ001
    assert str(due_period(datetime(2026, 11, 1, tzinfo=ZoneInfo("Asia/Tokyo")), "UTC")) == "2026-09"
    assert str(due_period(datetime(2026, 11, 1, tzinfo=UTC), "UTC")) == "2026-10"


# The commands ----------------------------------------------------------------------------------------------------------


def test_steps_are_commands_and_their_options_exist():
    known = {command.name: LazyCommand(command).load() for command in COMMANDS}
    for step in STEPS:
        options = {option for parameter in known[step.command].params for option in parameter.opts}
        line = step.arguments("/srv/billing", PERIOD, 60)
        assert {word for word in line if word.startswith("--")} <= options
        assert step.takes_period == ("--period" in options)


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO)
    return logging.getLogger("scheduler")


@pytest.fixture(autouse=True)
def source_of_the_command(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", SOURCE_ROOT)


def test_a_command_tells_its_log_as_it_comes_and_its_summary_at_the_end(tmp_path, log, caplog):
    shop = make_workspace(tmp_path / "shop")
    ended = call([*RATEMILL, "load", *STEPS[0].arguments(str(shop.root), PERIOD, 0)], log)
    assert (ended.code, ended.summary["rows"], ended.summary["status"]) == (ExitCode.DONE, 72, "done")
    assert any(record.message.startswith("load: ") and "rows 72" in record.message for record in caplog.records)


def test_a_refusal_is_told_in_a_sentence(tmp_path, log):
    shop = make_workspace(tmp_path / "shop", usage=[])
    (shop.root / "usage" / "bad.parquet").write_bytes(b"PAR1")
    refused = call([*RATEMILL, "load", *STEPS[0].arguments(str(shop.root), PERIOD, 0)], log)
    assert (refused.code, refused.may_pass) == (ExitCode.DATA_REFUSED, False)
    assert refused.told.startswith("usage/bad.parquet: ")


def test_a_command_that_is_not_there_or_was_killed_is_told(tmp_path, log, caplog):
    missing = call([str(tmp_path / "ratemill"), "load"], log)
    assert (missing.code, missing.told) == (127, f"{tmp_path}/ratemill can't be started: No such file or directory")
    killed = call(["sh", "-c", "echo out of memory >&2; kill -KILL $$"], log)
    assert (killed.code, killed.told) == (-signal.SIGKILL, "killed by SIGKILL; nothing is half-written")
    assert "out of memory" in caplog.text
    assert call(["sh", "-c", "exit 7"], log).told == "ended with exit code 7"


class Cancelled(BaseException):
    """As schedulers raise it where the process is."""


def test_what_cancels_the_call_stops_the_command(tmp_path, log):
    """The command waits for a workspace that another holds; it is gone when the call is."""
    shop = make_workspace(tmp_path / "shop", usage=[])

    def cancel(number, frame):
        raise Cancelled

    former = signal.signal(signal.SIGALRM, cancel)
    lock = shop.root / "state" / "lock"
    try:
        with hold_lock(lock, command="ratemill run --period 2026-10"):
            signal.setitimer(signal.ITIMER_REAL, 2.5)
            with pytest.raises(Cancelled):
                call([*RATEMILL, "load", *STEPS[0].arguments(str(shop.root), PERIOD, 300)], log)
            assert read_holder(lock).pid == os.getpid()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # no child is left
    with hold_lock(lock, command="ratemill load"):
        pass
