"""Nothing is lost and nothing appears: usage files against charges and invoices, by queries of their own.

Goal: the whole run reaches the same quantities and amounts as plain SQL straight on the usage files and the book. The
queries here share no code with the product; the last roundings are Python's decimals, digit by digit.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from zoneinfo import ZoneInfo

import duckdb
import pytest

from workspaces import assert_rows_add_up, run_here

DEMO_PERIOD, AWS_PERIOD = "2026-10", "2024-09"
NOW = "2026-11-02T06:00:00Z"
AWS_TOTAL = Decimal("20.7630176406")
"""Σ ListCost of the file's 941 usage rows."""


class Sample:
    """A sample that was run, and a connection to look at its files and its published database with."""

    def __init__(self, root, period, *options):
        self.root, self.period = root, period
        assert run_here(["init", str(root), *options, "-q"]).code == 0
        with (root / "ratemill.toml").open("a", encoding="utf-8") as config:
            config.write("\n[output]\npdf = false\nhtml = false\n")
        ended = run_here(["run", "-w", str(root), "-p", period, "--as-of", NOW, "-q", "--json"])
        assert ended.code == 0, ended.stderr
        self.rows = ended.rows

    def query(self, text, **parameters):
        """Rows of a query on the published database (``published``), the book's CSV and the usage files."""
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"ATTACH '{self.root / 'published' / 'billing.duckdb'}' AS published (READ_ONLY)")
            connection.execute(f"CREATE VIEW files AS SELECT * FROM read_parquet('{self.root}/usage/*.parquet')")
            for table in ("accounts", "projects", "skus", "prices"):
                path = self.root / "book" / f"{table}.csv"
                if path.exists():
                    connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_csv('{path}', all_varchar = true)")
            result = connection.execute(text, parameters)
            names = [column[0] for column in result.description]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def one(self, text, **parameters):
        """The one row of a query."""
        (row,) = self.query(text, **parameters)
        return row


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conservation") / "demo"
    return Sample(folder, DEMO_PERIOD, "--sample", "demo", "--resources", "40", "--months", "1")


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    return Sample(tmp_path_factory.mktemp("conservation") / "aws", AWS_PERIOD, "--sample", "aws")


@pytest.fixture(params=["demo", "aws"])
def sample(request):
    return request.getfixturevalue(request.param)


@pytest.mark.slow
def test_every_row_of_the_files_is_accounted_for(sample):
    assert sample.rows["in"] == sample.one("SELECT count(*) AS rows FROM files")["rows"]
    assert_rows_add_up(sample.rows)
    assert sample.rows["billed"] > 0


def test_charges_lines_and_invoices_add_up_to_one_another(sample):
    sums = sample.query(
        """
        SELECT
            currency,
            sum(untaxed_amount) AS untaxed,
            (SELECT sum(cost) FROM published.charges WHERE currency = invoices.currency) AS charged,
            (SELECT sum(net_amount) FROM published.invoice_lines AS lines WHERE lines.invoice_id IN
                (SELECT invoice_id FROM published.invoices AS same WHERE same.currency = invoices.currency)) AS lined
        FROM published.invoices AS invoices
        GROUP BY currency
        """
    )
    assert sums
    for row in sums:
        assert row["untaxed"] == row["charged"] == row["lined"], row


# -------------------------------------------------------------------------------------------------------------- demo

USAGE_OF_MONTH = """
WITH instants AS (
    SELECT * REPLACE (
        coalesce(timezone('Europe/Paris', valid_from::TIMESTAMP), '-infinity'::TIMESTAMPTZ) AS valid_from,
        coalesce(timezone('Europe/Paris', valid_to::TIMESTAMP), 'infinity'::TIMESTAMPTZ) AS valid_to
    )
    FROM prices
),

moves AS (
    SELECT * REPLACE (
        coalesce(timezone('Europe/Paris', valid_from::TIMESTAMP), '-infinity'::TIMESTAMPTZ) AS valid_from,
        coalesce(timezone('Europe/Paris', valid_to::TIMESTAMP), 'infinity'::TIMESTAMPTZ) AS valid_to
    )
    FROM projects
),

owned AS (
    SELECT
        files.* EXCLUDE (account_id, tags),
        coalesce(moves.account_id, files.account_id) AS account_id,
        CASE WHEN cardinality(tags) > 0 THEN to_json(map_from_entries(list_sort(map_entries(tags))))::VARCHAR END AS tags
    FROM (SELECT DISTINCT * FROM files) AS files
    LEFT JOIN moves
      ON files.project_id = moves.project_id AND usage_start >= moves.valid_from AND usage_start < moves.valid_to
),

payers AS (
    SELECT
        own.account_id,
        payer.account_id AS billing_account_id,
        payer.currency,
        payer.time_zone,
        string_split(coalesce(own.price_lists || ' ', payer.price_lists || ' ', '') || 'public', ' ') AS lists
    FROM accounts AS own
    INNER JOIN accounts AS payer ON payer.account_id = coalesce(own.billing_account_id, own.account_id)
),

in_month AS (
    SELECT
        owned.*,
        billing_account_id, currency, time_zone, lists,
        timezone(time_zone, usage_start)::DATE AS local_date,
        (epoch(timezone(time_zone, TIMESTAMP '2026-11-01')) - epoch(timezone(time_zone, TIMESTAMP '2026-10-01')))::BIGINT
            // 3600 AS month_hours
    FROM owned
    INNER JOIN payers USING (account_id)
    WHERE date_trunc('month', timezone(time_zone, usage_start)) = DATE '2026-10-01'
)
"""
OWN_RATING = f"""
{USAGE_OF_MONTH},

found AS (
    SELECT
        lists, in_month.currency, in_month.sku_id, in_month.region, usage_start,
        arg_min((price_id, unit_price), (list_position(lists, price_list), instants.region IS NULL)) AS price
    FROM (SELECT DISTINCT lists, currency, sku_id, region, usage_start FROM in_month) AS in_month
    INNER JOIN instants
      ON instants.sku_id = in_month.sku_id
     AND instants.currency = in_month.currency
     AND list_contains(lists, price_list)
     AND (instants.region IS NULL OR instants.region = in_month.region)
     AND usage_start >= valid_from AND usage_start < valid_to
    GROUP BY ALL
)

SELECT
    billing_account_id, account_id, project_id, resource_id, in_month.sku_id, in_month.region, tags, local_date, in_month.currency,
    price[1] AS price_id,
    price[2] AS unit_price,
    units_per_pricing_unit AS divisor,
    month_hours,
    sum(quantity) AS quantity
FROM in_month
INNER JOIN found
  ON found.lists = in_month.lists AND found.currency = in_month.currency AND found.sku_id = in_month.sku_id
 AND found.region IS NOT DISTINCT FROM in_month.region AND found.usage_start = in_month.usage_start
INNER JOIN skus ON skus.sku_id = in_month.sku_id
GROUP BY ALL
"""
KEY = (
    "billing_account_id",
    "account_id",
    "project_id",
    "resource_id",
    "sku_id",
    "region",
    "tags",
    "local_date",
    "price_id",
)
UNDERSTOOD = {"price_id", "price_list", "sku_id", "currency", "valid_from", "valid_to", "region", "unit_price"}
"""Columns of a price that the query above understands."""
BESIDE_USAGE = {"cap", "minimum", "scope"}
"""Columns whose effect is a charge of its own, or none on a price without tiers."""


def flat_skus(demo):
    """(SKU, currency) that have prices, all of them one price per unit; the others have worked examples elsewhere."""
    special = {
        row["sku_id"]
        for row in demo.query("SELECT * FROM prices")
        for name, value in row.items()
        if value and name not in UNDERSTOOD | BESIDE_USAGE and (name, value) != ("mode", "per_unit")
    }
    special |= {
        row["sku_id"]
        for row in demo.query("SELECT * FROM skus")
        if row.get("record_increment") or row.get("aggregation") not in {None, "sum"}
    }
    priced = demo.query("SELECT DISTINCT sku_id, currency FROM prices")
    return {(row["sku_id"], row["currency"]) for row in priced if row["sku_id"] not in special}


def own_charges(demo):
    """Key → (usage quantity, pricing quantity, cost), computed from the files and the book."""
    charges = {}
    flat = flat_skus(demo)
    with localcontext(prec=76, rounding=ROUND_HALF_EVEN):
        for row in demo.query(OWN_RATING):
            if (row["sku_id"], row["currency"]) not in flat:
                continue
            divisor = row["month_hours"] if row["divisor"] == "hours_in_month" else row["divisor"] or 1
            pricing = (row["quantity"] / Decimal(divisor)).quantize(Decimal("1e-12"))
            cost = (pricing * Decimal(row["unit_price"])).quantize(Decimal("1e-18"))
            charges[tuple(row[name] for name in KEY)] = (row["quantity"], pricing, cost)
    return charges


def product_charges(demo):
    """The same of the charges that the run published."""
    zones = {row["account_id"]: ZoneInfo(row["time_zone"]) for row in demo.query("SELECT * FROM accounts")}
    charges = {}
    flat = flat_skus(demo)
    for row in demo.query("SELECT * FROM published.charges WHERE charge_kind = 'usage'"):
        if (row["sku_id"], row["currency"]) not in flat:
            continue
        row["local_date"] = row["charge_start"].astimezone(zones[row["billing_account_id"]]).date()
        key = tuple(row[name] for name in KEY)
        assert key not in charges, f"two charges of one grain: {key}"
        charges[key] = (row["usage_quantity"], row["pricing_quantity"], row["cost"])
    return charges


def test_demo_charges_are_those_of_an_independent_query_to_the_last_digit(demo):
    expected, seen = own_charges(demo), product_charges(demo)
    assert len(expected) > 400
    assert seen == expected
    total = sum(cost for _, _, cost in expected.values())
    assert total == sum(cost for _, _, cost in seen.values()) > 0


def test_demo_charges_keep_the_usage_of_every_sku(demo):
    """Of SKUs whose quantity is a plain sum; a maximum or a rounded record keeps no sum."""
    skus = demo.query("SELECT * FROM skus")
    summed = [
        row["sku_id"] for row in skus if row.get("aggregation") in {None, "sum"} and not row.get("record_increment")
    ]
    metered = demo.query(
        f"{USAGE_OF_MONTH} SELECT sku_id, sum(quantity) AS quantity FROM in_month"
        " WHERE sku_id IN (SELECT unnest($summed)) GROUP BY ALL ORDER BY ALL",
        summed=summed,
    )
    charged = demo.query(
        "SELECT sku_id, sum(usage_quantity) AS quantity FROM published.charges"
        " WHERE charge_kind = 'usage' AND sku_id IN (SELECT unnest($summed)) GROUP BY ALL ORDER BY ALL",
        summed=summed,
    )
    assert len(metered) > 20
    assert charged == metered


# --------------------------------------------------------------------------------------------------------------- AWS

AWS_ROWS = """
SELECT
    SubAccountId AS account_id, SkuPriceId AS sku_id, RegionId AS region, ResourceId AS resource_id,
    ChargePeriodStart AS charge_start, PricingQuantity::DECIMAL(38, 12) AS quantity,
    round(ListCost, 10)::DECIMAL(38, 10) AS list_cost
FROM files
WHERE ChargeCategory = 'Usage'
"""
AWS_CHARGES = """
SELECT
    account_id, sku_id, region, resource_id, charge_start, usage_quantity AS quantity,
    round(list_cost, 10)::DECIMAL(38, 10) AS list_cost
FROM published.charges
WHERE charge_kind = 'usage'
"""


def test_aws_charges_are_the_list_costs_that_aws_billed(aws):
    counted = aws.one(f"SELECT count(*) AS rows, sum(list_cost) AS total FROM ({AWS_ROWS})")
    assert counted == {"rows": 941, "total": AWS_TOTAL}
    assert aws.query(f"({AWS_ROWS}) EXCEPT ALL ({AWS_CHARGES})") == []
    assert aws.query(f"({AWS_CHARGES}) EXCEPT ALL ({AWS_ROWS})") == []


def test_aws_costs_are_quantity_times_the_price_of_the_book(aws):
    wrong = aws.query(
        """
        SELECT charges.*
        FROM published.charges AS charges
        LEFT JOIN prices USING (price_id)
        WHERE charge_kind = 'usage'
          AND cost IS DISTINCT FROM (usage_quantity::DECIMAL(18, 10) * unit_price::DECIMAL(18, 10))::DECIMAL(38, 18)
        """
    )
    assert wrong == []
