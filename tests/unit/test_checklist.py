"""The checklist of a close: what opens a point, what it says, and who may waive it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import polars as pl
import pytest

from ratemill.config import Seller
from ratemill.errors import UsageError
from ratemill.findings import Finding, Severity
from ratemill.invoicing.checklist import Evidence, checklist, daily_files, open_findings, waived
from ratemill.period import BillingPeriod
from ratemill.tables.book import ACCOUNTS
from ratemill.tables.charges import UNPRICED
from ratemill.tables.invoices import INVOICES, TAX_LINES, Billed
from ratemill.tables.runs import CHECKLIST

D = Decimal
OCTOBER = BillingPeriod(2026, 10)
PARIS = "Europe/Paris"


def rows_of(table, *rows):
    """Rows of a table from what matters in them: other columns are empty, numbers 0."""
    usual = {
        c.name: ""
        if c.dtype == pl.String and not c.nullable
        else 0
        if c.dtype.is_numeric() and not c.nullable
        else None
        for c in table.columns
    }
    schema = table.polars_schema
    return pl.DataFrame([usual | row for row in rows], schema=schema) if rows else table.empty()


def invoices(*rows):
    """(payer, currency, untaxed) → rows of INVOICES."""
    return rows_of(
        INVOICES,
        *(
            {
                "invoice_id": f"{payer}-{currency}",
                "billing_account_id": payer,
                "currency": currency,
                "untaxed_amount": D(untaxed),
            }
            for payer, currency, untaxed in rows
        ),
    )


def billed(*rows, reverse_charge=()):
    taxes = rows_of(TAX_LINES, *({"invoice_id": name, "kind": "reverse_charge"} for name in reverse_charge))
    return replace(Billed.empty(), invoices=invoices(*rows), taxes=taxes)


def accounts(**changes):
    """acme and globex, both with an address and a tax number; ``acme={"city": None}`` changes one."""
    usual = {"address_line1": "1 Example Street", "city": "Lyon", "country": "FR", "tax_id": "FR00", "currency": "EUR"}
    names = ("acme", "globex", "unbilled")
    return rows_of(ACCOUNTS, *(usual | {"account_id": name, "name": name} | changes.get(name, {}) for name in names))


def days(template, month=OCTOBER, *, without=()):
    listed = (month.first_day + timedelta(days=n) for n in range(month.days))
    return [template.format(day) for day in listed if day.day not in without]


CLEAN = Evidence(
    period=OCTOBER,
    time_zone=PARIS,
    refused=(),
    files=days("usage/{:%Y-%m-%d}.parquet"),
    hours=range(745),
    holes=pl.DataFrame(schema={"account_id": pl.String, "resource_id": pl.String, "hours": pl.Int64}),
    rows_considered=1_000,
    rows_rejected=0,
    unpriced=UNPRICED.empty(),
    billed=billed(("acme", "EUR", "100"), ("globex", "EUR", "50")),
    last_month=invoices(("acme", "EUR", "100"), ("globex", "EUR", "60")),
    seller=Seller(name="Example Cloud", country="FR", address=("1 Example Square",), tax_id="FR00"),
    accounts=accounts(),
    max_total_change=D("0.5"),
    findings=(),
    issue_date=date(2026, 11, 2),
    today=date(2026, 11, 2),
    last_issue_date=date(2026, 10, 1),
)

WITHOUT_PAPERS = Seller(name="Example Cloud", country="FR", address=(" ",))
UNPRICED_USAGE = rows_of(
    UNPRICED,
    *(
        {"account_id": "acme", "sku_id": "gpu", "usage_unit": "Hours", "quantity": D(quantity), "records": records}
        for quantity, records in (("1.5", 3), ("2.50", 4))
    ),
)
HOLES = CLEAN.holes.vstack(
    pl.DataFrame([("acme", f"vm-{n}", 1000 - n) for n in range(5)], schema=CLEAN.holes.schema, orient="row")
)
WARNING = Finding(Severity.WARNING, "prices.ends", "price p ends in November", "add the next one")
REFUSED = Finding(Severity.ERROR, "usage.file_refused", "it is no Parquet file", file="usage/x.parquet")


def changed(point, **changes):
    """The row of ``point`` where the evidence is clean but for ``changes``."""
    (row,) = checklist(replace(CLEAN, **changes)).filter(point=point).iter_rows(named=True)
    return row


def test_a_clean_month_has_no_open_point():
    rows = checklist(CLEAN)
    assert rows["status"].unique().to_list() == ["ok"]
    assert rows["point"].is_unique().all()
    assert open_findings(rows) == []
    CHECKLIST.validate(rows)
    assert all(rows["detail"].str.len_chars() > 0), "what was seen is told where all is well, too"


def test_a_month_without_anything_can_be_judged():
    empty = replace(CLEAN, billed=Billed.empty(), files=(), hours=(), rows_considered=0, last_issue_date=None)
    rows = checklist(empty)
    assert rows.filter(status="open")["point"].to_list() == ["usage.hours_missing", "invoices.totals"]


OPEN = [
    ("usage.files_refused", {"refused": [REFUSED]},
     "1 usage file could not be read: usage/x.parquet: it is no Parquet file"),
    ("usage.files_refused", {"refused": [replace(REFUSED, file=f"{n}") for n in range(5)]},
     ("5 usage files could not be read: 0: it is no Parquet file; 1: it is no Parquet file; 2: it is no Parquet file and"
     " 2 more")),
    ("usage.files_missing", {"files": days("usage/{:%Y-%m-%d}.parquet", without=[5, 6])},
     "days without a file, where other days have one: usage/*.parquet: 2026-10-05, 2026-10-06"),
    ("usage.files_missing", {"files": [*CLEAN.files, *days("eu/{:%Y%m%d}.parquet", without=range(2, 9))]},
     "days without a file, where other days have one: eu/*.parquet: 2026-10-02, 2026-10-03, 2026-10-04 and 4 more"),
    ("usage.files_missing", {"files": days("u/{:%Y-%m-%d}.parquet", BillingPeriod(2026, 9))},
     "days without a file, where other days have one: u/*.parquet: 2026-10-01, 2026-10-02, 2026-10-03 and 28 more"),
    ("usage.hours_missing", {"hours": range(1, 745)},
     "1 of 745 hours have no usage of anybody: 2026-10-01 00:00 to 2026-10-01 01:00 (Europe/Paris)"),
    ("usage.hours_missing", {"hours": [*range(24), *range(48, 743)]},
     ("26 of 745 hours have no usage of anybody: 2026-10-02 00:00 to 2026-10-03 00:00, 2026-10-31 22:00 to 2026-11-01"
     " 00:00 (Europe/Paris)")),
    ("usage.rejected", {"rows_rejected": 12},
     "12 of 1,000 usage rows are rejected (1.2 %) and not billed"),
    ("usage.rejected", {"rows_rejected": 1, "rows_considered": 300_000},
     "1 of 300,000 usage rows are rejected (0.000333 %) and not billed"),
    ("usage.unpriced", {"unpriced": UNPRICED_USAGE},
     "7 usage records have no price and are not billed: 4 Hours of gpu for acme"),
    ("seller.address", {"seller": WITHOUT_PAPERS},
     "Example Cloud has no address, which every invoice must carry"),
    ("seller.tax_id", {"seller": WITHOUT_PAPERS},
     "Example Cloud has no tax number, which invoices with tax must carry"),
    ("accounts.address", {"accounts": accounts(acme={"city": None})},
     "1 account without street or city: acme"),
    ("accounts.address", {"accounts": accounts(acme={"address_line1": None}, globex={"city": None})},
     "2 accounts without street or city: acme, globex"),
    ("accounts.tax_id", {"accounts": accounts(globex={"tax_id": None, "country": "DE"}),
                         "billed": billed(("acme", "EUR", "100"), ("globex", "EUR", "50"),
                                          reverse_charge=["acme-EUR", "globex-EUR"])},
     "1 account with reverse charge, but without a tax number: globex (DE)"),
    ("invoices.totals", {"billed": billed(("acme", "EUR", "150.01"), ("globex", "EUR", "60"))},
     "against 2026-09: 1 payer moved by more than 50 %: acme 100.00 EUR → 150.01 EUR (+50 %)"),
    ("invoices.totals", {"billed": billed(("acme", "EUR", "49.99"), ("acme", "JPY", "1200"))},
     ("against 2026-09: 1 payer moved by more than 50 %: acme 100.00 EUR → 49.99 EUR (-50 %); 1 payer gone: globex 60.00"
     " EUR; 1 payer new: acme 1,200 JPY")),
    ("invoices.totals", {"last_month": invoices(("acme", "EUR", "0"), ("globex", "EUR", "50"))},
     "against 2026-09: 1 payer moved by more than 50 %: acme 0.00 EUR → 100.00 EUR"),
    ("invoices.totals", {"billed": billed(("acme", "EUR", "-100"), ("globex", "EUR", "60"))},
     "against 2026-09: 1 payer moved by more than 50 %: acme 100.00 EUR → -100.00 EUR (-200 %)"),
    ("invoices.totals", {"max_total_change": D("0.1")},
     "against 2026-09: 1 payer moved by more than 10 %: globex 60.00 EUR → 50.00 EUR (-17 %)"),
    ("run.findings", {"findings": [WARNING]},
     "1 warning: prices.ends: price p ends in November"),
    ("issue_date.after_period", {"issue_date": date(2026, 10, 31)},
     "the date of issue 2026-10-31 is not after the last day of the month"),
    ("issue_date.not_future", {"issue_date": date(2026, 11, 3)},
     "the date of issue 2026-11-03 is after today, 2026-11-02, and nothing can be issued with an earlier one later"),
    ("issue_date.in_order", {"last_issue_date": date(2026, 11, 3)},
     "the date of issue 2026-11-02 is before 2026-11-03, the last one used"),
]  # fmt: skip


@pytest.mark.parametrize(("point", "changes", "detail"), OPEN)
def test_what_opens_a_point_is_told_with_counts_and_examples(point, changes, detail):
    row = changed(point, **changes)
    assert (row["status"], row["detail"]) == ("open", detail)
    assert row["cure"], "an open point says what to do"


def test_each_point_but_the_one_for_information_is_opened_by_something():
    assert {point for point, _, _ in OPEN} == set(checklist(CLEAN)["point"]) - {"usage.holes"}


@pytest.mark.parametrize(
    ("point", "changes", "detail"),
    [
        ("usage.holes", {"holes": HOLES.head(1)},
         ("1 resource without usage for hours between the first and the last, which may be as it was: vm-0 of acme"
         " (1,000 h)")),
        ("usage.holes", {"holes": HOLES},
         ("5 resources without usage for hours between the first and the last, which may be as it was: vm-0 of acme"
         " (1,000 h), vm-1 of acme (999 h), vm-2 of acme (998 h) and 2 more")),
        ("usage.files_missing", {"files": ["usage/all.parquet", "usage/2026-10-01.parquet"]},
         "files do not come day by day, by their names"),
        ("accounts.address", {"accounts": accounts(unbilled={"city": None})}, "every account that pays has an address"),
        ("accounts.tax_id", {"accounts": accounts(acme={"tax_id": None})},
         "every account with reverse charge has a tax number"),
        ("invoices.totals", {"last_month": INVOICES.empty()}, "2026-09 has no invoices to compare with"),
        ("invoices.totals", {"billed": billed(("acme", "EUR", "150"), ("globex", "EUR", "30"))},
         "against 2026-09: no untaxed total moved by more than 50 %"),
        ("invoices.totals", {"last_month": invoices(("acme", "EUR", "100"))},
         "against 2026-09: 1 payer new: globex 50.00 EUR"),
        ("issue_date.in_order", {"last_issue_date": date(2026, 11, 2)},
         "the date of issue 2026-11-02 is not before 2026-11-02, the last one used"),
    ],
)  # fmt: skip
def test_what_is_worth_knowing_opens_nothing(point, changes, detail):
    row = changed(point, **changes)
    assert (row["status"], row["detail"], row["cure"]) == ("ok", detail, "")


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("usage-2026-10-05.parquet", "usage-*.parquet"),
        ("20261005.parquet", "*.parquet"),
        ("eu/2026/10/05/part-0.parquet", "eu/*/part-0.parquet"),
        ("year=2026/month=10/day=5/part.parquet", "year=*/part.parquet"),
        ("2026-10/usage-2026-10-05.parquet", "2026-10/usage-*.parquet"),
        ("run-20269999-2026-10-05.parquet", "run-20269999-*.parquet"),
        ("usage-2026-10-05-13.parquet", "usage-*-13.parquet"),
    ],
)
def test_the_day_of_a_file_is_read_off_its_name(name, rest):
    others = [name.replace("2026-10-05", f"2026-10-{n:02}").replace("20261005", f"202610{n:02}")
              .replace("10/05/", f"10/{n:02}/").replace("day=5/", f"day={n}/") for n in range(6, 22)]  # fmt: skip
    found = daily_files([name, *others], OCTOBER)
    assert found == {rest: {date(2026, 10, n) for n in range(5, 22)}}


@pytest.mark.parametrize("name", ["usage.parquet", "1234567890.parquet", "usage-2026-10.parquet", "2026-13-45.parquet"])
def test_a_name_without_a_day_is_no_daily_file(name):
    assert daily_files([name] * 31, OCTOBER) == {}


# ---------------------------------------------------------------------------------------------------- waivers

OPEN_MONTH = checklist(replace(CLEAN, rows_rejected=3, last_issue_date=date(2026, 11, 5)))


def test_a_waived_point_keeps_reason_and_name():
    rows = waived(OPEN_MONTH, {"usage.rejected": " test rows of the supplier "}, by="mona")
    (row,) = rows.filter(point="usage.rejected").iter_rows(named=True)
    assert (row["status"], row["reason"], row["waived_by"]) == ("waived", "test rows of the supplier", "mona")
    others = rows.filter(pl.col("point") != "usage.rejected")
    assert others.equals(OPEN_MONTH.filter(pl.col("point") != "usage.rejected"))
    assert [finding.rule for finding in open_findings(rows)] == ["close.issue_date.in_order"]
    CHECKLIST.validate(rows)


def test_without_waivers_the_checklist_is_as_it_was():
    assert waived(OPEN_MONTH, {}, by="mona").equals(OPEN_MONTH)


@pytest.mark.parametrize(
    ("waivers", "complaint"),
    [
        ({"usage.reject": "x"}, "--waive usage.reject: there is no such point → the points are usage.files_refused, "),
        ({"usage.rejected": "  "}, "--waive usage.rejected: a waiver needs a reason"),
        ({"usage.unpriced": "x"}, "the point is not open → leave the waiver out; the open points are usage.rejected, "),
        ({"issue_date.in_order": "x"}, "can't be waived → numbers follow dates"),
    ],
)
def test_a_waiver_that_makes_no_sense_is_refused(waivers, complaint):
    with pytest.raises(UsageError) as caught:
        waived(OPEN_MONTH, waivers, by="mona")
    assert complaint in str(caught.value)


def test_open_points_are_errors_with_a_cure():
    first, second = open_findings(OPEN_MONTH)
    assert (first.rule, first.severity) == ("close.usage.rejected", Severity.ERROR)
    assert first.message.startswith("usage.rejected: 3 of 1,000 usage rows are rejected")
    assert first.cure
    assert second.rule == "close.issue_date.in_order"
