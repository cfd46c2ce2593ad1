"""Credits: which are used, in which order, how far, and what is left of them."""

import pytest

from assembled import MEMBER, PAYER, assemble, column, day, plain, totals, usage


def credit(name, amount, kind="promotional", **more):
    return {"credit_id": name, "account_id": PAYER, "amount": str(amount), "currency": "EUR", "kind": kind,
            "granted_on": day(1, month=1)} | more  # fmt: skip


def prepaid(name, amount, **more):
    return credit(name, amount, "prepaid", **more)


def used(invoices):
    """credit_id → amount used."""
    return dict(zip(invoices.credits["credit_id"], column(invoices.credits, "amount"), strict=True))


ORDER = [  # (credits, used of a bill of 100 before tax, why)
    ([credit("a", 30)], {"a": "30"}, "all of it"),
    ([credit("a", 130)], {"a": "100"}, "as far as the bill goes"),
    ([credit("a", 80), credit("b", 80)], {"a": "80", "b": "20"}, "by id"),
    ([credit("a", 80), credit("b", 80, expires_on=day(1, month=12))], {"b": "80", "a": "20"}, "what expires comes first"),
    ([credit("a", 80, expires_on=day(2, month=12)), credit("b", 80, expires_on=day(1, month=12))],
     {"b": "80", "a": "20"}, "the sooner the earlier"),
    ([credit("a", 60), credit("b", 60), credit("c", 60)], {"a": "60", "b": "40"}, "nothing is left for the third"),
    ([credit("a", "0.01")], {"a": "0.01"}, "a cent"),
]  # fmt: skip


@pytest.mark.parametrize(("credits_", "expected", "why"), ORDER)
def test_what_expires_soonest_is_used_first(credits_, expected, why):
    invoices = assemble([usage("100")], credits=credits_)
    assert used(invoices) == expected, why


SOON = {"expires_on": day(1, month=12)}
PREPAID_ORDER = [  # (credits, used of a bill of 120 with tax, due, why)
    ([prepaid("a", 30)], {"a": "30"}, "90", "all of it"),
    ([prepaid("a", 130)], {"a": "120"}, "0", "as far as the bill goes"),
    ([prepaid("a", 80), prepaid("b", 80)], {"a": "80", "b": "40"}, "0", "by id"),
    ([prepaid("a", 80), prepaid("b", 80, **SOON)], {"a": "40", "b": "80"}, "0", "what expires comes first"),
    ([prepaid("a", 60), prepaid("b", 60), prepaid("c", 60)], {"a": "60", "b": "60"}, "0", "nothing is left to pay"),
    ([prepaid("a", "0.01"), prepaid("b", "0.01")], {"a": "0.01", "b": "0.01"}, "119.98", "a cent each"),
]  # fmt: skip


@pytest.mark.parametrize(("credits_", "expected", "due", "why"), PREPAID_ORDER)
def test_prepaid_credits_pay_what_is_due_in_the_same_order(credits_, expected, due, why):
    invoices = assemble([usage("100")], credits=credits_)
    assert used(invoices) == expected, why
    assert totals(invoices, "due") == {"due": due}, why


USABLE = [  # (zone, granted on, expires on, usable, why)
    ("UTC", day(31), None, True, "granted in the month"),
    ("UTC", day(31, hour=23), None, True, "at the last hour"),
    ("UTC", day(1, month=11), None, False, "next month"),
    ("UTC", day(1), day(1, month=11), True, "expires as the next month begins"),
    ("UTC", day(1), day(31), False, "expired before the month ended"),
    ("America/New_York", day(1), day(1, month=11), False, "four hours before October ends there"),
    ("America/New_York", day(1), day(1, month=11, zone="America/New_York"), True, "midnight there"),
    ("America/New_York", day(1, month=11), None, True, "October is not over there"),
]


@pytest.mark.parametrize("kind", ["promotional", "prepaid"])
@pytest.mark.parametrize("case", USABLE)
def test_a_credit_is_usable_if_it_is_valid_at_the_last_instant_of_the_local_month(kind, case):
    zone, granted, expires, usable, why = case
    rows = [credit("a", 10, kind, granted_on=granted, expires_on=expires)]
    invoices = assemble([usage("100")], zone=zone, credits=rows)
    assert used(invoices) == ({"a": "10"} if usable else {}), why


def test_promotional_credits_lower_what_is_taxed_and_prepaid_ones_pay_the_rest():
    invoices = assemble([usage("100")], credits=[credit("gift", 30), prepaid("wallet", 50)])
    assert totals(invoices) == {
        "subtotal": "100", "credit": "-30", "untaxed": "70", "tax": "14", "total": "84", "prepaid": "-50", "due": "34",
    }  # fmt: skip
    ledger = invoices.credits.select("credit_id", "kind", "balance_before", "amount", "balance_after")
    assert [(name, kind, *map(plain, money)) for name, kind, *money in ledger.rows()] == [
        ("gift", "promotional", "30", "30", "0"),
        ("wallet", "prepaid", "50", "50", "0"),
    ]


def test_the_rest_of_a_balance_carries_over():
    rows = [credit("gift", 130), prepaid("wallet", 40)]
    first = assemble([usage("100")], credits=rows)
    assert used(first) == {"gift": "100"}, "nothing is due, so the wallet stays closed"
    second = assemble([usage("100")], credits=rows, drawn=used(first))
    assert [plain(x) for x in second.credits.row(0)[4:7]] == ["30", "30", "0"]
    assert used(second) == {"gift": "30", "wallet": "40"}
    third = assemble([usage("100")], credits=rows, drawn={"gift": "130", "wallet": "40"})
    assert (used(third), totals(third, "due")) == ({}, {"due": "120"})


def test_a_credit_that_was_lowered_in_the_book_below_what_was_used_is_empty():
    invoices = assemble([usage("100")], credits=[credit("gift", 50)], drawn={"gift": "60"})
    assert used(invoices) == {}


SCOPES = [  # (scope, used of 1000 on 10 vm at the lab, 20 disk in a project, a fee of 40, why)
    ({}, "70", "everything"),
    ({"service": "Disks"}, "20", "disks"),
    ({"project_id": "web"}, "20", "the project"),
    ({"category": "Compute"}, "10", "machines; the fee is for no SKU"),
    ({"excludes": "vm"}, "60", "all but machines, and so the fee"),
    ({"region": "eu"}, None, "no line"),
]


@pytest.mark.parametrize(("scope", "expected", "why"), SCOPES)
def test_a_promotional_credit_pays_the_lines_in_its_scope(scope, expected, why):
    invoices = assemble(
        [usage("10", account=MEMBER), usage("20", "disk", project="web")],
        recurring=[{"recurring_id": "r", "account_id": PAYER, "description": "Support", "amount": "40"}],
        credits=[credit("gift", 1000, **scope)],
    )
    assert used(invoices) == ({"gift": expected} if expected else {}), why


UNTAXED = [  # (adjustment, used of 1000, untaxed, why)
    ("-30", "70", "0", "lines of 100, but only 70 are to be paid"),
    ("-100", None, "0", "nothing is to be paid"),
    ("-130", None, "-30", "money is given back"),
    ("50", "150", "0", "an adjustment upwards can be paid by credit"),
]


@pytest.mark.parametrize(("adjustment", "expected", "untaxed", "why"), UNTAXED)
def test_promotional_credits_never_make_an_invoice_negative(adjustment, expected, untaxed, why):
    row = {"adjustment_id": "n", "account_id": PAYER, "period": "2026-10", "amount": adjustment, "reason": "Outage",
           "author": "Ada"}  # fmt: skip
    invoices = assemble([usage("60"), usage("40", "disk")], adjustments=[row], credits=[credit("gift", 1000)])
    assert used(invoices) == ({"gift": expected} if expected else {}), why
    assert totals(invoices, "untaxed") == {"untaxed": untaxed}, why


def test_prepaid_credits_do_not_pay_credit_notes():
    row = {"adjustment_id": "n", "account_id": PAYER, "period": "2026-10", "amount": "-130", "reason": "Outage",
           "author": "Ada"}  # fmt: skip
    invoices = assemble([usage("100")], adjustments=[row], credits=[prepaid("wallet", 50)])
    assert (used(invoices), totals(invoices, "total", "due")) == ({}, {"total": "-36", "due": "-36"})


def test_credits_come_after_discounts_and_commitments():
    invoices = assemble(
        [usage("500")],
        discounts=[{"discount_id": "d", "percent": "10"}],
        commitments=[{"commitment_id": "c", "account_id": PAYER, "amount": "900", "discount_percent": "10",
                      "currency": "EUR"}],
        credits=[credit("gift", 1000)],
    )  # fmt: skip
    assert totals(invoices) == {"subtotal": "900", "discount": "-50", "commitment": "-90", "credit": "-760"}
    assert column(invoices.deductions.unique("deduction_number", keep="first").sort("deduction_number"), "kind") == [
        "discount", "commitment", "credit"
    ]  # fmt: skip


EXPONENTS = [("JPY", "105", "10", "95", "19", "114"), ("EUR", "1.05", "0.1", "0.95", "0.19", "1.14"),
             ("KWD", "0.105", "0.01", "0.095", "0.019", "0.114")]  # fmt: skip


@pytest.mark.parametrize("case", EXPONENTS)
def test_credits_in_every_kind_of_currency(case):
    currency, line, gift, untaxed, tax, due = case
    rows = [credit("gift", gift, currency=currency), prepaid("euros", 5, currency="USD")]
    invoices = assemble([usage(line, currency=currency)], currency=currency, credits=rows)
    assert totals(invoices, "untaxed", "tax", "due") == {"untaxed": untaxed, "tax": tax, "due": due}
    assert used(invoices) == {"gift": gift}, "a credit in another currency pays nothing here"


def test_a_payer_without_an_invoice_keeps_its_credit():
    invoices = assemble([], credits=[credit("gift", 10), prepaid("wallet", 10)])
    assert (invoices.invoices.height, invoices.credits.height) == (0, 0)


def test_a_credit_is_spread_over_the_lines_it_pays():
    invoices = assemble([usage("100"), usage("200", "disk"), usage("-50", "gpu")], credits=[credit("gift", 10)])
    by_sku = dict(zip(invoices.lines["sku_id"], column(invoices.lines, "credit_amount"), strict=True))
    assert by_sku == {"vm": "-3.33", "disk": "-6.67", "gpu": "0"}
    charges = invoices.charges.filter(invoices.charges["charge_kind"] == "credit")
    assert sorted(column(charges, "cost")) == ["-3.33", "-6.67"]
    assert charges["source_id"].unique().to_list() == ["gift"]
