"""Discounts: what they take off which line, computed by hand."""

import re
from pathlib import Path

import polars as pl
import pytest

from assembled import MEMBER, PAYER, assemble, column, day, totals, usage
from ratemill.invoicing.deductions import in_turns


def percent(number, name="a", **more):
    return {"discount_id": name, "percent": str(number), **more}


def amount(number, name="z", currency="EUR", **more):
    return {"discount_id": name, "amount": str(number), "currency": currency, **more}


CASES = [  # (lines, discounts, what each line has taken off, why)
    (["100"], [percent(10)], ["-10"], "a tenth"),
    (["100"], [percent(10), percent(20, "b")], ["-28"], "compound: 10, then 20 % of the 90 that are left"),
    (["100"], [percent(10), percent(20, "b", mode="additive")], ["-30"], "additive: 10, then 20 % of the first 100"),
    (["100"], [percent(10, mode="additive"), percent(20, "b")], ["-28"], "who comes first changes nothing for itself"),
    (["100"], [percent(60), percent(60, "b", mode="additive")], ["-100"], "60, and of another 60 the 40 that are left"),
    (["100"], [percent(100), percent(100, "b")], ["-100"], "nothing is left for the second"),
    (["100"], [percent(50, "a", priority=2), percent(10, "b", priority=1, mode="additive")], ["-55"],
     "smaller priorities first: 10, then half of 90"),
    (["100"], [percent(10, "a", priority=2, mode="additive"), percent(50, "b", priority=1)], ["-60"],
     "50, then 10 of the first 100"),
    (["100"], [amount(30, "a", priority=1), percent(10, "b", priority=2)], ["-40"],
     "percents before amounts, whatever the priority: 10, then 30; the other way round it were 37"),
    (["100"], [amount("130")], ["-100"], "an amount takes what there is"),
    (["60", "40"], [amount(60), amount(60, "zz")], ["-60", "-40"], "60, then the 40 that are left"),
    (["100", "50"], [amount(30)], ["-20", "-10"], "pro rata"),
    (["0.05", "0.05", "0.05"], [percent(10)], ["-0.01", "-0.01", "0"],
     "0.015 is 0.02 in all; 0.0067 each, so two cents go to the first two lines"),
    (["68.33", "68.33", "57.50", "85.00"], [percent(5)], ["-3.42", "-3.42", "-2.87", "-4.25"],
     "13.958 is 13.96; 3.4165, 3.4165, 2.875, 4.25: cut 13.94, two cents to the largest remainders .65 and .65"),
    (["10", "-4"], [percent(50)], ["-5", "0"], "nothing off a line below zero"),
    (["0"], [percent(50)], ["0"], "nothing off nothing"),
    (["0.03"], [percent(10)], ["0"], "0.003 is nothing"),
    (["100"], [percent("0.000000000001")], ["0"], "a percent has twelve decimals"),
    (["100"], [percent("33.333333333333")], ["-33.33"], "a third"),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "discounts", "expected", "why"), CASES)
def test_discounts_take_off_what_was_computed_by_hand(lines, discounts, expected, why):
    charges = [usage(cost, line=number) for number, cost in enumerate(lines)]
    invoices = assemble(charges, discounts=discounts)
    assert column(invoices.lines, "discount_amount") == expected, why


@pytest.mark.parametrize("mode", ["compound", "additive"])
def test_an_amount_takes_what_is_left_wherever_it_is_left(mode):
    discounts = [percent(50, sku_ids="vm"), amount(90, mode=mode)]
    invoices = assemble([usage("100"), usage("100", "gpu")], discounts=discounts)
    by_sku = dict(zip(invoices.lines["sku_id"], column(invoices.lines, "discount_amount"), strict=True))
    assert by_sku == {"vm": "-80", "gpu": "-60"}, "90 over the 50 and 100 that are left"


EXPONENTS = [  # (currency, line, percent, taken off, net)
    ("JPY", "105", "10", "-11", "94"),
    ("EUR", "1.05", "10", "-0.11", "0.94"),
    ("KWD", "0.105", "10", "-0.011", "0.094"),
    ("CLF", "0.0105", "10", "-0.0011", "0.0094"),
    ("JPY", "104", "10", "-10", "94"),
]


@pytest.mark.parametrize(("currency", "line", "rate", "taken", "net"), EXPONENTS)
def test_a_discount_is_rounded_half_up_to_the_minor_unit_of_the_currency(currency, line, rate, taken, net):
    invoices = assemble([usage(line, currency=currency)], currency=currency, discounts=[percent(rate)])
    assert column(invoices.lines, "discount_amount") == [taken]
    assert column(invoices.lines, "net_amount") == [net]


SCOPES = [  # (scope, which of four lines are discounted)
    ({}, ["vm", "gpu", "disk", "book"]),
    ({"category": "Compute"}, ["vm", "gpu"]),
    ({"service": "Disks"}, ["disk"]),
    ({"sku_ids": "vm disk"}, ["vm", "disk"]),
    ({"sku_ids": "  vm   disk "}, ["vm", "disk"]),
    ({"excludes": "vm book"}, ["gpu", "disk"]),
    ({"category": "Compute", "excludes": "gpu"}, ["vm"]),
    ({"category": "Compute", "sku_ids": "gpu disk"}, ["gpu"]),
    ({"project_id": "web"}, ["vm"]),
    ({"region": "eu"}, ["vm", "disk"]),
    ({"region": "eu", "project_id": "web", "category": "Compute"}, ["vm"]),
    ({"category": "Databases"}, []),
]


@pytest.mark.parametrize(("scope", "expected"), SCOPES)
def test_everything_a_scope_names_must_hold(scope, expected):
    charges = [usage("10", "vm", project="web", region="eu"), usage("10", "gpu"), usage("10", "disk", region="eu"),
               usage("10", "book")]  # fmt: skip
    invoices = assemble(charges, discounts=[percent(10, **scope)])
    discounted = invoices.lines.filter(invoices.lines["discount_amount"] < 0)["sku_id"].to_list()
    assert sorted(discounted) == sorted(expected)


ACCOUNTS = [  # (discount's account, discounted accounts)
    (None, [PAYER, MEMBER]),
    (PAYER, [PAYER, MEMBER]),
    (MEMBER, [MEMBER]),
]


@pytest.mark.parametrize(("account", "expected"), ACCOUNTS)
def test_a_discount_is_for_its_account_and_whoever_it_pays_for(account, expected):
    charges = [usage("10"), usage("20", account=MEMBER)]
    invoices = assemble(charges, discounts=[percent(10, account_id=account)])
    assert invoices.lines.filter(invoices.lines["discount_amount"] < 0)["account_id"].to_list() == expected


def test_discounts_of_single_accounts_and_of_everybody_keep_their_order():
    """acme and its lab use 100 each: 10 off the lab leave 90; half of 190 leaves 50 and 45; a fifth off the lab, 9,
    leaves 36; a tenth of 86 is 8.60, 5 of it acme's; then the lab's voucher of 2.40."""
    discounts = [percent(10, "a", priority=1, account_id=MEMBER), percent(50, "b", priority=2),
                 percent(20, "c", priority=3, account_id=MEMBER), percent(10, "d", priority=4, account_id=PAYER),
                 amount("2.40", account_id=MEMBER)]  # fmt: skip
    invoices = assemble([usage("100"), usage("100", account=MEMBER)], discounts=discounts)
    taken = invoices.deductions.select("deduction_number", "source_id", "line_number").rows()
    assert taken == [(1, "a", 2), (2, "b", 1), (2, "b", 2), (3, "c", 2), (4, "d", 1), (4, "d", 2), (5, "z", 2)]
    assert column(invoices.deductions, "amount") == ["-10", "-50", "-45", "-9", "-5", "-3.6", "-2.4"]
    assert column(invoices.lines, "net_amount") == ["45", "30"]


def test_discounts_that_share_no_line_are_taken_together():
    """Otherwise the time for a payer with many accounts would grow with the square of their number."""
    accounts = [f"member-{number}" for number in range(100)]
    rows = [("one", account, f"{turn}-{account}") for turn in "ab" for account in accounts]
    rows += [("one", None, "c"), ("one", "member-1", "d"), ("two", None, "a"), ("two", None, "b")]
    schema = ["invoice_id", "only_account", "deduction_id"]
    turns = in_turns(pl.DataFrame(rows, schema=schema, orient="row"), "deduction_id")
    assert [(turn.height, turn["deduction_id"][-1]) for turn in turns] == [
        (101, "a"), (101, "b"), (1, "c"), (1, "d"),
    ]  # fmt: skip


def test_another_payers_discount_is_none_of_ours():
    accounts = [
        {"account_id": name, "name": name, "country": "FR", "currency": "EUR"} for name in (PAYER, "rival")
    ]  # fmt: skip
    charges = [usage("10"), usage("10", payer="rival", account="rival")]
    invoices = assemble(charges, accounts=accounts, discounts=[percent(10, account_id="rival")])
    assert column(invoices.invoices.sort("billing_account_id"), "discount_amount") == ["0", "-1"]


def test_an_amount_is_taken_off_each_invoice_in_its_currency():
    accounts = [
        {"account_id": name, "name": name, "country": "FR", "currency": currency}
        for name, currency in ((PAYER, "EUR"), ("rival", "EUR"), ("yen", "JPY"))
    ]
    charges = [usage("10"), usage("3", payer="rival", account="rival"),
               usage("900", payer="yen", account="yen", currency="JPY")]  # fmt: skip
    invoices = assemble(charges, accounts=accounts, discounts=[amount(5), amount(100, "y", "JPY")])
    assert dict(zip(invoices.invoices["billing_account_id"], column(invoices.invoices, "discount_amount"), strict=True)
                ) == {PAYER: "-5", "rival": "-3", "yen": "-100"}  # fmt: skip


def test_fees_are_discounted_adjustments_and_shortfalls_are_not():
    invoices = assemble(
        [usage("10")],
        discounts=[percent(50)],
        recurring=[{"recurring_id": "support", "account_id": PAYER, "description": "Support", "amount": "20"}],
        adjustments=[{"adjustment_id": "n1", "account_id": PAYER, "period": "2026-10", "amount": "40", "reason": "late",
                      "author": "Ada"}],
        commitments=[{"commitment_id": "c", "account_id": PAYER, "amount": "90", "currency": "EUR"}],
    )  # fmt: skip
    taken = dict(zip(invoices.lines["line_kind"], column(invoices.lines, "discount_amount"), strict=True))
    assert taken == {"usage": "-5", "recurring": "-10", "adjustment": "0", "commitment": "0"}


VALIDITY = [  # (valid from, valid to, off 30 used on the 5th and 70 used on the 20th, at 10 %)
    (None, None, "-10"),
    (day(10), None, "-7"),
    (None, day(10), "-3"),
    (day(5), day(6), "-3"),
    (day(6), day(20), "0"),
    (day(20), day(21), "-7"),
    (day(5, hour=12), day(5, hour=13), "-3"),
    (day(5, hour=13), day(20, hour=12), "0"),
    (day(1), day(1, month=11), "-10"),
    (day(1, month=11), None, "0"),
    (None, day(1), "0"),
    (day(1, month=9), day(10), "-3"),
    (day(10), day(1, month=12), "-7"),
]


@pytest.mark.parametrize(("valid_from", "valid_to", "expected"), VALIDITY)
def test_a_discount_is_on_what_was_used_while_it_was_valid(valid_from, valid_to, expected):
    charges = [usage("30", day=5), usage("70", day=20)]
    invoices = assemble(charges, discounts=[percent(10, valid_from=valid_from, valid_to=valid_to)])
    assert column(invoices.lines, "discount_amount") == [expected]


def test_what_is_left_of_a_line_is_parted_like_its_cost():
    charges = [usage("30", day=5), usage("70", day=20)]
    first = percent(50, "a")
    invoices = assemble(charges, discounts=[first, percent(10, "b", valid_from=day(10))])
    assert column(invoices.deductions, "amount") == ["-50", "-3.5"], "10 % of 70 % of the 50 that are left"
    invoices = assemble(charges, discounts=[first, percent(10, "b", valid_from=day(10), mode="additive")])
    assert column(invoices.deductions, "amount") == ["-50", "-7"], "10 % of the first 70"
    invoices = assemble(charges, discounts=[first, amount(40, valid_from=day(10))])
    assert column(invoices.deductions, "amount") == ["-50", "-35"], "70 % of the 50 that are left are less than 40"


def test_the_part_is_that_of_the_exact_cost_rounded_half_up():
    # 1/3 of 10.01 is 3.33666…: 3.34, and all of that.
    charges = [usage("3.336666666666666667", day=5), usage("6.673333333333333333", day=20)]
    invoices = assemble(charges, discounts=[percent(100, valid_to=day(10))])
    assert column(invoices.lines, "discount_amount") == ["-3.34"]
    # An exact half: 2.5 % of 1.00 is 0.025.
    charges = [usage("0.025", day=5), usage("0.975", day=20)]
    invoices = assemble(charges, discounts=[percent(100, valid_to=day(10))])
    assert column(invoices.lines, "discount_amount") == ["-0.03"]


def test_a_part_is_never_more_than_the_line_nor_less_than_nothing():
    # A volume price may make a later day negative: 120 until the 10th, less 20 after it.
    charges = [usage("120", day=5), usage("-20", day=20)]
    until = assemble(charges, discounts=[percent(10, valid_to=day(10))])
    after = assemble(charges, discounts=[percent(10, valid_from=day(10))])
    assert (column(until.lines, "discount_amount"), column(after.lines, "discount_amount")) == (["-10"], ["0"])


FEE_VALIDITY = [  # (zone, valid from, valid to, off a fee of 100 at 10 %, why)
    ("UTC", None, day(1, month=11), "-10", "valid at the last instant of October"),
    ("UTC", None, day(31, hour=23), "0", "no longer valid then"),
    ("UTC", day(31, hour=23), None, "-10", "just valid then"),
    ("UTC", day(1, month=11), None, "0", "not yet"),
    ("America/New_York", None, day(1, month=11), "0", "in New York October ends four hours later"),
    ("America/New_York", None, day(1, month=11, zone="America/New_York"), "-10", "midnight there"),
    ("Asia/Tokyo", day(31, hour=16), None, "0", "in Tokyo October has ended by then"),
]


@pytest.mark.parametrize(("zone", "valid_from", "valid_to", "expected", "why"), FEE_VALIDITY)
def test_a_discount_of_a_fee_is_judged_at_the_end_of_the_local_month(zone, valid_from, valid_to, expected, why):
    fee = {"recurring_id": "support", "account_id": PAYER, "description": "Support", "amount": "100"}
    invoices = assemble(
        [], zone=zone, recurring=[fee], discounts=[percent(10, valid_from=valid_from, valid_to=valid_to)]
    )
    assert column(invoices.lines, "discount_amount") == [expected], why


def test_deductions_are_numbered_in_the_order_they_were_taken_and_say_what_they_are():
    discounts = [percent(10, "a", note="Loyalty"), percent(50, "b", note="Spring", sku_ids="gpu"),
                 percent(5, "c", note="Elsewhere", sku_ids="book"), amount(1, note="Voucher")]  # fmt: skip
    invoices = assemble([usage("10"), usage("20", "gpu")], discounts=discounts)
    rows = invoices.deductions.select("deduction_number", "line_number", "kind", "source_id", "description").rows()
    assert rows == [
        (1, 1, "discount", "a", "Loyalty"), (1, 2, "discount", "a", "Loyalty"),
        (2, 1, "discount", "b", "Spring"),
        (3, 1, "discount", "z", "Voucher"), (3, 2, "discount", "z", "Voucher"),
    ]  # fmt: skip
    assert column(invoices.deductions, "percent") == ["10", "10", "50", None, None]
    assert column(invoices.deductions, "amount") == ["-2", "-1", "-9", "-0.5", "-0.5"]
    assert totals(invoices, "subtotal", "discount", "untaxed") == {
        "subtotal": "30", "discount": "-13", "untaxed": "17"
    }  # fmt: skip


def test_discounts_become_charges_of_their_line():
    invoices = assemble([usage("10", account=MEMBER, project="web", region="eu")], discounts=[percent(25, "spring")])
    charge = invoices.charges.row(0, named=True)
    assert {name: charge[name] for name in ("charge_kind", "source_id", "account_id", "project_id", "sku_id", "region",
                                            "price_id", "invoice_id")} == {
        "charge_kind": "discount", "source_id": "spring", "account_id": MEMBER, "project_id": "web", "sku_id": "vm",
        "region": "eu", "price_id": "price-1", "invoice_id": "2026-10-acme-EUR",
    }  # fmt: skip
    assert (charge["cost"], charge["list_cost"], charge["contracted_cost"]) == (-2.5, 0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_charges_and_of_the_book_changes_nothing(seed):
    charges = [usage(f"{number * 7 % 11}.{number:02}", day=1 + number % 28, line=number % 9) for number in range(40)]
    discounts = [percent(7, "a"), percent(9, "b", mode="additive", valid_from=day(9)), amount("3.33"),
                 percent(1, "c", priority=1)]  # fmt: skip
    expected = assemble(charges, discounts=discounts)
    shuffled = assemble(charges[seed::3] + charges[:seed] + [c for i, c in enumerate(charges[seed:]) if i % 3],
                        discounts=discounts[::-1])  # fmt: skip
    for (table, frame), (_, other) in zip(expected.frames(), shuffled.frames(), strict=True):
        assert frame.equals(other), table.name
    assert expected.charges.equals(shuffled.charges)


def test_the_examples_of_the_docs_hold():
    page = (Path(__file__).parents[2] / "docs" / "how-we-bill.md").read_text(encoding="utf-8")
    section = page.split("\n## Discounts\n")[1].split("\n## ")[0]
    examples = re.findall(r"^\| ((?:\d|an amount).*) \| ([\d.]+) \|$", section, re.MULTILINE)
    for text, off in examples:
        discounts = [
            percent(part[1], f"a{number}", mode="additive" if part[2] else "compound")
            for number, part in enumerate(re.finditer(r"(\d+) %( additive)?", text))
        ]
        discounts += [amount(number) for number in re.findall(r"amount of (\d+)", text)]
        assert column(assemble([usage("100")], discounts=discounts).lines, "discount_amount") == [f"-{off}"], text
    assert len(examples) == 6
