"""OpenLineage events, as a server gets them, and what happens when there is none."""

from __future__ import annotations

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import UUID, uuid4

import pytest

from ratemill.errors import ExitCode
from workspaces import BOOK, NOW, PERIOD, SOURCE_ROOT, make_workspace, run_process

pytest.importorskip("openlineage.client", reason="the extra ratemill[lineage] is not installed")
pytestmark = pytest.mark.slow

CONFIG = {"output": {"pdf": False, "html": False, "lineage": True}}
STEPS = ["load", "check", "rate", "invoice", "report", "publish"]


@pytest.fixture
def shop(tmp_path):
    return make_workspace(tmp_path / "billing", config=CONFIG)


def run(shop, *options, **environment):
    arguments = ["run", "-w", str(shop.root), "-p", PERIOD, "--as-of", NOW, "--json", *options]
    return run_process(arguments, **environment)


def to_file(path, **environment):
    """OpenLineage's own settings for its file transport."""
    transport = {"type": "file", "log_file_path": str(path), "append": True}
    return {"OPENLINEAGE__TRANSPORT": json.dumps(transport), **environment}


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def server():
    """A real server: keeps what it is sent, answers what it is told to, after as long as it is told to."""
    kept, answer = [], {"status": 201, "seconds": 0}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            kept.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            time.sleep(answer["seconds"])
            self.send_response(answer["status"])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}", kept, answer
        listening.shutdown()


def test_a_run_and_its_steps(shop, tmp_path):
    events_file, above = tmp_path / "events.ndjson", str(uuid4())
    told = run(
        shop,
        **to_file(
            events_file, OPENLINEAGE_NAMESPACE="finance", OPENLINEAGE_PARENT_ID=f"airflow/month_end.bill/{above}"
        ),
    )
    assert (told.code, told.stderr.count("lineage")) == (ExitCode.DONE, 0), told.stderr
    events = read(events_file)
    assert [(event["eventType"], event["job"]["name"]) for event in events] == [
        ("START", "billing.run"),
        *((state, f"billing.run.{step}") for step in STEPS for state in ("START", "COMPLETE")),
        ("COMPLETE", "billing.run"),
    ]
    assert {event["job"]["namespace"] for event in events} == {"finance"}
    whole = events[0]["run"]["runId"]
    assert UUID(whole)
    assert events[-1]["run"]["runId"] == whole
    assert events[0]["run"]["facets"]["parent"]["run"]["runId"] == above
    assert events[0]["run"]["facets"]["parent"]["job"]["name"] == "month_end.bill"
    assert {event["run"]["facets"]["parent"]["run"]["runId"] for event in events[1:-1]} == {whole}

    done = {event["job"]["name"].rpartition(".")[2]: event for event in events if event["eventType"] == "COMPLETE"}
    nominal = done["rate"]["run"]["facets"]["nominalTime"]
    assert (nominal["nominalStartTime"], nominal["nominalEndTime"]) == (
        "2026-10-01T00:00:00+00:00",
        "2026-11-01T00:00:00+00:00",
    )
    assert done["run"]["run"]["facets"]["nominalTime"] == nominal

    def names(event, side):
        return {f"{dataset['namespace']}:{dataset['name']}" for dataset in event[side]}

    root = shop.root
    assert f"file:{root}/usage/*.parquet" in names(done["load"], "inputs")
    assert f"file:{root}/book/prices.csv" in names(done["rate"], "inputs")
    assert names(done["rate"], "outputs") == {f"file:{root}/state/charges/period={PERIOD}"}
    assert names(done["rate"], "outputs") <= names(done["invoice"], "inputs"), "the steps hang together"
    assert f"duckdb://{root}/published/billing.duckdb:invoices" in names(done["publish"], "outputs")
    (charges,) = done["rate"]["outputs"]
    statistics = charges["outputFacets"]["outputStatistics"]
    assert statistics["rowCount"] == 3
    assert statistics["size"] > 0
    assert done["load"]["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 72
    assert done["report"]["outputs"][0]["outputFacets"]["outputStatistics"]["fileCount"] > 2


def test_a_step_that_fails_says_why(shop, tmp_path):
    shop.write_book("prices", BOOK["prices"][1:])
    assert run(shop, **to_file(tmp_path / "events.ndjson")).code == ExitCode.DATA_REFUSED
    events = read(tmp_path / "events.ndjson")
    assert events[-1]["eventType"] == "FAIL"
    assert "24 usage records of 2026-10 have no price" in events[-1]["run"]["facets"]["errorMessage"]["message"]


def test_a_book_with_mistakes_fails_its_check(shop, tmp_path):
    shop.write_book("prices", [row | {"unit_price": "cheap"} for row in BOOK["prices"]])
    assert run(shop, **to_file(tmp_path / "events.ndjson")).code == ExitCode.DATA_REFUSED
    states = [(event["eventType"], event["job"]["name"]) for event in read(tmp_path / "events.ndjson")]
    assert states[-2:] == [("FAIL", "billing.run.check"), ("FAIL", "billing.run")]


def test_by_http(shop, server):
    url, kept, _ = server
    assert run(shop, OPENLINEAGE_URL=url).code == ExitCode.DONE
    assert len(kept) == 2 + 2 * len(STEPS)
    assert kept[-1]["eventType"] == "COMPLETE"


def test_off_by_default_and_no_reason_to_bill_anew(tmp_path):
    shop = make_workspace(tmp_path / "billing", config={"output": {"pdf": False, "html": False}})
    first = run(shop, **to_file(tmp_path / "events.ndjson"))
    assert first.code == ExitCode.DONE
    assert not (tmp_path / "events.ndjson").exists()
    shop.write_config(CONFIG)
    again = run(shop, **to_file(tmp_path / "events.ndjson"))
    assert again.summary["periods"][0]["nothing_to_do"]
    assert [event["eventType"] for event in read(tmp_path / "events.ndjson")][-1] == "COMPLETE"


def test_a_server_that_is_down_refuses_or_hangs_costs_a_warning_and_a_few_seconds(shop, server):
    url, _, answer = server
    answer["status"] = 400
    refused = run(shop, OPENLINEAGE_URL=url)
    answer["seconds"] = 60
    started = time.monotonic()
    hanging = run(shop, OPENLINEAGE_URL=url)
    assert time.monotonic() - started < 30
    down = run(shop, OPENLINEAGE_URL="http://127.0.0.1:9")
    for told in (refused, hanging, down):
        assert told.code == ExitCode.DONE
        (line,) = [line for line in told.stderr.splitlines() if "lineage" in line]
        assert "warning: lineage: " in line
        assert line.endswith("the work itself is not touched by this")
        assert "Traceback" not in told.stderr


def test_settings_that_lead_nowhere_are_told(shop):
    nothing = run(shop, HOME=str(shop.root))
    assert nothing.code == ExitCode.DONE
    assert "no transport is configured → set OPENLINEAGE_URL" in nothing.stderr
    odd = run(shop, OPENLINEAGE_PARENT_ID="42", **to_file(shop.root / "events.ndjson"))
    assert odd.code == ExitCode.DONE
    assert "OPENLINEAGE_PARENT_ID = '42' is not namespace/job/run" in odd.stderr
    disabled = run(shop, OPENLINEAGE_DISABLED="true")
    assert (disabled.code, "lineage" in disabled.stderr) == (ExitCode.DONE, False)


def test_without_the_extra_it_says_how_to_get_it(shop, tmp_path):
    """A package of that name that can't be imported, as if there was none."""
    blocker = tmp_path / "openlineage.py"
    blocker.write_text("raise ImportError\n", encoding="utf-8")
    told = run(shop, PYTHONPATH=os.pathsep.join([str(tmp_path), SOURCE_ROOT]))
    assert told.code == ExitCode.DONE
    assert "pip install 'ratemill[lineage]'" in told.stderr
