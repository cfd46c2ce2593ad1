"""Whole little worlds for property tests: a valid book, a month's usage, and its duplicates.

Worlds are small (at most 80 records, mostly fewer than 20) and look for trouble: month ends in the payer's zone, days of 23 and 25 hours,
projects that move, prices that change, usage without a price, quantities with twelve decimals, copies and conflicts.
Their books pass every check: no price applies twice at one specificity, and every payer finds one tax.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from hypothesis import strategies as st

from reference.exact import MINOR_UNITS
from reference.model import (
    PUBLIC,
    Account,
    Adjustment,
    Book,
    Commitment,
    Correction,
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
    midnight,
    month_end,
    month_start,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")
Features = Literal["per_unit", "deals", "everything"]
"""per_unit: prices per unit and sums only. everything: all of "How we bill".

deals: every SKU has one plain price, so that many lines have amounts worth discounting; and more discounts.
"""

MOST_RECORDS = 80
PERIODS = ("2026-02", "2026-03", "2026-04", "2026-10", "2026-11")
ZONES = (None, "UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Pacific/Auckland", "America/St_Johns")
REGIONS = ("eu-1", "us-1")
CURRENCIES = ("USD", "EUR", "JPY", "KWD")
KINDS_OF_SKUS = (("Servers", "Compute"), ("Servers", "Storage"), ("Disks", "Storage"))
"""(service, category)."""
PLANS = ("gold", "silver")
WINDOWS = (
    Window(window="peak", days="mon tue wed thu fri", from_time="08:00", to_time="20:00"),
    Window(window="off-peak", days="mon tue wed thu fri", from_time="00:00", to_time="08:00"),
    Window(window="off-peak", days="mon tue wed thu fri", from_time="20:00", to_time="24:00"),
    Window(window="off-peak", days="sat sun", from_time="00:00", to_time="24:00"),
)
TAXES = (
    Tax(tax_code="us-none", country="US", rate=Decimal(0), kind="outside_scope"),
    Tax(tax_code="us-ny", country="US", region="NY", rate=Decimal("8.875")),
    Tax(tax_code="de", country="DE", rate=Decimal(19), valid_to=midnight(date(2026, 3, 1))),
    Tax(tax_code="de", country="DE", rate=Decimal("19.5"), valid_from=midnight(date(2026, 3, 1))),
    Tax(tax_code="de", country="DE", category="reduced", rate=Decimal(7)),
    Tax(tax_code="us-none", country="US", category="reduced", rate=Decimal(0), kind="outside_scope"),
    Tax(tax_code="reverse", country="FR", rate=Decimal(0), kind="reverse_charge", note="Reverse charge"),
    Tax(
        tax_code="reverse", country="FR", category="reduced", rate=Decimal(0), kind="reverse_charge",
        note="Reverse charge",
    ),
)  # fmt: skip
"""One tax for every payer and category of these worlds, whenever the month is; Germany's rate changes on a 1 March."""

PLACES = (("US", None, None), ("US", "NY", None), ("DE", None, None), ("DE", "BY", "reverse"), ("FR", None, None))
"""(country, state, tax code)."""

_TRICKY_QUANTITIES = ("0", "1", "0.000000000001", "0.333333333333", "2.5", "99.999999999999", "1000", "100000.5")
_TRICKY_PRICES = ("0", "1", "0.000000000001", "0.0074", "0.333333333333", "1.5", "12.345678901234", "100")


@cache
def quantities() -> st.SearchStrategy[Decimal]:
    """At least 0, at most twelve decimals."""
    drawn = st.integers(0, 10**16).map(lambda units: Decimal(units).scaleb(-12))
    return st.sampled_from(_TRICKY_QUANTITIES).map(Decimal) | drawn | _thousandths()


@cache
def money() -> st.SearchStrategy[Decimal]:
    """Unit prices, fees, caps and minimums: at least 0, at most twelve decimals."""
    drawn = st.integers(0, 10**15).map(lambda units: Decimal(units).scaleb(-12))
    return st.sampled_from(_TRICKY_PRICES).map(Decimal) | drawn | _thousandths()


@cache
def _thousandths() -> st.SearchStrategy[Decimal]:
    """Numbers as people write them, of which amounts come that can be discounted."""
    return st.integers(1, 10**6).map(lambda units: Decimal(units).scaleb(-3))


def _seldom(strategy: st.SearchStrategy[Decimal]) -> st.SearchStrategy[Decimal | None]:
    return st.one_of(st.none(), st.none(), strategy)


@cache
def bounds() -> st.SearchStrategy[Decimal]:
    """Tier bounds and package sizes: above 0."""
    return st.sampled_from(["0.5", "1", "3", "10", "100", "730", "5000.25"]).map(Decimal)


@dataclass(frozen=True)
class Month:
    """What everybody in a world shares."""

    period: str
    time_zone: str
    detail: Literal["day", "hour"]
    fx_rates: tuple[FxRate, ...]
    discounts: tuple[Discount, ...] = ()
    """Those of every account."""


@st.composite
def months(draw: st.DrawFn, features: Features = "per_unit") -> Month:
    """A month worth looking at."""
    period = draw(st.sampled_from(PERIODS))
    return Month(
        period=period,
        time_zone=draw(st.sampled_from(["UTC", "Europe/Berlin"])),
        detail=draw(st.sampled_from(["day", "hour"])) if features == "everything" else "day",
        fx_rates=draw(_fx_rates(period)) if features == "everything" else (),
        discounts=draw(_discounts_for_all(period)) if features != "per_unit" else (),
    )


@st.composite
def worlds(
    draw: st.DrawFn,
    features: Features = "per_unit",
    *,
    most_records: int = MOST_RECORDS,
    month: Month | None = None,
) -> World:
    """A valid world with at least one record, in ``month`` if one is given."""
    month = month or draw(months(features))
    accounts = draw(_accounts())
    zones = sorted({account.time_zone or month.time_zone for account in accounts})
    instants = _instants(month.period, zones)
    projects = draw(_projects(accounts, instants))
    skus = draw(_skus(features))
    currencies = sorted({account.currency for account in accounts})
    prices = draw(
        _plain_prices(skus, currencies) if features == "deals" else _prices(skus, currencies, instants, features)
    )
    lists = {price.price_list for price in prices}
    accounts = tuple(  # a list without any price is refused as a misspelling
        replace(account, price_lists=tuple(name for name in account.price_lists if name in lists))
        for account in accounts
    )
    book = Book(
        accounts=accounts,
        projects=projects,
        skus=skus,
        prices=prices,
        windows=WINDOWS if features == "everything" else (),
        taxes=TAXES,
        fx_rates=month.fx_rates,
    )
    if features != "per_unit":
        book = draw(_with_deals(book, month, instants, most_discounts=7 if features == "deals" else 3))
    return World(
        book=book,
        usage=draw(_usage(book, instants, features, most_records)),
        period=month.period,
        time_zone=month.time_zone,
        detail=month.detail,
        credits_drawn=draw(_drawn(book.credits)),
        corrections=draw(_corrections(book)) if features != "per_unit" else (),
    )


# Several worlds as one -----------------------------------------------------------------------------------------------


@st.composite
def neighbours(draw: st.DrawFn, features: Features = "per_unit", *, most: int = 6) -> tuple[World, ...]:
    """Up to ``most`` worlds of one month, for :func:`side_by_side`."""
    month = draw(months(features))
    return tuple(draw(st.lists(worlds(features, month=month), min_size=1, max_size=most)))


def side_by_side(some: Sequence[World]) -> World:
    """Worlds of one month as one world whose accounts, projects and SKUs have nothing to do with one another.

    The engine rates many little worlds at once in the time of one, and must not mix them up: resources, price lists
    and tags have the same names in all of them.
    """
    if len(some) == 1:
        return some[0]
    named = [_renamed(world, prefix_of(place)) for place, world in enumerate(some)]
    tables = {
        name: tuple(row for world in named for row in getattr(world.book, name))
        for name in vars(named[0].book)
        if name not in SHARED_TABLES
    }
    tables["discounts"] = tuple(dict.fromkeys(tables["discounts"]))  # those of every account are in all of them
    usage = tuple(record for world in named for record in world.usage)
    drawn = {credit_id: amount for world in named for credit_id, amount in world.credits_drawn.items()}
    corrections = tuple(row for world in named for row in world.corrections)
    book = replace(named[0].book, **tables)
    return replace(named[0], book=book, usage=usage, credits_drawn=drawn, corrections=corrections)


def prefix_of(place: int) -> str:
    """What :func:`side_by_side` puts before the names of the world at ``place``."""
    return f"{place:03d}."


SHARED_TABLES = ("windows", "taxes", "fx_rates")
"""Tables that worlds side by side have in common."""
_NAMES = (
    "account_id", "billing_account_id", "project_id", "sku_id", "price_id", "record_id", "discount_id",
    "commitment_id", "credit_id", "recurring_id", "adjustment_id", "source_id",
)  # fmt: skip
_LISTS_OF_NAMES = ("sku_ids", "excludes")


def _renamed(world: World, prefix: str) -> World:
    """The world with its names in a namespace of its own, but for discounts of every account."""
    tables = {
        name: rows
        if name in SHARED_TABLES
        else tuple(row if is_everybodys(row) else _prefixed(row, prefix) for row in rows)
        for name, rows in vars(world.book).items()
    }
    return replace(
        world,
        book=Book(**tables),
        usage=tuple(_prefixed(row, prefix) for row in world.usage),
        corrections=tuple(_prefixed(row, prefix) for row in world.corrections),
        credits_drawn={prefix + credit_id: amount for credit_id, amount in world.credits_drawn.items()},
    )


def is_everybodys(row: Any) -> bool:
    """Whether it is a discount of every account."""
    return isinstance(row, Discount) and row.account_id is None


def _prefixed(row: T, prefix: str) -> T:
    given = vars(row)
    changed: dict[str, Any] = {name: prefix + given[name] for name in _NAMES if given.get(name) is not None}
    changed |= {name: tuple(prefix + part for part in given[name]) for name in _LISTS_OF_NAMES if name in given}
    return replace(row, **changed)  # type: ignore[type-var]


# The book ------------------------------------------------------------------------------------------------------------


@st.composite
def _accounts(draw: st.DrawFn) -> tuple[Account, ...]:
    """One or two payers, each with up to one account it pays for; members have their payer's currency."""
    found: list[Account] = []
    for number in range(1, draw(st.integers(1, 2)) + 1):
        country, state, tax_code = draw(st.sampled_from(PLACES))
        payer = Account(
            account_id=f"payer-{number}",
            name=f"Payer {number}",
            currency=draw(st.sampled_from(CURRENCIES)),
            country=country,
            state=state,
            tax_code=tax_code,
            time_zone=draw(st.sampled_from(ZONES)),
            price_lists=draw(_list_names()),
        )
        found.append(payer)
        if draw(st.booleans()):
            found.append(
                replace(
                    payer,
                    account_id=f"member-{number}",
                    name=f"Member {number}",
                    billing_account_id=payer.account_id,
                    time_zone=draw(st.sampled_from(ZONES)),
                    price_lists=draw(_list_names()),
                )
            )
    return tuple(found)


@cache
def _list_names() -> st.SearchStrategy[tuple[str, ...]]:
    return st.sampled_from([(), ("deal",), ("deal", "plan"), ("plan", "deal"), (PUBLIC, "deal")])


@st.composite
def _projects(draw: st.DrawFn, accounts: Sequence[Account], instants: Sequence[datetime]) -> tuple[Project, ...]:
    """Projects that stay, or move to any account at an instant of the month, maybe after a while outside the book."""
    found: list[Project] = []
    for name in ("red", "blue")[: draw(st.integers(0, 2))]:
        cuts = sorted(draw(st.lists(st.sampled_from(instants), unique=True, max_size=2)))
        stretches = list(pairwise([None, *cuts, None]))
        for number, (start, end) in enumerate(stretches):
            if len(stretches) > 1 and draw(st.integers(0, 5)) == 0:
                continue
            owner = draw(st.sampled_from(accounts)).account_id
            found.append(
                Project(project_id=name, account_id=owner, name=f"{name} {number}", valid_from=start, valid_to=end)
            )
    return tuple(found)


@st.composite
def _skus(draw: st.DrawFn, features: Features) -> tuple[Sku, ...]:
    return tuple(
        Sku(
            sku_id=f"sku-{number}",
            **dict(zip(("service", "category"), draw(st.sampled_from(KINDS_OF_SKUS)), strict=True)),
            usage_unit="hour",
            pricing_unit="month",
            units_per_pricing_unit=draw(st.sampled_from(["1", "730", "hours_in_month", "1000", "3"])),
            aggregation=draw(st.sampled_from(["sum", "sum", "max", "mean", "p95"]))
            if features == "everything"
            else "sum",
            record_increment=draw(st.sampled_from([None, None, Decimal(1), Decimal("0.25")]))
            if features == "everything"
            else None,
            tax_category=draw(st.sampled_from(["standard", "standard", "reduced"])),
        )
        for number in range(1, draw(st.integers(1, 2)) + 1)
    )


@dataclass(frozen=True)
class _Condition:
    """What a price row asks for."""

    region: str | None = None
    window: str | None = None
    plan: str | None = None


_ANY = _Condition()
_EU, _US = (_Condition(region=region) for region in REGIONS)
_PEAK, _OFF_PEAK = _Condition(window="peak"), _Condition(window="off-peak")
_GOLD, _SILVER = (_Condition(plan=plan) for plan in PLANS)
_SIMPLE_SHAPES = ((_ANY,), (_ANY, _EU), (_EU, _US), (_ANY, _EU, _US), (_US,))
_SHAPES = (
    *_SIMPLE_SHAPES,
    (_ANY, _PEAK),
    (_PEAK, _OFF_PEAK),
    (_ANY, _GOLD),
    (_ANY, _GOLD, _SILVER),
    (_ANY, _EU, replace(_EU, window="peak")),
    (_ANY, _EU, replace(_EU, plan="gold"), replace(_EU, plan="gold", window="off-peak")),
    (_ANY, _GOLD, replace(_GOLD, window="peak"), replace(_GOLD, region="eu-1", window="peak")),
)
"""Conditions of the prices of one list, SKU and currency: of those that can apply together, no two are as specific."""


@st.composite
def _prices(
    draw: st.DrawFn, skus: Sequence[Sku], currencies: Sequence[str], instants: Sequence[datetime], features: Features
) -> tuple[PriceTier, ...]:
    """Prices of each list, SKU and currency; some are missing or in another currency only."""
    rows: list[PriceTier] = []
    number = 0
    others = [currency for currency in CURRENCIES if currency not in currencies]
    for sku in skus:
        for name in (PUBLIC, "deal", "plan"):
            kinds = (
                ["own", "own", "own", "other", "none"] if name == PUBLIC else ["none", "none", "none", "own", "other"]
            )
            kind = draw(st.sampled_from(kinds))
            sold_in = {"own": currencies, "other": [draw(st.sampled_from(others))], "none": []}[kind]
            for currency in sold_in:
                shape = draw(st.sampled_from(_SHAPES if features == "everything" else _SIMPLE_SHAPES))
                for condition in shape:
                    for start, end in draw(_versions(instants)):
                        number += 1
                        common = {
                            # ids in no order of time, list or condition
                            "price_id": f"price-{number * 379 % 1000:03d}",
                            "price_list": name,
                            "sku_id": sku.sku_id,
                            "currency": currency,
                            "valid_from": start,
                            "valid_to": end,
                            "region": condition.region,
                            "window": condition.window,
                            "attributes": {"plan": condition.plan} if condition.plan else {},
                        }
                        rows += draw(_tiers(common, features))
    if not rows:  # a provider without any price is no valid book
        rows.append(
            PriceTier(price_id="price-00", sku_id=skus[0].sku_id, currency=currencies[0], unit_price=draw(money()))
        )
    return tuple(rows)


@st.composite
def _plain_prices(draw: st.DrawFn, skus: Sequence[Sku], currencies: Sequence[str]) -> tuple[PriceTier, ...]:
    """One price per unit for each SKU and currency, now and then with a cap."""
    return tuple(
        PriceTier(
            price_id=f"price-{sku.sku_id}-{currency}",
            sku_id=sku.sku_id,
            currency=currency,
            unit_price=draw(_thousandths()),
            cap=draw(_seldom(_thousandths())),
        )
        for sku in skus
        for currency in currencies
    )


@st.composite
def _versions(draw: st.DrawFn, instants: Sequence[datetime]) -> list[tuple[datetime | None, datetime | None]]:
    """One to three stretches of time without overlap; sometimes one is left out."""
    cuts = sorted(draw(st.sampled_from([0, 0, 1, 2]).flatmap(lambda size: _some(instants, size))))
    stretches = list(pairwise([None, *cuts, None]))
    if len(stretches) > 1 and draw(st.integers(0, 4)) == 0:
        stretches.pop(draw(st.integers(0, len(stretches) - 1)))
    return stretches


def _some(instants: Sequence[datetime], size: int) -> st.SearchStrategy[list[datetime]]:
    return st.lists(st.sampled_from(instants), unique=True, min_size=size, max_size=size)


@st.composite
def _tiers(draw: st.DrawFn, common: dict[str, Any], features: Features) -> list[PriceTier]:
    mode = draw(st.sampled_from(["per_unit", "graduated", "volume"])) if features == "everything" else "per_unit"
    if features == "everything":
        minimum, cap = draw(_seldom(money())), draw(_seldom(money()))
        if minimum is not None and cap is not None:
            minimum, cap = sorted((minimum, cap))
        common = common | {"cap": cap, "minimum": minimum, "tier_reset": draw(st.integers(0, 3)) == 0}
    if mode == "per_unit":
        return [PriceTier(**common, unit_price=draw(money()))]
    common = common | {
        "mode": mode,
        "scope": draw(st.sampled_from(["account", "project", "resource"])),
        "flat_at_zero": draw(st.booleans()),
    }
    closed = sorted(draw(st.lists(bounds(), unique=True, max_size=2)))
    return [
        PriceTier(
            **common,
            up_to=up_to,
            unit_price=draw(money()),
            flat_fee=draw(st.just(Decimal(0)) | money()),
            package_size=draw(st.none() | bounds()),
        )
        for up_to in [*closed, None]
    ]


@st.composite
def _fx_rates(draw: st.DrawFn, period: str) -> tuple[FxRate, ...]:
    """Rates of most pairs, in one direction or both, from a few days around the month."""
    first = date.fromisoformat(f"{period}-01")
    found = []
    for base, quote in combinations(CURRENCIES, 2):
        for offset in draw(st.sampled_from([(), (-3,), (-3,), (-3, 9), (0, 20)])):
            first_of_pair, second = draw(st.sampled_from([(base, quote), (quote, base)]))
            rate = draw(st.sampled_from(["1", "0.3", "1.085", "0.006666666667", "149.25"]))
            day = first + timedelta(days=offset)
            found.append(FxRate(date=day, base=first_of_pair, quote=second, rate=Decimal(rate)))
    return tuple(found)


# Discounts, commitments, credits, fees, adjustments -------------------------------------------------------------------

_PERCENTS = ("100", "50", "10", "12.5", "33.333333333333", "0.5", "0.000000000001")
_MINOR_UNITS = (1, 2, 7, 100, 999, 12345, 10**6, 10**9, 10**11)


@cache
def _amounts(currency: str) -> st.SearchStrategy[Decimal]:
    """Above 0, in whole minor units: from one to far more than a month costs."""
    units = st.sampled_from(_MINOR_UNITS) | st.integers(1, 10**6)
    return units.map(lambda number: Decimal(number).scaleb(-MINOR_UNITS[currency]))


@st.composite
def _validity(draw: st.DrawFn, instants: Sequence[datetime]) -> dict[str, Any]:
    """Always, from or until an instant of the month, or between two of them."""
    cuts = sorted(draw(st.sampled_from([0, 0, 1, 2]).flatmap(lambda size: _some(instants, size))))
    first, end = draw(st.sampled_from(list(pairwise([None, *cuts, None]))))
    return {"valid_from": first, "valid_to": end}


@st.composite
def _scope(draw: st.DrawFn, skus: Sequence[Sku] = (), projects: Sequence[Project] = ()) -> dict[str, Any]:
    """What lines must be like: any, or one or two conditions. Without SKUs only conditions that need no names."""
    service, category = draw(st.sampled_from([(sku.service, sku.category) for sku in skus] or KINDS_OF_SKUS))
    conditions: list[dict[str, Any]] = [{}, {}, {"category": category}, {"service": service}, {"region": "eu-1"}]
    if skus:
        only = (draw(st.sampled_from(skus)).sku_id,)
        conditions += [{"sku_ids": tuple(sku.sku_id for sku in skus)}, {"sku_ids": only}, {"excludes": only}]
    if projects:
        conditions.append({"project_id": draw(st.sampled_from(projects)).project_id})
    one, other = draw(st.sampled_from(conditions)), draw(st.sampled_from([{}, {}, *conditions]))
    both: dict[str, Any] = one | other
    if set(both.get("sku_ids", ())) & set(both.get("excludes", ())):
        del both["excludes"]
    return both


@st.composite
def _discount(draw: st.DrawFn, given: dict[str, Any], currency: str, instants: Sequence[datetime]) -> Discount:
    percent = draw(st.sampled_from([*_PERCENTS, None, None, None, None]))
    what = {"percent": Decimal(percent)} if percent else {"amount": draw(_amounts(currency)), "currency": currency}
    return Discount(
        **given,
        **what,
        **draw(_validity(instants)),
        mode=draw(st.sampled_from(["compound", "compound", "additive"])),
        priority=draw(st.sampled_from([1, 100, 100, 200])),
    )


@st.composite
def _discounts_for_all(draw: st.DrawFn, period: str) -> tuple[Discount, ...]:
    """Ids behind all others, so that worlds side by side have the same order of discounts as alone."""
    instants = _instants(period, ["UTC", "Europe/Berlin"])
    return tuple(
        draw(
            _discount(
                {"discount_id": f"zz-for-all-{number}", **draw(_scope())}, draw(st.sampled_from(CURRENCIES)), instants
            )
        )
        for number in range(draw(st.sampled_from([0, 0, 1, 2])))
    )


@st.composite
def _with_deals(
    draw: st.DrawFn, book: Book, month: Month, instants: Sequence[datetime], *, most_discounts: int
) -> Book:
    """The book with what is agreed beside prices. Mostly in the payer's currency; a fee may open another invoice."""
    recurring = draw(_fees(book, instants))
    invoiced = _invoiced_in(book, recurring)
    scopes = _scope(book.skus, book.projects)
    currencies = {currency for owned in invoiced.values() for currency in owned}
    services = {sku.service for sku in book.skus}
    return replace(
        book,
        recurring=recurring,
        adjustments=draw(_adjustments(book, month)),
        discounts=(
            *[
                row
                for row in month.discounts
                if (row.currency is None or row.currency in currencies)
                and (row.service is None or row.service in services)
            ],
            *draw(_discounts(book, invoiced, scopes, instants, most=most_discounts)),
        ),
        commitments=draw(_commitments(book, instants)),
        credits=draw(_credits(invoiced, scopes, instants)),
    )


def _invoiced_in(book: Book, fees: Sequence[Recurring]) -> dict[str, list[str]]:
    """The currencies of each payer's invoices."""
    found = {row.account_id: [row.currency] for row in book.accounts if row.billing_account_id is None}
    for fee in fees:
        payer = book.payer_of(book.account(fee.account_id)).account_id
        if fee.currency is not None and fee.currency not in found[payer]:
            found[payer].append(fee.currency)
    return found


@st.composite
def _fees(draw: st.DrawFn, book: Book, instants: Sequence[datetime]) -> tuple[Recurring, ...]:
    found = []
    for number in range(draw(st.sampled_from([0, 0, 1, 2]))):
        account = draw(st.sampled_from(book.accounts))
        currency = draw(st.sampled_from([None, None, None, "JPY", "KWD"]))
        sku_id = draw(st.sampled_from([None, *(sku.sku_id for sku in book.skus)]))
        found.append(
            Recurring(
                recurring_id=f"fee-{number}",
                account_id=account.account_id,
                project_id=draw(st.sampled_from([None, *(row.project_id for row in book.projects)])),
                sku_id=sku_id,
                description=draw(st.sampled_from(["Support", *([None] if sku_id else [])])),
                amount=draw(st.just(Decimal(0)) | _amounts(currency or account.currency)),
                currency=currency,
                **draw(_validity(instants)),
            )
        )
    return tuple(found)


@st.composite
def _adjustments(draw: st.DrawFn, book: Book, month: Month) -> tuple[Adjustment, ...]:
    found = []
    for number in range(draw(st.sampled_from([0, 0, 1, 2]))):
        account = draw(st.sampled_from(book.accounts))
        currency = draw(st.sampled_from([None, None, None, None, "USD"]))
        found.append(
            Adjustment(
                adjustment_id=f"adjustment-{number}",
                account_id=account.account_id,
                project_id=draw(st.sampled_from([None, *(row.project_id for row in book.projects)])),
                sku_id=draw(st.sampled_from([None, *(sku.sku_id for sku in book.skus)])),
                period=draw(st.sampled_from([month.period, month.period, month.period, "2026-12"])),
                amount=draw(_amounts(currency or account.currency)) * draw(st.sampled_from([1, -1, -1, 0])),
                currency=currency,
            )
        )
    return tuple(found)


@st.composite
def _discounts(
    draw: st.DrawFn,
    book: Book,
    invoiced: dict[str, list[str]],
    scopes: st.SearchStrategy[dict[str, Any]],
    instants: Sequence[datetime],
    *,
    most: int,
) -> tuple[Discount, ...]:
    found = []
    for number in range(draw(st.integers(0, most))):
        account = draw(st.sampled_from(book.accounts))
        currency = draw(st.sampled_from(invoiced[book.payer_of(account).account_id]))
        given = {"discount_id": f"discount-{most - number}", "account_id": account.account_id, **draw(scopes)}
        found.append(draw(_discount(given, currency, instants)))
    return tuple(found)


@st.composite
def _commitments(draw: st.DrawFn, book: Book, instants: Sequence[datetime]) -> tuple[Commitment, ...]:
    """None, one, or several of a payer that count different SKUs, regions or times: no usage counts twice."""
    found = []
    for payer in book.accounts:
        kind = draw(st.sampled_from(["none", "none", "one", "skus", "regions", "times"]))
        if payer.billing_account_id is not None or kind == "none":
            continue
        always = draw(_validity(instants))
        parts: list[dict[str, Any]] = {
            "one": [draw(_scope(book.skus, book.projects)) | always],
            "skus": [{"sku_ids": (sku.sku_id,)} | draw(_validity(instants)) for sku in book.skus],
            "regions": [{"region": region} | always for region in REGIONS],
            "times": [{"valid_from": first, "valid_to": end} for first, end in draw(_versions(instants))],
        }[kind]
        found += [
            Commitment(
                commitment_id=f"commitment-{payer.account_id}-{number}",
                account_id=payer.account_id,
                amount=draw(_amounts(payer.currency)),
                discount_percent=Decimal(draw(st.sampled_from(["0", *_PERCENTS]))),
                currency=payer.currency,
                **part,
            )
            for number, part in enumerate(parts)
        ]
    return tuple(found)


@st.composite
def _credits(
    draw: st.DrawFn,
    invoiced: dict[str, list[str]],
    scopes: st.SearchStrategy[dict[str, Any]],
    instants: Sequence[datetime],
) -> tuple[Credit, ...]:
    found = []
    for number in range(draw(st.sampled_from([0, 1, 2, 3]))):
        payer = draw(st.sampled_from(sorted(invoiced)))
        currency = draw(st.sampled_from(invoiced[payer]))
        kind = draw(st.sampled_from(["promotional", "promotional", "prepaid"]))
        granted_on = draw(
            st.sampled_from([instants[0] - timedelta(days=90), instants[0] - timedelta(days=90), *instants])
        )
        later = [instant for instant in instants if instant > granted_on]
        found.append(
            Credit(
                credit_id=f"credit-{7 - number}",
                account_id=payer,
                amount=draw(_amounts(currency)),
                currency=currency,
                kind=kind,
                granted_on=granted_on,
                expires_on=draw(st.sampled_from([None, instants[-1] + timedelta(days=40), *later[-3:]])),
                **(draw(scopes) if kind == "promotional" else {}),
            )
        )
    return tuple(found)


@st.composite
def _corrections(draw: st.DrawFn, book: Book) -> tuple[Correction, ...]:
    """Differences of closed months, up or down, with taxes of then: of this payer now or of another country."""
    found = []
    for number in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        account = draw(st.sampled_from(book.accounts))
        payer = book.payer_of(account)
        billed, correct = draw(
            st.lists(st.just(Decimal(0)) | _amounts(payer.currency), min_size=2, max_size=2, unique=True)
        )
        tax = draw(st.sampled_from(book.taxes))
        kind = draw(st.sampled_from(["usage", "usage", "recurring", "commitment"]))
        of_usage = {"price_id": f"old-{number}", "region": "eu-1", "pricing_unit": "month"} if kind == "usage" else {}
        found.append(
            Correction(
                billing_account_id=payer.account_id,
                currency=payer.currency,
                corrects_period=draw(st.sampled_from(["2026-01", "2025-12"])),
                corrects_invoice_id=draw(st.sampled_from([None, f"2026-01-{payer.account_id}-{payer.currency}"])),
                corrected_kind=kind,
                account_id=account.account_id,
                project_id=draw(st.sampled_from([None, *(row.project_id for row in book.projects)])),
                sku_id=None if kind == "commitment" else draw(st.sampled_from(book.skus)).sku_id,
                source_id=None if kind == "usage" else f"former-{number}",
                description=draw(st.sampled_from([None, "late usage"])),
                first_day=date(2026, 1, draw(st.integers(1, 9))),
                last_day=date(2026, 1, 31),
                pricing_quantity=draw(st.sampled_from([None, Decimal("-1.5")])),
                billed_amount=billed,
                correct_amount=correct,
                amount=correct - billed,
                tax_code=tax.tax_code,
                tax_category=tax.category,
                tax_kind=tax.kind,
                tax_rate=tax.rate,
                tax_note=tax.note,
                **of_usage,
            )
        )
    return tuple(found)


@st.composite
def _drawn(draw: st.DrawFn, some: Sequence[Credit]) -> dict[str, Decimal]:
    """What earlier months used: of most credits nothing, of some a part, or all."""
    found = {}
    for row in some:
        part = draw(st.sampled_from([0, 0, 3, 10]))
        if part:
            places = MINOR_UNITS[row.currency]
            found[row.credit_id] = (row.amount * part / 10).quantize(Decimal(1).scaleb(-places))
    return found


# Usage ---------------------------------------------------------------------------------------------------------------


def _instants(period: str, zones: Sequence[str]) -> list[datetime]:
    """Whole UTC hours where something can go wrong: month ends in each zone, clock changes, midnights, and between."""
    found: set[datetime] = set()
    for zone in zones:
        edges = [month_start(period, zone), month_end(period, zone)]
        found |= {_hour(edge) + timedelta(hours=hours) for edge in edges for hours in (-1, 0, 1)}
    first = month_start(period, "UTC")
    found |= {first + timedelta(days=day, hours=hour) for day in (6, 7, 14, 24, 27) for hour in (0, 1, 7, 12, 23)}
    return sorted(found)


def _hour(instant: datetime) -> datetime:
    return instant.replace(minute=0)


_RESOURCE = ("account_id", "project_id", "resource_id", "sku_id", "region", "tags")


@st.composite
def _usage(
    draw: st.DrawFn, book: Book, instants: Sequence[datetime], features: Features, most_records: int
) -> tuple[Usage, ...]:
    """Bursts of consecutive hours, half of them of a resource that had one before; then copies and conflicts of some."""
    records: list[Usage] = []
    for burst in range(draw(st.sampled_from([1, 3, 4, 6, 8]))):
        record = draw(_record(book, instants, features, burst))
        if records and draw(st.booleans()):
            same = draw(st.sampled_from(records))
            record = replace(record, **{name: getattr(same, name) for name in _RESOURCE})
        hours = draw(st.sampled_from([1, 1, 2, 2, 3, 6, 6, 45]))
        some = _thousandths() if features == "deals" else quantities()
        quantity = draw(some)
        records += [
            replace(
                record,
                usage_start=record.usage_start + timedelta(hours=hour),
                usage_end=record.usage_end and record.usage_end + timedelta(hours=hour),
                quantity=draw(some) if hours <= 6 else quantity + hour % 7,
                record_id=record.record_id and f"{record.record_id}-{hour}",
            )
            for hour in range(hours)
        ]
    for original in draw(st.lists(st.sampled_from(records), max_size=4)):
        change = draw(st.sampled_from(["none", "none", "label", "quantity"]))
        records.append(
            replace(
                original,
                resource_name="renamed" if change == "label" else original.resource_name,
                quantity=original.quantity + 1 if change == "quantity" else original.quantity,
            )
        )
    return tuple(draw(st.permutations(records[:most_records])))


@st.composite
def _record(draw: st.DrawFn, book: Book, instants: Sequence[datetime], features: Features, burst: int) -> Usage:
    start = draw(st.sampled_from(instants)) + timedelta(minutes=draw(st.sampled_from([0, 0, 0, 15, 59])))
    return Usage(
        account_id=draw(st.sampled_from(book.accounts)).account_id,
        project_id=draw(st.sampled_from([None, "red", "blue", "loose"])),
        resource_id=draw(st.sampled_from([None, "vm-1", "vm-2", "disk-ä"])),
        resource_name=draw(st.sampled_from([None, "web", "=db"])),
        sku_id=draw(st.sampled_from(book.skus)).sku_id,
        region=draw(st.sampled_from([None, *REGIONS])),
        usage_start=start,
        usage_end=draw(st.sampled_from([None, start + timedelta(hours=1), start + timedelta(minutes=30)])),
        quantity=Decimal(0),
        unit=draw(st.sampled_from([None, "hour"])),
        tags=draw(st.sampled_from([None, {"team": "a"}, {"team": "b", "env": 'prod "ü"'}])),
        record_id=draw(st.sampled_from([None, f"meter-{burst}"])),
        attributes=draw(st.sampled_from([{}, *({"plan": plan} for plan in PLANS)])) if features == "everything" else {},
    )
