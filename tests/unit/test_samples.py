"""The samples: the same call gives the same bytes, the book is clean, and the mistakes are there."""

import importlib.util
import json
import math
import re
import tomllib
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from pathlib import Path

import duckdb
import polars as pl
import pytest

from ratemill.book.checks import check_book
from ratemill.book.windows import hours_of_the_week
from ratemill.cli import run_command
from ratemill.cli.init import Sample, init
from ratemill.config import Config, Seller, read_config
from ratemill.errors import ExitCode, UsageError
from ratemill.io.book_files import read_book
from ratemill.period import BillingPeriod
from ratemill.resources import shipped
from ratemill.samples import demo
from ratemill.samples.aws import write_aws
from ratemill.samples.empty import write_empty
from ratemill.tables.book import BOOK_TABLES, REQUIRED_BOOK_TABLES
from ratemill.tables.invoices import BILLING_TABLES

DEMO = shipped("data/sample") / "demo"
AWS = shipped("data/sample") / "aws"
IDENTITY = ["account_id", "project_id", "resource_id", "sku_id", "region", "usage_start", "tags"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """One month of the default size."""
    folder = tmp_path_factory.mktemp("demo")
    demo.write_demo(folder, months=1)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def usage_of(folder: Path, name: str = "*") -> pl.DataFrame:
    return pl.read_parquet(folder / "usage" / f"{name}.parquet")


# ------------------------------------------------------------------------------------------------------ determinism


def test_the_same_call_writes_the_same_bytes(workspace, tmp_path):
    demo.write_demo(tmp_path, months=1)
    assert files_of(tmp_path) == files_of(workspace)


def test_files_of_a_month_do_not_depend_on_the_number_of_months(tmp_path):
    for months in (1, 2):
        demo.write_demo(tmp_path / str(months), resources=60, months=months)
    one, two = files_of(tmp_path / "1"), files_of(tmp_path / "2")
    assert one.items() <= two.items()
    assert len(two) - len(one) == 30  # the days of September but its last, which October reaches into


def test_files_of_a_month_do_not_depend_on_the_last_month(tmp_path):
    meters = demo.plan_meters(demo.read_fleet(DEMO), resources=60, seed=1)
    demo.write_demo(tmp_path, resources=60, months=1, until=BillingPeriod(2026, 9), seed=1)
    written = usage_of(tmp_path, "usage-2026-10-01")
    assert written.equals(demo.usage_of_day(meters, date(2026, 10, 1), demo.read_fleet(DEMO)).collect())


def test_another_seed_gives_another_fleet():
    fleet = demo.read_fleet(DEMO)
    one, other = (demo.plan_meters(fleet, resources=60, seed=seed) for seed in (2026, -(10**30)))
    assert not one.equals(other)


def test_scramble_is_plain_arithmetic():
    def by_hand(number: int, salt: int) -> int:
        prime = 2**31 - 1
        x = (number * 48_271 + salt * 1_000_003) % prime
        x = (x * x + x * 3) % prime
        x = (x * 69_621 + salt) % prime
        return (x * x + x * 3) % prime

    numbers = [0, 1, 2, 150, 30_000, 2**31 - 2]
    for salt in (1, 11):
        scrambled = pl.select(demo.scramble(pl.lit(pl.Series(numbers)), salt)).to_series().to_list()
        assert scrambled == [by_hand(number, salt) for number in numbers]


def test_a_day_is_what_it_was_when_this_test_was_written():
    """Other library versions must give the same rows; a change of the fleet's CSV files may change these figures."""
    meters = demo.plan_meters(demo.read_fleet(DEMO), resources=150, seed=2026)
    day = demo.usage_of_day(meters, date(2026, 10, 14), demo.read_fleet(DEMO)).collect()
    assert (day.height, day["resource_id"].n_unique(), day["quantity"].sum()) == KNOWN_DAY


KNOWN_DAY = (3936, 139, Decimal("373226341.638291"))


# ------------------------------------------------------------------------------------------------------------ usage


def test_one_file_a_day_for_every_day_that_a_local_month_reaches_into(workspace):
    days = [date(2026, 9, 30) + timedelta(days=offset) for offset in range(33)]
    assert [path.name for path in sorted((workspace / "usage").glob("*.parquet"))] == [
        f"usage-{day}.parquet" for day in days
    ]
    for day in days:
        usage = usage_of(workspace, f"usage-{day}")
        assert dict(usage.schema) == demo.USAGE_FILE_SCHEMA
        known = day - timedelta(days=1) if day.day == 18 else day  # records sent again a day later
        assert usage["usage_start"].min() == datetime(
            known.year, known.month, known.day, 12 * (day.day == 18), tzinfo=UTC
        )
        assert usage["usage_start"].max() == datetime(day.year, day.month, day.day, 23, tzinfo=UTC)


def test_about_one_row_an_hour_for_each_resource():
    meters = demo.plan_meters(demo.read_fleet(DEMO), resources=3_000, seed=2026)
    rows = demo.usage_of_day(meters, date(2026, 10, 7), demo.read_fleet(DEMO)).select(pl.len()).collect().item()
    assert 0.9 < rows / (3_000 * 24) < 1.2


def test_days_without_a_mistake_keep_every_rule(workspace):
    usage = pl.concat(
        [usage_of(workspace, f"usage-2026-10-{day:02}") for day in range(1, 32) if day not in demo.mistakes()]
    )
    assert usage.select(IDENTITY).is_unique().all()
    assert (usage["usage_end"] - usage["usage_start"]).unique().to_list() == [timedelta(hours=1)]
    assert usage["quantity"].min() >= 0
    units = pl.read_csv(DEMO / "book" / "skus.csv", infer_schema=False).select("sku_id", "usage_unit")
    joined = usage.join(units, on="sku_id", how="left")
    assert (joined["unit"] == joined["usage_unit"]).all()


def test_resources_start_and_stop_at_any_hour(workspace):
    lives = (
        usage_of(workspace)
        .group_by("resource_id")
        .agg(first=pl.col("usage_start").min().dt.hour(), last=pl.col("usage_start").max().dt.hour())
    )
    assert lives["first"].n_unique() == 24
    assert lives["last"].n_unique() == 24


def test_every_account_uses_something_and_texts_of_the_world_are_among_it(workspace):
    usage = usage_of(workspace)
    accounts = pl.read_csv(DEMO / "book" / "accounts.csv", infer_schema=False)["account_id"]
    assert set(accounts) <= set(usage["account_id"].drop_nulls())
    assert usage["project_id"].null_count() > 0
    assert usage["resource_name"].null_count() > 0
    tags = usage["tags"].cast(pl.List(pl.Struct({"key": pl.String, "value": pl.String})))
    assert tags.null_count() > 0
    assert (tags.list.len() == 0).any()
    assert {"env", "Environment", "cost-center", "CostCenter"} <= set(tags.explode().struct.field("key").drop_nulls())


@pytest.mark.parametrize(
    ("day", "broken"),
    [
        (3, pl.col("account_id").is_null()),
        (4, pl.col("account_id") == "acc-unheard-of"),
        (6, pl.col("sku_id") == "cmp-discontinued"),
        (8, pl.col("quantity") < 0),
        (10, pl.col("unit") == "Fortnights"),
        (12, pl.col("usage_end") < pl.col("usage_start")),
        (14, pl.col("account_id").str.len_chars() > 512),
    ],
)
def test_rows_to_reject(workspace, day, broken):
    assert usage_of(workspace, f"usage-2026-10-{day:02}").filter(broken).height == 1
    assert usage_of(workspace).filter(broken).height == 1


def test_records_sent_twice(workspace):
    same_file = usage_of(workspace, "usage-2026-10-16")
    assert same_file.filter(same_file.is_duplicated()).height == 2

    both = pl.concat([usage_of(workspace, "usage-2026-10-17"), usage_of(workspace, "usage-2026-10-18")])
    assert both.filter(both.is_duplicated()).height == 2
    for day in (17, 18):
        assert usage_of(workspace, f"usage-2026-10-{day}").is_unique().all()

    conflict = usage_of(workspace, "usage-2026-10-20")
    assert conflict.is_unique().all()
    assert conflict.filter(conflict.select(IDENTITY).is_duplicated())["quantity"].n_unique() == 2


def test_every_mistake_is_tested():
    tested = {mark.args[1][index][0] for mark in test_rows_to_reject.pytestmark for index in range(len(mark.args[1]))}
    assert tested | {16, 18, 20} == set(demo.mistakes())


@pytest.mark.parametrize(("resources", "mistakes"), [(49, 0), (50, 1), (150, 1), (20_000, 3)])
def test_mistakes_stay_far_below_the_share_that_stops_a_run(resources, mistakes):
    fleet = demo.read_fleet(DEMO)
    meters = demo.plan_meters(fleet, resources=resources, seed=2026)
    day = date(2026, 10, 8)
    assert demo.mistakes_of_day(meters, day, fleet, resources=resources).collect().height == mistakes
    a_day = demo.usage_of_day(meters, day, fleet).select(pl.len()).collect().item()
    assert len(demo.mistakes()) * mistakes < 31 * a_day * Decimal("0.0005")


def test_manifests_say_what_is_in_the_file(workspace):
    manifests = sorted((workspace / "usage").glob("*.manifest.json"))
    assert [path.name for path in manifests] == [f"usage-2026-10-0{day}.parquet.manifest.json" for day in (1, 2)]
    for path in manifests:
        usage = pl.read_parquet(path.with_name(path.name.removesuffix(".manifest.json")))
        manifest = json.loads(path.read_text())
        assert manifest["rows"] == usage.height
        assert Decimal(manifest["quantity_total"]) == sum(usage["quantity"].to_list(), Decimal(0))
        assert re.fullmatch(r"[0-9a-f]{64}", manifest["sha256"])


# ------------------------------------------------------------------------------------------------- the demo's book


def test_book_of_the_demo_is_clean():
    config = read_config(DEMO / "ratemill.toml")
    book, findings = read_book(DEMO / "book", time_zone=config.period.time_zone)
    assert findings == []
    assert check_book(book, time_zone=config.period.time_zone) == []
    assert [table.name for table in BOOK_TABLES if book.frame(table.name).is_empty()] == []


def test_everything_that_is_metered_has_a_price_in_every_currency_at_any_time():
    """Every SKU has a gapless public price for any region and system in each currency; of windows, all of them."""
    accounts = pl.read_csv(DEMO / "book" / "accounts.csv", infer_schema=False)
    prices = pl.read_csv(DEMO / "book" / "prices.csv", infer_schema=False).filter(
        (pl.col("price_list") == "public") & pl.col("region").is_null() & pl.col("attr.os").is_null()
    )
    skus = pl.read_csv(DEMO / "book" / "skus.csv", infer_schema=False)["sku_id"]
    first_tiers = prices.unique("price_id", keep="first", maintain_order=True).sort("valid_from")
    versions = {
        key: list(rows.select("valid_from", "valid_to").iter_rows())
        for key, rows in first_tiers.partition_by("currency", "sku_id", "window", as_dict=True).items()
    }
    converted = set(pl.read_csv(DEMO / "book" / "fx_rates.csv").filter(pl.col("date") < "2024-01-01")["quote"])
    assert converted == {"CHF"}
    assert not converted & set(prices["currency"])
    for currency in set(accounts["currency"]) - converted:
        for sku in skus:
            windows = ["peak", "off-peak"] if (currency, sku, "peak") in versions else [None]
            for window in windows:
                spans = versions[currency, sku, window]
                assert spans[0][0] == "2024-01-01"
                assert spans[-1][1] is None
                assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert ("2024-01-01", "2026-10-15") in {span for spans in versions.values() for span in spans}


def test_the_two_windows_are_the_whole_week():
    bits = hours_of_the_week(pl.read_csv(DEMO / "book" / "windows.csv"))
    assert bits["peak"] & bits["off-peak"] == 0
    assert (bits["peak"] | bits["off-peak"]).bit_count() == 7 * 24 * 60


def test_systems_that_a_price_asks_for_are_metered():
    """Where some region's price names the system, every machine of the SKU must say its own."""
    asked = pl.read_csv(DEMO / "book" / "prices.csv", infer_schema=False).drop_nulls("attr.os")
    meters = demo.read_fleet(DEMO).meters.join(asked, on="sku_id", how="semi")
    assert set(meters["os"]) == set(asked["attr.os"]) == {"linux", "windows"}


def test_accounts_are_of_many_kinds():
    accounts = pl.read_csv(DEMO / "book" / "accounts.csv", infer_schema=False)
    payers = accounts.filter(pl.col("billing_account_id").is_null())
    assert set(payers["country"]) == {"FR", "DE", "GB", "US", "JP", "KW", "CH"}
    assert set(payers["currency"]) == {"EUR", "USD", "GBP", "JPY", "KWD", "CHF"}
    assert accounts.height > payers.height >= 15
    projects = pl.read_csv(DEMO / "book" / "projects.csv", infer_schema=False)
    assert projects.filter(pl.col("project_id").is_duplicated())["account_id"].n_unique() == 2


@pytest.fixture(scope="module")
def rated(workspace):
    """The default demo's usage charges of October, caps and minimums, with their prices' and SKUs' facts."""
    for step in (["load"], ["rate", "--period", "2026-10"]):
        assert run_command([*step, "--workspace", str(workspace), "--quiet"]) == ExitCode.DONE
    (manifest,) = workspace.glob("state/charges/period=2026-10/*/manifest.json")
    charges = pl.read_parquet(manifest.parent / "*.parquet")
    book, _ = read_book(workspace / "book", time_zone="Europe/Paris")
    tiers = book.prices.group_by("price_id").agg(
        pl.col("price_list", "mode", "scope", "window", "attr.os", "tier_reset", "valid_from", "valid_to").first(),
        pl.len().alias("tiers"),
        pl.col("package_size", "unit_price").max(),
        (pl.col("up_to").is_not_null() & (pl.col("unit_price") == 0) & (pl.col("flat_fee") == 0)).any().alias("free"),
        (pl.col("flat_fee") > 0).any().alias("flat"),
    )
    skus = book.skus.select("sku_id", "aggregation", "record_increment")
    return charges.join(tiers, on="price_id", validate="m:1").join(skus, on="sku_id", validate="m:1")


KINDS_OF_PRICES = {
    "graduated": (pl.col("mode") == "graduated") & (pl.col("tiers") > 2),
    "volume": (pl.col("mode") == "volume") & ~pl.col("flat"),
    "steps of flat fees": (pl.col("mode") == "volume") & pl.col("flat"),
    "free allowance": pl.col("free") & (pl.col("scope") == "account"),
    "free allowance of a project": pl.col("free") & (pl.col("scope") == "project"),
    "included quantity and a fee": (pl.col("mode") == "graduated") & pl.col("flat") & (pl.col("scope") == "resource"),
    "packages": pl.col("package_size").is_not_null(),
    "cap": pl.col("charge_kind") == "cap",
    "minimum": pl.col("charge_kind") == "minimum",
    "p95": pl.col("aggregation") == "p95",
    "mean": pl.col("aggregation") == "mean",
    "max": pl.col("aggregation") == "max",
    "started units": pl.col("record_increment").is_not_null(),
    "peak": pl.col("window") == "peak",
    "off-peak": pl.col("window") == "off-peak",
    "attribute": pl.col("attr.os") == "windows",
    "plan": (pl.col("price_list") == "growth") & (pl.col("tiers") > 1),
    "contract with tiers": (pl.col("price_list") == "lumen") & (pl.col("tiers") > 1),
    "exchange rate": pl.col("exchange_rate").is_not_null() & (pl.col("currency") == "CHF"),
    "exchange rate and tiers": pl.col("exchange_rate").is_not_null() & (pl.col("tiers") > 1),
    "tiers that go on counting": (pl.col("valid_from").dt.date() == date(2026, 10, 14)) & (pl.col("tiers") > 1)
    & ~pl.col("tier_reset"),
    "tiers that count anew": pl.col("tier_reset") & (pl.col("tiers") > 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS_OF_PRICES)
def test_default_demo_has_every_kind_of_price(rated, kind):
    found = rated.filter(KINDS_OF_PRICES[kind])
    assert found.height > 0
    assert found["cost"].abs().sum() > 0


def test_a_quarter_of_the_demo_has_tiers(rated):
    usage = rated.filter(pl.col("charge_kind") == "usage")
    assert 0.2 < usage.filter(pl.col("mode") != "per_unit").height / usage.height < 0.3


@pytest.fixture(scope="module")
def billed(tmp_path_factory):
    """What the default demo's book bills in September and October: the tables of invoices, by name."""
    folder = tmp_path_factory.mktemp("billed")
    demo.write_demo(folder)
    assert run_command(["load", "--workspace", str(folder), "--quiet"]) == ExitCode.DONE
    for period in ("2026-09", "2026-10"):
        for step in ("rate", "invoice"):
            assert run_command([step, "--workspace", str(folder), "--period", period, "--quiet"]) == ExitCode.DONE
    with duckdb.connect(str(folder / "state" / "warehouse.duckdb"), read_only=True) as warehouse:
        return {table.name: warehouse.sql(f"SELECT * FROM billing.{table.name}").pl() for table in BILLING_TABLES}


def taken_off(billed, source_id):
    """What a discount, commitment or credit takes off each invoice."""
    rows = billed["invoice_deductions"].filter(pl.col("source_id") == source_id)
    return dict(rows.group_by("invoice_id").agg(pl.col("amount").sum()).sort("invoice_id").iter_rows())


@pytest.mark.slow
def test_default_demo_shows_each_kind_of_agreement(billed):
    """A whole percent, a part of a month, an amount, a promise that is kept and one that is not, credits, fees."""
    assert set(taken_off(billed, "lumen-desk-2026")) == {"2026-09-acc-lumen-EUR", "2026-10-acc-lumen-EUR"}
    assert set(taken_off(billed, "academy-autumn")) == {"2026-10-acc-thistle-GBP"}
    assert taken_off(billed, "isartal-goodwill") == {"2026-10-acc-isartal-EUR": -75}
    assert taken_off(billed, "omega-2026") == dict.fromkeys(["2026-09-acc-omega-USD", "2026-10-acc-omega-USD"], -144)

    shortfalls = billed["commitment_ledger"].sort("invoice_id")["shortfall_amount"].to_list()
    assert shortfalls[0] == 0 < shortfalls[1] < 500

    left = dict(billed["credit_ledger"].sort("invoice_id").select("credit_id", "balance_after").iter_rows())
    assert left["orleans-solidaire"] == 0  # runs out in October
    assert 0 < left["emile-bienvenue"] < 100  # expires with October
    assert 0 < left["hana-prepaid"] < 600_000  # goes on

    others = billed["invoice_lines"].filter(pl.col("line_kind") != "usage").sort("source_id", "invoice_id")
    assert others.select("source_id", "line_kind", "first_day", "amount").rows() == [
        ("cascade-support", "recurring", date(2026, 10, 16), Decimal("149.68")),  # 290 × 16 ÷ 31
        ("mueller-line", "recurring", date(2026, 9, 1), Decimal(120)),
        ("mueller-line", "recurring", date(2026, 10, 1), Decimal(120)),
        ("omega-2026", "commitment", date(2026, 10, 1), shortfalls[1]),
        ("pembroke-search", "adjustment", date(2026, 10, 1), Decimal("-18.40")),
    ]


def test_fleet_fits_the_book():
    fleet = demo.read_fleet(DEMO)
    projects = pl.read_csv(DEMO / "book" / "projects.csv", infer_schema=False)
    skus = pl.read_csv(DEMO / "book" / "skus.csv", infer_schema=False)
    placed = fleet.placements.filter(pl.col("project_id").is_not_null())
    assert placed.join(projects, on=["project_id", "account_id"], how="anti").is_empty()
    assert set(projects["project_id"]) == set(placed["project_id"])
    assert set(fleet.meters["sku_id"].drop_nulls()) == set(skus["sku_id"])
    assert set(fleet.meters["kind"]) == set(fleet.kinds["kind"])
    assert fleet.placements["utc_shift_hours"].null_count() == 0


def test_fleet_spreads_evenly():
    fleet = demo.read_fleet(DEMO)
    places, kinds = fleet.placements["weight"].sum(), fleet.kinds["weight"].sum()
    assert math.gcd(places, kinds) == math.gcd(places, demo._STRIDE) == math.gcd(kinds, demo._STRIDE) == 1
    assert fleet.kinds["cycle_hours_min"].min() >= 24  # else three resources could share a place on one day


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"resources": 0}, "--resources 0: expected a whole number from 1 to 10,000,000"),
        ({"months": -1}, "--months -1"),
        ({"until": BillingPeriod(2024, 2)}, "--until 2024-02 with --months 2: the sample has prices from 2024-02"),
        ({"until": BillingPeriod(2100, 1)}, "to 2099-11"),
    ],
)
def test_numbers_out_of_range(tmp_path, numbers, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        demo.write_demo(tmp_path / "new", **numbers)
    assert not (tmp_path / "new").exists()


# --------------------------------------------------------------------------------------------------------- real data


def test_deriving_the_aws_book_again_gives_the_files_that_are_there(tmp_path):
    spec = importlib.util.spec_from_file_location("derive", AWS / "derive.py")
    derive = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(derive)
    derive.main(tmp_path)
    assert files_of(tmp_path) == files_of(AWS / "book")


def test_aws_prices_times_quantities_are_the_list_costs_of_the_file(tmp_path):
    write_aws(tmp_path)
    config = read_config(tmp_path / "ratemill.toml")
    assert config.usage.preset == "focus"
    book, findings = read_book(tmp_path / "book", time_zone=config.period.time_zone)
    assert findings == []
    assert check_book(book) == []
    assert (book.accounts.height, book.skus.height, book.prices.height) == (67, 239, 239)

    usage = pl.read_parquet(tmp_path / "usage" / "*.parquet")
    for column, values in config.usage.filter.items():
        usage = usage.filter(pl.col(column).is_in(values))
    assert set(usage["SubAccountId"]) <= set(book.accounts["account_id"])
    rated = usage.join(book.prices, left_on="SkuPriceId", right_on="sku_id", how="left", validate="m:1").join(
        book.skus, left_on="SkuPriceId", right_on="sku_id", how="left", validate="m:1"
    )
    assert (rated["PricingUnit"] == rated["usage_unit"]).all()
    costs = [
        ((quantity * price).quantize(Decimal("1e-10"), ROUND_HALF_UP), cost)
        for quantity, price, cost in rated.select("PricingQuantity", "unit_price", "ListCost").iter_rows()
    ]
    assert len(costs) == 941
    assert all(ours == theirs for ours, theirs in costs)
    assert sum(ours for ours, _ in costs) == Decimal("20.7630176406")


def test_aws_workspace_carries_its_attribution(tmp_path):
    write_aws(tmp_path)
    readme = (tmp_path / "README.md").read_text()
    assert all(words in readme for words in ("CC BY 4.0", "FOCUS-Sample-Data", "Changes"))


# -------------------------------------------------------------------------------------------------------- empty, init


def test_empty_workspace_has_every_table_and_column(tmp_path):
    write_empty(tmp_path)
    for table in BOOK_TABLES:
        assert (tmp_path / "book" / f"{table.name}.csv").read_text() == ",".join(table.names) + "\n"
    _, findings = read_book(tmp_path / "book", time_zone="UTC")
    assert {finding.rule for finding in findings} == {f"{name}.no_rows" for name in REQUIRED_BOOK_TABLES}
    assert (tmp_path / "usage").is_dir()


def test_commented_settings_are_all_settings_with_their_defaults(tmp_path):
    write_empty(tmp_path)
    text = (tmp_path / "ratemill.toml").read_text()
    seller = Seller(name="Your Company", country="FR")
    assert read_config(tmp_path / "ratemill.toml") == Config(seller=seller)

    switched_on = tomllib.loads(re.sub(r"(?m)^# (\w+ = )", r"\1", text))
    assert Config.model_validate(switched_on) == Config(seller=seller)
    for section, field in Config.model_fields.items():
        # tables of their own, and a setting without a default
        left_out = {"bank", "columns", "filter", "threads", "smtp", "webhooks", "chats", "spark"}
        assert set(field.annotation.model_fields) - left_out == set(switched_on[section]) - left_out


@pytest.mark.parametrize(
    ("options", "period"),
    [
        (["--sample", "demo", "--resources", "5", "--months", "1", "--until", "2026-09"], "2026-09"),
        (["--sample", "aws"], "2024-09"),
        ([], "last"),
    ],
)
def test_init_makes_a_workspace_and_says_what_is_next(tmp_path, capsys, options, period):
    folder = tmp_path / "new" / "work space"
    assert run_command(["init", str(folder), "--quiet", *options]) == ExitCode.DONE
    out = capsys.readouterr().out
    assert out.endswith(f"ratemill run --workspace '{folder}' --period {period}\n")
    assert out.count("\n") == 1
    read_config(folder / "ratemill.toml")
    assert [path.name for path in folder.parent.iterdir()] == ["work space"]


def test_init_takes_an_empty_folder_and_tells_in_json(tmp_path, capsys):
    assert run_command(["init", str(tmp_path), "--sample", "aws", "--json"]) == ExitCode.DONE
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["period"] == "2024-09"
    assert (tmp_path / "ratemill.toml").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--months", "3"], "--months: not for an empty workspace"),
        (["--sample", "aws", "--resources", "3", "--until", "2026-10"], "--resources, --until: not for --sample aws"),
        (["--sample", "demo", "--resources", "0"], "--resources 0: expected"),
        (["--sample", "demo", "--until", "2026-13"], "--until: '2026-13' is not a billing period"),
        (["--sample", "real"], "'real' is not one of 'demo', 'aws'"),
    ],
)
def test_init_refuses_and_writes_nothing(tmp_path, capsys, options, words):
    assert run_command(["init", str(tmp_path / "new"), *options]) == ExitCode.USAGE
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_init_leaves_used_folders_and_files_alone(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for target, words in ((tmp_path, "is not empty"), (tmp_path / "file", "is no folder")):
        assert run_command(["init", str(target), "--sample", "aws"]) == ExitCode.USAGE
        assert words in capsys.readouterr().err
    assert files_of(tmp_path) == {"file": b"mine"}


def test_init_that_is_stopped_leaves_nothing(tmp_path, monkeypatch):
    written = []

    def stop_at_third_file(file):
        written.append(file)
        if len(written) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(demo, "write_manifest", stop_at_third_file)
    monkeypatch.setattr(demo, "_MANIFEST_DAYS", range(1, 32))
    with pytest.raises(KeyboardInterrupt):
        init(tmp_path / "new", sample=Sample.DEMO, resources=5, quiet=True)
    assert len(written) == 3
    assert list(tmp_path.iterdir()) == []
