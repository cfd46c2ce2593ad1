"""Commitments: shortfall, discount, days, scopes, and their ledger, computed by hand."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from assembled import MEMBER, PAYER, assemble, column, day, plain, totals, usage

NOVEMBER = 11


def commitment(amount, discount="0", name="c", **more):
    return {"commitment_id": name, "account_id": PAYER, "amount": str(amount), "discount_percent": str(discount),
            "currency": "EUR"} | more  # fmt: skip


WORKED = [  # (lines, committed, discount %, shortfall, discount, untaxed, why)
    (["5.95", "895.35"], 900, 10, "0", "-90", "811.3", "901.30 is more than 900; 10 % of 900"),
    (["500"], 900, 10, "400", "-90", "810", "500 + 400 - 90: max(S, C) - C × d"),
    (["900"], 900, 10, "0", "-90", "810", "met to the cent"),
    (["899.99"], 900, 10, "0.01", "-90", "810", "a cent short"),
    ([], 900, 10, "900", "-90", "810", "nothing used at all"),
    (["500"], 900, 0, "400", "0", "900", "without a discount it is a minimum spend"),
    (["1000"], 900, 0, "0", "0", "1000", "a minimum spend that was met changes nothing"),
    (["500"], 900, 100, "400", "-900", "0", "all of it"),
    (["0"], "0.05", 50, "0.05", "-0.03", "0.02", "2.5 cents are 3"),
    (["-10"], 900, 0, "910", "0", "900", "usage below zero (a correction of a tier) makes the shortfall larger"),
]  # fmt: skip


@pytest.mark.parametrize("case", WORKED)
def test_an_account_pays_what_it_used_or_promised_less_its_discount(case):
    lines, committed, percent, shortfall, discount, untaxed, why = case
    charges = [usage(cost, line=number) for number, cost in enumerate(lines)]
    invoices = assemble(charges, commitments=[commitment(committed, percent)])
    entry = invoices.commitments.row(0, named=True)
    assert (plain(entry["shortfall_amount"]), plain(entry["discount_amount"])) == (shortfall, discount), why
    assert totals(invoices, "untaxed") == {"untaxed": untaxed}, why


def test_a_shortfall_is_a_line_of_the_payer_and_its_own_charge():
    invoices = assemble([usage("500", account=MEMBER)], commitments=[commitment(900, 10, note="Annual plan")])
    line = invoices.lines.filter(invoices.lines["line_kind"] == "commitment").row(0, named=True)
    shown = ("line_number", "account_id", "sku_id", "source_id", "description", "first_day", "last_day", "tax_category")
    assert [line[name] if "day" not in name else str(line[name]) for name in shown] == [
        1, PAYER, None, "c", "Annual plan", "2026-10-01", "2026-10-31", "standard",
    ]  # fmt: skip
    charges = invoices.charges.filter(invoices.charges["charge_kind"] == "commitment").sort("cost")
    assert charges.select("account_id", "sku_id", "source_id", "contracted_cost").rows() == [
        (MEMBER, "vm", "c", 0), (PAYER, None, "c", 0), (PAYER, None, "c", 0)
    ]  # fmt: skip
    assert column(charges, "cost") == ["-50", "-40", "400"], "90 over 500 and 400"


SPREAD = [  # (lines, discounts, committed, percent, each line's share of the commitment's discount, why)
    (["100", "200"], [], 300, 10, ["-10", "-20"], "pro rata to the lines"),
    (["100", "200"], [("disk-half", "50", "gpu")], 300, 10, ["-15", "-15"], "pro rata to what discounts left: 100, 100"),
    (["100", "200"], [("free", "100", "gpu")], 300, 50, ["-100", "0"], "150, but never below zero"),
    (["100", "200"], [("free", "100", "")], 300, 50, ["0", "0"], "nothing is left to take anything off"),
]  # fmt: skip


@pytest.mark.parametrize("case", SPREAD)
def test_the_discount_is_spread_over_what_discounts_left(case):
    lines, discounts, committed, percent, expected, why = case
    invoices = assemble(
        [usage(cost, sku) for cost, sku in zip(lines, ("vm", "gpu"), strict=True)],
        discounts=[{"discount_id": name, "percent": rate, "sku_ids": sku or None} for name, rate, sku in discounts],
        commitments=[commitment(committed, percent)],
    )
    by_sku = dict(zip(invoices.lines["sku_id"], column(invoices.lines, "commitment_amount"), strict=True))
    assert [by_sku["vm"], by_sku["gpu"]] == expected, why


def test_what_counts_is_usage_before_discounts():
    invoices = assemble(
        [usage("900")], discounts=[{"discount_id": "d", "percent": "50"}], commitments=[commitment(900, 10)]
    )
    assert totals(invoices) == {"subtotal": "900", "discount": "-450", "commitment": "-90", "untaxed": "360",
                                "tax": "72", "total": "432", "due": "432"}  # fmt: skip


def test_fees_and_adjustments_do_not_count():
    invoices = assemble(
        [usage("100")],
        recurring=[{"recurring_id": "r", "account_id": PAYER, "sku_id": "vm", "amount": "500"}],
        adjustments=[{"adjustment_id": "n", "account_id": PAYER, "period": "2026-10", "amount": "500", "reason": "x",
                      "author": "Ada"}],
        commitments=[commitment(900, 10)],
    )  # fmt: skip
    entry = invoices.commitments.row(0, named=True)
    assert (entry["eligible_amount"], entry["shortfall_amount"]) == (100, 800)
    kinds = dict(zip(invoices.lines["line_kind"], column(invoices.lines, "commitment_amount"), strict=True))
    assert kinds == {"usage": "-10", "recurring": "0", "adjustment": "0", "commitment": "-80"}


SCOPES = [  # (scope, eligible of 100 vm, 200 gpu at the lab, 400 disk)
    ({}, "700"), ({"category": "Compute"}, "300"), ({"service": "Disks"}, "400"), ({"sku_ids": "gpu disk"}, "600"),
    ({"excludes": "disk"}, "300"), ({"region": "eu"}, "100"), ({"project_id": "web"}, "200"), ({"region": "us"}, "0"),
]  # fmt: skip


@pytest.mark.parametrize(("scope", "eligible"), SCOPES)
def test_usage_of_everyone_it_pays_for_counts_where_the_scope_says_so(scope, eligible):
    charges = [usage("100", region="eu"), usage("200", "gpu", account=MEMBER, project="web"), usage("400", "disk")]
    invoices = assemble(charges, commitments=[commitment(1000, **scope)])
    assert column(invoices.commitments, "eligible_amount") == [eligible]


def test_commitments_of_different_scopes_stand_side_by_side():
    invoices = assemble(
        [usage("100"), usage("50", "disk")],
        commitments=[commitment(80, 10, "a", sku_ids="vm"), commitment(90, 10, "b", service="Disks")],
    )
    ledger = invoices.commitments.select("commitment_id", "eligible_amount", "shortfall_amount", "discount_amount")
    assert [tuple(map(str, row)) for row in ledger.rows()] == [
        ("a", "100.0000", "0.0000", "-8.0000"),
        ("b", "50.0000", "40.0000", "-9.0000"),
    ]
    assert column(invoices.deductions, "deduction_number") == [1, 2, 2]


DAYS = [  # (zone, valid from, valid to, days, committed of 310, first and last day, why)
    ("UTC", None, None, 31, "310", "01-31", "the whole month"),
    ("UTC", day(16), None, 16, "160", "16-31", "from the 16th on"),
    ("UTC", None, day(16), 15, "150", "01-15", "until the 16th, exclusive"),
    ("UTC", day(10), day(11), 1, "10", "10-10", "a day"),
    ("UTC", day(10, hour=12), None, 22, "220", "10-31", "at noon the day still counts"),
    ("UTC", day(10, hour=13), None, 21, "210", "11-31", "after noon it does not"),
    ("UTC", None, day(10, hour=12), 9, "90", "01-09", "ended by noon"),
    ("UTC", None, day(10, hour=13), 10, "100", "01-10", "valid at noon"),
    ("America/New_York", day(16), None, 16, "160", "16-31", "midnight in UTC is the evening of the 15th in New York"),
    ("Pacific/Auckland", day(16), None, 15, "150", "17-31", "midnight in UTC is 13:00 of the 16th in Auckland"),
    ("Asia/Tokyo", day(16), None, 16, "160", "16-31", "midnight in UTC is 09:00 of the 16th in Tokyo"),
]  # fmt: skip


@pytest.mark.parametrize("case", DAYS)
def test_a_part_of_a_month_is_committed_to_in_part(case):
    zone, valid_from, valid_to, days, committed, stretch, why = case
    invoices = assemble([], zone=zone, commitments=[commitment(310, valid_from=valid_from, valid_to=valid_to)])
    entry, line = invoices.commitments.row(0, named=True), invoices.lines.row(0, named=True)
    assert (entry["days"], entry["days_in_month"], plain(entry["committed_amount"])) == (days, 31, committed), why
    assert f"{line['first_day']:%d}-{line['last_day']:%d}" == stretch, why


PRORATED = [  # (currency, amount, days, committed, why)
    ("EUR", "100", 10, "32.26", "32.258"), ("JPY", "100", 10, "32", "32.26"), ("KWD", "100", 10, "32.258", "32.2581"),
    ("JPY", "31", 1, "1", "exactly"), ("EUR", "0.31", 15, "0.15", "exactly"), ("JPY", "15", 1, "0", "0.48"),
]  # fmt: skip


@pytest.mark.parametrize(("currency", "amount", "days", "committed", "why"), PRORATED)
def test_a_part_is_rounded_to_the_minor_unit(currency, amount, days, committed, why):
    row = commitment(amount, currency=currency, valid_to=day(1 + days))
    invoices = assemble([], currency=currency, commitments=[row])
    assert column(invoices.commitments, "committed_amount") == ([committed] if committed != "0" else []), why


def test_outside_its_time_a_commitment_does_nothing():
    rows = [commitment(900, name="past", valid_to=day(1)), commitment(900, name="next", valid_from=day(1, NOVEMBER))]
    invoices = assemble([usage("1")], commitments=rows)
    assert invoices.commitments.height == 0
    assert totals(invoices, "untaxed") == {"untaxed": "1"}


def test_a_commitment_that_ends_and_one_that_begins_share_the_month():
    rows = [commitment(310, 10, "old", valid_to=day(11)), commitment(620, 20, "new", valid_from=day(11))]
    invoices = assemble([usage("300")], commitments=rows)
    ledger = invoices.commitments.select("commitment_id", "days", "committed_amount", "shortfall_amount")
    assert [(name, days, plain(amount), plain(missing)) for name, days, amount, missing in ledger.rows()] == [
        ("new", 21, "420", "120"),
        ("old", 10, "100", "0"),
    ], "both count the month's usage: the book refuses overlaps, not neighbours"
    assert totals(invoices, "commitment") == {"commitment": "-94"}


def test_the_examples_of_the_docs_hold():
    page = (Path(__file__).parents[2] / "docs" / "how-we-bill.md").read_text(encoding="utf-8")
    section = page.split("\n## Commitments\n")[1].split("\n## ")[0]
    examples = re.findall(r"^\| (\d.*) \| (\d+) \| (\d+) % \| (\d+) \| .* = ([\d.]+) \|$", section, re.MULTILINE)
    for used, committed, percent, missing, billed in examples:
        charges = [usage(cost, line=number) for number, cost in enumerate(used.split(" + "))]
        invoices = assemble(charges, commitments=[commitment(committed, percent)])
        assert column(invoices.commitments, "shortfall_amount") == [missing]
        assert Decimal(totals(invoices, "untaxed")["untaxed"]) == Decimal(billed)
    assert len(examples) == 3
