"""Closing a month, as a finance person and a scheduler do it: what is issued stays, what must not be issued is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from datetime import date

import duckdb
import pytest

from crash.states import differences, state_of
from ratemill.errors import ExitCode
from workspaces import ADDRESSED, BOOK, NOW, PERIOD, SOURCE_ROOT, hours, make_workspace, month_of_usage, tree

pytestmark = pytest.mark.slow

NOVEMBER = "2026-11"
AFTER_NOVEMBER = "2026-12-02T06:00:00Z"


def workspace(folder, **changes):
    """A month that can be closed as it is, not yet run."""
    changes.setdefault("usage", month_of_usage())
    return make_workspace(folder, **{**changes, "book": {"accounts": ADDRESSED, **changes.get("book", {})}})


@pytest.fixture(scope="module")
def drafted(tmp_path_factory):
    """A month that was run and can be closed."""
    shop = workspace(tmp_path_factory.mktemp("drafted") / "shop")
    assert shop.run().code == ExitCode.DONE
    return shop


@pytest.fixture
def shop(drafted, tmp_path):
    """A copy of it, for a test of its own."""
    shutil.copytree(drafted.root, tmp_path / "shop")
    return type(drafted)(tmp_path / "shop")


def published(shop, query):
    with duckdb.connect(str(shop.root / "published" / "billing.duckdb"), read_only=True) as connection:
        return connection.execute(query).fetchall()


def issued_files(shop, period=PERIOD):
    return tree(shop.root / "state" / "issued" / f"period={period}", shop.root / "state" / "issued")


def invoices_in_out(shop, period=PERIOD):
    return tree(shop.root / "out" / period / "invoices", shop.root / "out" / period)


def with_price(sku, price):
    return [row | {"unit_price": price} if row["sku_id"] == sku else row for row in BOOK["prices"]]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---------------------------------------------------------------------------------------------------- a clean close


def test_a_month_is_closed_from_start_to_end(tmp_path):
    """In processes of their own, with every document."""
    shop = workspace(
        tmp_path / "shop",
        config={
            "seller": {"time_zone": "Europe/Paris", "payment_terms_days": 14},
            "output": {"pdf": True, "html": True},
        },
        book={"accounts": [ADDRESSED[0], ADDRESSED[1] | {"payment_terms_days": "45"}]},
    )
    assert shop.run(process=True).code == ExitCode.DONE
    assert not shop.invoice("acme")["number"]
    looked = shop.close("--check", process=True)
    assert looked.code == ExitCode.DONE
    assert {row["status"] for row in looked.summary["checklist"]} == {"ok"}
    assert published(shop, "SELECT count(*) FROM closed_periods") == [(0,)], "a look closes nothing"

    closed = shop.close("--by", "mona", process=True)
    assert closed.code == ExitCode.DONE, closed.stderr
    assert closed.summary["closed"] | {"rating_key": "", "run_id": ""} == {
        "period": PERIOD, "run_id": "", "rating_key": "", "issue_date": "2026-11-02",
        "closed_at": "2026-11-02 06:00:00+00:00", "closed_by": "mona",
        "invoices": 2, "first_number": "2026-00001", "last_number": "2026-00002",
    }  # fmt: skip
    assert published(shop, "SELECT invoice_id, number, status, issue_date, due_date FROM invoices ORDER BY number") == [
        ("2026-10-acme-EUR", "2026-00001", "issued", date(2026, 11, 2), date(2026, 11, 16)),
        ("2026-10-globex-EUR", "2026-00002", "issued", date(2026, 11, 2), date(2026, 12, 17)),
    ]
    invoice = shop.invoice("acme")
    assert (invoice["number"], invoice["status"], invoice["issue_date"]) == ("2026-00001", "issued", "2026-11-02")

    # out/ holds these very documents beside the reports, state/issued/ keeps them, and the ledger knows their hashes.
    names = {f"invoices/{payer}-EUR.{kind}" for payer in ("acme", "globex") for kind in ("json", "csv", "html", "pdf")}
    in_out = {name: digest for name, digest in invoices_in_out(shop).items() if digest}
    kept = {name: digest for name, digest in issued_files(shop).items() if digest}
    assert in_out.keys() == names
    assert kept == {f"period={PERIOD}/{name}": digest for name, digest in in_out.items()}
    assert dict(published(shop, "SELECT file, sha256 FROM documents")) == kept
    assert (shop.root / "out" / PERIOD / "index.html").is_file()


def test_the_audit_log_holds_what_a_later_look_needs(shop):
    assert shop.close("--by", "mona").code == ExitCode.DONE
    acts = published(shop, "SELECT act, actor, period, subject, details FROM events ORDER BY sequence")
    assert [act[0] for act in acts] == ["loaded", "drafted", "closed"]
    _, actor, period, run_id, text = acts[-1]
    details = json.loads(text)
    assert (actor, period) == ("mona", PERIOD)
    assert details["numbers"] == {"2026-10-acme-EUR": "2026-00001", "2026-10-globex-EUR": "2026-00002"}
    assert details["series"] == {"2026-{number:05}": 2}
    assert details["before"] == details["after"]
    assert details["after"]["EUR"]["documents"] == 2
    assert details["documents"] == {name: digest for name, digest in issued_files(shop).items() if digest}
    charges = shop.root / "state" / "charges"
    assert details["charges"] == {
        path.relative_to(charges).as_posix(): sha256(path)
        for path in (charges / f"period={PERIOD}" / f"run={run_id}").iterdir()
    }
    assert details["rows"].keys() == details["numbers"].keys()
    assert details["inputs"]["usage"] == {"usage/usage.parquet": sha256(shop.root / "usage" / "usage.parquet")}
    assert {row["point"]: row["status"] for row in details["checklist"]}["usage.hours_missing"] == "ok"


def test_a_second_close_and_a_run_do_nothing(shop):
    assert shop.close().code == ExitCode.DONE
    before = state_of(shop.root)
    again = shop.close()
    assert again.code == ExitCode.DONE
    assert again.summary["nothing_to_do"]
    assert again.summary["closed"]["last_number"] == "2026-00002"
    ran = shop.run()
    assert ran.code == ExitCode.DONE
    assert ran.summary["periods"][0]["nothing_to_do"]
    assert ran.summary["periods"][0]["closed"]["closed_by"]
    assert differences(before, state_of(shop.root)) == []
    told = shop.command("close", "--period", PERIOD, "--as-of", NOW, json=False)
    assert "2026-10 is closed already: nothing to do; 2 documents issued on 2026-11-02, 2026-00001" in told.stdout
    (line,) = [line for line in shop.command("status", json=False).stdout.splitlines() if line.startswith(PERIOD)]
    assert "closed" in line
    assert "2 documents issued 2026-11-02, 2026-00001 to 2026-00002" in line


def test_a_look_at_the_checklist_changes_nothing(shop):
    before = state_of(shop.root)
    assert shop.close("--check").code == ExitCode.DONE
    assert shop.close("--check", "--issue-date", "2026-10-31").code == ExitCode.DATA_REFUSED
    assert differences(before, state_of(shop.root)) == []


# ---------------------------------------------------------------------------------------------------- refusals


def changed_price(shop):
    shop.write_book("prices", with_price("vm", "0.2"))


def late_file(shop):
    shop.write_usage("late.parquet", hours(resource="vm-9", count=1))


def damaged_file(shop):
    (shop.root / "usage" / "damaged.parquet").write_bytes(b"PAR1 no more")


def no_change(shop):
    """All as it was drafted."""


REFUSED = [
    (no_change, ["--period", "2027-01"], ExitCode.USAGE, "period 2027-01 has not begun"),
    (no_change, ["--period", "2026-09..2026-10"], ExitCode.USAGE, "names 2 periods, and this command takes one"),
    (no_change, ["--as-of", "2026-10-31T23:59:59Z"], ExitCode.USAGE, "2026-10 has not ended for account"),
    (no_change, ["--issue-date", "2.11.2026"], ExitCode.USAGE, "'2.11.2026' is no day; write it as YYYY-MM-DD"),
    (no_change, ["--waive", "usage.rejected"], ExitCode.USAGE, "write it as POINT=REASON"),
    (no_change, ["--waive", "usage.rejected="], ExitCode.USAGE, "a waiver needs a reason"),
    (no_change, ["--waive", "usage.rejected=x"], ExitCode.USAGE, "the point is not open"),
    (no_change, ["--waive", "a=x", "--waive", "a=y"], ExitCode.USAGE, "waived twice"),
    (no_change, ["--issue-date", "2026-10-31"], ExitCode.DATA_REFUSED, "1 point of the checklist is open"),
    (changed_price, [], ExitCode.USAGE, "what changed: book: prices → run: ratemill run --period 2026-10"),
    (late_file, [], ExitCode.USAGE, "what changed: usage/late.parquet: new"),
    (damaged_file, [], ExitCode.DATA_REFUSED, "1 point of the checklist is open"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "options", "code", "message"), REFUSED)
def test_what_must_not_be_issued_is_refused_and_nothing_happens(shop, change, options, code, message):
    change(shop)
    before = state_of(shop.root)
    ended = shop.command(
        "close", *(["--period", PERIOD] if "--period" not in options else []), "--as-of", NOW, *options
    )
    assert (ended.code, ended.summary["exit_code"]) == (code, code)
    assert message in ended.summary["error"]
    assert published(shop, "SELECT count(*) FROM closed_periods") == [(0,)]
    after = state_of(shop.root)
    assert {name: after[name] for name in ("files", "published")} == {
        name: before[name] for name in ("files", "published")
    }
    assert issued_files(shop) == {}


def test_a_month_that_was_not_run_has_nothing_to_issue(tmp_path):
    shop = workspace(tmp_path)
    refused = shop.close()
    assert refused.code == ExitCode.USAGE
    assert (
        "2026-10 has no drafts → run: ratemill run --period 2026-10, look at the drafts, and close then"
        in refused.stderr
    )
    assert shop.close(period="2026-08").code == ExitCode.NOTHING_TO_BILL


def test_an_earlier_month_must_be_closed_first(tmp_path):
    shop = workspace(
        tmp_path / "shop",
        usage=[month_of_usage(), month_of_usage("2026-11-01T00:00:00Z", 720)],
    )
    assert shop.run(period=PERIOD).code == ExitCode.DONE
    ended = shop.command("run", "--period", NOVEMBER, "--as-of", AFTER_NOVEMBER)
    assert ended.code == ExitCode.DONE
    refused = shop.close(period=NOVEMBER, now=AFTER_NOVEMBER)
    assert refused.code == ExitCode.USAGE
    assert "2026-10 has drafts and is not closed; periods are closed in order" in refused.stderr
    assert shop.close(now=AFTER_NOVEMBER).code == ExitCode.DONE
    stale = shop.close(period=NOVEMBER, now=AFTER_NOVEMBER)
    assert stale.code == ExitCode.USAGE
    assert "what changed: earlier periods" in stale.stderr


def test_a_payer_far_west_has_a_longer_month(tmp_path):
    west = [ADDRESSED[0], ADDRESSED[1] | {"time_zone": "America/Los_Angeles"}]
    shop = workspace(tmp_path / "shop", book={"accounts": west}, usage=month_of_usage(count=752))
    assert shop.run().code == ExitCode.DONE
    refused = shop.close(now="2026-11-01T06:59:59Z")
    assert refused.code == ExitCode.USAGE
    assert "2026-10 has not ended for account globex: it does at 2026-11-01 07:00 UTC" in refused.stderr
    assert shop.close(now="2026-11-01T07:00:00Z").code == ExitCode.DONE


def test_open_points_are_named_with_their_cure_and_waived_one_by_one(tmp_path):
    shop = make_workspace(tmp_path)  # one day of usage, accounts without an address
    assert shop.run().code == ExitCode.DONE
    refused = shop.close()
    assert refused.code == ExitCode.DATA_REFUSED
    assert [finding["rule"] for finding in refused.findings] == ["close.usage.hours_missing", "close.accounts.address"]
    assert all(finding["cure"] for finding in refused.findings)
    looked = shop.command("close", "--period", PERIOD, "--as-of", NOW, "--check", json=False)
    assert looked.code == ExitCode.DATA_REFUSED
    assert "OPEN    accounts.address" in looked.stdout
    assert "2 accounts without street or city: acme, globex" in looked.stdout
    assert "2026-10 can't be closed: 2 points are open" in looked.stdout

    one = shop.close(waive=["accounts.address"])
    assert [finding["rule"] for finding in one.findings] == ["close.usage.hours_missing"]
    both = shop.close("--by", "mona", waive=["accounts.address", "usage.hours_missing"])
    assert both.code == ExitCode.DONE
    assert published(shop, "SELECT point, reason, waived_by FROM checklist WHERE status = 'waived' ORDER BY point") == [
        ("accounts.address", "known to the test", "mona"),
        ("usage.hours_missing", "known to the test", "mona"),
    ]


def test_a_warning_of_the_run_is_a_point_but_what_has_its_own_is_not_told_twice(tmp_path):
    usage = {"usage.parquet": month_of_usage(), "empty.parquet": month_of_usage().head(0),
             "bad.parquet": hours(quantity="-1", resource="vm-2", count=1)}  # fmt: skip
    shop = workspace(tmp_path, usage=usage, config={"policy": {"max_rejected_share": "1"}})
    assert shop.run().code == ExitCode.DONE
    refused = shop.close()
    assert {finding["rule"]: finding["message"] for finding in refused.findings} == {
        "close.usage.rejected": "usage.rejected: 1 of 1,489 usage rows are rejected (0.0672 %) and not billed",
        "close.run.findings": "run.findings: 1 warning: usage.file_without_rows: the file is sound and has no rows",
    }


# ---------------------------------------------------------------------------------------------------- afterwards


def test_what_was_issued_is_never_touched_again(shop):
    assert shop.close().code == ExitCode.DONE
    issued, shown = issued_files(shop), invoices_in_out(shop)
    rows = published(shop, f"SELECT * FROM invoices WHERE period = '{PERIOD}' ORDER BY invoice_id")

    changed_price(shop)
    refused = shop.run()
    assert refused.code == ExitCode.LOCKED
    assert "2026-10 is closed" in refused.stderr
    assert "run: ratemill run --period 2026-11" in refused.stderr
    for step in ("invoice", "report"):
        ended = shop.command(step, "--period", PERIOD, "--as-of", NOW)
        assert ended.code == (ExitCode.LOCKED if step == "invoice" else ExitCode.DONE), ended.stderr
    late_file(shop)
    shop.write_usage("usage-11.parquet", month_of_usage("2026-11-01T00:00:00Z", 720))
    shop.write_config({"seller": {"name": "Another Name"}})
    assert shop.command("run", "--period", f"{PERIOD}..{NOVEMBER}", "--as-of", AFTER_NOVEMBER).code == ExitCode.DONE
    closed = shop.close(period=NOVEMBER, now=AFTER_NOVEMBER, waive=["invoices.totals"])
    assert closed.code == ExitCode.DONE, closed.stderr
    assert closed.summary["closed"]["first_number"] == "2026-00003"

    assert issued_files(shop) == issued
    assert invoices_in_out(shop) == shown
    assert published(shop, f"SELECT * FROM invoices WHERE period = '{PERIOD}' ORDER BY invoice_id") == rows


def test_lost_documents_come_back_as_they_were_issued(shop):
    assert shop.close().code == ExitCode.DONE
    before = state_of(shop.root)
    shop.write_config({"seller": {"name": "Another Name"}})
    shutil.rmtree(shop.root / "out" / PERIOD)
    shutil.rmtree(shop.root / "published")
    assert not shop.run().summary["periods"][0]["nothing_to_do"]
    found = differences(before, state_of(shop.root))
    # The workbook and FOCUS rows are no documents that were issued: made anew, they call the seller by today's name.
    anew = (*(f"files: out/{PERIOD}/{name}" for name in ("workbook.xlsx", "manifest.json")), "published: main.focus_")
    assert [line for line in found if not line.startswith(anew)] == []


def test_a_state_folder_that_was_lost_gives_no_number_twice(shop):
    old = shop.root.parent / "old"
    shutil.copytree(shop.root / "state", old)
    assert shop.close().code == ExitCode.DONE
    backup = shop.root.parent / "backup"
    (shop.root / "state").rename(backup)
    for state in (None, old):
        if state is not None:
            shutil.rmtree(shop.root / "state")
            shutil.copytree(state, shop.root / "state")
        for ended in (shop.run(), shop.close()):
            assert ended.code == ExitCode.DATA_REFUSED
            assert "published holds 2 documents that were issued for 2026-10" in ended.stderr
    shutil.rmtree(shop.root / "state")
    backup.rename(shop.root / "state")
    assert shop.run().summary["periods"][0]["nothing_to_do"]


@pytest.mark.parametrize("damage", ["change", "remove"])
def test_a_document_that_is_not_as_it_was_issued_is_named(shop, damage):
    assert shop.close().code == ExitCode.DONE
    victim = shop.root / "state" / "issued" / f"period={PERIOD}" / "invoices" / "acme-EUR.json"
    if damage == "change":
        victim.write_bytes(victim.read_bytes().replace(b"2026-00001", b"2026-00007"))
    else:
        victim.unlink()
    shutil.rmtree(shop.root / "out" / PERIOD)
    ended = shop.run()
    assert ended.code == ExitCode.DATA_REFUSED
    assert "state/issued/period=2026-10/invoices/acme-EUR.json is " in ended.stderr
    assert not (shop.root / "out" / PERIOD).exists()


def test_numbers_follow_dates_over_months_and_years(shop):
    assert shop.close("--issue-date", "2026-11-01").code == ExitCode.DONE
    shop.write_usage("usage-11.parquet", month_of_usage("2026-11-01T00:00:00Z", 720))
    year_end = "2027-01-03T06:00:00Z"
    assert shop.command("run", "--period", NOVEMBER, "--as-of", year_end).code == ExitCode.DONE
    early = shop.close("--issue-date", "2026-10-31", period=NOVEMBER, now=year_end)
    assert [finding["rule"] for finding in early.findings] == [
        "close.issue_date.after_period",
        "close.issue_date.in_order",
    ]
    closed = shop.close(period=NOVEMBER, now=year_end)
    assert closed.code == ExitCode.DONE, closed.stderr
    assert closed.summary["closed"]["first_number"] == "2027-00001"


def test_credit_notes_have_a_series_of_their_own_or_share_one(tmp_path):
    off = {"adjustment_id": "a1", "account_id": "acme", "period": PERIOD, "amount": "-100", "reason": "goodwill",
           "author": "mona"}  # fmt: skip
    for name, seller, numbers in (
        ("own", {}, ["CN-2026-00001", "2026-00001"]),
        ("shared", {"credit_note_number": "{year}-{number:05}"}, ["2026-00001", "2026-00002"]),
        ("month", {"invoice_number": "{year}{month}-{number:02}"}, ["CN-2026-00001", "202611-01"]),
    ):
        shop = workspace(tmp_path / name, book={"adjustments": [off]}, config={"seller": seller})
        assert shop.run().code == ExitCode.DONE
        closed = shop.close()
        assert closed.code == ExitCode.DONE, closed.stderr
        found = published(shop, "SELECT document, number, due_date IS NULL FROM invoices ORDER BY billing_account_id")
        assert found == [("credit_note", numbers[0], True), ("invoice", numbers[1], False)]


def test_a_month_without_invoices_can_be_closed(tmp_path):
    """Its usage was withdrawn after it was drafted."""
    shop = workspace(tmp_path)
    assert shop.run().code == ExitCode.DONE
    shop.write_usage("usage.parquet", month_of_usage("2026-11-01T00:00:00Z", 720))
    assert shop.run().code == ExitCode.DONE
    closed = shop.close(waive=["usage.hours_missing"])
    assert closed.code == ExitCode.DONE, closed.stderr
    assert (closed.summary["closed"]["invoices"], closed.summary["closed"]["first_number"]) == (0, None)
    assert shop.close().summary["nothing_to_do"]
    assert shop.command("run", "--period", NOVEMBER, "--as-of", AFTER_NOVEMBER).code == ExitCode.DONE
    assert shop.close(period=NOVEMBER, now=AFTER_NOVEMBER).summary["closed"]["first_number"] == "2026-00001"


def test_a_month_that_is_billed_after_a_later_one_draws_no_credit_twice(tmp_path):
    """Nothing was used in October, as it seemed, and November was closed."""
    credit = {"credit_id": "c1", "account_id": "acme", "amount": "80", "currency": "EUR", "kind": "prepaid",
              "granted_on": "2026-10-01", "note": "Prepaid"}  # fmt: skip
    shop = workspace(tmp_path, book={"credits": [credit]}, usage=month_of_usage("2026-11-01T00:00:00Z", 720))
    assert shop.command("run", "--period", NOVEMBER, "--as-of", AFTER_NOVEMBER).code == ExitCode.DONE
    assert shop.close(period=NOVEMBER, now=AFTER_NOVEMBER).code == ExitCode.DONE
    shop.write_usage("late.parquet", month_of_usage())
    later = "2026-12-05T06:00:00Z"
    for command in ("run", "close"):
        ended = shop.command(command, "--period", PERIOD, "--as-of", later)
        assert ended.code == ExitCode.DONE, ended.stderr
    drawn = published(shop, "SELECT period, amount, balance_before FROM credit_ledger JOIN invoices USING (invoice_id)"
                            " ORDER BY period DESC")  # fmt: skip
    assert [(period, str(amount)) for period, amount, _ in drawn] == [(NOVEMBER, "80.0000")]
    assert published(shop, "SELECT number FROM invoices ORDER BY number")[-1] == ("2026-00004",)


# ---------------------------------------------------------------------------------------------------- cut short


class Killed(BaseException):
    """Stands for a kill: nothing in the program catches it."""


@pytest.mark.parametrize(
    "where",
    ["invoice_files", "next_numbers", "assert_gap_free", "proof_of_issue"],
)
def test_killed_before_the_commit_nothing_has_happened(shop, drafted, monkeypatch, where):
    def killed(*_, **__):
        raise Killed

    before = state_of(shop.root)
    with monkeypatch.context() as patch:
        patch.setattr(f"ratemill.steps.close.{where}", killed)
        assert shop.close().code == ExitCode.INTERNAL
    # Numbered files without an act that names them may be left in state/issued: the next close writes them anew.
    found = differences(before, state_of(shop.root))
    left = ("files: state/issued", "names: state/issued", "names: state/errors")
    assert [line for line in found if not line.startswith(left)] == []
    assert shop.run().summary["periods"][0]["nothing_to_do"]
    closed = shop.close()
    assert closed.code == ExitCode.DONE
    assert closed.summary["closed"]["first_number"] == "2026-00001"


@pytest.mark.parametrize("again", ["close", "run"])
@pytest.mark.parametrize("where", ["ratemill.steps.close.finish_closed", "ratemill.steps.closed.publish"])
def test_killed_after_the_commit_the_rest_is_made_by_the_next(shop, tmp_path, monkeypatch, where, again):
    def killed(*_, **__):
        raise Killed

    unkilled = type(shop)(tmp_path / "unkilled")
    shutil.copytree(shop.root, unkilled.root)
    assert unkilled.close().code == ExitCode.DONE

    with monkeypatch.context() as patch:
        patch.setattr(where, killed)
        assert shop.close().code == ExitCode.INTERNAL
    shutil.rmtree(shop.root / "state" / "errors")
    ended = shop.close() if again == "close" else shop.run()
    assert ended.code == ExitCode.DONE
    assert differences(state_of(unkilled.root), state_of(shop.root)) == []
    assert shop.close().summary["nothing_to_do"]


def test_killed_after_the_documents_of_a_credit_note_were_swapped_in(shop, tmp_path, monkeypatch):
    """The next finds them whole, and makes none again: nothing of the run's row may depend on who made them."""
    assert shop.close().code == ExitCode.DONE
    unkilled = type(shop)(tmp_path / "unkilled")
    shutil.copytree(shop.root, unkilled.root)
    words = ["credit-note", "--invoice", "2026-00001", "--amount", "1", "--reason", "Outage", "--as-of", NOW]
    assert unkilled.command(*words).code == ExitCode.DONE

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("ratemill.io.warehouse.Warehouse.advance_run", killed)
        assert shop.command(*words).code == ExitCode.INTERNAL
    shutil.rmtree(shop.root / "state" / "errors")
    assert shop.command(*words).code == ExitCode.DONE
    assert differences(state_of(unkilled.root), state_of(shop.root)) == []


def test_of_two_closes_at_once_one_wins_and_the_other_names_it(shop):
    command = [sys.executable, "-m", "ratemill", "close", "-w", str(shop.root), "-p", PERIOD, "--as-of", NOW, "--json"]
    with subprocess.Popen(command, env={"PYTHONPATH": SOURCE_ROOT}, stdout=subprocess.PIPE, text=True) as first:
        holder = shop.root / "state" / "lock.holder.json"
        deadline = time.monotonic() + 60
        while not holder.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        first.send_signal(signal.SIGSTOP)
        try:
            second = shop.close(process=True)
        finally:
            first.send_signal(signal.SIGCONT)
        told, _ = first.communicate(timeout=120)
    assert second.code == ExitCode.LOCKED
    assert f"the workspace is locked by pid {first.pid}" in second.stderr
    assert f"running `ratemill close --period {PERIOD}`" in second.stderr
    assert first.returncode == ExitCode.DONE
    assert json.loads(told)["closed"]["last_number"] == "2026-00002"
    assert published(shop, "SELECT number FROM invoices ORDER BY number") == [("2026-00001",), ("2026-00002",)]
    assert published(shop, "SELECT count(*) FROM closed_periods") == [(1,)]
