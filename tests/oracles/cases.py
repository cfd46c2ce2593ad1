"""Cases of other billing systems as worlds: a book, usage, and what each month must come to.

:data:`CASES` can be asked of anything that rates a world; :data:`LATER` says why the other cases cannot be asked yet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from reference.model import Account, Book, PriceTier, Project, Sku, Tax, Usage, World, midnight

RAW: Sequence[Mapping[str, Any]] = json.loads((Path(__file__).parent / "pricing_cases.json").read_text("utf-8"))[
    "cases"
]

MONTH = "2026-05"
FIRST_HOUR = datetime(2026, 5, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What one month must come to; None: the case says nothing about it."""

    cost: Decimal | None = None
    """Sum of all charges but rounding."""
    cost_by_price: Mapping[str, Decimal] | None = None
    """The same per price version; versions that cost nothing may be missing."""
    untaxed: Decimal | None = None
    """Sum of the invoice's rounded lines."""
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
    why: str = field(default="")
    """How the case was translated, where it is not plain."""

    def world(self, period: str) -> World:
        return World(book=self.book, usage=self.usage, period=period, time_zone=self.time_zone)


COMMITMENTS = "commitments (part 3): "
CORRECTIONS = "after the close (part 4): "
LATER: Mapping[str, str] = {
    "OM-min-0": COMMITMENTS + "a minimum spend that is due without usage is a commitment with discount 0; a price's "
    "own minimum is due where there was usage",
    "OM-pct-then-max": "discounts (part 3): percentage first, then the cap",
    "FX-overage": COMMITMENTS + "dearer units beyond a committed amount",
    "LG-commit": COMMITMENTS + "prorated minimum commitment with a true-up line",
    "LG-spendmin": COMMITMENTS + "prorated minimum of a charge, with tax on the true-up",
    "LG-cn-20000": CORRECTIONS + "credit note for unused days",
    "LG-cn-2999": CORRECTIONS + "credit note for unused days",
}
"""Cases that cannot be asked yet, and which rules they wait for."""


# Translations --------------------------------------------------------------------------------------------------------


def _book(prices: Iterable[PriceTier], *, currency: str = "USD", projects: Iterable[str] = ()) -> Book:
    return Book(
        accounts=(Account(account_id="acme", currency=currency),),
        projects=tuple(Project(project_id=project, account_id="acme") for project in projects),
        skus=(Sku(sku_id="sku", usage_unit="unit", pricing_unit="unit"),),
        prices=tuple(prices),
        taxes=(Tax(tax_code="none", country="US", rate=Decimal(0), kind="outside_scope"),),
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
    "month_bucketing": _months,
    "round_half_up": _rounded,
    "round_each_line_then_sum": _rounded,
}
"""By the model of a case. A model that is missing here must be in :data:`LATER`."""

CASES: tuple[Case, ...] = tuple(
    Case(case_id=raw["id"], source=raw["source"], **TRANSLATIONS[raw["model"]](raw))
    for raw in RAW
    if raw["id"] not in LATER
)
