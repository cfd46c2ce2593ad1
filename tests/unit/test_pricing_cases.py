"""What other billing systems' public tests say, asked of the reference.

Not asked yet: the cases of ``oracles.cases.LATER``, each with the rule it waits for.
"""

from decimal import Decimal

import pytest

from oracles.cases import CASES, LATER, RAW
from reference.rating import rate_month


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.case_id)
def test_reference_agrees(case):
    for period, expected in case.expected.items():
        bill = rate_month(case.world(period))
        costs = [charge for charge in bill.charges if charge.charge_kind != "rounding"]
        by_price = {}
        for charge in costs:
            by_price[charge.price_id] = by_price.get(charge.price_id, Decimal(0)) + charge.cost
        assert not bill.unpriced
        if expected.cost is not None:
            assert sum(by_price.values()) == expected.cost, case.why
        if expected.cost_by_price is not None:
            assert {price: by_price.get(price, 0) for price in expected.cost_by_price} == expected.cost_by_price
        if expected.quantity is not None:
            assert sum(record.quantity for record in bill.accepted) == expected.quantity
        if expected.untaxed is not None:
            assert [invoice.untaxed_amount for invoice in bill.invoices] == [expected.untaxed]


def test_every_case_is_asked_or_says_what_it_waits_for():
    known = [raw["id"] for raw in RAW]
    assert len(known) == len(set(known)) == 48
    assert sorted([case.case_id for case in CASES] + list(LATER)) == sorted(known)
    assert all("part" in reason for reason in LATER.values())


def test_every_case_expects_something():
    for case in CASES:
        for expected in case.expected.values():
            assert any(value is not None for value in vars(expected).values()), case.case_id
