"""Cost reports from worked frames to HTML: what they show, that it adds up, and that nothing in them is markup."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ratemill.config import Seller
from ratemill.documents.charts import SERIES_COLOURS, stacked_days
from ratemill.documents.guard import Guard
from ratemill.documents.invoice_files import invoice_stem
from ratemill.documents.report import (
    INDEX_FILE,
    PROVIDER_FILE,
    ReportPrinter,
    report_jobs,
    report_path,
)
from ratemill.documents.report_model import RunFacts
from ratemill.errors import InvariantError
from ratemill.findings import Finding, Severity
from ratemill.money import AMOUNT, COST, exact_cost, round_to_minor_unit
from ratemill.period import BillingPeriod
from ratemill.tables.book import ACCOUNTS, CREDITS, PROJECTS, SKUS
from ratemill.tables.charges import CHARGES
from ratemill.tables.invoices import (
    COMMITMENT_LEDGER,
    CREDIT_LEDGER,
    INVOICE_DEDUCTIONS,
    INVOICE_LINES,
    INVOICES,
    TAX_LINES,
    Billed,
)

PERIOD = BillingPeriod(2026, 10)
NO_TEMPLATES = Path("no-such-folder")
TAX_RATE = Decimal(20)
NOTHING_DRAWN = pl.DataFrame(schema={"credit_id": pl.String, "amount": AMOUNT})
RUN = RunFacts(
    "2026-10-0123456789ab", rows_in=1000, rows_accepted=1000, rows_rejected=0, rows_duplicate=0, unpriced_records=0
)


@dataclass
class World:
    """Tables of two months, written as a provider would: who used how much of what, at which price."""

    accounts: list[dict] = field(default_factory=list)
    projects: list[dict] = field(default_factory=list)
    skus: list[dict] = field(default_factory=list)
    charges: list[dict] = field(default_factory=list)
    previous: list[dict] = field(default_factory=list)
    run: RunFacts = RUN

    def account(self, account_id: str, name: str, *, currency: str = "EUR", payer: str = "", zone: str = "") -> None:
        self.accounts.append(
            {
                "account_id": account_id,
                "billing_account_id": payer or None,
                "name": name,
                "country": "FR",
                "currency": currency,
                "time_zone": zone or None,
            }
        )

    def sku(self, sku_id: str, service: str, category: str, name: str, unit: str = "hour") -> None:
        self.skus.append(
            {"sku_id": sku_id, "service": service, "category": category, "name": name, "pricing_unit": unit}
        )

    def use(
        self,
        account_id: str,
        sku_id: str,
        quantity: str,
        price: str,
        *,
        day: int = 1,
        hour: int = 12,
        month: int = 10,
        list_price: str | None = None,
        project: str | None = None,
        region: str | None = "eu-west",
        tags: dict[str, str] | None = None,
    ) -> None:
        """One usage charge of one day."""
        start = datetime(2026, month, day, hour, tzinfo=UTC)
        (self.charges if month == PERIOD.month else self.previous).append(
            {
                "account_id": account_id,
                "project_id": project,
                "sku_id": sku_id,
                "region": region,
                "tags": json.dumps(tags, sort_keys=True) if tags else None,
                "charge_start": start,
                "charge_end": start + timedelta(hours=1),
                "pricing_quantity": Decimal(quantity),
                "contracted_unit_price": Decimal(price),
                "list_unit_price": Decimal(list_price) if list_price is not None else Decimal(price),
            }
        )

    def tables(self) -> dict[str, Any]:
        """Arguments of ``report_jobs`` that are frames."""
        accounts = pl.DataFrame(self.accounts, schema_overrides=ACCOUNTS.polars_schema, infer_schema_length=None)
        skus = pl.DataFrame(self.skus)
        charges, lines = billed(self.charges, accounts, skus, PERIOD)
        previous, _ = billed(self.previous, accounts, skus, PERIOD.shift(-1))
        invoices, taxes = invoiced(charges, lines)
        return {
            "charges": charges,
            "previous_charges": previous,
            "billed": replace(Billed.empty(), invoices=invoices, lines=lines, taxes=taxes),
            "granted": CREDITS.empty(),
            "drawn": NOTHING_DRAWN,
            "accounts": whole(accounts, ACCOUNTS),
            "projects": whole(pl.DataFrame(self.projects), PROJECTS),
            "skus": whole(skus, SKUS),
        }


def whole(frame: pl.DataFrame, table) -> pl.DataFrame:
    """``frame`` with all columns of ``table``; columns that the example doesn't name are null."""
    if frame.is_empty():
        return table.empty()
    missing = [pl.lit(None).alias(name) for name in table.names if name not in frame.columns]
    return frame.with_columns(missing).select(table.names).cast(dict(table.polars_schema))


LINE_KEY = ["billing_account_id", "currency", "account_id", "project_id", "sku_id", "region", "price_id"]


def billed(
    rows: list[dict], accounts: pl.DataFrame, skus: pl.DataFrame, period: BillingPeriod
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Charges (rounding included) and invoice lines of usage rows: RATING's steps, done the plain way."""
    if not rows:
        return CHARGES.empty(), INVOICE_LINES.empty()
    payer = accounts.select(
        "account_id", pl.coalesce("billing_account_id", "account_id").alias("billing_account_id"), "currency"
    )
    usage = (
        pl.DataFrame(rows, schema_overrides={k: v for k, v in CHARGES.polars_schema.items() if k in rows[0]})
        .join(payer, on="account_id", how="left")
        .join(skus.select("sku_id", "pricing_unit"), on="sku_id", how="left")
        .with_columns(
            period=pl.lit(str(period)),
            charge_kind=pl.lit("usage"),
            price_id=pl.col("sku_id") + "@" + pl.col("contracted_unit_price").cast(pl.String),
            list_cost=exact_cost(pl.col("pricing_quantity"), pl.col("list_unit_price")),
            contracted_cost=exact_cost(pl.col("pricing_quantity"), pl.col("contracted_unit_price")),
            run_id=pl.lit("run"),
            invoice_id=pl.format("{}-{}-{}", pl.lit(str(period)), "billing_account_id", "currency"),
        )
        .with_columns(cost=pl.col("contracted_cost"))
    )
    usage = whole(usage, CHARGES)
    currencies = usage["currency"].unique().to_list()
    lines = (
        usage.group_by([*LINE_KEY, "invoice_id"])
        .agg(pl.col("cost").sum(), pl.col("charge_start").min())
        .with_columns(amount=round_to_minor_unit(pl.col("cost"), pl.col("currency"), currencies))
        .with_columns(rounding=pl.col("amount").cast(COST) - pl.col("cost"), net_amount=pl.col("amount"))
    )
    rounding = lines.filter(pl.col("rounding") != 0).with_columns(
        charge_kind=pl.lit("rounding"),
        period=pl.lit(str(period)),
        cost=pl.col("rounding"),
        contracted_cost=pl.lit(Decimal(0)),
        charge_start=period.start(),
        charge_end=period.end(),
        run_id=pl.lit("run"),
    )
    return pl.concat([usage, whole(rounding, CHARGES)]), whole(lines, INVOICE_LINES)


def invoiced(charges: pl.DataFrame, lines: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Invoices and tax lines of one rate."""
    bills = charges.select("invoice_id", "billing_account_id", "currency").unique()
    sums = lines.group_by("invoice_id").agg(untaxed_amount=pl.col("amount").sum())
    taxes, totals = [], []
    for bill in bills.join(sums, on="invoice_id").sort("invoice_id").iter_rows(named=True):
        tax = (bill["untaxed_amount"] * TAX_RATE / 100).quantize(Decimal("0.01"))
        totals.append(
            {
                **bill,
                "period": str(PERIOD),
                "document": "invoice",
                "status": "draft",
                "tax_amount": tax,
                "total_amount": bill["untaxed_amount"] + tax,
                "prepaid_amount": Decimal(0),
                "due_amount": bill["untaxed_amount"] + tax,
            }
        )
        taxes.append(
            {
                "invoice_id": bill["invoice_id"],
                "tax_code": "FR",
                "category": "standard",
                "kind": "standard",
                "rate": TAX_RATE,
                "base_amount": bill["untaxed_amount"],
                "tax_amount": tax,
            }
        )
    amounts = {name: AMOUNT for name in INVOICES.names if name.endswith("_amount")}
    return whole(pl.DataFrame(totals, schema_overrides=amounts), INVOICES), whole(
        pl.DataFrame(taxes, schema_overrides={"base_amount": AMOUNT, "tax_amount": AMOUNT}), TAX_LINES
    )


def render_all(world: World, **changed) -> dict[str, str]:
    """Every report by path."""
    arguments = {
        "period": PERIOD,
        "seller": Seller(name="Nimbus Cloud", country="FR"),
        "run": world.run,
        **world.tables(),
        **changed,
    }
    facts, jobs = report_jobs(**arguments)
    make = ReportPrinter(facts, NO_TEMPLATES).open(Guard())
    return {path: data.decode() for job in jobs for _, path, data in make(job)}


class Page(HTMLParser):
    """What a reader sees of a page: tables as rows of texts, links, and the tags that occur."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.names: list[str] = []
        """Attribute names."""
        self.text = ""
        self._cell: list[str] | None = None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        self.names += given
        if tag == "a":
            self.links.append(given["href"])
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in {"td", "th"}:
            self._cell = []

    def handle_endtag(self, tag):
        if tag in {"td", "th"} and self._cell is not None:
            self.tables[-1][-1].append(" ".join("".join(self._cell).split()))
            self._cell = None

    def handle_data(self, data):
        if self.tags[-1:] != ["style"] or self.get_starttag_text() != "<style>":
            self.text += data
        if self._cell is not None:
            self._cell.append(data)

    def table(self, heading: str) -> list[list[str]]:
        """The first table whose first column is called ``heading``."""
        return next(table for table in self.tables if table[0][0] == heading)


def amount(text: str) -> Decimal:
    """An amount as shown; a dash is nothing."""
    return Decimal(text.replace(",", "").replace("+", "").replace("\N{EN DASH}", "0"))


def small_world() -> World:
    """Two customers, one of them with a subsidiary; two services; one price change; a new and a gone SKU."""
    world = World()
    world.account("acme", "Acme Robotics")
    world.account("acme-lab", "Acme Laboratory", payer="acme")
    world.account("borealis", "Boréalis & Fils")
    world.projects = [
        {"project_id": "p-web", "account_id": "acme", "name": "Web shop"},
        {"project_id": "p-ml", "account_id": "acme-lab", "name": "Learning"},
    ]
    world.sku("vm-small", "Servers", "Compute", "Small server")
    world.sku("vm-large", "Servers", "Compute", "Large server")
    world.sku("disk", "Disks", "Storage", "Disk space", "GiB-month")
    for day in (1, 2, 31):
        world.use("acme", "vm-small", "24", "0.0333333", day=day, list_price="0.04", project="p-web",
                  tags={"team": "shop", "env": "live"})  # fmt: skip
    world.use("acme-lab", "vm-large", "10.5", "1.1", day=2, project="p-ml", tags={"team": "science"})
    world.use("acme", "disk", "100", "0.08", day=31, region=None)
    world.use("borealis", "disk", "7", "0.085", day=15)
    for day in (1, 2):
        world.use("acme", "vm-small", "24", "0.03", day=day, month=9, list_price="0.04", project="p-web")
    world.use("acme", "disk", "50", "0.08", day=30, month=9, region=None)
    world.use("borealis", "vm-large", "1", "1.2", day=15, month=9)
    return world


@pytest.fixture(scope="module")
def small() -> dict[str, str]:
    return render_all(small_world())


def test_one_report_per_invoice_one_for_the_provider_and_an_index(small):
    assert list(small) == [
        report_path("acme", "EUR"),
        report_path("borealis", "EUR"),
        PROVIDER_FILE,
        INDEX_FILE,
    ]


def test_the_large_numbers_of_an_account_report(small):
    # vm-small 72 x 0.0333333 = 2.3999976 -> 2.40; vm-large 10.5 x 1.1 = 11.55; disk 8.00: 21.95, tax 4.39
    # September: 48 x 0.03 = 1.44, disk 4.00. At public prices: 2.88 + 11.55 + 8 = 22.43, saved 0.4800024.
    text = " ".join(Page(small[report_path("acme", "EUR")]).text.split())
    assert "EUR 26.34" in text
    assert "21.95 before tax" in text
    assert "Tax 4.39 on 21.95" in text
    assert "+16.51 +303.5% from 5.44" in text
    assert "0.48 2.1% of 22.43 at public prices" in text


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("Service", [["Servers", "63.6%", "1.44", "+12.51", "13.95"], ["Disks", "36.4%", "4.00", "+4.00", "8.00"]]),
        (
            "Project",
            [
                ["Learning p-ml", "52.6%", "0.00", "+11.55", "11.55"],
                ["No project", "36.4%", "4.00", "+4.00", "8.00"],
                ["Web shop p-web", "10.9%", "1.44", "+0.96", "2.40"],
            ],
        ),
        (
            "Account",
            [
                ["Acme Laboratory acme-lab", "52.6%", "0.00", "+11.55", "11.55"],
                ["Acme Robotics acme", "47.4%", "5.44", "+4.96", "10.40"],
            ],
        ),
        ("Region", [["eu-west", "63.6%", "1.44", "+12.51", "13.95"], ["No region", "36.4%", "4.00", "+4.00", "8.00"]]),
    ],
)
def test_breakdowns_show_both_months_and_end_in_the_untaxed_total(small, heading, expected):
    _, *rows, total = Page(small[report_path("acme", "EUR")]).table(heading)
    assert [[row[0], *row[2:]] for row in rows] == expected
    assert [total[0], *total[3:]] == ["Total", "5.44", "+16.51", "21.95"]


def test_movers_say_why_and_their_effects_add_up(small):
    page = Page(small[report_path("acme", "EUR")])
    _, *rows, total = next(table for table in page.tables if table[0][1] == "Reason")
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("Large server vm-large", "New this month", "+11.55"),
        ("Disk space disk", "More used", "+4.00"),
        ("Small server vm-small", "More used, higher price", "+0.96"),
    ]
    for row in rows:
        assert amount(row[4]) + amount(row[5]) == amount(row[6])
    # 24 hours more at 0.03 is 0.72, the rest is the price
    assert rows[2][4:] == ["+0.72", "+0.24", "+0.96"]
    assert total[-1] == "+16.51"


def test_days_and_tags_add_up_as_shown(small):
    page = Page(small[report_path("acme", "EUR")])
    _, *days, total = page.table("Day")
    assert [row[0] for row in days] == [
        "October 1, 2026",
        "October 2, 2026",
        "October 31, 2026",
    ]
    assert sum(amount(row[-1]) for row in days) == amount(total[-1]) == Decimal("21.95")
    tags = [table for table in page.tables if table[0][0] == "Value"]
    assert [[row[0] for row in table[1:]] for table in tags] == [
        ["science", "shop", "Not tagged", "Total"],
        ["live", "Not tagged", "Total"],
    ]
    for _, *rows, total in tags:
        assert sum(amount(row[-1]) for row in rows) == amount(total[-1]) == Decimal("21.95")


def world_of_many() -> World:
    """Twelve accounts, three currencies, prices with many digits: enough to make rounding and long tables matter."""
    gap = Finding(
        Severity.WARNING,
        "usage.gap",
        "disk-7 has no usage from 3 to 5 October",
        "ask the meter's owner",
        file="usage/2026-10.parquet",
    )
    facts = RunFacts(
        RUN.run_id,
        rows_in=124_310,
        rows_accepted=124_200,
        rows_rejected=12,
        rows_duplicate=98,
        unpriced_records=35,
        findings=(gap,),
    )
    world = World(run=facts)
    names = ["Acme Robotics", "Boréalis & Fils", "Cobalt Media", "Delta Freight", "Evergreen Labs", "Fjord Analytics",
             "Granite Bank", "Harbour Games", "Iris Health", "Juniper Schools", "Kestrel Air", "Lumen Studios"]  # fmt: skip
    catalogue = [
        ("vm-small", "Virtual servers", "Compute", "Small server"), ("vm-large", "Virtual servers", "Compute", "Large server"),
        ("gpu", "GPU servers", "AI and Machine Learning", "GPU server"), ("disk", "Block storage", "Storage", "SSD space"),
        ("object", "Object storage", "Storage", "Object space"), ("pg", "Managed PostgreSQL", "Databases", "Database node"),
        ("egress", "Network", "Networking", "Traffic to the internet"), ("lb", "Load balancers", "Networking", "Load balancer"),
        ("logs", "Logging", "Management and Governance", "Log intake"),
    ]  # fmt: skip
    for sku in catalogue:
        world.sku(*sku)
    for number, name in enumerate(names):
        account = f"acct-{number:02d}"
        world.account(account, name, currency=("EUR", "EUR", "EUR", "USD", "JPY")[number % 5],
                      zone=("Europe/Paris", "Asia/Tokyo", "America/New_York")[number % 3])  # fmt: skip
        for project in range(1 + number * 2):
            world.projects.append(
                {"project_id": f"{account}-p{project}", "account_id": account, "name": f"Project {project}"}
            )
    for month, days in ((9, 30), (10, 31)):
        for number in range(len(names)):
            for index, (sku, *_) in enumerate(catalogue):
                if (number + index + month) % 7 == 0:
                    continue
                for day in range(1, days + 1):
                    project = (number * 3 + index * 5) % (1 + number * 2)
                    price = Decimal("0.0123457") * (index + 1) * (Decimal("1.1") if month == 10 and index == 3 else 1)
                    weekend = date(2026, month, day).weekday() > 4
                    world.use(
                        f"acct-{number:02d}", sku, str((300 - 90 * weekend + day * index) * (number + 1)), str(price),
                        day=day, month=month, list_price=str(price + Decimal("0.0012345")),
                        project=f"acct-{number:02d}-p{project}", region=("eu-west", "us-east", None)[index % 3],
                        tags={"env": "live" if day % 3 else "test", "team": f"team-{index % 4}"} if index % 2 else None,
                    )  # fmt: skip
    return world


@pytest.fixture(scope="module")
def many() -> World:
    return world_of_many()


@pytest.fixture(scope="module")
def many_pages(many) -> dict[str, str]:
    return render_all(many)


def test_every_table_of_every_account_adds_up_to_its_invoice(many, many_pages):
    invoices = many.tables()["billed"].invoices
    assert invoices.height == 12
    for invoice in invoices.iter_rows(named=True):
        page = Page(many_pages[report_path(invoice["billing_account_id"], invoice["currency"])])
        tables = [table for table in page.tables if table[0][-1] == f"Cost in {invoice['currency']}"]
        assert len(tables) >= 8
        for _, *rows, total in tables:
            assert amount(total[-1]) == invoice["untaxed_amount"]
            assert sum(amount(row[-1]) for row in rows) == invoice["untaxed_amount"]


def test_currencies_are_kept_apart(many, many_pages):
    invoices = many.tables()["billed"].invoices
    sums = dict(invoices.group_by("currency").agg(pl.col("untaxed_amount").sum()).iter_rows())
    page = Page(many_pages[PROVIDER_FILE])
    for currency, untaxed in sums.items():
        tables = [table for table in page.tables if table[0][-1] == f"Revenue in {currency}"]
        assert {amount(table[-1][-1]) for table in tables} == {untaxed}
        for _, *rows, _ in tables:
            assert sum(amount(row[-1]) for row in rows) == untaxed
    assert set(sums) == {"EUR", "USD", "JPY"}


def test_a_long_table_is_summed_up_and_can_be_opened(many_pages):
    page = Page(many_pages[report_path("acct-08", "USD")])
    tables = [table for table in page.tables if table[0][0] == "Project"]
    assert [len(table) for table in tables] == [len(tables[0])]  # nine projects fit into one table
    short, long = [
        table for table in Page(render_all(wide_world())[report_path("acme", "EUR")]).tables if table[0][0] == "Project"
    ]
    assert short[11][0] == "30 more"
    assert len(long) == 1 + 40 + 1
    assert short[-1] == long[-1]


def wide_world() -> World:
    world = World()
    world.account("acme", "Acme Robotics")
    world.sku("vm", "Servers", "Compute", "Server")
    for number in range(40):
        world.use("acme", "vm", str(number + 1), "0.1", project=f"p{number:02d}")
    return world


def test_without_a_month_before_nothing_is_compared():
    world = small_world()
    world.previous = []
    pages = render_all(world)
    page = Page(pages[report_path("acme", "EUR")])
    assert "no charges to compare with" in page.text
    assert "What changed" not in page.text
    assert page.table("Service")[0] == ["Service", "", "Share", "Cost in EUR"]
    assert "no charges to compare with" in Page(pages[PROVIDER_FILE]).text


def test_without_tags_there_is_no_tag_section():
    page = Page(render_all(wide_world())[report_path("acme", "EUR")])
    assert "tags" not in page.ids


def test_a_month_without_invoices_still_has_its_pages():
    tables = dict.fromkeys(("charges", "previous_charges"), CHARGES.empty())
    tables["billed"] = Billed.empty()
    pages = render_all(small_world(), **tables)
    assert list(pages) == [PROVIDER_FILE, INDEX_FILE]
    assert "There are no invoices this month." in pages[INDEX_FILE]


def test_a_customer_who_left_is_named_without_a_link():
    world = small_world()
    world.account("gone", "Gone Fishing")
    world.use("gone", "disk", "1000", "0.08", month=9)
    page = Page(render_all(world)[PROVIDER_FILE])
    rows = page.table("Customer")
    assert rows[1][:2] == ["Gone Fishing gone", "No longer a customer"]
    assert not [link for link in page.links if "gone" in link]


HOSTILE = '"><script>alert(1)</script>{{ 7*7 }}&lt;'


def test_names_are_text_whatever_they_contain():
    world = World()
    world.account(HOSTILE, HOSTILE)
    world.sku(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    world.projects = [{"project_id": HOSTILE, "account_id": HOSTILE, "name": HOSTILE}]
    tags = {HOSTILE: HOSTILE}
    world.use(HOSTILE, HOSTILE, "1", "3", project=HOSTILE, region=HOSTILE, tags=tags)
    world.use(HOSTILE, HOSTILE, "2", "3", month=9, project=HOSTILE, region=HOSTILE, tags=tags)
    world.run = replace(world.run, findings=(Finding(Severity.WARNING, "x", HOSTILE, HOSTILE, file=HOSTILE),))
    pages = render_all(world)
    for path, html in pages.items():
        page = Page(html)
        assert "script" not in page.tags, path
        assert not [name for name in page.names if name.startswith("on")], path
        assert re.fullmatch(r"[a-zA-Z0-9._/-]+", path)
        for link in page.links:
            assert re.fullmatch(r"[a-zA-Z0-9._/#-]+", link), link
        assert HOSTILE in page.text, path


def test_links_lead_to_files_that_exist(many, many_pages):
    invoices = many.tables()["billed"].invoices
    written = set(many_pages) | {
        f"{invoice_stem(*row)}.{ending}"
        for row in invoices.select("invoice_id", "period", "billing_account_id", "currency").iter_rows()
        for ending in ("html", "pdf", "json", "csv")
    }
    for path, html in many_pages.items():
        page = Page(html)
        assert len(set(page.ids)) == len(page.ids), path
        for link in page.links:
            target, _, anchor = link.partition("#")
            if target:
                assert os.path.normpath(Path(path).parent / target) in written, (path, link)
            else:
                assert anchor in page.ids, (path, link)


def test_pages_fetch_nothing(many_pages):
    for html in many_pages.values():
        without_namespaces = re.sub(r'xmlns(:xlink)?="[^"]*"', "", html)
        assert "://" not in without_namespaces
        assert "url(" not in without_namespaces


def test_the_same_tables_give_the_same_bytes_whatever_their_order(many, many_pages):
    tables = many.tables()
    billed = tables.pop("billed")
    tables = {name: frame.sample(fraction=1, shuffle=True, seed=3) for name, frame in tables.items()}
    tables["billed"] = Billed(*(frame.sample(fraction=1, shuffle=True, seed=3) for _, frame in billed.frames()))
    assert render_all(many, **tables) == many_pages


def test_charges_that_differ_from_the_invoice_stop_the_reports():
    tables = small_world().tables()
    one_line_less = tables["charges"][1:]
    with pytest.raises(InvariantError, match=r"acme in EUR do not add up: charges 21\.150"):
        render_all(small_world(), charges=one_line_less)


def test_a_chart_is_the_same_every_time_and_described():
    series = [[Decimal(day) for day in range(31)], [Decimal("0.5")] * 31]
    first, second = (
        stacked_days(series, unit="EUR", month="October 2026", description='5 < 6 & "quoted"') for _ in range(2)
    )
    assert first == second
    assert first.startswith('<svg role="img" aria-label="5 &lt; 6 &amp; &#34;quoted&#34;"')
    assert first.count("var(--series-1, ") == 30  # a day of nothing is not drawn
    assert first.count("var(--series-2, ") == 31


def test_a_chart_refuses_what_it_has_no_colour_for():
    with pytest.raises(ValueError, match="7 series"):
        stacked_days([[Decimal(1)]] * (len(SERIES_COLOURS) + 1), unit="EUR", month="October 2026", description="")


def ledger_tables() -> dict[str, Any]:
    """The small month with everything else a bill can have; only the columns that reports look at.

    Acme: the large server's 11.55 less 10 % (1.16) and 4.00 of a credit; support of 5.00 less 0.50; an adjustment of
    -2.00; a commitment of 50.00 of which 20.10 were not used, and its discount of 5.00, 3.00 of it on the server.
    Subtotal 21.95 + 5.00 - 2.00 + 20.10 = 45.05, less 1.66, 5.00, 4.00 = 34.39; tax 6.88; total 41.27, prepaid 30.00.
    A credit note of its own corrects September: -1.50, tax -0.30.
    """
    tables = small_world().tables()
    usual, note = "2026-10-acme-EUR", "2026-10-acme-EUR-credit-2026-09"
    empty = dict.fromkeys(CHARGES.names)
    columns = ("charge_kind", "account_id", "sku_id", "cost", "corrects_period", "invoice_id")
    added = [
        ("discount", "acme-lab", "vm-large", "-1.16", None, usual),
        ("credit", "acme-lab", "vm-large", "-4.00", None, usual),
        ("commitment", "acme-lab", "vm-large", "-3.00", None, usual),
        ("recurring", "acme", None, "5.00", None, usual),
        ("discount", "acme", None, "-0.50", None, usual),
        ("adjustment", "acme", "disk", "-2.00", None, usual),
        ("commitment", "acme", None, "20.10", None, usual),
        ("commitment", "acme", None, "-2.00", None, usual),
        ("correction", "acme", "vm-small", "-1.50", "2026-09", note),
    ]
    shared = {"period": str(PERIOD), "billing_account_id": "acme", "currency": "EUR", "charge_start": PERIOD.start(),
              "charge_end": PERIOD.end(), "list_cost": Decimal(0), "contracted_cost": Decimal(0), "run_id": "run"}  # fmt: skip
    rows = [empty | shared | dict(zip(columns, row, strict=True)) | {"cost": Decimal(row[3])} for row in added]
    charges = pl.concat([tables["charges"], pl.DataFrame(rows, schema=CHARGES.polars_schema)])
    lines = [
        dict.fromkeys(INVOICE_LINES.names) | {"invoice_id": row["invoice_id"], "net_amount": row["cost"]}
        for row in rows
    ]
    billed = tables["billed"]
    sums = {usual: ("34.39", "6.88", "-30.00"), note: ("-1.50", "-0.30", "0.00")}
    head = billed.invoices.row(by_predicate=pl.col("invoice_id") == usual, named=True)
    heads = [row for row in billed.invoices.iter_rows(named=True) if row["invoice_id"] != usual]
    taxes = [row for row in billed.taxes.iter_rows(named=True) if row["invoice_id"] != usual]
    tax_row = billed.taxes.row(by_predicate=pl.col("invoice_id") == usual, named=True)
    for invoice_id, amounts in sums.items():
        untaxed, tax, prepaid = map(Decimal, amounts)
        heads.append(
            head | {"invoice_id": invoice_id, "untaxed_amount": untaxed, "tax_amount": tax, "total_amount": untaxed + tax,
                    "prepaid_amount": prepaid, "due_amount": untaxed + tax + prepaid, "status": "issued",
                    "number": "N-2026-00002"}
        )  # fmt: skip
        taxes.append(tax_row | {"invoice_id": invoice_id, "base_amount": untaxed, "tax_amount": tax})
    heads[-1] |= {"document": "credit_note", "number": "CN-2026-00001", "corrects_invoice_id": "2026-09-acme-EUR"}
    used = {"invoice_id": usual, "currency": "EUR", "credit_id": "top-up", "kind": "prepaid", "description": "Top-up",
            "balance_before": Decimal(100), "amount": Decimal(30), "balance_after": Decimal(70)}  # fmt: skip
    promise = {"invoice_id": usual, "commitment_id": "yearly", "currency": "EUR", "committed_amount": Decimal(50),
               "days": 31, "days_in_month": 31, "eligible_amount": Decimal("29.90"), "shortfall_amount": Decimal("20.10"),
               "discount_amount": Decimal(-5), "description": "Yearly agreement"}  # fmt: skip
    granted = dict.fromkeys(CREDITS.names) | {"account_id": "acme", "currency": "EUR", "granted_on": PERIOD.start()}
    tables["charges"] = charges
    tables["billed"] = Billed(
        pl.DataFrame(heads, schema=INVOICES.polars_schema),
        pl.concat([billed.lines, pl.DataFrame(lines, schema=INVOICE_LINES.polars_schema)]),
        INVOICE_DEDUCTIONS.empty(),
        pl.DataFrame(taxes, schema=TAX_LINES.polars_schema),
        pl.DataFrame([used], schema=CREDIT_LEDGER.polars_schema),
        pl.DataFrame([promise], schema=COMMITMENT_LEDGER.polars_schema),
    )
    tables["granted"] = pl.DataFrame(
        [
            granted | {"credit_id": "top-up", "kind": "prepaid", "amount": Decimal(100), "note": "Top-up"},
            granted | {"credit_id": "welcome", "kind": "promotional", "amount": Decimal(4), "note": "Welcome"},
            granted | {"credit_id": "loyal", "kind": "promotional", "amount": Decimal(9), "note": "Loyalty",
                       "account_id": "borealis", "expires_on": PERIOD.shift(2).start()},
        ],
        schema=CREDITS.polars_schema,
    )  # fmt: skip
    tables["drawn"] = pl.DataFrame(
        {"credit_id": ["top-up", "welcome"], "amount": [Decimal(30), Decimal(4)]}, schema=NOTHING_DRAWN.schema
    )
    tables["originals"] = {"2026-09-acme-EUR": {"number": "N-2026-00001"}}
    return tables


@pytest.fixture(scope="module")
def ledger() -> dict[str, str]:
    return render_all(small_world(), **ledger_tables())


def test_a_bill_of_several_documents_has_one_report_that_leads_to_all_of_them(ledger):
    page = Page(ledger[report_path("acme", "EUR")])
    text = " ".join(page.text.split())
    assert "Invoice N-2026-00002 issued · EUR 41.27" in text
    assert "Credit note CN-2026-00001 issued · corrects N-2026-00001 · EUR -1.80" in text
    assert "../invoices/acme-EUR-credit-2026-09.pdf" in page.links
    # 34.39 - 1.50 before tax; 6.88 - 0.30; 41.27 - 1.80; 39.47 - 30.00
    assert "EUR 39.47 32.89 before tax 9.47 due after prepaid credits of 30.00" in text
    assert "Tax 6.58 on 32.89" in text


def test_by_service_shows_what_discounts_take_off_and_what_is_no_service(ledger):
    _, *rows, total = Page(ledger[report_path("acme", "EUR")]).table("Service")
    assert [[row[0], *row[3:5], row[-1]] for row in [*rows, total]] == [
        ["Commitment shortfalls", "20.10", "-2.00", "18.10"],
        ["Disks", "8.00", "\N{EN DASH}", "8.00"],
        ["Servers", "13.95", "-8.16", "5.79"],
        ["Recurring fees", "5.00", "-0.50", "4.50"],
        ["Corrections of earlier months", "-1.50", "\N{EN DASH}", "-1.50"],
        ["Adjustments", "-2.00", "\N{EN DASH}", "-2.00"],
        ["Total", "43.55", "-10.66", "32.89"],
    ]


def test_every_table_of_a_ledger_month_adds_up(ledger):
    page = Page(ledger[report_path("acme", "EUR")])
    tables = [table for table in page.tables if table[0][-1] == "Cost in EUR"]
    assert len(tables) >= 8
    for _, *rows, total in tables:
        assert sum(amount(row[-1]) for row in rows) == amount(total[-1]) == Decimal("32.89")


def test_the_provider_sees_commitments_and_what_it_owes_in_credits(ledger):
    page = Page(ledger[PROVIDER_FILE])
    commitments, credits_left = (
        next(table for table in page.tables if table[0][1] == name) for name in ("Commitment", "Credit")
    )
    assert commitments[1] == ["Acme Robotics", "Yearly agreement", "50.00", "29.90", "20.10", "-5.00"]
    assert credits_left[1:] == [
        ["Acme Robotics", "Top-up", "prepaid", "never", "30.00", "70.00"],
        ["Boréalis & Fils", "Loyalty", "promotional", "December 1, 2026", "0.00", "9.00"],
        ["Outstanding at the end of October 2026", "79.00"],
    ]
    assert "2 invoices, 1 credit note" in page.text


def test_the_index_lists_every_document_with_its_number(ledger):
    _, *rows = Page(ledger[INDEX_FILE]).table("Customer")
    assert [row[1:3] + row[-4:] for row in rows] == [
        ["Invoice N-2026-00002", "issued", "34.39", "6.88", "EUR 41.27", "EUR 11.27"],
        ["Credit note CN-2026-00001corrects N-2026-00001", "issued", "-1.50", "-0.30", "EUR -1.80", "EUR -1.80"],
        ["Invoice", "draft", "0.60", "0.12", "EUR 0.72", "EUR 0.72"],
    ]


def test_credit_notes_by_hand_are_listed_apart_and_change_no_other_sum(small):
    """Issued in October: for an invoice of August, and for one in a currency that October has no invoice in."""
    head = dict.fromkeys(INVOICES.names) | {"document": "credit_note", "status": "issued", "origin": "hand"}
    notes = [
        head | {"invoice_id": f"2026-08-{payer}-{currency}-credit-1", "period": "2026-08", "billing_account_id": payer,
                "currency": currency, "corrects_invoice_id": f"2026-08-{payer}-{currency}", "number": number,
                "issue_date": date(2026, 10, 5), "untaxed_amount": Decimal(untaxed), "tax_amount": Decimal(tax),
                "total_amount": Decimal(untaxed) + Decimal(tax)}
        for payer, currency, number, untaxed, tax in (
            ("borealis", "EUR", "CN-2026-00002", "-0.50", "-0.10"), ("acme", "JPY", "CN-2026-00001", "-30", "-3"),
        )
    ]  # fmt: skip
    pages = render_all(
        small_world(),
        notes=pl.DataFrame(notes, schema=INVOICES.polars_schema),
        originals={"2026-08-borealis-EUR": {"number": "2026-00007"}, "2026-08-acme-JPY": {"number": "2026-00008"}},
    )
    assert {name: html for name, html in pages.items() if name != INDEX_FILE} == {
        name: html for name, html in small.items() if name != INDEX_FILE
    }
    page, before = Page(pages[INDEX_FILE]), Page(small[INDEX_FILE])
    assert page.table("Customer") == before.table("Customer")
    _, *rows = page.table("Credited to")
    files = "HTML · PDF · JSON · CSV"
    assert rows == [
        ["Acme Robotics acme", "Credit note CN-2026-00001credits 2026-00008 of August 2026", "October 5, 2026", files,
         "-30", "-3", "JPY -33"],
        ["Boréalis & Fils borealis", "Credit note CN-2026-00002credits 2026-00007 of August 2026", "October 5, 2026",
         files, "-0.50", "-0.10", "EUR -0.60"],
    ]  # fmt: skip
    assert "../2026-08/invoices/borealis-EUR-credit-1.pdf" in page.links
    total = sum((amount(row[-1].removeprefix("EUR ")) for row in before.table("Customer")[1:]), Decimal(0))
    assert f"1 credit note by hand: -0.60, together {total - Decimal('0.60'):,.2f}" in page.text
    assert "0 invoices in JPY" in page.text
    assert "1 credit note by hand: -33, together -33" in page.text


@pytest.mark.parametrize("month", ["small", "ledger"])
def test_the_pages_look_as_agreed(golden, request, month):
    """Golden files without the style sheet, which has no content."""
    folder = "report" if month == "small" else f"report/{month}"
    for name, html in request.getfixturevalue(month).items():
        golden(f"{folder}/{name}", re.sub(r"(?s)<style>.*?</style>", "<style></style>", html).encode())
