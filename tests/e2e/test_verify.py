"""A closed month is proven; whatever is changed in it afterwards, wherever it lies, is found and named."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from ratemill.errors import ExitCode
from workspaces import BOOK, PERIOD, TinyWorkspace, good_usage, hours, make_workspace

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

CLOSE_AT = "2026-11-02T06:00:00Z"
ADDRESS = {"address_line1": "1 Main Street", "city": "Lyon"}
TERMS = {
    "accounts": [row | ADDRESS for row in BOOK["accounts"]],
    "discounts": [
        {"discount_id": "spring", "percent": "10", "valid_from": "2026-01-01", "note": "Spring", "priority": "1"}
    ],
    "credits": [
        {"credit_id": "start", "account_id": "acme", "amount": "1.00", "currency": "EUR", "kind": "promotional",
         "granted_on": "2026-01-01", "note": "Welcome"},
        {"credit_id": "paid", "account_id": "acme", "amount": "1.50", "currency": "EUR", "kind": "prepaid",
         "granted_on": "2026-01-01", "note": "Paid before"},
    ],
    "commitments": [
        {"commitment_id": "big", "account_id": "globex", "amount": "5.00", "currency": "EUR", "valid_from": "2026-01-01",
         "discount_percent": "0", "note": "Minimum"},
    ],
    "recurring": [{"recurring_id": "support", "account_id": "globex", "description": "Support", "amount": "9.00"}],
    "prices": [
        *(row for row in BOOK["prices"] if row["sku_id"] != "vm"),
        BOOK["prices"][0] | {"attr.os": "linux"},
        BOOK["prices"][0] | {"price_id": "vm-any", "unit_price": "0.12", "attr.os": ""},
    ],
}  # fmt: skip
"""Every table of a document has rows, and the book has a column of its own."""


@dataclass(frozen=True)
class Month:
    """A closed month."""

    shop: TinyWorkspace
    run_id: str

    @property
    def root(self) -> Path:
        return self.shop.root

    def verify(self, *options: str, process: bool = False) -> dict[str, Any]:
        """What ``ratemill verify`` says; the exit code agrees with it."""
        ended = self.shop.command("verify", *options, process=process)
        expected = ExitCode.DATA_REFUSED if ended.summary["findings"] else ExitCode.DONE
        assert ended.code == expected, ended
        return ended.summary

    def found(self, *options: str) -> list[str]:
        """Rule, file and message of each finding."""
        return [f"{one['rule']}: {one['file'] or one['column'] or ''}: {one['message']}"
                for one in self.verify(*options)["findings"]]  # fmt: skip

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Change the warehouse behind the back of the program."""
        with duckdb.connect(str(self.root / "state" / "warehouse.duckdb")) as warehouse:
            return warehouse.execute(statement).fetchall()

    def charges(self, name: str) -> Path:
        return self.root / "state" / "charges" / f"period={PERIOD}" / f"run={self.run_id}" / name


def close(shop: TinyWorkspace, period: str = PERIOD, at: str = CLOSE_AT) -> None:
    checked = shop.command("close", "--period", period, "--as-of", at, "--check")
    waived = [word for point in open_points(checked.summary) for word in ("--waive", f"{point}=a test")]
    ended = shop.command("close", "--period", period, "--as-of", at, *waived)
    assert ended.code == ExitCode.DONE, ended


def open_points(summary: dict[str, Any]) -> list[str]:
    return [point["point"] for point in summary["checklist"] if point["status"] == "open"]


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A month that was billed and closed, and a file of the next one."""
    shop = make_workspace(
        tmp_path_factory.mktemp("closed") / "shop",
        usage={"october.parquet": good_usage(), "november.parquet": hours(first="2026-11-01T00:00:00Z")},
        book=TERMS,
        config={"output": {"pdf": False, "html": True}},
    )
    ended = shop.run()
    assert ended.code == ExitCode.DONE, ended
    close(shop)
    return Month(shop, ended.summary["periods"][0]["run_id"])


@pytest.fixture
def month(closed, tmp_path):
    """A copy of it, to be tampered with."""
    shutil.copytree(closed.root, tmp_path / "shop")
    return Month(TinyWorkspace(tmp_path / "shop"), closed.run_id)


def flip(path: Path, at: int = -3) -> None:
    """Change one byte of a file, in the middle of its end, where nothing else notices."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


# ----------------------------------------------------------------------------------------------------------- untouched


def test_closed_month_is_proven_in_a_process_of_its_own(closed):
    summary = closed.verify(process=True)
    (proof,) = summary["periods"]
    assert summary["findings"] == []
    assert (proof["period"], proof["closed"], proof["derived"], proof["not_derived"]) == (PERIOD, True, True, [])
    assert proof["charge_files"] == 4
    assert proof["documents"] == 2
    assert proof["issued_files"] >= proof["documents"] * 2
    assert proof["out_files"] > proof["issued_files"]
    assert len(summary["last_sha256"]) == 64
    assert closed.found("--expect", summary["last_sha256"]) == []
    for table in ("invoice_lines", "invoice_deductions", "tax_lines", "credit_ledger", "commitment_ledger"):
        assert closed.sql(f"SELECT count(*) > 0 FROM billing.{table}") == [(True,)], f"{table} is not put to the test"


def test_verifying_changes_nothing(month):
    before = {path: path.stat().st_mtime_ns for path in (month.root / "state").rglob("*") if path.is_file()}
    rows = month.sql("SELECT count(*), max(sha256) FROM ops.events")
    month.verify()
    assert month.sql("SELECT count(*), max(sha256) FROM ops.events") == rows
    after = {path: path.stat().st_mtime_ns for path in (month.root / "state").rglob("*") if path.is_file()}
    changed = {path.name for path in after if after[path] != before.get(path)} | {
        path.name for path in before.keys() - after
    }
    assert changed <= {"warehouse.duckdb", "lock"}


def test_later_book_does_not_hinder_the_proof(month):
    """The month is derived again with the book of then, its own columns included."""
    month.shop.write_book("prices", [row | {"unit_price": "9"} for row in BOOK["prices"]])
    month.shop.write_book("accounts", BOOK["accounts"])
    (proof,) = month.verify()["periods"]
    assert proof["derived"]


def test_other_inputs_are_named_and_only_what_is_stored_is_proven(month):
    month.shop.write_usage("late.parquet", hours(resource="vm-9"))
    assert month.shop.command("load").code == ExitCode.DONE
    (proof,) = month.verify()["periods"]
    assert (proof["derived"], proof["not_derived"]) == (
        False, ["usage file usage/late.parquet: it came or changed since"]
    )  # fmt: skip
    flip(month.charges("shard-0000.parquet"))
    assert any("shard-0000.parquet" in one for one in month.found())


def test_month_with_corrections_of_a_closed_one_is_proven(month):
    month.shop.write_usage("late.parquet", hours(resource="vm-9"))
    assert month.shop.run(period="2026-11").code == ExitCode.DONE
    open_month = month.verify("--period", "2026-11")["periods"][0]
    assert (open_month["closed"], open_month["derived"]) == (False, True)
    close(month.shop, "2026-11", "2026-12-02T06:00:00Z")
    september, october = month.verify()["periods"]
    assert (september["derived"], october["derived"]) == (False, True)
    (folder,) = {path.parent for path in (month.root / "state" / "charges" / f"period={PERIOD}").glob("run=*/*")
                 if month.run_id not in path.parent.name}  # fmt: skip
    flip(folder / "shard-0000.parquet")
    assert [one for one in month.found("--period", "2026-11") if f"{folder.name}/shard-0000.parquet" in one]


def test_drafts_are_derived_again_as_well(tmp_path):
    shop = make_workspace(tmp_path, config={"output": {"pdf": False, "html": True}})
    run_id = shop.run().summary["periods"][0]["run_id"]
    month = Month(shop, run_id)
    assert month.verify()["periods"] == []
    (proof,) = month.verify("--period", PERIOD)["periods"]
    assert (proof["closed"], proof["derived"]) == (False, True)
    month.sql("UPDATE billing.invoice_lines SET account_name = 'Nobody' WHERE line_number = 1 AND account_id = 'acme'")
    (told,) = month.found("--period", PERIOD)
    assert "account_name of invoice_lines is Nobody, derived again it is Acme" in told
    assert shop.command("verify", "--period", "2026-09").code == ExitCode.USAGE


# ----------------------------------------------------------------------------------------------------------- tampering


@pytest.mark.parametrize("name", ["shard-0000.parquet", "invoiced.parquet", "unpriced.parquet", "manifest.json"])
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_charge_file_is_named(month, name, how):
    path = month.charges(name)
    flip(path) if how == "changed" else path.unlink()
    told = [one for one in month.found() if one.startswith("verify.charges")]
    assert len(told) == 1
    assert f"state/charges/period={PERIOD}/run={month.run_id}/{name}: the file" in told[0]
    assert how in told[0]


def test_charges_and_manifest_that_agree_are_found_all_the_same(month):
    """Whoever changes both does not reach what the act that closed the month kept."""
    flip(month.charges("shard-0000.parquet"))
    manifest = json.loads(month.charges("manifest.json").read_text())
    data = month.charges("shard-0000.parquet").read_bytes()
    manifest["files"]["shard-0000.parquet"] = hashlib.sha256(data).hexdigest()
    month.charges("manifest.json").write_text(json.dumps(manifest))
    assert sum(one.startswith("verify.charges") for one in month.found()) == 2


def test_added_charge_file_is_named(month):
    shutil.copy(month.charges("shard-0000.parquet"), month.charges("shard-0001.parquet"))
    assert any("shard-0001.parquet: the file was added" in one for one in month.found())


@pytest.mark.parametrize(
    ("place", "how"),
    [
        (place, how)
        for place in ("state/issued/period=2026-10", "out/2026-10")
        for how in ("changed", "missing", "added")
    ],
)
def test_document_is_named(month, place, how):
    path = month.root / place / "invoices" / "acme-EUR.html"
    name = "acme-EUR.html"
    if how == "changed":
        flip(path)
    elif how == "missing":
        path.unlink()
    else:
        name = "globex-EUR-2.html"
        shutil.copy(path, path.with_name(name))
    (told,) = month.found()
    assert told.startswith(f"verify.documents: {place}/invoices/{name}: the file ")
    assert how in told


def test_report_in_out_is_named(month):
    flip(month.root / "out" / PERIOD / "index.html")
    (told,) = month.found()
    assert f"out/{PERIOD}/index.html: the file was changed" in told


ACME, GLOBEX = "invoice 2026-00001 (2026-10-acme-EUR)", "invoice 2026-00002 (2026-10-globex-EUR)"


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        # rows of documents: by the hash kept at the close, and value for value
        ("UPDATE billing.invoices SET total_amount = total_amount + 1 WHERE billing_account_id = 'acme'",
         [f"verify.rows: invoices: {ACME}: its rows in invoices were changed", "untaxed amount and tax make the total",
          f"verify.derived: total_amount: {ACME}: total_amount of invoices is "]),
        ("UPDATE billing.invoices SET due_date = due_date + 1 WHERE billing_account_id = 'acme'",
         [f"verify.rows: invoices: {ACME}: its rows in invoices were changed"]),
        ("UPDATE billing.invoice_lines SET amount = amount - 0.01 WHERE account_id = 'globex' AND line_kind = 'usage'",
         [f"{GLOBEX}: its rows in invoice_lines were changed", f"verify.derived: amount: {GLOBEX}, line_number 1: amount",
          "the amounts of lines make the subtotal"]),
        ("UPDATE billing.invoice_lines SET sku_name = 'Gold' WHERE sku_id = 'egress'",
         [f"{ACME}: its rows in invoice_lines were changed", "sku_name of invoice_lines is Gold, derived again it is Egr"]),
        ("UPDATE billing.tax_lines SET rate = 21 WHERE tax_code = 'fr'",
         [f"verify.rows: tax_lines: {ACME}: its rows in tax_lines were changed",
          "the net amounts of lines of one tax make its base"]),
        ("UPDATE billing.invoice_deductions SET amount = amount - 0.01 WHERE source_id = 'spring' AND line_number = 1",
         ["its rows in invoice_deductions were changed", "rows of invoice_deductions make the discount of a line"]),
        ("UPDATE billing.credit_ledger SET balance_after = 9 WHERE credit_id = 'start'",
         [f"{ACME}: its rows in credit_ledger were changed", "what was left of a credit"]),
        ("UPDATE billing.commitment_ledger SET committed_amount = 6",
         [f"{GLOBEX}: its rows in commitment_ledger were changed", "committed_amount of commitment_ledger is 6"]),
        ("DELETE FROM billing.tax_lines WHERE tax_code = 'fr'",
         [f"{ACME}: its rows in tax_lines are gone", "its row in tax_lines is gone; derived again it is there"]),
        ("DELETE FROM billing.invoices WHERE billing_account_id = 'acme'",
         [f"published holds 2 documents that were issued for {PERIOD}", f"{ACME} was issued, and is gone", "no document bears the number 2026-00001",
          "rows of invoice_lines belong to invoice 2026-10-acme-EUR, which is not there"]),
        ("INSERT INTO billing.invoices BY NAME SELECT * REPLACE ('2026-10-ghost-EUR' AS invoice_id, '2026-00003' AS number) FROM billing.invoices WHERE billing_account_id = 'acme'",
         ["invoice 2026-10-ghost-EUR has the status issued, and no act issued it", "which was never given",
          "invoice 2026-00003 (2026-10-ghost-EUR) was added: it was never issued"]),
        ("UPDATE billing.invoices SET period = '2026-09', origin = 'hand' WHERE billing_account_id = 'acme'",
         [f"{ACME}: its rows in invoices were changed"]),
        # numbers
        ("UPDATE billing.invoices SET number = '2026-00009' WHERE billing_account_id = 'globex'",
         ["no document bears the number 2026-00002 of the series 2026-{number:05}",
          "bears the number 2026-00009, which was never given"]),
        ("UPDATE billing.invoices SET number = '2026-00001'",
         ["invoice 2026-10-acme-EUR bears the number 2026-00001, as another document does",
          "no document bears the number 2026-00002"]),
        ("UPDATE ops.number_series SET last = 5",
         [f"no document bears the number 2026-0000{number}" for number in (3, 4, 5)]),
        # the audit log
        ("UPDATE ops.events SET details = replace(details, '\"untaxed\"', '\"untold\"') WHERE act = 'closed'",
         ["verify.chain: ops.events: act 3 (closed): its content was changed"]),
        ("UPDATE ops.events SET actor = 'nobody' WHERE act = 'drafted'",
         ["verify.chain: ops.events: act 2 (drafted): its content was changed"]),
        ("DELETE FROM ops.events WHERE act = 'drafted'",
         ["verify.chain: ops.events: act 3 (closed): act 2 should come before it; acts are missing"]),
        ("DELETE FROM ops.events WHERE act = 'closed'",
         [f"{PERIOD} counts as closed, and no act closed it", "has the status issued, and no act issued it"]),
        ("UPDATE ops.events SET details = '{' WHERE act = 'closed'",
         ["act 3 (closed): its content was changed"]),
        # what the warehouse remembers
        ("UPDATE ops.closed_periods SET closed_by = 'nobody'", ["closed_by of the closed period 2026-10 is nobody"]),
        ("UPDATE ops.closed_periods SET rating_key = 'x'", ["rating_key of the closed period 2026-10 is x"]),
        ("DELETE FROM ops.closed_periods", [f"{PERIOD} was closed, and counts as open"]),
        ("UPDATE ops.checklist SET reason = 'forgot'", [f"the checklist of {PERIOD} was changed"]),
        ("UPDATE ops.documents SET sha256 = 'x' WHERE file LIKE '%acme%json'",
         ["does not tell of period=2026-10/invoices/acme-EUR.json what was issued"]),
        ("UPDATE ops.runs SET inputs = replace(inputs, 'october', 'oktober')", ["inputs of run"]),
        ("UPDATE ops.runs SET inputs = replace(inputs, '\"code\"', '\"cod\"')", ["do not lead to its id"]),
        ("UPDATE ops.runs SET book_sha256 = 'x'", ["book_sha256 of run"]),
        ("DELETE FROM ops.runs", [f"of {PERIOD} is gone"]),
        # what it was derived from
        ("UPDATE book.prices SET unit_price = unit_price + 1 WHERE price_id = 'egress-eur'",
         ["was changed: book.prices"]),
        ("UPDATE book.prices SET added_columns = '{}'", ["was changed: book.prices"]),
        ("DELETE FROM book.discounts", ["was changed: book.discounts"]),
        ("UPDATE raw.usage SET quantity = quantity + 1 WHERE row_number = 1",
         ["shard-0000.parquet: its charges are other ones when they are derived again", "verify.derived"]),
        ("DELETE FROM raw.usage WHERE row_number = 1", ["can't be derived again: rows were lost"]),
    ],
)  # fmt: skip
def test_value_in_the_warehouse_is_named(month, statement, told):
    month.sql(statement)
    found = month.found()
    for text in told:
        assert any(text in one for one in found), "\n".join([f"nothing says: {text}", *found])


def test_tail_that_was_cut_off_is_found_by_a_hash_that_was_kept_elsewhere(month):
    kept = month.verify()["last_sha256"]
    month.shop.write_usage("late.parquet", hours(resource="vm-9"))
    month.shop.run(period="2026-11")
    assert month.found("--expect", kept) == [], "the log may have grown since"
    month.sql("DELETE FROM ops.events WHERE sequence > 2")
    assert any(f"no act has the hash {kept}" in one for one in month.found("--expect", kept))


def test_findings_are_shown_to_people(month):
    flip(month.charges("shard-0000.parquet"))
    ended = month.shop.command("verify", json=False, process=True)
    assert ended.code == ExitCode.DATA_REFUSED
    assert "shard-0000.parquet: the file was changed" in ended.stdout
    assert "1 thing is not as it was" in ended.stdout or "things are not as they were" in ended.stdout


def test_everything_is_proven_after_a_credit_note_by_hand(month):
    credit = month.shop.command(
        "credit-note", "--invoice", "2026-00001", "--amount", "0.50", "--reason", "Goodwill", "--as-of", CLOSE_AT
    )
    assert credit.code == ExitCode.DONE, credit
    (proof,) = month.verify()["periods"]
    assert (proof["documents"], proof["derived"]) == (3, True)
    month.sql("UPDATE billing.invoice_lines SET net_amount = net_amount - 1 WHERE invoice_id NOT LIKE '2026-10-%-EUR'")
    assert any("its rows in invoice_lines were changed after it was issued" in one for one in month.found())
