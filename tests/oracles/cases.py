"""Cases of other billing systems as worlds: a book, usage, and what each month must come to.

:data:`CASES` can be asked of anything that bills a world.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from reference.model import (
    Account,
    Book,
    Commitment,
    PriceTier,
    Project,
    Recurring,
    Sku,
    Tax,
    Usage,
    World,
    midnight,
)

RAW: Sequence[Mapping[str, Any]] = json.loads((Path(__file__).parent / "pricing_cases.json").read_text("utf-8"))[
    "cases"
]

MONTH = "2026-05"
NO_TAX = Tax(tax_code="none", country="US", rate=Decimal(0), kind="outside_scope")
FIRST_HOUR = datetime(2026, 5, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What one month must come to; None: the case says nothing about it."""

    cost: Decimal | None = None
    """Exact cost of the usage: usage, caps and minimums."""
    cost_by_price: Mapping[str, Decimal] | None = None
    """The same per price version; versions that cost nothing may be missing."""
    untaxed: Decimal | None = None
    """What is taxed: the invoice's lines, less what is taken off."""
    lines: tuple[Decimal, ...] | None = None
    """Amounts of the invoice's lines, in order."""
    tax: Decimal | None = None
    total: Decimal | None = None
    quantity: Decimal | None = None
    """Metered quantity of the month."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case: ask for each month of ``expected``."""

    case_id: str
    source: str
    book: Book
    usage: tuple[Usage, ...]
    expected: Mapping[str, Expected]
    time_zone: str = "UTC"
    billed: Book | None = None
    """The book with which the month was billed before: then what is expected is what ``book`` changes about it."""
    why: str = field(default="")
    """How the case was translated, where it is not plain."""

    def world(self, period: str) -> World:
        return World(book=self.book, usage=self.usage, period=period, time_zone=self.time_zone)

    def billed_world(self, period: str) -> World | None:
        """The month as it was billed before, if it was."""
        return None if self.billed is None else replace(self.world(period), book=self.billed)


# Translations --------------------------------------------------------------------------------------------------------


def _book(prices: Iterable[PriceTier], *, currency: str = "USD", projects: Iterable[str] = ()) -> Book:
    return Book(
        accounts=(Account(account_id="acme", currency=currency),),
        projects=tuple(Project(project_id=project, account_id="acme") for project in projects),
        skus=(Sku(sku_id="sku", usage_unit="unit", pricing_unit="unit"),),
        prices=tuple(prices),
        taxes=(NO_TAX,),
    )


def _tiers(price_id: str, tiers: Iterable[Mapping[str, Any]], mode: str, **common: Any) -> list[PriceTier]:
    return [
        PriceTier(
            price_id=price_id,
            sku_id="sku",
            mode=mode,
            up_to=None if tier["up_to"] is None else Decimal(tier["up_to"]),
            unit_price=Decimal(tier["unit"]),
            flat_fee=Decimal(tier.get("flat", "0")),
            package_size=None if tier.get("package") is None else Decimal(tier["package"]),
            **common,
        )
        for tier in tiers
    ]


def _used(quantity: str | Decimal, *, hour: int = 0, day: date | None = None, project: str | None = None) -> Usage:
    start = FIRST_HOUR if day is None else midnight(day)
    return Usage(
        account_id="acme",
        sku_id="sku",
        usage_start=start + timedelta(hours=hour),
        quantity=Decimal(quantity),
        project_id=project,
        resource_id="meter",
    )


Translation = Callable[[Mapping[str, Any]], dict[str, Any]]


def _month(cost: str | Decimal) -> dict[str, Expected]:
    return {MONTH: Expected(cost=Decimal(cost))}


def _tiered(mode: str) -> Translation:
    def translate(case: Mapping[str, Any]) -> dict[str, Any]:
        params = case["params"]
        prices = _tiers("price", params["tiers"], mode, flat_at_zero=params.get("flat_at_zero", False))
        return {
            "book": _book(prices),
            "usage": (_used(case["input"]["qty"]),),
            "expected": _month(case["expected"]),
        }

    return translate


def _package(case: Mapping[str, Any]) -> dict[str, Any]:
    params = case["params"]
    packages = [{"up_to": None, "unit": params["price"], "package": params["size"]}]
    free = [{"up_to": params["free_units"], "unit": "0"}] if params["free_units"] != "0" else []
    return {
        "book": _book(_tiers("price", [*free, *packages], "graduated")),
        "usage": (_used(case["input"]["qty"]),),
        "expected": _month(case["expected"]),
        "why": "free units are a first tier at 0",
    }


def _blocks(mode: str) -> Translation:
    def translate(case: Mapping[str, Any]) -> dict[str, Any]:
        tiers, bound = [], Decimal(0)
        for tier in case["params"]["tiers"]:
            bound += Decimal(tier["size"]) * Decimal(tier["max_blocks"])
            tiers.append({"up_to": bound, "unit": tier["price"], "package": tier["size"]})
        tiers[-1]["up_to"] = None
        return {
            "book": _book(_tiers("price", tiers, mode)),
            "usage": (_used(case["input"]["qty"]),),
            "expected": _month(case["expected"]),
            "why": "a tier of so many blocks of a size ends at their product above the former tier",
        }

    return translate


def _capped(case: Mapping[str, Any]) -> dict[str, Any]:
    params = case["params"]
    billed = Decimal(params["already_billed"])
    price = PriceTier(
        price_id="price", sku_id="sku", unit_price=Decimal(params["unit"]), cap=Decimal(params["maximum"])
    )
    return {
        "book": _book([price]),
        "usage": (_used(billed / Decimal(params["unit"])), _used(case["input"]["qty"], hour=30)),
        "expected": _month(billed + Decimal(case["expected"])),
        "why": "what was billed before is usage of the same month, so the month comes to both together",
    }


def _rebilled(case: Mapping[str, Any]) -> dict[str, Any]:
    params = case["params"]
    tiers = [{"up_to": None, "unit": params["price"], "package": params["size"]}]
    return {
        "book": _book(_tiers("price", tiers, "graduated")),
        "usage": (_used("130"), _used(Decimal(case["input"]["qty"]) - 130, hour=30)),
        "expected": _month(Decimal(params["already_billed"]) + Decimal(case["expected"])),
        "why": "130 and then 271 units, as the note says; the month comes to what was and what is billed",
    }


def _repriced(case: Mapping[str, Any]) -> dict[str, Any]:
    billed = Decimal(150)
    return {
        "book": _book(_tiers("price", case["params"]["tiers"], "volume")),
        "usage": (_used(case["input"]["new_qty"]),),
        "expected": _month(billed + Decimal(case["expected"])),
        "why": "the month's new cost: the 150 that the note says were billed, and the correction",
    }


def _late(case: Mapping[str, Any]) -> dict[str, Any]:
    unit, given = Decimal(case["params"]["unit"]), {name: Decimal(text) for name, text in case["input"].items()}
    second = given["cum_now"] - given["p1_now"]
    return {
        "book": _book([PriceTier(price_id="price", sku_id="sku", unit_price=unit)]),
        "usage": (_used(given["p1_now"]), _used(second, day=date(2026, 6, 3))),
        "expected": {
            MONTH: Expected(cost=given["p1_billed"] * unit + 20),
            "2026-06": Expected(cost=Decimal(case["expected"]) - 20),
        },
        "why": "the first month's new cost (what was billed, and 20 more) and the second month's own 30",
    }


def _versions(case: Mapping[str, Any]) -> dict[str, Any]:
    params = case["params"]
    change = midnight(date.fromisoformat(params["v2_from"]))
    first = _tiers("v1", params["v1"], "graduated", valid_to=change)
    second = _tiers("v2", params["v2"], "graduated", valid_from=change)
    by_price = dict(zip(("v1", "v2"), map(Decimal, case["expected"]), strict=True))
    return {
        "book": _book([*first, *second]),
        "usage": tuple(_used(quantity, day=date.fromisoformat(day)) for day, quantity in case["input"]["usage"]),
        "expected": {params["v2_from"][:7]: Expected(cost_by_price=by_price, cost=sum(by_price.values(), Decimal(0)))},
    }


def _months(case: Mapping[str, Any]) -> dict[str, Any]:
    zone = ZoneInfo(case["params"]["tz"])
    local = [datetime.fromisoformat(text).replace(tzinfo=zone) for text in case["input"]["local_ts"]]
    usage = tuple(
        Usage(account_id="acme", sku_id="sku", usage_start=instant.astimezone(UTC), quantity=Decimal(1))
        for instant in local
    )
    expected = {
        month: Expected(quantity=Decimal(count), cost=Decimal(count)) for month, count in case["expected"].items()
    }
    price = PriceTier(price_id="price", sku_id="sku", unit_price=Decimal(1))
    return {"book": _book([price]), "usage": usage, "expected": expected, "time_zone": case["params"]["tz"]}


def _rounded(case: Mapping[str, Any]) -> dict[str, Any]:
    currency = case["params"]["currency"]
    lines = case["input"].get("lines") or [case["input"]["amount"]]
    projects = [f"project-{number:03d}" for number in range(len(lines))]
    price = PriceTier(price_id="price", sku_id="sku", currency=currency, unit_price=Decimal(1))
    return {
        "book": _book([price], currency=currency, projects=projects),
        "usage": tuple(_used(amount, project=project) for amount, project in zip(lines, projects, strict=True)),
        "expected": {
            MONTH: Expected(cost=sum(map(Decimal, lines), Decimal(0)), untaxed=Decimal(case["expected"])),
        },
        "why": "an amount is that much usage at a price of 1; each project has a line of its own",
    }


def _cents(number: int | str) -> Decimal:
    return Decimal(number).scaleb(-2)


def _committed(cents: int | Decimal, *, since: date | None = None) -> Commitment:
    amount = cents if isinstance(cents, Decimal) else _cents(cents)
    return Commitment(
        commitment_id="commitment",
        account_id="acme",
        amount=amount,
        valid_from=None if since is None else midnight(since),
    )


def _minimum_spend(case: Mapping[str, Any]) -> dict[str, Any]:
    minimum = Decimal(case["params"]["minimum"])
    tiers = [{"up_to": None, "unit": "15", "package": "10"}]
    book = _book(_tiers("price", tiers, "graduated"))
    return {
        "book": replace(book, commitments=(_committed(minimum),)),
        "usage": (),
        "expected": {MONTH: Expected(untaxed=Decimal(case["expected"]), lines=(minimum,))},
        "why": "due without usage, which a price's own minimum is not: a commitment without a discount",
    }


def _discounted_then_capped(case: Mapping[str, Any]) -> dict[str, Any]:
    params = case["params"]
    unit, billed = Decimal(params["unit"]), Decimal(params["already_billed"])
    contract = unit * (100 - Decimal(params["discount_pct"])) / 100
    prices = [
        PriceTier(price_id="public", sku_id="sku", unit_price=unit),
        PriceTier(
            price_id="price", sku_id="sku", unit_price=contract, cap=Decimal(params["maximum"]), price_list="deal"
        ),
    ]
    book = _book(prices)
    return {
        "book": replace(book, accounts=(replace(book.accounts[0], price_lists=("deal",)),)),
        "usage": (_used(billed / contract), _used(case["input"]["qty"], hour=30)),
        "expected": _month(billed + Decimal(case["expected"])),
        "why": "a cap is a part of the price, and discounts come after prices: a percent that comes before the cap is a "
        "price of the contract, 5 in place of 10. (As a row of discounts it would halve what the cap left: 50.) What "
        "was billed before is usage of the same month",
    }


def _overage(case: Mapping[str, Any]) -> dict[str, Any]:
    params = case["params"]
    committed = Decimal(params["commitment"])
    tiers = [{"up_to": committed, "unit": "1"}, {"up_to": None, "unit": params["factor"]}]
    book = _book(_tiers("price", tiers, "graduated"))
    expected = Decimal(case["expected"])
    return {
        "book": replace(book, commitments=(_committed(committed),)),
        "usage": (_used(case["input"]["usage_cost"]),),
        "expected": {MONTH: Expected(untaxed=expected, lines=(expected,))},
        "why": "at a price of 1 the amount is the quantity, so the dearer price past the committed amount is a second "
        "tier. That is the rule for one SKU; a commitment itself never makes usage dearer, so an overage over several "
        "SKUs together has no rule here",
    }


def _true_up(case: Mapping[str, Any]) -> dict[str, Any]:
    """29 days is February 2024; two of them are left on the 28th."""
    params, month, since = case["params"], "2024-02", date(2024, 2, 28)
    book = _book([
        PriceTier(price_id="price", sku_id="sku", unit_price=Decimal(1)),
        PriceTier(price_id="subscription", sku_id="z-sub", unit_price=_cents(params["sub_fee_cents"])),
    ])  # fmt: skip
    subscription = Sku(sku_id="z-sub", usage_unit="hour", pricing_unit="month", units_per_pricing_unit="hours_in_month")
    committed = _committed(params["commitment_cents"], since=since)
    used = replace(_used(_cents(params["usage_cents"])), usage_start=midnight(since))
    true_up, usage, fee = _cents(case["expected"]), _cents(params["usage_cents"]), _cents(690)
    return {
        "book": replace(book, skus=(*book.skus, subscription), commitments=(committed,)),
        "usage": (used, replace(used, sku_id="z-sub", quantity=Decimal(24 * params["active_days"]))),
        "expected": {month: Expected(lines=(usage, fee, true_up), untaxed=usage + fee + true_up)},
        "why": "only usage counts towards a commitment, so the subscription is metered: 48 of the 696 hours of the "
        "month. (As a recurring fee it would not count, and the true-up would be larger by it.)",
    }


def _true_up_with_tax(case: Mapping[str, Any]) -> dict[str, Any]:
    """28 days is February 2026; 25 of them are left on the 4th."""
    params, month, since = case["params"], "2026-02", date(2026, 2, 4)
    book = _book([PriceTier(price_id="price", sku_id="sku", unit_price=Decimal(1))])
    used, expected = _cents(params["fee_cents"]), {name: _cents(value) for name, value in case["expected"].items()}
    return {
        "book": replace(
            book,
            taxes=(Tax(tax_code="vat", country="US", rate=Decimal(params["tax_pct"])),),
            commitments=(_committed(params["min_cents"], since=since),),
        ),
        "usage": (replace(_used(used), usage_start=midnight(since)),),
        "expected": {
            month: Expected(
                lines=(used, expected["true_up"]),
                untaxed=used + expected["true_up"],
                tax=expected["tax_usage"] + expected["tax_true_up"],
                total=expected["total"],
            )
        },
        "why": "the minimum is of the one charge that there is. Tax is rounded once on both lines: 178.6 is 179, which "
        "160 and 19 add up to as well",
    }


def _unused_days(case: Mapping[str, Any]) -> dict[str, Any]:
    """Of 30 days, 1 was used: April. Of 7 days, 1 was used: in the same proportion, 4 of the 28 of February."""
    params = case["params"]
    month, days = {30: ("2026-04", 30), 7: ("2026-02", 28)}[params["days"]]
    used = days - days * params["days_left"] // params["days"]
    fee = Recurring(
        recurring_id="fee", account_id="acme", amount=_cents(params["amount_cents"]), description="Subscription"
    )
    ended = replace(fee, valid_to=midnight(date.fromisoformat(f"{month}-{used + 1:02d}")))
    book = replace(_book([]), taxes=(Tax(tax_code="vat", country="US", rate=Decimal(params["tax_pct"])),))
    expected = {name: -_cents(value) for name, value in case["expected"].items()}
    return {
        "book": replace(book, recurring=(ended,)),
        "billed": replace(book, recurring=(fee,)),
        "usage": (),
        "expected": {
            month: Expected(untaxed=expected["subtotal"], tax=expected["tax"], total=expected["total"]),
        },
        "why": "a fee that turns out to end early; what was billed for the whole month is credited",
    }


TRANSLATIONS: Mapping[str, Translation] = {
    "graduated": _tiered("graduated"),
    "volume": _tiered("volume"),
    "package": _package,
    "graduated_blocks": _blocks("graduated"),
    "volume_blocks": _blocks("volume"),
    "maximum_spend": _capped,
    "rebill_delta": _rebilled,
    "volume_repricing": _repriced,
    "late_usage": _late,
    "price_versions": _versions,
    "price_versions_tiers_reset_per_version": _versions,
    "minimum_spend": _minimum_spend,
    "discount_then_cap": _discounted_then_capped,
    "commitment_overage": _overage,
    "min_commitment_true_up": _true_up,
    "charge_minimum_true_up": _true_up_with_tax,
    "credit_note_unused_days": _unused_days,
    "month_bucketing": _months,
    "round_half_up": _rounded,
    "round_each_line_then_sum": _rounded,
}
"""By the model of a case; every model has one."""

CASES: tuple[Case, ...] = tuple(
    Case(case_id=raw["id"], source=raw["source"], **TRANSLATIONS[raw["model"]](raw)) for raw in RAW
)
