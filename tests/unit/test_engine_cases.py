"""Worked examples and other billing systems' cases, asked of the engine.

The reference answers the same in test_reference.py and test_pricing_cases.py. Here the whole of each table is billed at
once, side by side, by :func:`engine.bill_each`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from engine import RATED_KINDS, EngineBill, bill_each
from oracles.cases import CASES
from ratemill.errors import DataRefusedError, ExitCode
from reference.model import (
    Account,
    Book,
    Commitment,
    FxRate,
    PriceTier,
    Project,
    Sku,
    Tax,
    Usage,
    Window,
    World,
    midnight,
)
from workspaces import run_here
from worlds import write_world

D = Decimal
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
CHANGE = midnight(date(2026, 10, 8))
NO_TAX = Tax(tax_code="none", country="US", rate=D(0), kind="outside_scope")


@dataclass(frozen=True)
class Example:
    """A world, and what its bill must say: only what is given is asked."""

    number: int
    """Of the example in "How we bill"; 0: one of our own."""
    why: str
    world: World
    costs: dict[str, str] | None = None
    """Exact cost by price version, without rounding."""
    amounts: list[str] | None = None
    """Of the lines, in order."""
    off: str | None = None
    """What commitments take off."""
    untaxed: str | None = None
    rounding: str | None = None
    tax: tuple[str, str, str] | None = None
    """Base, tax, total."""
    records: int | None = None
    quantities: list[str] | None = field(default=None)
    """Priced, charge by charge."""

    def __str__(self) -> str:
        return f"{self.number}: {self.why}"


def tier(up_to: str | None, unit: str = "0", flat: str = "0", package: str | None = None) -> dict[str, Any]:
    return {
        "up_to": None if up_to is None else D(up_to),
        "unit_price": D(unit),
        "flat_fee": D(flat),
        "package_size": None if package is None else D(package),
    }


def tiered(price_id: str, mode: str, tiers: list[dict[str, Any]], **given: Any) -> list[PriceTier]:
    return [PriceTier(price_id=price_id, sku_id="s", mode=mode, **row, **given) for row in tiers]


def price(price_id: str = "p", unit: str = "1", **given: Any) -> PriceTier:
    return PriceTier(price_id=price_id, sku_id="s", unit_price=D(unit), **given)


def used(quantity: str | int, day: int = 1, hour: int = 0, **given: Any) -> Usage:
    given = {"account_id": "a", "sku_id": "s", "resource_id": "r"} | given
    return Usage(usage_start=OCTOBER + timedelta(days=day - 1, hours=hour), quantity=D(quantity), **given)


def world(prices: list[PriceTier], usage: list[Usage], *, period: str = "2026-10", **tables: Any) -> World:
    given = {"accounts": (Account(account_id="a"),), "skus": (Sku(sku_id="s"),), "taxes": (NO_TAX,)} | tables
    return World(book=Book(prices=tuple(prices), **given), usage=tuple(usage), period=period)


GRADUATED = [tier("10", "10", "2"), tier("20", "5", "3"), tier(None, "5", "3")]
VOLUME = [tier("100", "2", "10"), tier("200", "1"), tier(None, "0.5", "50")]
PACKAGES = [tier("10"), tier(None, "100", package="10")]
BULK = [tier("1000", "1", package="100"), tier(None, "1", package="1000")]
FROM_15 = [tier("15", "10"), tier(None, "5")]
FEE = [tier(None, "1", "2")]
V1 = [tier("1000", "1.5"), tier(None, "2")]
V2 = [tier("1000", "2.5"), tier(None, "3")]

TIERS = [
    Example(number, f"{mode}, {quantity} used", world(tiered("p", mode, tiers, flat_at_zero=True), [used(quantity)]),
            costs={"p": cost})
    for number, mode, tiers, answers in (
        (1, "graduated", GRADUATED, {"0": "2", "1": "12", "10": "102", "10.5": "107.5", "11": "110", "12": "115",
                                     "21": "163"}),
        (2, "volume", VOLUME, {"100": "210", "100.5": "100.5", "101": "101", "200": "200", "300": "200"}),
        (3, "graduated", PACKAGES, {"121": "1200"}),
        (4, "graduated", BULK, {"5325": "15"}),
        (13, "volume", FROM_15, {"15": "150", "16": "80"}),
    )
    for quantity, cost in answers.items()
]  # fmt: skip

PRICE_CHANGES = [
    Example(5, "a price per unit changes on the 8th",
            world([price("v1", "1.50", valid_to=CHANGE), price("v2", "2.50", valid_from=CHANGE)],
                  [used(100, 2), used(100, 10)]),
            costs={"v1": "150", "v2": "250"}, amounts=["150", "250"]),
    Example(6, "tiers go on counting over the change",
            world([*tiered("v1", "graduated", V1, valid_to=CHANGE), *tiered("v2", "graduated", V2, valid_from=CHANGE)],
                  [used(900, 2), used(200, 10)]),
            costs={"v1": "1350", "v2": "550"}, untaxed="1900"),
    Example(6, "or start anew",
            world([*tiered("v1", "graduated", V1, valid_to=CHANGE),
                   *tiered("v2", "graduated", V2, valid_from=CHANGE, tier_reset=True)],
                  [used(900, 2), used(200, 10)]),
            costs={"v1": "1350", "v2": "500"}, untaxed="1850"),
    *(
        Example(0, why, world([*tiered("v1", mode, FEE, flat_at_zero=True, valid_to=CHANGE),
                               *tiered("v2", mode, FEE, flat_at_zero=True, valid_from=CHANGE)], usage), costs=costs)
        for why, mode, usage, costs in (
            ("a fee that was due for nothing is not due again", "graduated", [used(0, 2), used(5, 10)],
             {"v1": "2", "v2": "5"}),
            ("nor for a second nothing", "graduated", [used(0, 2), used(0, 10)], {"v1": "2", "v2": "0"}),
            ("a volume price's fee goes with the quantity", "volume", [used(0, 2), used(5, 10)], {"v1": "0", "v2": "7"}),
            ("of a month of zeros only the first version is due", "volume", [used(0, 2), used(0, 10)],
             {"v1": "2", "v2": "0"}),
        )
    ),
]  # fmt: skip


def lines_of(costs: list[str]) -> list[Usage]:
    """Usage that costs so much at a price of 1, each on a line of its own."""
    return [used(cost, project_id=f"project-{place}") for place, cost in enumerate(costs)]


ROUNDING = [
    Example(7, "each line is rounded", world([price()], lines_of(["10.333333"] * 3)),
            amounts=["10.33"] * 3, untaxed="30.99", rounding="-0.009999"),
    Example(8, "a yen has no cents",
            world([price(currency="JPY")], lines_of(["100.4", "200.5", "300.6"]),
                  accounts=(Account(account_id="a", currency="JPY"),)),
            amounts=["100", "201", "301"], untaxed="602", rounding="0.5"),
    Example(0, "a dinar has a thousand fils",
            world([price(currency="KWD")], lines_of(["0.0005", "0.0015"]),
                  accounts=(Account(account_id="a", currency="KWD"),)),
            amounts=["0.001", "0.002"], untaxed="0.003", rounding="0.001"),
]  # fmt: skip

CAPS = [
    Example(11, "672 hours are paid, 744 were used",
            world([price(unit="0.0074", cap=D("4.9728"))], [used(1, hour=hour) for hour in range(744)]),
            costs={"p": "4.9728"}, untaxed="4.97"),
    *(
        Example(0, why, world(prices, usage), costs={row.price_id: cost for row, cost in zip(prices, costs, strict=True)})
        for why, prices, usage, costs in (
            ("each resource has its own cap", [price(cap=D(5))], [used(9), used(9, 2, resource_id="q")], ["10"]),
            ("a price change brings no second cap",
             [price("v1", cap=D(5), valid_to=CHANGE), price("v2", cap=D(5), valid_from=CHANGE)],
             [used(3, 1), used(9, 10)], ["3", "2"]),
            ("unless it starts anew",
             [price("v1", cap=D(5), valid_to=CHANGE), price("v2", cap=D(5), valid_from=CHANGE, tier_reset=True)],
             [used(3, 1), used(9, 10)], ["3", "5"]),
            ("a lower cap later takes nothing back",
             [price("v1", cap=D(5), valid_to=CHANGE), price("v2", cap=D(3), valid_from=CHANGE)],
             [used(9, 1), used(9, 10)], ["5", "0"]),
            ("a higher cap later leaves the difference",
             [price("v1", cap=D(5), valid_to=CHANGE), price("v2", cap=D(7), valid_from=CHANGE)],
             [used(9, 1), used(9, 10)], ["5", "2"]),
            ("a minimum tops up what was used", [price(minimum=D(5))], [used(2), used(1, 2)], ["5"]),
            ("a record of 0 is no usage", [price(minimum=D(5))], [used(0)], ["0"]),
            ("a minimum is due once, over a price change",
             [price("v1", minimum=D(9), valid_to=CHANGE), price("v2", minimum=D(5), valid_from=CHANGE)],
             [used(1, 1), used(1, 10)], ["1", "4"]),
        )
    ),
]  # fmt: skip

LOCAL = [
    "2023-03-01T04:00", "2023-03-15T00:00", "2023-03-31T23:59", "2023-04-01T00:00", "2023-04-01T00:01",
    "2023-04-15T00:00", "2023-04-30T23:59", "2023-05-01T00:00", "2023-05-01T00:01",
]  # fmt: skip
SUMMER_TIME = timedelta(hours=4)
INSTANTS = [datetime.fromisoformat(text).replace(tzinfo=UTC) + SUMMER_TIME for text in LOCAL]
INSTANTS[0] += timedelta(hours=1)  # the only one before the clocks went forward
AROUND_NEW_YORK = [Usage(account_id="a", sku_id="s", usage_start=instant, quantity=D(1)) for instant in INSTANTS]
NEW_YORK = (Account(account_id="a", time_zone="America/New_York"),)
MONTH_ENDS = [
    Example(12, f"{month} in New York", world([price()], AROUND_NEW_YORK, period=month, accounts=NEW_YORK),
            records=count, untaxed=str(count) if count else None)
    for month, count in {"2023-02": 0, "2023-03": 3, "2023-04": 4, "2023-05": 2, "2023-06": 0}.items()
]  # fmt: skip

VAT = (Tax(tax_code="vat", country="US", rate=D(20)),)
TAX = [
    Example(14, "one tax on the sum of the lines",
            world([price()], lines_of(["68.33", "68.33", "57.50", "85.00"]), taxes=VAT),
            amounts=["68.33", "68.33", "57.50", "85.00"], tax=("279.16", "55.83", "334.99")),
    Example(0, "half a cent of tax is rounded up", world([price()], [used("0.10")], taxes=(replace(VAT[0], rate=D(5)),)),
            tax=("0.10", "0.01", "0.11")),
]  # fmt: skip


GERMANY = (
    Tax(tax_code="de", country="DE", rate=D(19), valid_to=midnight(date(2026, 11, 1), "Europe/Berlin")),
    Tax(tax_code="de", country="DE", rate=D(20), valid_from=midnight(date(2026, 11, 1), "Europe/Berlin")),
    Tax(tax_code="by", country="DE", region="BY", rate=D(10)),
    Tax(tax_code="zz", country="DE", region="HE", rate=D(11)),
    Tax(tax_code="rc", country="FR", rate=D(0), kind="reverse_charge", note="Reverse charge"),
)
TAX += [
    Example(0, why, world([price()], [used(100)], accounts=(Account(account_id="a", **account),), taxes=GERMANY),
            tax=("100", rate, str(100 + int(rate))))
    for why, account, rate in (
        ("the month ends as the new rate begins", {"country": "DE", "time_zone": "Europe/Berlin"}, "19"),
        ("an hour later the new rate is valid at its last instant", {"country": "DE", "time_zone": "UTC"}, "20"),
        ("a row for the state comes first, whatever its code", {"country": "DE", "state": "BY"}, "10"),
        ("also one whose code comes last", {"country": "DE", "state": "HE"}, "11"),
        ("a state without a row of its own", {"country": "DE", "state": "SN", "time_zone": "Europe/Berlin"}, "19"),
        ("a code that is named wins", {"country": "DE", "state": "BY", "tax_code": "rc"}, "0"),
    )
]  # fmt: skip


def sku(**given: Any) -> dict[str, Any]:
    return {"skus": (Sku(sku_id="s", **given),)}


BERLIN = (Account(account_id="a", time_zone="Europe/Berlin"),)
NIGHT = (Window(window="night", days="sun", from_time="02:00", to_time="03:00"),)
QUANTITIES = [
    Example(0, "every started increment counts, record by record",
            world([price()], [used("0.2"), used("1.000000000001", hour=1), used(3, hour=2), used(0, hour=3)],
                  **sku(record_increment=D(1))),
            costs={"p": "6"}, quantities=["6"]),
    Example(0, "a maximum is shared over the days, and a price change does not bill it twice",
            world([price("v1", "1", valid_to=CHANGE), price("v2", "2", valid_from=CHANGE)],
                  [used(10, 1), used(5, 2), used(15, 10)], **sku(aggregation="max")),
            costs={"v1": "7.5", "v2": "15"}, quantities=["5", "2.5", "7.5"]),
    Example(0, "a mean is over all hours of the month", world([price()], [used(744), used(372, 5)], **sku(aggregation="mean")),
            costs={"p": "1.5"}),
    Example(0, "the month of 745 hours has a smaller mean",
            world([price()], [used(745, 2)], accounts=BERLIN, **sku(aggregation="mean")), costs={"p": "1"}),
    Example(0, "of 744 hours 37 are forgiven", world([price()], [used(9, hour=hour) for hour in range(37)], **sku(aggregation="p95")),
            costs={"p": "0"}),
    Example(0, "the 38th counts", world([price()], [used(9, hour=hour) for hour in range(38)], **sku(aggregation="p95")),
            costs={"p": "9"}),
    Example(0, "of two series of an hour the sum is looked at",
            world([price()], [used(4), used(3, resource_name="b", record_id="x")], **sku(aggregation="max")), costs={"p": "7"}),
    Example(0, "the real hours of the local month", world([price()], [used(745, 2)], accounts=BERLIN,
                                                          **sku(units_per_pricing_unit="hours_in_month")),
            quantities=["1"]),
    Example(0, "a fixed number of hours", world([price()], [used(744)], **sku(units_per_pricing_unit="730")),
            quantities=["1.019178082192"]),
    Example(0, "a window sees the clock on the wall: 2:00 comes twice on 25 October",
            world([price("p"), price("n", window="night")], [used(1, 24, hour) for hour in range(22, 29)],
                  accounts=BERLIN, windows=NIGHT),
            costs={"p": "5", "n": "2"}),
]  # fmt: skip

FIRST_DEAR = [tier("1", "4"), tier(None, "1")]
SCOPES = [
    Example(0, f"two units each of four resources, counted by {scope}",
            world(tiered("p", "graduated", FIRST_DEAR, scope=scope),
                  [used(2, day, project_id=project, resource_id=resource)
                   for day, (project, resource) in enumerate([("x", "r"), ("x", "q"), ("y", "r"), (None, "r")], 1)]),
            costs={"p": cost})
    for scope, cost in (("account", "11"), ("project", "17"), ("resource", "20"))
] + [
    Example(0, "a project that moved to another account of its payer counts at each of them",
            world(tiered("p", "graduated", FIRST_DEAR, scope="project"),
                  [used(2, 2, project_id="x"), used(2, 10, project_id="x")],
                  accounts=(Account(account_id="a"), Account(account_id="b", billing_account_id="a")),
                  projects=(Project(project_id="x", account_id="a", valid_to=CHANGE),
                            Project(project_id="x", account_id="b", valid_from=CHANGE))),
            costs={"p": "10"}),
]  # fmt: skip

NINE_HUNDRED = {"commitments": (Commitment(commitment_id="c", account_id="a", amount=D(900), discount_percent=D(10)),)}
COMMITMENTS = [
    Example(9, "more was used than committed", world([price()], lines_of(["5.95", "895.35"]), **NINE_HUNDRED),
            amounts=["5.95", "895.35"], off="-90", untaxed="811.30"),
    Example(10, "less was used", world([price()], lines_of(["500"]), **NINE_HUNDRED),
            amounts=["500", "400"], off="-90", untaxed="810"),
    Example(0, "nothing was used", world([price()], [], **NINE_HUNDRED), amounts=["900"], off="-90", untaxed="810"),
]  # fmt: skip

EXAMPLES = [*TIERS, *SCOPES, *PRICE_CHANGES, *ROUNDING, *CAPS, *MONTH_ENDS, *TAX, *QUANTITIES, *COMMITMENTS]


@pytest.fixture(scope="module")
def example_bills() -> dict[int, EngineBill]:
    bills = bill_each([example.world for example in EXAMPLES])
    return {id(example): bill for example, bill in zip(EXAMPLES, bills, strict=True)}


def costs_of(bill: EngineBill) -> dict[str, Decimal]:
    """Exact cost by price version."""
    found: dict[str, Decimal] = defaultdict(Decimal)
    for charge in bill.charges.iter_rows(named=True):
        if charge["charge_kind"] in RATED_KINDS:
            found[charge["price_id"]] += charge["cost"]
    return dict(found)


def said(example: Example, bill: EngineBill) -> dict[str, Any]:
    """What the bill says of everything that the example asks."""
    (invoice,) = bill.invoices.iter_rows(named=True) if bill.invoices.height else ({},)
    usage = bill.charges.filter(charge_kind="usage")
    answers = {
        "costs": lambda: costs_of(bill),
        "amounts": bill.lines["amount"].to_list,
        "off": lambda: invoice["commitment_amount"],
        "untaxed": lambda: invoice["untaxed_amount"],
        "rounding": lambda: invoice["rounding"],
        "tax": lambda: (bill.tax_lines["base_amount"].item(), invoice["tax_amount"], invoice["total_amount"]),
        "records": lambda: int(usage["usage_quantity"].sum() or 0),
        "quantities": usage["pricing_quantity"].to_list,
    }
    return {name: answer() for name, answer in answers.items() if getattr(example, name) is not None}


def asked(example: Example) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in vars(example).items():
        if name in ("number", "why", "world") or value is None:
            continue
        match value:
            case dict():
                found[name] = {key: D(text) for key, text in value.items()}
            case str():
                found[name] = D(value)
            case int():
                found[name] = value
            case _:
                found[name] = type(value)(D(text) for text in value)
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_example(example, example_bills):
    bill = example_bills[id(example)]
    assert asked(example)
    assert said(example, bill) == asked(example)
    assert not bill.unpriced.height


def test_every_example_of_how_we_bill_is_asked():
    """Of 13 both prices are asked here, of 14 the tax; that a closed month is corrected has tests of its own."""
    assert {example.number for example in EXAMPLES} - {0} == set(range(1, 15))


# Too large -----------------------------------------------------------------------------------------------------------

HUGE = used("1000000000000000000")  # the most that a record may say
EURO = [FxRate(date=date(2026, 9, 1), base="EUR", quote="USD", rate=D(1000))]
TOO_LARGE = [  # (why, prices, exchange rates): a DECIMAL(38,18) ends at 10^20
    ("per unit", [price(unit="100")], []),
    ("graduated, a little", tiered("p", "graduated", [tier(None, "100")]), []),
    ("graduated, beyond 127 bits", tiered("p", "graduated", [tier(None, "200")]), []),
    ("volume, beyond 128 bits", tiered("p", "volume", [tier(None, "350")]), []),
    ("converted", [price(currency="EUR")], EURO),
    ("a minimum that is converted", [price(currency="EUR", unit="0", minimum=D("1e18"))], EURO),
]


@pytest.mark.parametrize(("why", "prices", "rates"), TOO_LARGE)
def test_a_cost_that_does_not_fit_is_refused_by_the_place_to_look_at(why, prices, rates):
    with pytest.raises(
        DataRefusedError, match=r"largest quantity is 1000000000000000000 of SKU s for account a, resource r"
    ):
        bill_each([world(prices, [used(1, 2), HUGE], fx_rates=tuple(rates))])


@pytest.mark.slow
def test_the_largest_cost_that_fits_is_billed():
    (found,) = bill_each([world([price(unit="99.999999999999")], [HUGE])])
    assert costs_of(found) == {"p": D("99999999999999000000")}


SUMS = [  # (what does not fit, usage): each charge does
    ("a line", [HUGE, used("1000000000000000000", 2)]),
    ("an invoice", [HUGE, used("1000000000000000000", 2, project_id="x")]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("why", "usage"), SUMS)
def test_a_sum_that_does_not_fit_is_refused_by_the_command(why, usage, tmp_path):
    folder = write_world(world([price(unit="60")], usage), tmp_path)
    ended = run_here(["run", "--workspace", str(folder), "--period", "2026-10", "--as-of", "2026-11-02T06:00:00Z"])
    assert ended.code == ExitCode.DATA_REFUSED
    told = " ".join(ended.stderr.split())
    assert "sum of an invoice's charges does not fit into DECIMAL(38,18)" in told
    assert "largest charge is 60000000000000000000 USD for SKU s of account a, resource r" in told


# Other billing systems -----------------------------------------------------------------------------------------------

MONTHS = [(case, period) for case in CASES for period in case.expected]


@pytest.fixture(scope="module")
def case_bills() -> dict[tuple[str, str], list[EngineBill]]:
    """Each month as it is billed, behind what it was billed before."""
    worlds_of = {
        (case.case_id, period): [case.billed_world(period) or NOTHING, case.world(period)] for case, period in MONTHS
    }
    bills = iter(bill_each([some for pair in worlds_of.values() for some in pair]))
    return {key: [next(bills) for _ in pair] for key, pair in worlds_of.items()}


NOTHING = world([price()], [])


@pytest.mark.parametrize(("case", "period"), MONTHS, ids=[f"{case.case_id} {period}" for case, period in MONTHS])
def test_engine_agrees_with_other_systems(case, period, case_bills):
    (before, bill), expected = case_bills[case.case_id, period], case.expected[period]
    by_price = costs_of(bill)
    assert not bill.unpriced.height
    if expected.cost is not None:
        assert sum(by_price.values()) == expected.cost, case.why
    if expected.cost_by_price is not None:
        assert {price: by_price.get(price, 0) for price in expected.cost_by_price} == expected.cost_by_price
    if expected.quantity is not None:
        assert (bill.charges["usage_quantity"].sum() or 0) == expected.quantity
    if expected.lines is not None:
        assert tuple(bill.lines["amount"]) == expected.lines, case.why
    for name in ("untaxed", "tax", "total"):
        if getattr(expected, name) is not None:
            now, then = (sum(engine.invoices[f"{name}_amount"]) for engine in (bill, before))
            assert now - then == getattr(expected, name), case.why
