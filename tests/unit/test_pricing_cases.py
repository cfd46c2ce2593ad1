"""What other billing systems' public tests say, asked of the reference."""

from decimal import Decimal

import pytest

from oracles.cases import CASES, RAW
from reference.rating import rate_month

USAGE_KINDS = ("usage", "cap", "minimum")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.case_id)
def test_reference_agrees(case):
    for period, expected in case.expected.items():
        bill = rate_month(case.world(period))
        by_price = {}
        for charge in bill.charges:
            if charge.charge_kind in USAGE_KINDS:
                by_price[charge.price_id] = by_price.get(charge.price_id, Decimal(0)) + charge.cost
        assert not bill.unpriced
        if expected.cost is not None:
            assert sum(by_price.values()) == expected.cost, case.why
        if expected.cost_by_price is not None:
            assert {price: by_price.get(price, 0) for price in expected.cost_by_price} == expected.cost_by_price
        if expected.quantity is not None:
            assert sum(record.quantity for record in bill.accepted) == expected.quantity
        if expected.lines is not None:
            assert tuple(line.amount for line in bill.lines) == expected.lines, case.why
        before = case.billed_world(period)
        former = rate_month(before).invoices if before else ()
        for name in ("untaxed", "tax", "total"):
            if getattr(expected, name) is not None:
                now, then = (sum(getattr(row, f"{name}_amount") for row in rows) for rows in (bill.invoices, former))
                assert now - then == getattr(expected, name), case.why


def test_every_case_is_asked():
    known = [raw["id"] for raw in RAW]
    assert len(known) == len(set(known)) == 48
    assert [case.case_id for case in CASES] == known


def test_every_case_expects_something():
    for case in CASES:
        for expected in case.expected.values():
            assert any(value is not None for value in vars(expected).values()), case.case_id
