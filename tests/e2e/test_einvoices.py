"""E-invoices of a workspace: none of drafts, issued with the close, exported as issued, and checked."""

from __future__ import annotations

import hashlib
import json

import duckdb
import pytest

from ratemill.documents.facturx import embedded
from ratemill.errors import ExitCode
from workspaces import ADDRESSED, PERIOD, make_workspace, month_of_usage, run_here, tree

pytestmark = pytest.mark.slow

SELLER = {"tax_id": "FR00123456789", "address": ["1 rue Haute"], "postal_code": "59000", "city": "Lille"}
TAXES = [
    {"tax_code": "fr", "country": "FR", "rate": "20", "kind": "standard", "note": ""},
    {"tax_code": "eu", "country": "DE", "rate": "0", "kind": "reverse_charge", "note": "Reverse charge."},
]
"""Acme pays French tax, Globex has to account for it in Germany."""
ACME, GLOBEX = ADDRESSED
WITH_NUMBERS = [ACME, GLOBEX | {"tax_id": "DE123456789"}]


def drafted(folder, *, accounts=WITH_NUMBERS, seller=SELLER, **output):
    shop = make_workspace(
        folder, usage=month_of_usage(), book={"accounts": accounts, "taxes": TAXES},
        config={"seller": seller, "output": {"einvoice": "auto", **output}},
    )  # fmt: skip
    ended = shop.run()
    assert ended.code == ExitCode.DONE, ended.stderr
    return shop, ended


def export(shop, *options):
    return run_here(["export", "einvoice", "-w", str(shop.root), "-p", PERIOD, *options, "--json"])


def files(shop, ending):
    return sorted(path.name for path in (shop.root / "out" / PERIOD / "invoices").glob(f"*{ending}"))


def test_drafts_have_none_and_issued_documents_have_both(tmp_path):
    shop, ended = drafted(tmp_path, pdf=True)
    assert [finding for finding in ended.findings if finding["rule"].startswith("einvoice")] == []
    assert files(shop, ".xml") == []
    pdf = shop.root / "out" / PERIOD / "invoices" / "acme-EUR.pdf"
    assert embedded(pdf.read_bytes()) is None
    assert export(shop).code == ExitCode.USAGE

    assert shop.close().code == ExitCode.DONE
    assert files(shop, ".xml") == ["acme-EUR.xml", "globex-EUR.xml"]
    for syntax in ("ubl", "cii"):
        exported = export(shop, "--syntax", syntax, "--validate")
        assert exported.code == ExitCode.DONE, exported.stderr
        summary = exported.summary
        assert {name: facts["as_issued"] for name, facts in summary["files"].items()} == {
            "2026-00001.xml": True, "2026-00002.xml": True,
        }  # fmt: skip
        assert all(facts["rules"] > 40 for facts in summary["files"].values())
        assert summary["findings"] == []
        assert summary["without"] == {}
    folder = shop.root / "exports" / "einvoice-ubl" / PERIOD
    issued = shop.root / "out" / PERIOD / "invoices" / "acme-EUR.xml"
    assert (folder / "2026-00001.xml").read_bytes() == issued.read_bytes()
    assert (shop.root / "exports" / "einvoice-cii" / PERIOD / "2026-00001.xml").read_bytes() == embedded(
        pdf.read_bytes()
    )


def test_a_credit_note_by_hand_is_one_too_and_names_what_it_credits(tmp_path):
    shop, _ = drafted(tmp_path)
    assert shop.close().code == ExitCode.DONE
    noted = shop.command("credit-note", "--invoice", "2026-00001", "--amount", "10", "--reason", "Outage",
                         "--as-of", "2026-11-02T07:00:00Z")  # fmt: skip
    assert noted.code == ExitCode.DONE, noted.stderr
    exported = export(shop, "--validate")
    assert exported.code == ExitCode.DONE, exported.stderr
    (name,) = (name for name in exported.summary["files"] if name not in ("2026-00001.xml", "2026-00002.xml"))
    text = (shop.root / "exports" / "einvoice-ubl" / PERIOD / name).read_text(encoding="utf-8")
    assert "<cbc:CreditNoteTypeCode>381<" in text
    assert "<cbc:ID>2026-00001</cbc:ID>" in text


def test_what_was_issued_without_one_is_made_from_the_ledger(tmp_path):
    shop, _ = drafted(tmp_path, einvoice="off")
    assert shop.close().code == ExitCode.DONE
    assert files(shop, ".xml") == []
    exported = export(shop, "--validate", "--syntax", "cii")
    assert exported.code == ExitCode.DONE, exported.stderr
    assert [facts["as_issued"] for facts in exported.summary["files"].values()] == [False, False]


@pytest.mark.parametrize(
    ("setting", "severity", "point"), [("auto", "info", "ok"), ("required", "warning", "open"), ("off", None, "ok")]
)
def test_a_seller_without_a_tax_number_is_told_and_gets_no_broken_file(setting, severity, point, tmp_path):
    shop, ended = drafted(tmp_path, seller={"address": ["1 rue Haute"], "tax_id": ""}, einvoice=setting)
    found = [finding for finding in ended.findings if finding["rule"] == "einvoice.seller"]
    assert [finding["severity"] for finding in found] == ([severity] if severity else [])
    assert all("[seller] has no tax_id" in finding["message"] for finding in found)
    checked = shop.close("--check").summary["checklist"]
    assert {row["point"]: row["status"] for row in checked}["run.findings"] == point
    waive = ["seller.tax_id", *(["run.findings"] if point == "open" else [])]
    assert shop.close(waive=waive).code == ExitCode.DONE
    assert files(shop, ".xml") == []
    exported = export(shop, "--validate")
    assert exported.code == ExitCode.DONE, exported.stderr
    assert exported.summary["files"] == {}
    assert set(exported.summary["without"]) == {"2026-10-acme-EUR", "2026-10-globex-EUR"}


def test_one_customer_without_a_vat_number_leaves_the_others_theirs(tmp_path):
    shop, ended = drafted(tmp_path, accounts=ADDRESSED)
    assert "account 'globex' has no VAT number" in ended.finding("einvoice.buyer")["message"]
    assert shop.close(waive=["accounts.tax_id"]).code == ExitCode.DONE
    assert files(shop, ".xml") == ["acme-EUR.xml"]


def test_sellers_elsewhere_have_none_unless_they_are_required(tmp_path):
    abroad = SELLER | {"country": "US"}
    shop, ended = drafted(tmp_path / "auto", seller=abroad | {"tax_id": ""})
    assert [finding for finding in ended.findings if finding["rule"].startswith("einvoice")] == []
    assert shop.close(waive=["seller.tax_id"]).code == ExitCode.DONE
    assert files(shop, ".xml") == []
    shop, _ = drafted(tmp_path / "required", seller=abroad, einvoice="required")
    assert shop.close().code == ExitCode.DONE
    assert files(shop, ".xml") == ["acme-EUR.xml", "globex-EUR.xml"]


def test_an_issued_file_that_was_changed_is_not_exported(tmp_path):
    shop, _ = drafted(tmp_path)
    assert shop.close().code == ExitCode.DONE
    issued = shop.root / "state" / "issued" / f"period={PERIOD}" / "invoices" / "acme-EUR.xml"
    issued.chmod(0o600)
    issued.write_bytes(issued.read_bytes().replace(b"EUR", b"USD"))
    ended = export(shop)
    assert ended.code == ExitCode.DATA_REFUSED
    assert "acme-EUR.xml is not as it was issued" in ended.stderr
    assert not (shop.root / "exports" / "einvoice-ubl" / PERIOD).exists()


def test_an_invalid_document_is_told_by_its_rule_and_nothing_is_exported(tmp_path):
    """No book leads to one, so the issued file is made so, and its hash with it."""
    shop, _ = drafted(tmp_path)
    assert shop.close().code == ExitCode.DONE
    name = f"period={PERIOD}/invoices/acme-EUR.xml"
    issued = shop.root / "state" / "issued" / name
    issued.chmod(0o600)
    issued.write_bytes(issued.read_bytes().replace(b"<cbc:DocumentCurrencyCode>EUR", b"<cbc:DocumentCurrencyCode>EUX"))
    with duckdb.connect(str(shop.root / "state" / "warehouse.duckdb")) as warehouse:
        sha256 = hashlib.sha256(issued.read_bytes()).hexdigest()
        warehouse.execute("UPDATE ops.documents SET sha256 = ? WHERE file = ?", [sha256, name])
    assert export(shop).code == ExitCode.DONE
    before = tree(shop.root / "exports", shop.root)
    ended = export(shop, "--validate")
    assert ended.code == ExitCode.DATA_REFUSED
    assert "1 of 2 e-invoices of 2026-10 are not valid" in ended.stderr
    assert ended.finding("einvoice.BR-CL-04")["file"] == "2026-00001.xml"
    assert tree(shop.root / "exports", shop.root) == before


def test_a_folder_that_is_no_export_is_left_alone(tmp_path):
    shop, _ = drafted(tmp_path)
    assert shop.close().code == ExitCode.DONE
    mine = tmp_path / "elsewhere" / "einvoice-ubl" / PERIOD
    mine.mkdir(parents=True)
    (mine / "manifest.json").write_text(json.dumps({"mine": True}), encoding="utf-8")
    ended = export(shop, "--to", str(tmp_path / "elsewhere"))
    assert ended.code == ExitCode.USAGE
    assert "is no export of e-invoices" in ended.stderr
    assert [path.name for path in mine.iterdir()] == ["manifest.json"]
