"""A month in Airflow, for real: the example of the docs by Airflow's own task runner, on real workspaces.

`make airflow-check` makes an environment with Airflow and runs these; elsewhere they are skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

if importlib.util.find_spec("airflow") is None:
    pytest.skip("Airflow is not installed here; make airflow-check has it", allow_module_level=True)

from disks import fill, needs_root, small_disk
from ratemill.integrations.steps import due_period
from workspaces import ADDRESSED, BOOK, SOURCE_ROOT, make_workspace, month_of_usage

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # the warnings of Airflow are Airflow's

HERE = Path(__file__).parent
STEPS = ("load", "check", "rate", "invoice", "report", "publish")
DAY = "2026-03-03T05:00:00+00:00"  # 6 in the morning in Berlin
ROOM_AFTERWARDS = 'ratemill "$@"; code=$?; rm -f "$BALLAST"; exit $code'


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """A fresh installation: its environment, and its database made."""
    home = tmp_path_factory.mktemp("airflow")
    environment = {
        **os.environ,
        "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}",
        "PYTHONPATH": SOURCE_ROOT,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(HERE.parents[1] / "docs" / "examples" / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    command(environment, "-m", "airflow", "db", "migrate")
    return environment


def command(environment, *line, told=None):
    done = subprocess.run(
        [sys.executable, *line], env=environment, input=told, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def run(environment, *cases):
    """Runs of the example, one after the other; see airflow_runs.py."""
    told = command(environment, str(HERE / "airflow_runs.py"), told=json.dumps(cases))
    return json.loads(told.splitlines()[-1])


def workspace(folder, **changes):
    changes.setdefault("usage", {"2026-02.parquet": month_of_usage("2026-02-01T00:00:00Z", 672)})
    config = {"period": {"time_zone": "UTC"}}
    return make_workspace(folder, **{**changes, "config": config, "book": {"accounts": ADDRESSED, **changes.get("book", {})}})  # fmt: skip


def states(tasks):
    return {name: tasks[name]["state"] for name in STEPS}


def test_months_of_every_kind(airflow, tmp_path):
    """In one process, since Airflow takes its time to start."""
    good = workspace(tmp_path / "good")
    broken = workspace(tmp_path / "broken", book={"prices": [row | {"unit_price": "ten cents"} for row in BOOK["prices"]]})  # fmt: skip
    before = datetime.now(UTC)
    scheduled, named, by_hand, refused = run(
        airflow,
        {"workspace": str(good.root), "logical_date": DAY},
        {"workspace": str(good.root), "conf": {"period": "2026-02"}},  # by hand: without a logical date
        {"workspace": str(good.root)},
        {"workspace": str(broken.root), "logical_date": DAY},
    )

    assert states(scheduled) == dict.fromkeys(STEPS, "success")
    told = {name: scheduled[name]["xcom"] for name in STEPS}
    assert {summary["period"] for summary in told.values()} == {"2026-02"}
    assert told["load"]["rows"] == 2 * 672
    (total,) = told["invoice"]["totals"]
    assert (total["currency"], total["invoices"], total["untaxed"]) == ("EUR", 2, "141.6000")
    assert (good.root / told["report"]["out"] / "invoices").is_dir()
    assert (good.root / told["publish"]["published"]).is_file()

    assert states(named) == dict.fromkeys(STEPS, "success")
    assert named["invoice"]["xcom"]["run_id"] == told["invoice"]["run_id"]

    due = {str(due_period(instant, "Europe/Berlin")) for instant in (before, datetime.now(UTC))}
    assert by_hand["load"]["xcom"]["period"] in due
    if "2026-02" not in due:  # nothing was used in the month that is due today
        skipped = [name for name, state in states(by_hand).items() if state == "skipped"]
        assert skipped in (list(STEPS[1:]), list(STEPS[2:]))

    assert states(refused) == {"load": "success", "check": "failed", **dict.fromkeys(STEPS[2:], "upstream_failed")}
    assert refused["check"]["tries"] == 1, "what was refused would be refused again"


@needs_root
def test_a_full_disk_is_tried_again(airflow, tmp_path):
    """Somebody makes room after the first try."""
    with small_disk(tmp_path / "disk") as disk:
        shop = workspace(disk / "shop")
        ballast = fill(disk, free_kilobytes=64)
        (tasks,) = run(
            {**airflow, "BALLAST": str(ballast)},
            {"workspace": str(shop.root), "logical_date": DAY, "command": ["sh", "-c", ROOM_AFTERWARDS, "ratemill"]},
        )
        assert states(tasks) == dict.fromkeys(STEPS, "success")
        assert {name: tasks[name]["tries"] for name in ("load", "check")} == {"load": 2, "check": 1}


@pytest.mark.parametrize(
    ("end", "run_after", "month"),
    [
        ("2026-03-01T05:00:00+00:00", "2026-03-01T05:00:00+00:00", "2026-02"),  # a tick
        ("2026-03-01T00:00:00+00:00", "2026-11-20T12:00:00+00:00", "2026-02"),  # a backfill, made in November
        ("2026-02-28T23:30:00+00:00", "2026-02-28T23:30:00+00:00", "2026-02"),  # March in Berlin
        (None, "2026-03-31T21:59:00+00:00", "2026-02"),  # by hand, without a logical date
        (None, "2026-03-31T22:00:00+00:00", "2026-03"),  # April in Berlin, by summer time
    ],
)
def test_the_month_is_that_before_the_end_of_the_interval_or_before_the_trigger(end, run_after, month):
    from ratemill.integrations.airflow import _instant  # noqa: PLC0415

    dates = {"data_interval_end": end and datetime.fromisoformat(end), "run_after": datetime.fromisoformat(run_after)}
    assert str(due_period(_instant({"dag_run": SimpleNamespace(**dates)}), "Europe/Berlin")) == month
