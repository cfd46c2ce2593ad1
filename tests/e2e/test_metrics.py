"""The metrics file, as node_exporter reads it: after good runs, refused ones, and while another run is at work."""

from __future__ import annotations

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ratemill.errors import ExitCode
from ratemill.io.lock import hold_lock
from ratemill.io.metrics_file import METRICS
from workspaces import BOOK, NOW, PERIOD, good_usage, hours, make_workspace

pytestmark = pytest.mark.slow

CONFIG = {
    "output": {"pdf": False, "html": False, "metrics": "metrics/ratemill.prom"},
    "policy": {"max_rejected_share": "1"},
}


@pytest.fixture
def shop(tmp_path):
    made = make_workspace(tmp_path / "shop", usage=[good_usage(), hours(quantity="-1", resource="vm-2")], config=CONFIG)
    (made.root / "metrics").mkdir()
    return made


def metrics(shop):
    """(metric, labels but that of the workspace) → value."""
    text = (shop.root / "metrics" / "ratemill.prom").read_text(encoding="utf-8")
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type == "gauge"
        for sample in family.samples:
            name, labels = sample.name.removeprefix("ratemill_"), sample.labels
            assert labels["workspace"] == str(shop.root)
            found[name, *(labels[label] for label in METRICS[name].labels)] = sample.value
    return found


def test_a_good_run(shop):
    before = time.time()
    assert shop.run().code == ExitCode.DONE
    told = metrics(shop)
    assert before <= told["last_success_timestamp_seconds", "run"] <= time.time()
    assert ("last_failure_timestamp_seconds", "run") not in told
    assert (told["last_exit_code", "run"], told["last_errors", "run"]) == (0, 0)
    steps = {key[1]: value for key, value in told.items() if key[0] == "step_duration_seconds"}
    assert set(steps) == {"load", "duplicates", "check", "rate", "invoice", "report", "publish"}
    assert 0 < sum(steps.values()) <= told["last_duration_seconds", "run"]
    rows = {key[2]: value for key, value in told.items() if key[:2] == ("usage_rows", PERIOD)}
    assert rows == {
        "in": 96,
        "billed": 72,
        "rejected": 24,
        "duplicate": 0,
        "filtered": 0,
        "other_periods": 0,
        "unpriced": 0,
    }
    assert told["documents", PERIOD, "draft"] == 2
    assert told["untaxed_amount", PERIOD, "EUR"] == 6.0
    assert told["findings", PERIOD, "warning"] == 1
    assert told["findings", PERIOD, "error"] == 0
    assert told["usage_files", "loaded"] == 2
    assert told["notifications", "queued"] == 0
    assert told["warehouse_bytes",] > 100_000


def test_a_run_that_fails_keeps_what_stands_and_the_time_of_the_last_success(shop):
    shop.run()
    good = metrics(shop)
    shop.write_book("prices", BOOK["prices"][1:])
    assert shop.run().code == ExitCode.DATA_REFUSED
    failed = metrics(shop)
    assert failed["last_exit_code", "run"] == 3
    assert failed["last_errors", "run"] == 1
    assert failed["last_success_timestamp_seconds", "run"] == good["last_success_timestamp_seconds", "run"]
    assert failed["last_failure_timestamp_seconds", "run"] >= good["last_success_timestamp_seconds", "run"]
    assert failed["untaxed_amount", PERIOD, "EUR"] == good["untaxed_amount", PERIOD, "EUR"]

    shop.write_book("prices", BOOK["prices"])
    (shop.root / "usage" / "cut.parquet").write_bytes(b"PAR1")
    assert shop.run().code == ExitCode.DATA_REFUSED
    assert metrics(shop)["usage_files", "refused"] == 1

    with hold_lock(shop.root / "state" / "lock", command="ratemill load"):
        assert shop.run().code == ExitCode.LOCKED
    locked = metrics(shop)
    assert locked["last_exit_code", "run"] == 4
    assert locked["usage_rows", PERIOD, "in"] == 96, "what can't be read now is as it was"


def test_other_commands_stand_beside_the_run(shop):
    for command in ("load", "publish"):
        assert shop.command(command).code == ExitCode.DONE
    assert shop.command("run", "--period", "2026-05", "--as-of", NOW).code == ExitCode.NOTHING_TO_BILL
    told = metrics(shop)
    assert {key[1]: value for key, value in told.items() if key[0] == "last_exit_code"} == {
        "load": 0,
        "publish": 0,
        "run": 99,
    }
    assert {key[1] for key in told if key[0] == "last_success_timestamp_seconds"} == {"load", "publish"}
    assert [key for key in told if key[0] == "last_failure_timestamp_seconds"] == []
    shop.command("status")
    shop.command("plan", "--period", PERIOD, "--as-of", NOW)
    assert metrics(shop) == told, "looking is no work"


def test_two_workspaces_of_one_machine_are_told_apart(tmp_path):
    places = []
    for name in ("one", "two"):
        shop = make_workspace(
            tmp_path / name, config={"output": {**CONFIG["output"], "metrics": f"{tmp_path}/{name}.prom"}}
        )
        assert shop.run().code == ExitCode.DONE
        text = (tmp_path / f"{name}.prom").read_text(encoding="utf-8")
        places.append({line.split("{")[0]: line for line in text.splitlines() if not line.startswith("#")})
    assert places[0].keys() == places[1].keys()
    assert not set(places[0].values()) & set(places[1].values())


def test_metrics_bill_nothing_anew_and_trouble_with_them_is_only_told(shop):
    run = shop.run().summary["periods"][0]["run_id"]
    shop.write_config(CONFIG | {"output": {**CONFIG["output"], "metrics": "nowhere/ratemill.prom"}})
    again = shop.run()
    assert again.code == ExitCode.DONE
    (period,) = again.summary["periods"]
    assert (period["run_id"], period["nothing_to_do"]) == (run, True)
    assert "warning: metrics: FileNotFoundError: " in again.stderr
    shop.write_config(CONFIG | {"output": {**CONFIG["output"], "metrics": "ratemill.txt"}})
    assert shop.run().code == ExitCode.USAGE
    damaged = shop.root / "metrics" / "ratemill.prom"
    damaged.write_bytes(b"ratemill_last_exit_code{workspace=\xff\n")
    shop.write_config(CONFIG)
    assert shop.run().code == ExitCode.DONE
    assert metrics(shop)["last_exit_code", "run"] == 0
