"""Ratemill as cron, systemd, Airflow and Kubernetes start it: killed, doubled, late, far back, and in odd surroundings.

Every process is a real one. What random moments, full disks, hostile files and closed permissions do is in
tests/crash and in test_bad_runs.py; that the same run again does nothing is in test_again.py.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crash.forks import Forks
from crash.states import differences, state_of
from ratemill.errors import ExitCode
from ratemill.insight.plan import STEPS
from workspaces import BOOK, NOW, PERIOD, SOURCE_ROOT, good_usage, hours, make_workspace

pytestmark = pytest.mark.slow

CONFIG = {"output": {"pdf": True, "html": True}}
OF_A_RUN = [step for step in STEPS if step != "correct"]
"""Steps that a run without closed months has."""
NOBODY = 65534


def arguments(shop, *options, command="run"):
    return [command, "-w", str(shop.root), "-p", PERIOD, "--as-of", NOW, *options]


def process(shop, *options, command="run", prefix=(), **popen):
    """``ratemill run`` started as a scheduler does, on its own and without a terminal."""
    line = [*prefix, sys.executable, "-m", "ratemill", *arguments(shop, *options, command=command)]
    settings = {"env": {**os.environ, "PYTHONPATH": SOURCE_ROOT}, "start_new_session": True, "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}  # fmt: skip
    return subprocess.Popen(line, **(settings | popen))


def ended(started):
    """Exit code, stdout and stderr of a process."""
    out, err = (stream or b"" for stream in started.communicate(timeout=240))
    assert b"Traceback" not in err, err.decode()
    return started.returncode, out.decode(), err.decode()


@pytest.fixture(scope="module")
def waiting(tmp_path_factory):
    """A workspace that was never run, and what it comes to."""
    folder = tmp_path_factory.mktemp("schedulers")
    shop = make_workspace(folder / "shop", usage=[good_usage(), hours(resource="vm-2", count=744)], config=CONFIG)
    shutil.copytree(shop.root, folder / "waiting")
    assert shop.run().code == ExitCode.DONE
    expected = state_of(shop.root)
    documents = shop.documents()
    return folder, expected, documents


@pytest.fixture
def shop(waiting):
    """A fresh copy of it, always at the same path."""
    folder, _, _ = waiting
    shutil.rmtree(folder / "shop")
    shutil.copytree(folder / "waiting", folder / "shop")
    return make_workspace(folder / "shop", usage=[], config=CONFIG)


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    with Forks(tmp_path_factory.mktemp("forks")) as started:
        yield started


# ------------------------------------------------------------------------------------------------------ killed, retried


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["TERM", "KILL"])
@pytest.mark.parametrize("step", OF_A_RUN)
def test_stopped_in_a_step_and_retried(waiting, shop, forks, step, number):
    _, expected, _ = waiting
    stopped = forks.run(*arguments(shop, "-q", "--json"), signal=number, in_step=step)
    status = shop.command("status").summary
    assert status["at_work"] is None
    if number == signal.SIGTERM:
        assert stopped.code == 128 + signal.SIGTERM, stopped.said
        assert '"status": "terminated", "exit_code": 143' in stopped.said
        assert status["heartbeat"] is None
    else:
        assert stopped.code == -signal.SIGKILL
        assert "it was killed, and the next run goes on from what stands" in status["heartbeat"]["trouble"]
    retried = forks.run(*arguments(shop, "-q", "--json"))
    assert retried.code == ExitCode.DONE, retried.said
    assert differences(expected, state_of(shop.root)) == []


# ----------------------------------------------------------------------------------------------------------- overlapping


def paused(shop):
    """A run that is at work and goes no further before it is told to."""
    run = process(shop, "--json")
    heartbeat = shop.root / "state" / "heartbeat.json"
    deadline = time.monotonic() + 60
    while not heartbeat.exists():
        assert run.poll() is None, ended(run)
        assert time.monotonic() < deadline, "no heartbeat"
        time.sleep(0.005)
    run.send_signal(signal.SIGSTOP)
    return run


def test_of_two_runs_at_once_the_second_names_the_first(waiting, shop):
    _, expected, _ = waiting
    first = paused(shop)
    try:
        second = ended(process(shop, "--json"))
        status = shop.command("status").summary
        shown = shop.command("status", json=False).stdout
    finally:
        first.send_signal(signal.SIGCONT)
    assert second[0] == ExitCode.LOCKED
    assert json.loads(second[1].splitlines()[-1])["status"] == "locked"
    assert f"locked by pid {first.pid} on " in second[2]
    assert f"running `ratemill run --period {PERIOD}`" in second[2]
    assert (status["heartbeat"]["pid"], status["heartbeat"]["trouble"]) == (first.pid, "")
    assert "seconds ago" in shown
    assert ended(first)[0] == ExitCode.DONE
    assert differences(expected, state_of(shop.root)) == []


def test_a_run_that_waits_for_the_other_has_nothing_to_do(shop):
    first = paused(shop)
    second = process(shop, "--json", "--wait", "120")
    time.sleep(0.5)
    first.send_signal(signal.SIGCONT)
    assert ended(first)[0] == ExitCode.DONE
    code, out, _ = ended(second)
    assert code == ExitCode.DONE
    assert json.loads(out.splitlines()[-1])["periods"][0]["nothing_to_do"]


def test_many_at_once_are_as_good_as_one(waiting, shop):
    _, expected, _ = waiting
    codes = [ended(one)[0] for one in [process(shop, "--json", "-q") for _ in range(4)]]
    assert ExitCode.DONE in codes
    assert set(codes) <= {ExitCode.DONE, ExitCode.LOCKED}
    assert differences(expected, state_of(shop.root)) == []


# ------------------------------------------------------------------------------------------------------- clock, backfill


@pytest.mark.parametrize("clock", ["2026-11-01T14:00:00Z", "2027-06-30T23:59:59+05:30", "2099-01-01T00:00:00Z"])
def test_a_run_that_is_late_comes_to_the_same(waiting, shop, clock):
    _, _, documents = waiting
    late = shop.command("run", "--period", PERIOD, "--as-of", clock)
    assert late.code == ExitCode.DONE, late.stderr
    assert shop.documents() == documents


@pytest.mark.parametrize("clock", ["1970-01-01T00:00:00Z", "2026-09-30T09:59:59Z"])
def test_a_clock_that_is_far_behind_bills_nothing_and_is_named(shop, clock):
    early = shop.command("run", "--period", PERIOD, "--as-of", clock)
    assert early.code == ExitCode.USAGE
    assert "has not begun: it is " in early.stderr
    assert "or the clock" in early.stderr
    assert shop.written() == {}


def test_last_is_the_month_before_the_given_clock(shop):
    last = shop.command("run", "--period", "last", "--as-of", NOW)
    assert [period["period"] for period in last.summary["periods"]] == [PERIOD]


def test_a_year_is_backfilled_in_one_go_or_month_by_month(tmp_path):
    """January and May have no usage: in a range they are passed and told, alone they end with 99."""
    months = [f"2026-{month:02}" for month in range(1, 11) if month not in (1, 5)]
    usage = {f"{month}.parquet": hours(first=f"{month}-03T00:00:00Z", count=48) for month in months}
    config = {"output": {"pdf": False, "html": True}}
    at_once = make_workspace(tmp_path / "at-once", usage=usage, config=config)
    all_of_it = at_once.run(period="2026-01..2026-10")
    assert all_of_it.code == ExitCode.DONE, all_of_it.stderr
    assert [period["period"] for period in all_of_it.summary["periods"]] == months
    assert all_of_it.summary["nothing_to_bill"] == ["2026-01", "2026-05"]

    one_by_one = make_workspace(tmp_path / "one-by-one", usage=usage, config=config)
    codes = {f"2026-{month:02}": one_by_one.run(period=f"2026-{month:02}").code for month in range(1, 11)}
    assert {period for period, code in codes.items() if code == ExitCode.NOTHING_TO_BILL} == {"2026-01", "2026-05"}
    assert {period for period, code in codes.items() if code == ExitCode.DONE} == set(months)
    assert one_by_one.documents() == at_once.documents()

    again = at_once.run(period="2026-01..2026-10")
    assert all(period["nothing_to_do"] for period in again.summary["periods"])
    nothing = at_once.run(period="2025-01..2025-03")
    assert nothing.code == ExitCode.NOTHING_TO_BILL


# ---------------------------------------------------------------------------------------------------------- surroundings


def bare(**variables):
    """An environment with nothing in it but where Python finds the program."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": SOURCE_ROOT, **variables}


ENVIRONMENTS = {
    "no HOME, no terminal, no language": bare(),
    "LANG=C": bare(LANG="C", LC_ALL="C", HOME="/nonexistent"),
    "another time zone": bare(TZ="Pacific/Kiritimati", LANG="C.UTF-8"),
}


@pytest.mark.parametrize("case", ENVIRONMENTS)
def test_surroundings_change_no_byte(tmp_path, case):
    names = [row | {"name": "Müller & Söhne ☁"} for row in BOOK["accounts"]]
    usage = {"größe-☁.parquet": good_usage()}
    reference = make_workspace(tmp_path / "reference", usage=usage, book={"accounts": names}, config=CONFIG)
    assert reference.run().code == ExitCode.DONE
    shop = make_workspace(tmp_path / "shop", usage=usage, book={"accounts": names}, config=CONFIG)
    code, out, err = ended(process(shop, env=ENVIRONMENTS[case], cwd="/"))
    assert code == ExitCode.DONE, err
    assert "drafts written" in out
    assert shop.documents() == reference.documents()


def test_a_file_whose_name_is_no_text_is_refused_and_the_others_are_billed(shop):
    odd = os.fsencode(shop.root / "usage") + b"/gr\xf6\xdfe.parquet"
    shutil.copy(shop.root / "usage" / "usage-0.parquet", odd)
    ended_so = shop.run()
    assert ended_so.code == ExitCode.DATA_REFUSED
    assert ended_so.finding("usage.file_refused")["file"] == "usage/gr\\xf6\\xdfe.parquet"
    assert ended_so.rows["billed"] == 816


@pytest.mark.parametrize("mask", [0o077, 0o000])
def test_what_is_written_is_private_whatever_the_mask(shop, mask):
    code, _, err = ended(process(shop, "-q", umask=mask))
    assert code == ExitCode.DONE, err
    for part in ("state", "out", "published"):
        assert (shop.root / part).stat().st_mode & 0o077 == 0, "who may not enter the folder reads no file in it"


def test_closed_streams_and_no_stdin(waiting, shop):
    """As daemons start their children: neither stdin nor stdout nor stderr."""
    _, expected, _ = waiting
    line = f"exec {sys.executable} -m ratemill {' '.join(arguments(shop, '--json'))} <&- >&- 2>&-"
    done = subprocess.run(
        ["sh", "-c", line],
        env={**os.environ, "PYTHONPATH": SOURCE_ROOT},
        timeout=240,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == ExitCode.DONE
    assert differences(expected, state_of(shop.root)) == []


@pytest.mark.parametrize("options", [["--json"], [], ["--log-format", "json"]], ids=["json", "page", "log"])
def test_a_reader_that_leaves_early_does_not_stop_the_work(waiting, shop, options):
    """The work is done and stands; exit code 141 says that nobody read the summary."""
    _, expected, _ = waiting
    run = process(shop, *options)
    run.stdout.close()
    run.stderr.close()
    assert run.wait(timeout=240) == 128 + signal.SIGPIPE
    assert differences(expected, state_of(shop.root)) == []
    assert ended(process(shop, *options))[0] == ExitCode.DONE


def test_a_refusal_with_nobody_to_tell_keeps_its_code(shop):
    shop.write_book("prices", None)
    run = process(shop, "--json")
    run.stdout.close()
    run.stderr.close()
    assert run.wait(timeout=240) == ExitCode.DATA_REFUSED
    assert shop.written() == {}


def as_nobody():
    """What to start a command with, so that it is another user's; it may still read the program, wherever that is."""
    if os.getuid() != 0:
        pytest.skip("only root can start a process as another user")
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("there is no setpriv to start a process as another user")
    reading = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *reading]


@pytest.fixture
def passable():
    """A folder that every user may go through; those of pytest are private."""
    with tempfile.TemporaryDirectory(prefix="ratemill-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_another_user_and_inputs_that_are_only_lent(passable):
    """The inputs are root's and read-only; the folder they lie in is the user's, who has no home."""
    prefix = as_nobody()
    shop = make_workspace(passable / "shop", config=CONFIG)
    os.chown(shop.root, NOBODY, NOBODY)
    inputs = [
        shop.root / "ratemill.toml",
        *(path for name in ("book", "usage") for path in (shop.root / name).rglob("*")),
    ]
    for path in inputs:
        path.chmod(0o444)
    for name in ("book", "usage"):
        (shop.root / name).chmod(0o555)
    before = {path: path.stat().st_mtime_ns for path in inputs}

    code, _, err = ended(process(shop, "-q", prefix=prefix, env=bare(HOME="/nonexistent")))
    assert code == ExitCode.DONE, err
    written = [path for part in ("state", "out", "published") for path in (shop.root / part).rglob("*")]
    assert {path.stat().st_uid for path in written} == {NOBODY}
    assert {path: path.stat().st_mtime_ns for path in inputs} == before
    _, planned, _ = ended(process(shop, "--json", command="plan", prefix=prefix, env=bare()))
    assert json.loads(planned)["periods"][0]["would_run"] is False


def test_a_folder_that_may_not_be_written_to_is_named(passable):
    prefix = as_nobody()
    shop = make_workspace(passable / "shop", config=CONFIG)
    code, _, err = ended(process(shop, "-q", prefix=prefix, env=bare()))
    assert code == ExitCode.USAGE
    assert f"locking {shop.root}/state/lock is not allowed: permission denied" in err


# ------------------------------------------------------------------------------------------------------------- heartbeat


def test_the_heartbeat_says_what_is_done_and_goes_with_the_command(shop):
    run = paused(shop)
    path = shop.root / "state" / "heartbeat.json"
    try:
        beat = json.loads(path.read_text(encoding="utf-8"))
        age = time.time() - path.stat().st_mtime
    finally:
        run.send_signal(signal.SIGCONT)
    assert (beat["command"], beat["pid"]) == (f"ratemill run --period {PERIOD}", run.pid)
    assert datetime.fromisoformat(beat["started"]) <= datetime.fromisoformat(beat["updated"]) <= datetime.now(UTC)
    assert age < 60
    assert path.stat().st_mode & 0o077 == 0 if path.exists() else True
    assert ended(run)[0] == ExitCode.DONE
    assert not path.exists()


def test_a_stale_heartbeat_is_told(shop):
    """The process lives, but nothing was heard of it for long: it hangs, or is on another machine."""
    path = shop.root / "state" / "heartbeat.json"
    path.parent.mkdir()
    path.write_text(
        json.dumps({"command": "ratemill run --period 2026-10", "pid": os.getpid(), "host": "elsewhere", "step": "rate",
                    "started": "2026-11-02T03:00:00Z", "updated": "2026-11-02T03:01:00Z", "period": PERIOD})
    )  # fmt: skip
    told = shop.command("status", json=False).stdout
    assert "heartbeat  STALE: the last sign of life is " in told
    assert f"it was at rate of {PERIOD}, since 2026-11-02T03:00:00Z" in told
    path.write_text("{")
    assert shop.command("status").summary["heartbeat"] is None


# ------------------------------------------------------------------------------------------------------------------ logs


def test_each_step_is_a_line_with_run_period_rows_and_seconds(shop):
    code, _, err = ended(process(shop, "--log-format", "json"))
    assert code == ExitCode.DONE
    lines = [json.loads(line) for line in err.splitlines()]
    steps = {line["step"]: line for line in lines if "step" in line}
    assert list(steps) == ["load", "duplicates", "check", "rate", "invoice", "report", "publish"]
    for name in ("check", "rate", "invoice", "report"):
        assert steps[name]["period"] == PERIOD, name
        assert steps[name]["run_id"].startswith(f"{PERIOD}-"), name
    assert len({steps[name]["run_id"] for name in ("check", "rate", "invoice", "report")}) == 1
    assert {name: steps[name]["rows"] for name in ("load", "check", "rate")} == {"load": 816, "check": 816, "rate": 816}
    assert steps["invoice"]["rows"] > 0
    assert steps["report"]["files"] == sum(1 for path in (shop.root / "out" / PERIOD).rglob("*") if path.is_file()) - 1
    assert all(step["seconds"] >= 0 for step in steps.values())


def test_the_line_of_an_error_says_where_it_came_from(shop):
    shop.write_book("prices", BOOK["prices"][1:])
    code, _, err = ended(process(shop, "--log-format", "json"))
    assert code == ExitCode.DATA_REFUSED
    last = json.loads(err.splitlines()[-1])
    assert (last["level"], last["exit_code"]) == ("error", 3)
    assert "have no price" in last["message"]
