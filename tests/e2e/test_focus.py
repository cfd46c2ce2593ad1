"""FOCUS exports of whole runs: AWS's own rows come out as they went in, and every export is the ledger to the digit."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import openpyxl
import pytest

from ratemill.errors import ExitCode
from workspaces import (
    ADDRESSED,
    BOOK,
    NOW,
    PERIOD,
    good_usage,
    hours,
    make_workspace,
    month_of_usage,
    run_here,
    tree,
)

pytestmark = pytest.mark.slow

NO_DOCUMENTS = "\n[output]\npdf = false\nhtml = false\npublish_focus = true\n"
PUBLISHED = {"output": {"publish_focus": True}}


def query(text, **files):
    """Rows of a query; each of ``files`` is a view of Parquet."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, path in files.items():
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{path}')")
        return connection.execute(text).fetchall()


def export(root, period, *options):
    ended = run_here(["export", "focus", "-w", str(root), "-p", period, "--json", "-q", *options])
    assert ended.code == ExitCode.DONE, ended.stderr
    return root / ended.summary["folder"], ended.summary


# ------------------------------------------------------------------------------------------------------------------ AWS


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    root = tmp_path_factory.mktemp("focus") / "aws"
    assert run_here(["init", str(root), "--sample", "aws", "-q"]).code == 0
    with (root / "ratemill.toml").open("a", encoding="utf-8") as config:
        config.write(NO_DOCUMENTS)
    assert run_here(["run", "-w", str(root), "-p", "2024-09", "--as-of", NOW, "-q"]).code == 0
    return root


USAGE = "ChargeCategory = 'Usage'"
# The sample's own ListCost is its product rounded to 10 decimals (data/sample/aws/README.md).
AWS_IN = """
SELECT SubAccountId, SkuPriceId, ResourceId, RegionId, ChargePeriodStart, ChargePeriodEnd,
       PricingQuantity::DECIMAL(38, 12), PricingUnit, ListUnitPrice::DECIMAL(38, 12),
       round(ListCost::DECIMAL(38, 15), 10)::DECIMAL(38, 10)
FROM theirs WHERE ChargeCategory = 'Usage'
"""
AWS_OUT = """
SELECT SubAccountId, SkuId, ResourceId, RegionId, ChargePeriodStart, ChargePeriodEnd,
       PricingQuantity, PricingUnit, ListUnitPrice, round(ListCost, 10)::DECIMAL(38, 10)
FROM ours WHERE ChargeCategory = 'Usage'
"""


@pytest.mark.parametrize("version", ["1.4", "1.2"])
def test_aws_rows_come_out_of_focus_as_they_went_in(aws, version):
    folder, _ = export(aws, "2024-09", "--focus-version", version)
    files = {"theirs": next((aws / "usage").glob("*.parquet")), "ours": folder / "cost_and_usage.parquet"}
    assert query(f"SELECT count(*) FROM ({AWS_IN})", **files) == [(941,)]
    assert query(f"({AWS_IN}) EXCEPT ALL ({AWS_OUT})", **files) == []
    assert query(f"({AWS_OUT}) EXCEPT ALL ({AWS_IN})", **files) == []
    # Ours are the whole products, which the sample's 10 decimals cut off.
    assert query(f"SELECT sum(ListCost) FROM ours WHERE {USAGE}", **files) == query(
        f"SELECT sum(ListUnitPrice::DECIMAL(19, 12) * PricingQuantity::DECIMAL(19, 12)) FROM theirs WHERE {USAGE}",
        **files,
    )


# ----------------------------------------------------------------------------------------------------------------- demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Two months, the first of them closed, a price of it corrected afterwards, and a credit note made by hand."""
    root = tmp_path_factory.mktemp("focus") / "demo"
    assert run_here(["init", str(root), "--sample", "demo", "--resources", "20", "--months", "2", "-q"]).code == 0
    with (root / "ratemill.toml").open("a", encoding="utf-8") as config:
        config.write(NO_DOCUMENTS)

    def command(*arguments):
        ended = run_here([arguments[0], "-w", str(root), "-q", "--json", *arguments[1:]])
        assert ended.code == ExitCode.DONE, ended.stderr
        return ended.summary

    command("run", "-p", "2026-09", "--as-of", "2026-10-02T06:00:00Z")
    command("close", "-p", "2026-09", "--as-of", "2026-10-03T06:00:00Z")
    with duckdb.connect(str(root / "published" / "billing.duckdb"), read_only=True) as published:
        ((number,),) = published.execute(
            "SELECT number FROM invoices WHERE total_amount > 10 ORDER BY total_amount DESC LIMIT 1"
        ).fetchall()
    command("credit-note", "--invoice", number, "--reason", "Goodwill", "--amount", "5",
            "--as-of", "2026-10-20T06:00:00Z")  # fmt: skip
    prices = root / "book" / "prices.csv"
    with prices.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    raised = [
        row | {"unit_price": str(Decimal(row["unit_price"]) * 2)} if row["sku_id"].startswith("cmp-") else row
        for row in rows
    ]  # fmt: skip
    with prices.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(raised)
    command("run", "-p", "2026-10", "--as-of", "2026-11-02T06:00:00Z")
    return root


@pytest.mark.parametrize("period", ["2026-09", "2026-10"])
@pytest.mark.parametrize("version", ["1.4", "1.2"])
def test_every_document_is_its_amount_due(demo, period, version):
    folder, summary = export(demo, period, "--focus-version", version)
    billed = query("SELECT x_LedgerInvoiceId, sum(BilledCost) FROM f GROUP BY ALL", f=folder / "cost_and_usage.parquet")
    with duckdb.connect(str(demo / "published" / "billing.duckdb"), read_only=True) as published:
        due = published.execute(
            "SELECT invoice_id, due_amount::DECIMAL(38, 18) FROM invoices"
            " WHERE CASE origin WHEN 'run' THEN period ELSE strftime(issue_date, '%Y-%m') END = ?",
            [period],
        ).fetchall()
    assert len(due) > 5
    assert sorted(billed) == sorted(due)
    assert summary["status"] == ("issued" if period == "2026-09" else "draft")


def test_the_october_export_holds_every_kind_of_row(demo):
    """What the check by validators of others is worth depends on what is in the demo."""
    folder, _ = export(demo, "2026-10")
    kinds = query("SELECT DISTINCT x_ChargeKind FROM f", f=folder / "cost_and_usage.parquet")
    assert {kind for (kind,) in kinds} >= {"usage", "rounding", "recurring", "correction", "commitment", "tax"}
    classes = query("SELECT count(DISTINCT InvoiceId) FROM f WHERE ChargeClass = 'Correction'",
                    f=folder / "cost_and_usage.parquet")  # fmt: skip
    assert classes[0][0] >= 2  # the credit note, and invoices with corrections


@pytest.mark.parametrize("period", ["2026-09", "2026-10"])
def test_products_are_exact(demo, period):
    folder, _ = export(demo, period)
    wrong = """
    SELECT * FROM f
    WHERE ListCost <> ListUnitPrice::DECIMAL(19, 12) * PricingQuantity::DECIMAL(19, 12)
       OR ContractedCost <> ContractedUnitPrice::DECIMAL(19, 12) * PricingQuantity::DECIMAL(19, 12)
    """
    assert query(wrong, f=folder / "cost_and_usage.parquet") == []


def test_the_published_table_has_the_rows_of_the_exports(demo):
    with duckdb.connect(str(demo / "published" / "billing.duckdb"), read_only=True) as published:
        for period in ("2026-09", "2026-10"):
            folder, _ = export(demo, period)
            ours = f"SELECT * FROM read_parquet('{folder / 'cost_and_usage.parquet'}')"
            theirs = f"SELECT * FROM focus_cost_and_usage WHERE strftime(BillingPeriodStart AT TIME ZONE 'UTC', '%Y-%m') = '{period}'"
            assert published.execute(f"({ours}) EXCEPT ALL ({theirs})").fetchall() == []
            assert published.execute(f"({theirs}) EXCEPT ALL ({ours})").fetchall() == []


def test_csv_and_parquet_say_the_same(demo):
    parquet, _ = export(demo, "2026-10")
    text, _ = export(demo, "2026-10", "--format", "csv", "--to", str(demo / "csv"))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name in ("cost_and_usage", "invoice_detail", "billing_period", "contract_commitment"):
            typed = connection.sql(f"SELECT * FROM read_parquet('{parquet / name}.parquet')")
            columns = ", ".join(
                f'"{name}"::{kind} AS "{name}"' for name, kind in zip(typed.columns, typed.types, strict=True)
            )
            read = connection.sql(f"SELECT {columns} FROM read_csv('{text / name}.csv', all_varchar = true)")
            assert read.fetchall() == typed.fetchall()


def test_the_toolkit_finds_nothing_in_the_demo(demo):
    """`make focus-check` brings the toolkit, and the official validator for 1.2 as well."""
    pytest.importorskip("focus_data_toolkit", reason="not in this environment; make focus-check brings it")
    path = Path(__file__).parents[1] / "focus" / "check.py"
    spec = importlib.util.spec_from_file_location("focus_check", path)
    check = importlib.util.module_from_spec(spec)
    sys.modules["focus_check"] = check
    spec.loader.exec_module(check)
    for period in ("2026-09", "2026-10"):
        folder, _ = export(demo, period, "--format", "csv", "--to", str(demo / "toolkit"))
        assert check.toolkit_problems(folder) == []


# ---------------------------------------------------------------------------------------------------------- the command


def test_the_same_ledger_gives_the_same_bytes_and_drafts_are_replaced(tmp_path):
    shop = make_workspace(tmp_path)
    assert shop.run().code == ExitCode.DONE
    folder, first = export(tmp_path, PERIOD)
    assert folder == tmp_path / "exports" / "focus-1.4" / PERIOD
    before = tree(folder, folder)
    assert set(before) == {
        "billing_period.parquet", "contract_commitment.parquet", "cost_and_usage.parquet", "invoice_detail.parquet",
        "manifest.json", "metadata", "metadata/data_generator.json", "metadata/schema_billing_period.json",
        "metadata/schema_contract_commitment.json", "metadata/schema_cost_and_usage.json",
        "metadata/schema_invoice_detail.json",
    }  # fmt: skip
    export(tmp_path, PERIOD)
    assert tree(folder, folder) == before
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {name: told["sha256"] for name, told in manifest["files"].items()} == {
        name: digest for name, digest in before.items() if name not in {"manifest.json", "metadata"}
    }
    assert first["files"]["cost_and_usage.parquet"]["rows"] == 6  # 3 resources, 2 taxes, rounding of the disk

    shop.write_book("prices", [row | {"unit_price": "0.20"} for row in BOOK["prices"]])
    assert shop.run().code == ExitCode.DONE
    again, second = export(tmp_path, PERIOD)
    assert (again, second["run_id"] == first["run_id"]) == (folder, False)
    assert not [path for path in folder.parent.iterdir() if path != folder]


def test_a_closed_month_keeps_the_name_that_its_invoices_were_issued_under(tmp_path):
    seller = {"address": ["1 rue Haute"], "postal_code": "59000", "city": "Lille", "tax_id": "FR00123456789"}
    shop = make_workspace(tmp_path, usage=month_of_usage(), book={"accounts": ADDRESSED}, config={"seller": seller})
    assert shop.run().code == ExitCode.DONE
    assert shop.close().code == ExitCode.DONE
    shop.write_config({"seller": seller | {"name": "New Cloud", "payment_terms_days": 90}})
    assert shop.run().code == ExitCode.DONE
    folder, _ = export(tmp_path, PERIOD)
    names = "SELECT DISTINCT ServiceProviderName, InvoiceIssuerName FROM f"
    assert query(names, f=folder / "cost_and_usage.parquet") == [("Example Cloud", "Example Cloud")]
    assert run_here(["export", "workbook", "-w", str(tmp_path), "-p", PERIOD, "-q"]).code == ExitCode.DONE
    (workbook,) = (tmp_path / "exports").rglob("*.xlsx")
    assert openpyxl.load_workbook(workbook)["Control"]["A1"].value.startswith("Example Cloud")


def test_what_is_no_export_is_never_replaced(tmp_path):
    shop = make_workspace(tmp_path / "shop", usage=[good_usage(), hours(count=1, resource="vm-9")])
    assert shop.run().code == ExitCode.DONE
    mine = tmp_path / "to" / "focus-1.4" / PERIOD / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    ended = run_here(["export", "focus", "-w", str(shop.root), "-p", PERIOD, "--to", str(tmp_path / "to")])
    assert ended.code == ExitCode.USAGE
    assert "is there, and is no FOCUS export" in ended.stderr
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--period", "2026-08"], "2026-08 has no invoices to export → run: ratemill run --period 2026-08"),
        (["--period", "2026-09..2026-10"], "names 2 periods, and this command takes one"),
        (["--period", PERIOD, "--focus-version", "1.3"], "1.3"),
        (["--period", PERIOD, "--format", "xlsx"], "xlsx"),
    ],
)
def test_wrong_arguments(tmp_path, options, words):
    shop = make_workspace(tmp_path)
    assert shop.run().code == ExitCode.DONE
    ended = run_here(["export", "focus", "--workspace", str(tmp_path), *options])
    assert ended.code == ExitCode.USAGE
    assert words in ended.stderr
    assert not (tmp_path / "exports").exists()


TOO_LARGE = "an amount does not fit into DECIMAL(38,24), which ends at 10^14. The largest charge is"


def test_a_month_too_large_for_focus_is_billed_and_published_without_it(tmp_path):
    """10^17 fits into the ledger's 20 digits before the point, and not into FOCUS's products of 24 decimals."""
    price = [row | {"unit_price": "99999999999999"} for row in BOOK["prices"][:1]]
    shop = make_workspace(
        tmp_path, usage=hours(quantity="1000", count=1), book={"prices": [*price, *BOOK["prices"][1:]]},
        config=PUBLISHED,
    )  # fmt: skip
    ended = shop.run()
    assert ended.code == ExitCode.DONE, ended.stderr
    told = ended.finding("focus.too_large")
    assert f"2026-10 is not in the table focus_cost_and_usage: {TOO_LARGE}" in told["message"]
    assert "for SKU vm of account acme" in told["message"]
    assert shop.invoice("acme")["totals"]["untaxed"] == "99999999999999000.00"
    with duckdb.connect(str(tmp_path / "published" / "billing.duckdb"), read_only=True) as published:
        counts = published.execute("SELECT count(*), (SELECT count(*) FROM focus_cost_and_usage) FROM charges")
        assert counts.fetchone() == (1, 0)
    again = shop.run()
    assert again.summary["periods"][0]["nothing_to_do"]
    assert again.finding("focus.too_large") == told

    exported = run_here(["export", "focus", "-w", str(tmp_path), "-p", PERIOD])
    assert exported.code == ExitCode.DATA_REFUSED
    assert TOO_LARGE in exported.stderr
    assert "nothing was exported → bill in a larger unit of the currency" in exported.stderr
    assert not (tmp_path / "exports" / "focus-1.4" / PERIOD).exists()


def test_a_month_too_large_for_focus_leaves_the_others_published(tmp_path):
    """A fee, this time, and in one of two months."""
    fee = {"recurring_id": "huge", "account_id": "acme", "description": "Huge", "amount": "100000000000000",
           "currency": "EUR", "valid_from": "2026-10-01", "valid_to": ""}  # fmt: skip
    september = hours(first="2026-09-01T00:00:00Z")
    shop = make_workspace(tmp_path, usage=[september, good_usage()], book={"recurring": [fee]}, config=PUBLISHED)
    ended = shop.run(period="2026-09..2026-10")
    assert ended.code == ExitCode.DONE, ended.stderr
    told = {period["period"]: [found["rule"] for found in period["findings"]] for period in ended.summary["periods"]}
    assert "focus.too_large" in told["2026-10"]
    with duckdb.connect(str(tmp_path / "published" / "billing.duckdb"), read_only=True) as published:
        months = published.execute("SELECT DISTINCT strftime(BillingPeriodStart, '%Y-%m') FROM focus_cost_and_usage")
        assert months.fetchall() == [("2026-09",)]
