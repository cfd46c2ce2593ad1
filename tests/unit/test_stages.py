"""The contract of every pure stage: without rows it gives the same columns and types as with rows.

Each stage is first seen at work on a month with everything in it; then it is called again with the frames it was given,
emptied. That finds a column that is lost, a type that drifts (a decimal's scale, an instant's zone), and a stage that
can't do with nothing, in milliseconds.
"""

from __future__ import annotations

import dataclasses
import importlib
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest

from engine import bill
from ratemill.tables.charges import CHARGE_KINDS, CHARGES, UNPRICED
from ratemill.tables.invoices import INVOICE_LINES, INVOICES, TAX_LINES
from reference.model import (
    Account,
    Adjustment,
    Book,
    Commitment,
    Credit,
    Discount,
    FxRate,
    PriceTier,
    Project,
    Recurring,
    Sku,
    Tax,
    Usage,
    Window,
    World,
)

D = Decimal
START = datetime(2026, 10, 5, tzinfo=UTC)
CHANGE = START + timedelta(hours=2)

EVERYTHING = World(
    book=Book(
        accounts=(
            Account(account_id="a", price_lists=("deal",)),
            Account(account_id="b", billing_account_id="a", time_zone="Asia/Tokyo"),
        ),
        projects=(
            Project(project_id="x", account_id="a", valid_to=CHANGE),
            Project(project_id="x", account_id="b", valid_from=CHANGE),
        ),
        skus=(
            Sku(sku_id="vm", record_increment=D(1)),
            Sku(sku_id="net", aggregation="p95"),
            Sku(sku_id="gift", units_per_pricing_unit="hours_in_month"),
        ),
        prices=(
            PriceTier(price_id="v1", sku_id="vm", unit_price=D(1), cap=D("1.004"), valid_to=CHANGE),
            PriceTier(price_id="v2", sku_id="vm", unit_price=D(2), minimum=D(90), valid_from=CHANGE),
            PriceTier(price_id="deal", sku_id="vm", unit_price=D("0.7"), price_list="deal", attributes={"plan": "gold"}),
            PriceTier(price_id="n", sku_id="net", mode="graduated", up_to=D(1), unit_price=D(3), currency="EUR"),
            PriceTier(price_id="n", sku_id="net", mode="graduated", flat_fee=D(3), currency="EUR"),
            PriceTier(price_id="w", sku_id="net", mode="volume", unit_price=D(1), currency="EUR", window="day"),
        ),
        windows=(Window(window="day", days="mon", from_time="08:00", to_time="20:00"),),
        discounts=(Discount(discount_id="d", percent=D(10), valid_from=CHANGE),),
        commitments=(Commitment(commitment_id="c", account_id="a", amount=D(1000), discount_percent=D(5)),),
        credits=(
            Credit(credit_id="gift", account_id="a", amount=D(1), granted_on=START),
            Credit(credit_id="wallet", account_id="a", amount=D(1), granted_on=START, kind="prepaid"),
        ),
        recurring=(Recurring(recurring_id="fee", account_id="b", amount=D(31), valid_from=CHANGE),),
        adjustments=(Adjustment(adjustment_id="sorry", account_id="a", period="2026-10", amount=D(-1)),),
        taxes=(Tax(tax_code="vat", country="US", rate=D(20)),),
        fx_rates=(FxRate(date=date(2026, 10, 1), base="EUR", quote="USD", rate=D("1.1")),),
    ),
    usage=tuple(
        Usage(
            account_id="a", project_id=project, resource_id="r", resource_name=name, sku_id=sku, quantity=D("0.333"),
            usage_start=START + timedelta(hours=hour), attributes=attributes, tags={"team": "red"},
        )
        for hour in range(12)
        for sku in ("vm", "net", "gift")
        for project, name, attributes in (("x", "old", {}), (None, "new", {"plan": "gold"}), (None, "newer", {}))
    ),
    period="2026-10",
)  # fmt: skip

STAGES = [  # (module that calls it, its name there)
    ("engine", "take_in"),
    ("ratemill.steps.rate", "split_by_book"),
    ("ratemill.steps.rate", "plan_metering"),
    ("ratemill.engines.shards", "rate_shard"),
    ("ratemill.rating.metering", "owners_of"),
    ("ratemill.rating.metering", "owners_in"),
    ("ratemill.rating.metering", "make_calendars"),
    ("ratemill.rating.metering", "own_series"),
    ("ratemill.rating.metering", "spread_attributes"),
    ("ratemill.rating.metering", "assign_shards"),
    ("ratemill.rating.shard", "find_prices"),
    ("ratemill.rating.prices", "exchange_rates"),
    ("ratemill.rating.shard", "why_unpriced"),
    ("ratemill.rating.shard", "unit_facts"),
    ("ratemill.rating.shard", "priced_quantities"),
    ("ratemill.rating.shard", "side_costs"),
    ("ratemill.rating.shard", "differences"),
    ("engine", "assemble_invoices"),
    ("ratemill.invoicing.assembly", "payers_of"),
    ("ratemill.invoicing.assembly", "add_up_lines"),
    ("ratemill.invoicing.assembly", "usage_lines"),
    ("ratemill.invoicing.assembly", "recurring_lines"),
    ("ratemill.invoicing.assembly", "adjustment_lines"),
    ("ratemill.invoicing.assembly", "due_commitments"),
    ("ratemill.invoicing.assembly", "measured_commitments"),
    ("ratemill.invoicing.assembly", "shortfall_lines"),
    ("ratemill.invoicing.assembly", "described"),
    ("ratemill.invoicing.assembly", "with_taxes"),
    ("ratemill.invoicing.tax", "taxes_of"),
    ("ratemill.invoicing.assembly", "numbered"),
    ("ratemill.invoicing.assembly", "usable_credits"),
    ("ratemill.invoicing.deductions", "spread"),
    ("ratemill.invoicing.assembly", "shares_by_line"),
    ("ratemill.invoicing.assembly", "tax_lines"),
    ("ratemill.invoicing.assembly", "promotional_draws"),
    ("ratemill.invoicing.assembly", "prepaid_draws"),
    ("ratemill.invoicing.assembly", "commitment_ledger"),
    ("ratemill.invoicing.assembly", "added_charges"),
    ("ratemill.invoicing.charges", "rounding_charges"),
    ("ratemill.invoicing.charges", "line_charges"),
    ("ratemill.invoicing.charges", "deduction_charges"),
]


@pytest.fixture(scope="module")
def calls():
    """What each stage is given in one month, and what comes out: (arguments, result) of its first call."""
    seen = {}

    def noting(key, stage):
        def noted(*arguments, **named):
            result = stage(*arguments, **named)
            seen.setdefault(key, (stage, arguments, named, result))
            return result

        return noted

    with pytest.MonkeyPatch.context() as patch:
        for module_name, name in STAGES:
            module = importlib.import_module(module_name)
            patch.setattr(module, name, noting((module_name, name), getattr(module, name)))
        seen["bill"] = bill(EVERYTHING)
    return seen


def emptied(value):
    return value.head(0) if isinstance(value, pl.DataFrame | pl.LazyFrame) else value


def schemas(value, name="result"):
    """Columns and types of every frame in a stage's result, columns in any order."""
    if isinstance(value, pl.DataFrame):
        return {name: dict(sorted(value.schema.items()))}
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif isinstance(value, tuple | list):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        return {key: found for inner in value for key, found in schemas(value[inner], f"{name}.{inner}").items()}
    return {}


def rows(value):
    if isinstance(value, pl.DataFrame):
        return value.height
    if dataclasses.is_dataclass(value):
        return max(rows(getattr(value, field.name)) for field in dataclasses.fields(value))
    return max(map(rows, value), default=0) if isinstance(value, tuple | list) else 0


@pytest.mark.parametrize("key", STAGES, ids=lambda key: key[1])
def test_without_rows_a_stage_has_the_same_columns(key, calls):
    stage, arguments, named, result = calls[key]
    assert rows(result), "the month has nothing for this stage, so its columns are not seen at work"
    empty = stage(*map(emptied, arguments), **{name: emptied(value) for name, value in named.items()})
    assert schemas(result)
    assert schemas(empty) == schemas(result)


def test_without_usage_but_with_a_book_nothing_is_billed(calls):
    stage, (metered, hourly), named, _ = calls["ratemill.engines.shards", "rate_shard"]
    rated = stage(metered.head(0), hourly.head(0), **named)
    assert (rated.charges.height, rated.unpriced.height) == (0, 0)
    assert rated.charges.schema == CHARGES.polars_schema
    assert rated.unpriced.schema == UNPRICED.polars_schema
    stage, (charges,), named, _ = calls["engine", "assemble_invoices"]
    fees = dict.fromkeys(("recurring", "adjustments", "commitments"))
    book = dataclasses.replace(named["book"], **{name: named["book"].frame(name).clear() for name in fees})
    invoices = stage(charges.head(0), **(named | {"book": book}))
    for table, frame in (*invoices.frames(), (CHARGES, invoices.charges)):
        assert frame.height == 0
        assert frame.schema == table.polars_schema


def test_what_comes_out_keeps_the_contract_of_its_table(calls):
    found = calls["bill"]
    for table, frame in ((CHARGES, found.charges), (UNPRICED, found.unpriced), (INVOICES, found.invoices),
                         (INVOICE_LINES, found.lines), (TAX_LINES, found.tax_lines)):  # fmt: skip
        assert frame.schema == table.polars_schema
        assert frame.height
        table.validate(frame)
    assert set(found.charges["charge_kind"]) == set(CHARGE_KINDS) - {"correction"}
