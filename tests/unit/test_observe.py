"""Who is told while a command works: steps begin and end, a file says what is done, and watching never hurts."""

from __future__ import annotations

import json
import os
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest

from ratemill import logs
from ratemill.findings import Finding, Severity
from ratemill.io.heartbeat import STALE_SECONDS, Heartbeat, read_beat
from ratemill.observe import Ending, Observed, observe, tell_over
from ratemill.progress import SilentProgress

ERROR = Finding(Severity.ERROR, "prices.overlap", "row 1 overlaps")
NOTE = Finding(Severity.INFO, "einvoice.not_possible", "no e-invoice")


class Diary:
    """An observer that writes everything down."""

    def __init__(self):
        self.lines = []

    def begun(self, work):
        self.lines.append(f"{work.name} of {work.period} begins")

    def ended(self, work, error):
        self.lines.append(f"{work.name} of run {work.run_id}: {work.rows} rows, {work.units} files; {error!r}")

    def leaving(self, context):  # noqa: ARG002 - the protocol has it
        self.lines.append("leaving")

    def over(self, ending):
        self.lines.append(f"exit code {ending.exit_code}, {ending.errors} errors")


class Clumsy(Diary):
    """An observer that always trips."""

    def begun(self, work):  # noqa: ARG002 - the protocol has it
        raise ZeroDivisionError("oops")

    def over(self, ending):  # noqa: ARG002
        raise OSError("no space left")


def test_steps_are_told_with_period_run_and_counts():
    diary = Diary()
    progress = Observed(SilentProgress(), [diary])
    with logs.bound(period="2026-10", run_id=None), progress.step("load", unit="files") as step:
        step.advance(rows=5)
        step.advance(rows=2)
        step.done("7 rows", run_id="2026-10-abc")
    with pytest.raises(ZeroDivisionError), progress.step("rate"):
        raise ZeroDivisionError
    assert diary.lines == [
        "load of 2026-10 begins",
        "load of run 2026-10-abc: 7 rows, 2 files; None",
        "rate of None begins",
        "rate of run None: 0 rows, 0 files; ZeroDivisionError()",
    ]


def test_an_observer_that_trips_is_a_warning_and_the_others_are_told(capsys):
    logs.configure()
    diary = Diary()
    with Observed(SilentProgress(), [Clumsy(), diary]).step("load"):
        pass
    assert "warning: clumsy: ZeroDivisionError: oops" in capsys.readouterr().err
    assert len(diary.lines) == 2


def test_how_a_command_ended_is_told_once(capsys):
    logs.configure()
    diary = Diary()
    observe([Clumsy()])
    observe([diary])
    tell_over(Ending(3, "refused", (ERROR, NOTE)))
    tell_over(Ending(0))
    assert diary.lines == ["exit code 3, 1 errors"]
    assert "warning: clumsy: OSError: no space left" in capsys.readouterr().err


def test_an_error_remembers_where_it_came_from():
    with pytest.raises(ValueError, match="wrong") as caught, logs.bound(period="2026-10"), logs.bound(step="rate"):
        raise ValueError("wrong")
    assert logs.where(caught.value) == {"period": "2026-10", "step": "rate"}
    assert logs.where(ValueError()) == {}


# ------------------------------------------------------------------------------------------------------------- heartbeat


def beat_that_says(path, **words):
    """What the file says, once it says so."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        beat = read_beat(path)
        if beat is not None and all(getattr(beat, name) == value for name, value in words.items()):
            return beat
        time.sleep(0.002)
    pytest.fail(f"{path} never said {words}: {beat}")


def test_the_file_follows_the_steps_and_goes_with_the_command(tmp_path):
    path = tmp_path / "state" / "heartbeat.json"
    with Heartbeat(path, command="ratemill run --period 2026-10") as heartbeat:
        first = beat_that_says(path, step=None)
        assert (first.command, first.pid) == ("ratemill run --period 2026-10", os.getpid())
        assert path.stat().st_mode & 0o777 == 0o600
        progress = Observed(SilentProgress(), [heartbeat])
        with logs.bound(period="2026-10"), progress.step("load", total=31, unit="files"):
            loading = beat_that_says(path, step="load")
            assert (loading.period, loading.total, loading.unit, loading.rows) == ("2026-10", 31, "files", None)
            assert loading.trouble(datetime.now(UTC)) == ""
    assert list(path.parent.iterdir()) == []


def test_it_is_written_again_and_again(tmp_path, monkeypatch):
    monkeypatch.setattr("ratemill.io.heartbeat.INTERVAL_SECONDS", 0.01)
    path = tmp_path / "heartbeat.json"
    with Heartbeat(path, command="ratemill run"):
        first = beat_that_says(path)
        written = path.stat().st_mtime_ns
        deadline = time.monotonic() + 5
        while path.stat().st_mtime_ns == written:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        assert read_beat(path).started == first.started


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "state").write_text("a file is in the way", encoding="utf-8")
    with Heartbeat(tmp_path / "state" / "heartbeat.json", command="ratemill run"):
        pass
    assert (tmp_path / "state").read_text(encoding="utf-8") == "a file is in the way"


def test_what_cannot_be_believed_says_why(tmp_path):
    path = tmp_path / "heartbeat.json"
    with Heartbeat(path, command="ratemill run"):
        said = json.loads(json.dumps(vars(beat_that_says(path))))
    now = datetime.now(UTC)
    dead = subprocess.Popen(["true"])
    dead.wait()
    path.write_text(json.dumps(said | {"pid": dead.pid}), encoding="utf-8")
    assert "is gone: it was killed" in read_beat(path).trouble(now)
    path.write_text(json.dumps(said | {"host": "elsewhere", "pid": dead.pid}), encoding="utf-8")
    assert read_beat(path).trouble(now) == ""
    assert "sign of life is" in read_beat(path).trouble(now + timedelta(seconds=STALE_SECONDS + 2))


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"pid": 1}', b"\xff", b'{"pid": "x", "updated": "2026-11-02T03:01:00Z"}']
)
def test_a_damaged_file_says_nothing(tmp_path, content):
    (tmp_path / "heartbeat.json").write_bytes(content)
    assert read_beat(tmp_path / "heartbeat.json") is None
