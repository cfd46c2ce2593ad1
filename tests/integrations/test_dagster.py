"""A month in Dagster, for real: its own instance, its schedules and its command line, on real workspaces.

`make test-integrations` has Dagster; elsewhere these are skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

pytest.importorskip("dagster", reason="Dagster is not installed here; make test-integrations has it")

import dagster as dg
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from crash.states import differences, state_of
from disks import fill, needs_root, small_disk
from ratemill.integrations.dagster import definitions, month_partitions
from ratemill.invoicing.checklist import POINTS
from ratemill.io.lock import hold_lock
from workspaces import ADDRESSED, BOOK, SOURCE_ROOT, hours, make_workspace, month_of_usage, tree

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # the warnings of Dagster are Dagster's

MONTH = "2025-10"  # over on every machine, whatever its clock says
MADE = ("usage", "book", "charges", "invoices", "documents", "database")
AT_ONCE = dg.RetryPolicy(max_retries=2, delay=0)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", SOURCE_ROOT)
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")


def usage_of(month, count, **columns):
    return month_of_usage(f"{month}-01T00:00:00Z", count, **columns)


def workspace(folder, **changes):
    changes.setdefault("usage", {f"{MONTH}.parquet": usage_of(MONTH, 744)})
    return make_workspace(folder, **{**changes, "book": {"accounts": ADDRESSED, **changes.get("book", {})}})


def defined(shop, **options):
    return definitions(shop.root, **{"start": "2025-01", "retries": AT_ONCE, "wait": 30, **options})


def materialise(shop, month=MONTH, *, job="ratemill_month", config=None, tags=None, **options):
    """Run a job of the workspace's definitions; its result, which remembers every event."""
    found = defined(shop, **options).resolve_job_def(job)
    with dg.DagsterInstance.ephemeral() as instance:
        return found.execute_in_process(
            partition_key=month, run_config=config, tags=tags, instance=instance, raise_on_error=False
        )


def materialisations(result, month=MONTH):
    """What was made → its metadata, as plain values."""
    events = [event.event_specific_data.materialization for event in result.all_events if event.is_step_materialization]
    return {
        event.asset_key.path[-1]: {name: entry.value for name, entry in event.metadata.items()}
        for event in events
        if event.partition == month
    }


def checks(result):
    """asset.check → how it came out."""
    return {f"{seen.asset_key.path[-1]}.{seen.check_name}": seen for seen in result.get_asset_check_evaluations()}


def rows(table):
    return [record.data for record in table.records] if hasattr(table, "records") else [r.data for r in table]


def failures(result):
    return {event.step_key: event.step_failure_data for event in result.all_events if event.is_step_failure}


def retries(result):
    return [event.step_key for event in result.all_events if event.is_step_up_for_retry]


# ------------------------------------------------------------------------------------------------------ a month


@pytest.fixture(scope="module")
def month(tmp_path_factory):
    """A month with one bad record, in a job of Dagster: the workspace, and the result."""
    usage = {"good.parquet": usage_of(MONTH, 744), "bad.parquet": hours(first=f"{MONTH}-03T00:00:00Z", quantity="-1", resource="vm-2", count=1)}  # fmt: skip
    shop = workspace(
        tmp_path_factory.mktemp("month") / "shop",
        usage=usage,
        config={"policy": {"max_rejected_share": "1"}, "output": {"html": True}},
    )
    os.environ["PYTHONPATH"] = SOURCE_ROOT
    return shop, materialise(shop)


def test_a_month_is_made_step_by_step(month):
    shop, result = month
    assert result.success
    made = materialisations(result)
    assert tuple(made) == MADE
    assert made["usage"]["rows loaded now"] == 1489
    assert made["usage"]["why"]
    assert [row["name"] for row in rows(made["usage"]["plan"])][:3] == ["load", "check", "rate"]
    assert {name: made["charges"][f"rows {name}"] for name in ("in", "rejected", "billed")} == {"in": 1489, "rejected": 1, "billed": 1488}  # fmt: skip
    assert made["invoices"]["total EUR"] == "177.82"  # 74.40 + 20 %, 74.40 + 19 %: a text, never a float
    assert [(row["currency"], row["untaxed"], row["untaxed last month"]) for row in rows(made["invoices"]["totals"])] == [("EUR", "148.80", "")]  # fmt: skip
    for path in (made["documents"]["start here"], made["documents"]["invoices"], made["database"]["database"]):
        assert Path(path).exists()
        assert Path(path).is_relative_to(shop.root)


def test_its_files_are_those_of_a_run(month, tmp_path):
    shop, _ = month
    copy = make_workspace(tmp_path / "shop", usage=[], config={"policy": {"max_rejected_share": "1"}, "output": {"html": True}}, book={"accounts": ADDRESSED})  # fmt: skip
    for file in (shop.root / "usage").iterdir():
        (copy.root / "usage" / file.name).write_bytes(file.read_bytes())
    assert copy.command("run", "--period", MONTH).code == 0
    assert differences(state_of(copy.root), state_of(shop.root)) == []


def test_findings_are_asset_checks(month):
    _, result = month
    seen = checks(result)
    wrong = seen["charges.no_warnings"]
    assert (wrong.passed, wrong.severity) == (False, dg.AssetCheckSeverity.WARN)
    (row,) = rows(wrong.metadata["findings"].value)
    assert (row["rule"], row["file"], row["row"], row["column"]) == ("usage.quantity.minimum", "usage/bad.parquet", "1", "quantity")  # fmt: skip
    assert wrong.description.startswith("usage/bad.parquet:1: ")
    others = {name for name, check in seen.items() if ".no_" in name and not check.passed}
    assert others == {"charges.no_warnings"}
    assert {name.partition(".")[0] for name in seen if ".no_" in name} == {"usage", "book", "charges", "invoices", "database"}  # fmt: skip


def test_the_checklist_of_the_close_is_a_check_per_point(month):
    _, result = month
    points = {name.removeprefix("invoices."): check for name, check in checks(result).items() if name.startswith("invoices.") and ".no_" not in name}  # fmt: skip
    assert list(points) == [point.name.replace(".", "_") for point in POINTS]
    assert [name for name, check in points.items() if not check.passed] == ["usage_rejected"]
    assert points["usage_rejected"].severity == dg.AssetCheckSeverity.WARN
    assert points["usage_rejected"].metadata["cure"].value.startswith("read rejects.csv")


def test_definitions_say_what_and_whose_things_are(month):
    shop, _ = month
    specs = {
        spec.key.to_user_string(): spec for spec in defined(shop, owners=["team:finance"]).resolve_all_asset_specs()
    }
    assert set(specs) == {f"ratemill/{name}" for name in MADE}
    for spec in specs.values():
        assert (spec.group_name, spec.owners) == ("ratemill", ["team:finance"])
        assert spec.kinds
        assert spec.description
    before = [[dep.asset_key.path[-1] for dep in specs[f"ratemill/{name}"].deps] for name in MADE]
    assert before == [[], *([name] for name in MADE[:-1])]


def test_two_workspaces_are_two_sets_of_definitions(month):
    shop, _ = month
    both = dg.Definitions.merge(defined(shop), defined(shop, name="second"))
    dg.Definitions.validate_loadable(both)
    assert len({spec.key for spec in both.resolve_all_asset_specs()}) == 2 * len(MADE)


# ------------------------------------------------------------------------------------------------------ exit codes


def test_a_mistake_in_the_book_is_an_error_that_nothing_tries_again(tmp_path):
    shop = workspace(tmp_path / "shop", book={"prices": [row | {"unit_price": "ten cents"} for row in BOOK["prices"]]})
    result = materialise(shop)
    assert not result.success
    (failure,) = failures(result).values()
    assert failure.user_failure_data.description.startswith(
        "ratemill check: the book has 3 mistakes; nothing was billed"
    )
    assert failure.user_failure_data.metadata["exit code"].value == 3
    assert retries(result) == []
    assert set(materialisations(result)) == {"usage"}
    wrong = checks(result)["book.no_errors"]
    assert (wrong.passed, wrong.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert {(row["file"], row["row"], row["column"]) for row in rows(wrong.metadata["findings"].value)} == {("book/prices.csv", str(line), "unit_price") for line in (2, 3, 4)}  # fmt: skip


def test_a_damaged_file_is_an_error(tmp_path):
    shop = workspace(tmp_path / "shop")
    (shop.root / "usage" / "bad.parquet").write_bytes(b"PAR1")
    result = materialise(shop)
    assert not result.success
    assert materialisations(result) == {}
    assert checks(result)["usage.no_errors"].description.startswith("usage/bad.parquet: ")
    assert retries(result) == []


def test_a_month_without_usage_is_skipped(tmp_path):
    shop = workspace(tmp_path / "shop")
    result = materialise(shop, "2025-09")
    assert result.success
    assert not {"charges", "invoices", "documents", "database"} & set(materialisations(result, "2025-09"))


@needs_root
def test_a_full_disk_is_tried_again(tmp_path, monkeypatch):
    """Somebody makes room after the first try."""
    with small_disk(tmp_path / "disk") as disk:
        shop = workspace(disk / "shop")
        ballast = fill(disk, free_kilobytes=64)
        then_room = '"$PYTHON" -m ratemill "$@"; code=$?; test "$1" = plan || rm -f "$BALLAST"; exit $code'
        monkeypatch.setenv("PYTHON", sys.executable)
        monkeypatch.setenv("BALLAST", str(ballast))
        result = materialise(shop, command=("sh", "-c", then_room, "sh"))
        assert result.success
        assert retries(result) == ["ratemill__usage"]
        assert tuple(materialisations(result)) == MADE


def test_a_workspace_that_stays_locked_is_an_error_that_nothing_tries_again(tmp_path):
    shop = workspace(tmp_path / "shop")
    with hold_lock(shop.root / "state" / "lock", command="ratemill verify"):
        refused = materialise(shop, wait=0)
    (failure,) = failures(refused).values()
    assert "running `ratemill verify`; wait for it or stop it" in failure.user_failure_data.description
    assert failure.user_failure_data.metadata["exit code"].value == 4
    assert retries(refused) == []


# -------------------------------------------------------------------------------------------------- several months


def test_a_range_of_months_is_one_run_in_order(tmp_path):
    """A prepaid balance that pays the first month is not there for the second: months must follow each other."""
    credit = {"credit_id": "gift", "account_id": "acme", "amount": "100", "currency": "EUR", "kind": "promotional", "granted_on": "2025-08-01", "note": "Welcome"}  # fmt: skip
    usage = {f"{month}.parquet": usage_of(month, count) for month, count in (("2025-08", 744), ("2025-10", 744))}
    shop = workspace(tmp_path / "shop", usage=usage, book={"credits": [credit]})
    tags = {ASSET_PARTITION_RANGE_START_TAG: "2025-08", ASSET_PARTITION_RANGE_END_TAG: "2025-10"}
    result = materialise(shop, None, tags=tags)
    assert result.success
    untaxed = {month: rows(materialisations(result, month)["invoices"]["totals"])[0]["untaxed"] for month in ("2025-08", "2025-10")}  # fmt: skip
    assert untaxed == {"2025-08": "74.40", "2025-10": "123.20"}  # 148.80 less 74.40, and less the 25.60 that are left
    assert materialisations(result, "2025-09")["invoices"] == {"nothing to bill": "no usage and no fees for 2025-09"}
    alone = workspace(tmp_path / "alone", usage=usage, book={"credits": [credit]})
    for month in ("2025-08", "2025-10"):
        assert alone.command("run", "--period", month).code == 0
    assert tree(alone.root / "out", alone.root) == tree(shop.root / "out", shop.root)


def test_partitions_are_months_up_to_the_running_one():
    months = month_partitions("2025-01", time_zone="Europe/Berlin")
    now = datetime(2025, 10, 31, 23, 30, tzinfo=ZoneInfo("UTC"))  # November in Berlin
    assert next(iter(months.get_partition_keys(now))) == "2025-01"
    assert list(months.get_partition_keys(now))[-1] == "2025-11"
    window = months.time_window_for_partition_key("2025-10")
    assert (window.start.isoformat(), window.end.isoformat()) == ("2025-10-01T00:00:00+02:00", "2025-11-01T00:00:00+01:00")  # fmt: skip


# ------------------------------------------------------------------------------------------------------- schedule


@pytest.mark.parametrize(
    ("tick", "zone", "month"),
    [
        ("2026-03-01T06:00", "UTC", "2026-02"),
        ("2026-03-05T06:00", "UTC", "2026-02"),
        ("2026-01-01T06:00", "Europe/Berlin", "2025-12"),
        ("2025-11-01T00:30", "Europe/Berlin", "2025-10"),  # 31 October in UTC
        ("2025-10-31T23:30", "America/New_York", "2025-09"),  # November in UTC
        ("2025-11-01T06:00", "Pacific/Kiritimati", "2025-10"),
        ("2025-03-30T06:00", "Europe/Berlin", "2025-02"),  # the day the clocks go forward
    ],
)
def test_the_schedule_bills_the_month_before_by_the_clocks_of_the_zone(tmp_path, tick, zone, month):
    shop = make_workspace(tmp_path / "shop", usage=[])
    schedule = defined(shop, time_zone=zone).resolve_schedule_def("ratemill_month")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 6 1-5 * *", zone)
    at = datetime.fromisoformat(tick).replace(tzinfo=ZoneInfo(zone))
    (request,) = schedule.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=at, repository_def=defined(shop, time_zone=zone).get_repository_def())).run_requests  # fmt: skip
    assert request.partition_key == month
    assert request.run_key.startswith(f"{month}@{at.isoformat()[:10]}")


def test_the_schedule_skips_what_is_before_the_first_month(tmp_path):
    schedule = defined(make_workspace(tmp_path / "shop", usage=[])).resolve_schedule_def("ratemill_month")
    at = datetime(2025, 1, 1, 6, tzinfo=ZoneInfo("UTC"))
    skipped = schedule.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=at))
    assert skipped.skip_message == "2024-12 is before 2025-01, the first month"


# ------------------------------------------------------------------------------------------------------ the close


def test_a_month_is_closed_by_a_person_and_stays_closed(tmp_path):
    shop = workspace(tmp_path / "shop")
    found = defined(shop)
    assert [schedule.job_name for schedule in found.schedules] == ["ratemill_month"], "a close is on no schedule"
    assert materialise(shop).success

    with pytest.raises(dg.DagsterInvalidConfigError, match="by"):
        materialise(shop, None, job="ratemill_close", config={"ops": {"ratemill_issue": {"config": {"period": MONTH}}}})
    config = {"period": MONTH, "by": "Mona Berg", "issue_date": "2025-11-03"}
    closed = materialise(shop, None, job="ratemill_close", config={"ops": {"ratemill_issue": {"config": config}}})
    assert closed.success
    (seen,) = [event.event_specific_data.asset_observation for event in closed.all_events if event.is_asset_observation]
    assert (seen.asset_key.path, seen.partition) == (["ratemill", "invoices"], MONTH)
    assert seen.metadata["last number"].value == "2025-00002"

    before = shop.documents()
    again = materialise(shop)
    assert again.success
    assert materialisations(again)["invoices"]["closed"] == "issued on 2025-11-03 by Mona Berg"
    assert shop.documents() == before

    shop.write_usage("late.parquet", hours(first=f"{MONTH}-05T00:00:00Z", resource="vm-9"))
    late = materialise(shop)
    (failure,) = failures(late).values()
    assert "run: ratemill run --period 2025-11, which bills the difference" in failure.user_failure_data.description
    assert retries(late) == []


def test_open_points_stop_the_close_and_waivers_are_kept(tmp_path):
    shop = workspace(tmp_path / "shop", usage={f"{MONTH}.parquet": usage_of(MONTH, 700)})
    assert materialise(shop).success
    config = {"period": MONTH, "by": "Mona Berg"}
    refused = materialise(shop, None, job="ratemill_close", config={"ops": {"ratemill_issue": {"config": config}}})
    (failure,) = failures(refused).values()
    assert "1 point of the checklist is open" in failure.user_failure_data.description
    assert [row["rule"] for row in rows(failure.user_failure_data.metadata["findings"].value)] == ["close.usage.hours_missing"]  # fmt: skip
    config["waivers"] = {"usage.hours_missing": "the region was shut down on the 30th"}
    assert materialise(shop, None, job="ratemill_close", config={"ops": {"ratemill_issue": {"config": config}}}).success
    point = checks(materialise(shop))["invoices.usage_hours_missing"]
    assert point.passed
    assert point.metadata["reason"].value == "the region was shut down on the 30th"


# -------------------------------------------------------------------------------------- its command line, as processes


def test_two_months_at_once_take_turns(tmp_path):
    """Two processes of Dagster's own command line, on the example of the docs."""
    usage = {f"{month}.parquet": usage_of(month, count) for month, count in (("2026-02", 672), ("2026-03", 744))}
    shop = workspace(tmp_path / "shop", usage=usage)
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").touch()
    with dg.DagsterInstance.from_config(str(home)):
        pass  # it makes Dagster's own tables; of two processes that find none, one fails as the other makes them
    example = Path(__file__).parents[2] / "docs" / "examples" / "dagster" / "definitions.py"
    environment = {**os.environ, "DAGSTER_HOME": str(home), "RATEMILL_WORKSPACE": str(shop.root)}
    dagster = [sys.executable, "-m", "dagster"]

    def start(*arguments):
        return subprocess.Popen(
            [*dagster, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    february = start("asset", "materialize", "--select", "*", "--partition", "2026-02", "-f", str(example))
    march = start("job", "execute", "-f", str(example), "-j", "ratemill_month", "--tags", '{"dagster/partition": "2026-03"}')  # fmt: skip
    told = [process.communicate(timeout=300)[0] for process in (february, march)]
    assert [process.returncode for process in (february, march)] == [0, 0], told
    assert (shop.root / "out" / "2026-02" / "invoices").is_dir()
    assert (shop.root / "out" / "2026-03" / "invoices").is_dir()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        key = dg.AssetKey(["ratemill", "database"])
        assert instance.get_materialized_partitions(key) == {"2026-02", "2026-03"}
