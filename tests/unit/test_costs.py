"""Costs beside those of the month before: sums that add up to the last digit, and changes with their reasons."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratemill.errors import InvariantError
from ratemill.insight import costs
from ratemill.money import AMOUNT
from ratemill.tables.book import ACCOUNTS, CREDITS, SKUS
from ratemill.tables.charges import CHARGES
from ratemill.tables.invoices import CREDIT_LEDGER, INVOICE_LINES, INVOICES

SKUS_FRAME = pl.DataFrame(
    {
        "sku_id": ["vm", "gpu", "disk"],
        "service": ["Servers", "Servers", "Disks"],
        "category": ["Compute", "Compute", "Storage"],
        "name": ["Server", "GPU server", "Disk space"],
    }
)
NOON = datetime(2026, 10, 15, 12, tzinfo=UTC)


def charge(cost: str, quantity: str | None = "1", **other) -> dict:
    """A charge of one hour of a server; what is not named is usual."""
    return {
        "billing_account_id": "acme", "account_id": "acme", "sku_id": "vm", "currency": "EUR", "charge_kind": "usage",
        "charge_start": NOON, "pricing_unit": "hour", "pricing_quantity": quantity and Decimal(quantity),
        "cost": Decimal(cost), "contracted_cost": Decimal(cost),
    } | other  # fmt: skip


def frame(rows: list[dict]) -> pl.DataFrame:
    return pl.DataFrame([{name: row.get(name) for name in CHARGES.names} for row in rows], schema=CHARGES.polars_schema)


def monthly(now: list[dict], before: list[dict] = ()) -> pl.DataFrame:
    return costs.monthly_costs(frame(now), frame(list(before)), skus=SKUS_FRAME)


def accounts(**zones: str | None) -> pl.DataFrame:
    rows = [{"account_id": account, "time_zone": zone} for account, zone in zones.items()]
    return pl.DataFrame(rows, schema={"account_id": pl.String, "time_zone": pl.String})


CHARGES_OF_A_MONTH = [
    charge("0.333333333333333333", project_id="web", region="eu", tags='{"env":"live","team":"a"}'),
    charge("0.333333333333333334", project_id="web", region="us", tags='{"env":"live"}'),
    charge(
        "10000000000000000000.000000000000000001", project_id=None, region=None, sku_id="disk"
    ),  # more than 28 digits
    charge("-2.5", quantity=None, charge_kind="discount", sku_id="gpu"),  # a discount counts
    charge("0.004", quantity=None, charge_kind="rounding", project_id="web", region="eu"),
    charge("5", sku_id="unknown"),  # a SKU that has left the book
]
UNTAXED = Decimal("10000000000000000003.170666666666666668")


@pytest.mark.parametrize("dimension", ["account_id", "project_id", "sku_id", "service", "category", "region"])
def test_every_breakdown_adds_up_to_the_last_digit(dimension):
    rows = costs.cost_by(monthly(CHARGES_OF_A_MONTH), dimension)
    assert rows["cost"].sum() == UNTAXED
    assert rows["cost"].dtype == pl.Decimal(38, 18)


def test_days_and_tags_add_up_to_the_last_digit():
    daily = costs.daily_costs(frame(CHARGES_OF_A_MONTH), accounts=accounts(), skus=SKUS_FRAME, default_zone="UTC")
    assert daily["cost"].sum() == UNTAXED
    tags = costs.tag_costs(frame(CHARGES_OF_A_MONTH))
    assert {key: rows["cost"].sum() for (key,), rows in tags.partition_by("key", as_dict=True).items()} == {
        "env": UNTAXED,
        "team": UNTAXED,
    }


def test_the_most_expensive_comes_first_and_what_has_no_name_is_a_row():
    rows = costs.cost_by(monthly(CHARGES_OF_A_MONTH), "region").select("region", "cost").rows()
    assert [region for region, _ in rows] == [None, "eu", "us"]
    services = costs.cost_by(monthly(CHARGES_OF_A_MONTH), "service")["service"].to_list()
    assert services == ["Disks", "Other", "Servers"]


def test_a_sum_that_overflows_is_an_error_not_a_wrong_number():
    large = charge("99999999999999999999.999999999999999999")
    with pytest.raises(pl.exceptions.ComputeError, match="overflow"):
        monthly([large] * 3)


def test_currencies_and_payers_stay_apart():
    rows = monthly(
        [
            charge("1"),
            charge("2", currency="USD"),
            charge("4", account_id="lab"),
            charge("8", billing_account_id="other", account_id="other"),
        ]
    )
    assert costs.totals(rows).select("billing_account_id", "currency", "cost").rows() == [
        ("acme", "EUR", Decimal(5)),
        ("acme", "USD", Decimal(2)),
        ("other", "EUR", Decimal(8)),
    ]
    assert costs.totals(rows, within=costs.PROVIDER).select("currency", "cost").rows() == [
        ("EUR", Decimal(13)),
        ("USD", Decimal(2)),
    ]


def test_saving_compares_only_what_has_a_public_price():
    (row,) = costs.totals(
        monthly(
            [
                charge("8", list_cost=Decimal(10)),
                charge("3", list_cost=None),  # a negotiated SKU without a public price
                charge("0.004", quantity=None, charge_kind="rounding", contracted_cost=Decimal(0)),
            ]
        )
    ).rows(named=True)
    assert (row["list_cost"], row["listed_cost"], row["saving"]) == (Decimal(10), Decimal(8), Decimal(2))
    assert (row["unlisted_cost"], row["cost"]) == (Decimal(3), Decimal("11.004"))


def of_invoicing(cost: str, kind: str, **other) -> dict:
    """A charge that invoicing adds."""
    return charge(cost, None, charge_kind=kind, list_cost=Decimal(0), contracted_cost=Decimal(0)) | other


LEDGER = [
    charge("100", list_cost=Decimal(120)),
    of_invoicing("-10", "discount", source_id="autumn"),
    of_invoicing("-9", "commitment", source_id="yearly"),  # its discount
    of_invoicing("-20", "credit", source_id="welcome"),
    charge("30", sku_id="gpu", charge_kind="recurring", quantity=None),  # a subscription of a SKU is that service
    of_invoicing("50", "recurring", sku_id=None, source_id="support"),
    of_invoicing("-5", "discount", sku_id=None, source_id="autumn"),
    of_invoicing("40", "commitment", sku_id=None, source_id="yearly"),  # its shortfall
    of_invoicing("-4", "commitment", sku_id=None, source_id="yearly"),
    of_invoicing("-7", "adjustment", sku_id="disk"),
    of_invoicing("3", "correction", quantity="6", corrects_period="2026-09"),
    of_invoicing("-1", "credit", sku_id=None),
]


def test_deductions_are_netted_inside_their_service_and_what_is_no_use_of_the_month_is_named_for_itself():
    rows = costs.cost_by(monthly(LEDGER), "service").select("service", "gross_cost", "deductions", "cost").rows()
    assert rows == [
        ("Servers", Decimal(130), Decimal(-39), Decimal(91)),
        (costs.FEES, Decimal(50), Decimal(-5), Decimal(45)),
        (costs.SHORTFALLS, Decimal(40), Decimal(-4), Decimal(36)),
        (costs.CORRECTIONS, Decimal(3), Decimal(0), Decimal(3)),
        (costs.CREDITS, Decimal(0), Decimal(-1), Decimal(-1)),
        (costs.ADJUSTMENTS, Decimal(-7), Decimal(0), Decimal(-7)),
    ]


def test_prices_save_on_usage_alone():
    """Discounts are shown beside it, and fees have no public price."""
    (row,) = costs.totals(monthly(LEDGER)).rows(named=True)
    assert (row["list_cost"], row["listed_cost"], row["saving"]) == (Decimal(120), Decimal(100), Decimal(20))
    assert (row["unlisted_cost"], row["gross_cost"], row["deductions"]) == (Decimal(0), Decimal(216), Decimal(-49))


def test_a_correction_is_no_use_of_the_month():
    (row,) = costs.movers(monthly([charge("10"), *LEDGER[-2:-1]], [charge("10")]), "sku_name").filter(
        pl.col("change") != 0
    ).rows(named=True)  # fmt: skip
    assert (row["sku_name"], row["quantity_effect"], row["price_effect"]) == (costs.CORRECTIONS, Decimal(0), Decimal(3))


def test_shortfalls_and_discounts_of_commitments_are_told_apart_by_day_too():
    daily = costs.daily_costs(frame(LEDGER), accounts=accounts(), skus=SKUS_FRAME, default_zone="UTC")
    by_kind = daily.group_by("charge_kind").agg(pl.col("cost").sum()).sort("charge_kind").rows()
    assert by_kind == [
        ("adjustment", Decimal(-7)),
        ("commitment", Decimal(40)),
        (costs.COMMITMENT_DISCOUNT, Decimal(-13)),
        ("correction", Decimal(3)),
        ("credit", Decimal(-21)),
        ("discount", Decimal(-15)),
        ("recurring", Decimal(80)),
        ("usage", Decimal(100)),
    ]


def credit(credit_id: str, amount: str, **other) -> dict:
    return dict.fromkeys(CREDITS.names) | {
        "credit_id": credit_id, "account_id": "acme", "amount": Decimal(amount), "currency": "EUR", "kind": "prepaid",
        "granted_on": datetime(2026, 9, 1, tzinfo=UTC), "note": credit_id,
    } | other  # fmt: skip


def test_what_is_left_of_credits_at_the_end_of_the_month():
    end = datetime(2026, 11, 1, tzinfo=UTC)
    granted = [
        credit("half used", "100"),
        credit("used up last month", "10"),
        credit("used up", "20"),
        credit("expired", "70", expires_on=end),
        credit("of next month", "80", granted_on=end),
        credit("untouched", "5", currency="USD", expires_on=datetime(2026, 12, 1, tzinfo=UTC)),
    ]
    drawn = {"half used": 50, "used up last month": 10, "used up": 20}
    used = [("half used", "30"), ("used up", "20")]
    rows = costs.outstanding_credits(
        pl.DataFrame(granted, schema=CREDITS.polars_schema),
        pl.DataFrame({"credit_id": list(drawn), "amount": [Decimal(d) for d in drawn.values()]},
                     schema={"credit_id": pl.String, "amount": AMOUNT}),
        pl.DataFrame([dict.fromkeys(CREDIT_LEDGER.names) | {"credit_id": c, "amount": Decimal(a)} for c, a in used],
                     schema=CREDIT_LEDGER.polars_schema),
        at=end,
    )  # fmt: skip
    assert rows.select("currency", "credit_id", "used", "left").rows() == [
        ("EUR", "half used", Decimal(30), Decimal(50)),
        ("EUR", "used up", Decimal(20), Decimal(0)),
        ("USD", "untouched", Decimal(0), Decimal(5)),
    ]


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        (None, date(2026, 10, 31)),  # the default zone
        ("Asia/Tokyo", date(2026, 11, 1)),
        ("America/New_York", date(2026, 10, 31)),
    ],
)
def test_a_day_is_one_of_the_payers_calendar(zone, day):
    late = charge("1", charge_start=datetime(2026, 10, 31, 22, 30, tzinfo=UTC), account_id="lab")
    daily = costs.daily_costs(
        frame([late]), accounts=accounts(acme=zone, lab="UTC"), skus=SKUS_FRAME, default_zone="UTC"
    )
    assert daily.select("day", "charge_kind", "service", "cost").rows() == [(day, "usage", "Servers", Decimal(1))]


def test_what_is_not_usage_belongs_to_no_day():
    daily = costs.daily_costs(
        frame([charge("1"), charge("0.004", charge_kind="rounding"), charge("9", charge_kind="recurring")]),
        accounts=accounts(acme="Europe/Paris"),
        skus=SKUS_FRAME,
        default_zone="UTC",
    )
    assert daily.select("day", "charge_kind", "cost").rows() == [
        (date(2026, 10, 15), "usage", Decimal(1)),
        (None, "recurring", Decimal(9)),
        (None, "rounding", Decimal("0.004")),
    ]


def test_tags_split_each_bill_once_per_key():
    tags = costs.tag_costs(
        frame(
            [
                charge("1", tags='{"env":"live","team":"a"}'),
                charge("2", tags='{"env":"test"}'),
                charge("4"),
                charge("0.5", charge_kind="rounding"),
                charge("-3", quantity=None, charge_kind="discount"),
                charge("8", billing_account_id="other", tags='{"env":"\\"quoted\\", é"}'),
            ]
        )
    )
    assert tags.select("billing_account_id", "key", "value", "part", "cost").rows() == [
        ("acme", "env", "test", "usage", Decimal(2)),
        ("acme", "env", "live", "usage", Decimal(1)),
        ("acme", "env", None, "usage", Decimal(4)),
        ("acme", "env", None, "other", Decimal(-3)),
        ("acme", "env", None, "rounding", Decimal("0.5")),
        ("acme", "team", "a", "usage", Decimal(1)),
        ("acme", "team", None, "usage", Decimal(6)),
        ("acme", "team", None, "other", Decimal(-3)),
        ("acme", "team", None, "rounding", Decimal("0.5")),
        ("other", "env", '"quoted", é', "usage", Decimal(8)),
    ]


MOVES = [
    # what happened, before (quantity, cost), now (quantity, cost), reason, quantity effect, price effect
    ("used more", ("10", "20"), ("15", "30"), costs.QUANTITY_CHANGED, "10", "0"),
    ("used less", ("10", "20"), ("5", "10"), costs.QUANTITY_CHANGED, "-10", "0"),
    ("a higher price", ("10", "20"), ("10", "25"), costs.PRICE_CHANGED, "0", "5"),
    ("used more at a lower price", ("10", "20"), ("20", "30"), costs.BOTH_CHANGED, "20", "-10"),
    ("effects that cancel out", ("10", "20"), ("20", "20"), costs.UNCHANGED, "20", "-20"),
    ("no longer free", ("10", "0"), ("10", "5"), costs.PRICE_CHANGED, "0", "5"),
    ("new", None, ("3", "6"), costs.NEW, "6", "0"),
    ("gone", ("3", "6"), None, costs.GONE, "-6", "0"),
    ("a fee", (None, "6"), (None, "7"), costs.PRICE_CHANGED, "0", "1"),
    ("a quantity of thirds", ("3", "1"), ("4", "1"), costs.UNCHANGED, "0.333333333333333333", "-0.333333333333333333"),
]


@pytest.mark.parametrize(
    ("before", "now", "reason", "quantity", "price"), [m[1:] for m in MOVES], ids=[m[0] for m in MOVES]
)
def test_a_change_has_a_reason(before, now, reason, quantity, price):
    rows = monthly([charge(now[1], now[0])] if now else [], [charge(before[1], before[0])] if before else [])
    (mover,) = costs.movers(rows, "sku_id").rows(named=True)
    assert mover["reason"] == reason
    assert (mover["quantity_effect"], mover["price_effect"]) == (Decimal(quantity), Decimal(price))


def test_a_shift_between_regions_of_different_prices_is_no_price_change():
    # Each region keeps its price of 1 and 2; more is used in the dearer one.
    before = [charge("10", "10", region="eu"), charge("20", "10", region="us")]
    now = [charge("5", "5", region="eu"), charge("30", "15", region="us")]
    (mover,) = costs.movers(monthly(now, before), "sku_id").rows(named=True)
    assert (mover["reason"], mover["quantity_effect"], mover["price_effect"]) == ("quantity", Decimal(5), Decimal(0))


def test_the_largest_change_comes_first_whatever_its_sign():
    before = [charge("10", sku_id="vm"), charge("10", sku_id="gpu"), charge("10", sku_id="disk")]
    now = [charge("12", sku_id="vm"), charge("1", sku_id="gpu"), charge("10", sku_id="disk")]
    rows = costs.movers(monthly(now, before), "sku_id").select("sku_id", "change", "reason").rows()
    assert rows == [
        ("gpu", Decimal(-9), costs.PRICE_CHANGED),
        ("vm", Decimal(2), costs.PRICE_CHANGED),
        ("disk", Decimal(0), costs.UNCHANGED),
    ]


amounts = st.decimals("-1e15", "1e15", places=18)
quantities = st.decimals("0", "1e15", places=12)
usages = st.lists(
    st.tuples(st.sampled_from(["vm", "gpu"]), st.sampled_from(["eu", "us", None]), quantities, amounts), max_size=6
)


@given(now=usages, before=usages)
def test_effects_add_up_to_the_change_exactly(now, before):
    rows = monthly(*([charge(str(c), str(q), sku_id=s, region=r) for s, r, q, c in month] for month in (now, before)))
    movers = costs.movers(rows, "sku_id")
    total = costs.totals(rows)
    assert movers.filter(pl.col("quantity_effect") + pl.col("price_effect") != pl.col("change")).is_empty()
    assert movers["change"].sum() == total["change"].sum()
    assert set(movers["reason"]) <= set(costs.REASONS)


def test_no_charges_give_empty_tables_of_the_same_shape():
    nothing = CHARGES.empty()
    filled, empty = monthly(CHARGES_OF_A_MONTH), monthly([])
    assert empty.schema == filled.schema
    assert costs.cost_by(empty, "sku_id").schema == costs.cost_by(filled, "sku_id").schema
    assert costs.movers(empty, "sku_id").schema == costs.movers(filled, "sku_id").schema
    assert costs.tag_costs(nothing).schema == costs.tag_costs(frame(CHARGES_OF_A_MONTH)).schema
    given = {"accounts": ACCOUNTS.empty(), "skus": SKUS.empty(), "default_zone": "UTC"}
    assert costs.daily_costs(nothing, **given).schema == costs.daily_costs(frame(CHARGES_OF_A_MONTH), **given).schema


def invoice(untaxed: str, *lines: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    empty = dict.fromkeys(INVOICES.names)
    head = empty | {
        "invoice_id": "i", "billing_account_id": "acme", "currency": "EUR", "untaxed_amount": Decimal(untaxed)
    }  # fmt: skip
    line = dict.fromkeys(INVOICE_LINES.names) | {"invoice_id": "i"}
    return (
        pl.DataFrame([head], schema=INVOICES.polars_schema),
        pl.DataFrame([line | {"net_amount": Decimal(x)} for x in lines], schema=INVOICE_LINES.polars_schema),
    )


def test_charges_that_add_up_to_their_invoice_pass():
    totals = costs.totals(monthly([charge("1.004"), charge("-0.004", charge_kind="rounding")]))
    costs.check_adds_up(totals, *invoice("1.00", "0.40", "0.60"))


@pytest.mark.parametrize(
    ("charges", "untaxed", "lines", "words"),
    [
        (["1.004"], "1.00", ["1.00"], "charges 1.004"),  # the rounding charge is missing
        (["1"], "1.00", ["0.40"], "invoice lines 0.4"),
        (["1"], "1.00", [], "invoice lines None"),
        ([], "1.00", ["1.00"], "charges None"),
    ],
)
def test_an_invoice_that_does_not_add_up_is_named(charges, untaxed, lines, words):
    with pytest.raises(InvariantError, match=rf"acme in EUR do not add up.*{words}"):
        costs.check_adds_up(costs.totals(monthly([charge(cost) for cost in charges])), *invoice(untaxed, *lines))


def test_documents_of_one_bill_are_proven_together():
    (usual, lines), (note, credited) = invoice("10.00", "10.00"), invoice("-1.00", "-1.00")
    note, credited = (frame.with_columns(invoice_id=pl.lit("note")) for frame in (note, credited))
    totals = costs.totals(monthly([charge("10"), of_invoicing("-1", "correction", corrects_period="2026-09")]))
    costs.check_adds_up(totals, pl.concat([usual, note]), pl.concat([lines, credited]))


def test_a_bill_without_an_invoice_is_named():
    no_invoice = pl.DataFrame(schema=INVOICES.polars_schema), pl.DataFrame(schema=INVOICE_LINES.polars_schema)
    with pytest.raises(InvariantError, match="untaxed total None"):
        costs.check_adds_up(costs.totals(monthly([charge("1")])), *no_invoice)
