"""``/product-catalog/v2alpha1/public-catalog/products``: public prices of today."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ratemill.api.answers import Reading
from ratemill.api.scaleway.answers import answer
from ratemill.api.scaleway.directory import Known
from ratemill.api.scaleway.parameters import Asked, listed
from ratemill.api.scaleway.wire import NANOS_PER_UNIT, money

if TYPE_CHECKING:
    from collections.abc import Mapping

router = APIRouter(prefix="/product-catalog/v2alpha1/public-catalog", include_in_schema=False)

_UNITS = {
    "hours": "hour", "minutes": "minute", "seconds": "second", "days": "day", "months": "month", "years": "year",
    "gb": "gigabyte", "gib": "gigabyte", "requests": "request", "queries": "query", "tokens": "token", "ips": "ip",
    "devices": "device", "domains": "domain", "keys": "key", "nodes": "node", "emails": "email", "sessions": "session",
}  # fmt: skip
"""Pricing unit, in small letters → the dialect's word; there is none for the others."""
_STATUS = "general_availability"
_SIZES = (1, 1000, 1000**2, 1000**3)


@router.get("/products")
def list_products(request: Request, asked: Asked, known: Known, snapshot: Reading) -> Response:
    """Each public price that holds now, in the currencies that the key's organizations are invoiced in."""
    region, zone, datacenter = asked.text("region"), asked.text("zone"), asked.text("datacenter")
    is_global, statuses, types = asked.truth("global"), asked.texts("status"), asked.texts("product_types")
    page = asked.page()
    asked.refuse()
    currencies = {row["currency"] for row in known.accounts.values()}
    rows = [
        row
        for row in snapshot.rows("api/scaleway/catalogue", {"at": request.app.state.core.now()})
        if row["currency"] in currencies
        and (region is None or row["region"] == region)
        and (is_global is None or (row["region"] is None) == is_global)
        and not zone
        and not datacenter
        and (not statuses or _STATUS in statuses)
        and (not types or "unknown_product_type" in types)
    ]
    return answer(listed([_product(row) for row in rows], page, key="products"))


def _product(row: Mapping[str, Any]) -> dict[str, Any]:
    size, price = _sold(row["package_size"] or Decimal(1), row["unit_price"])
    notes = [row["name"], f"per {row['pricing_unit']}"]
    notes += ["first tier"] if row["tiers"] > 1 else []
    notes += [f"in {row['window']} hours"] if row["window"] else []
    return {
        "sku": row["sku_id"],
        "service_category": row["category"],
        "product_category": row["service"],
        "product": row["name"],
        "variant": ", ".join(text for text in (row["region"], row["window"]) if text),
        "description": ", ".join(notes),
        "locality": {"region": row["region"]} if row["region"] else {"global": True},
        "price": {"retail_price": money(price, row["currency"])},
        "properties": None,
        "environmental_impact_estimation": None,
        "unit_of_measure": {"unit": _UNITS.get(row["pricing_unit"].lower(), "unknown_countable_unit"), "size": size},
        "status": _STATUS,
        "badges": [],
        **dict.fromkeys(("end_of_sale_at", "end_of_growth_at", "end_of_life_at")),
    }


def _sold(size: Decimal, price: Decimal) -> tuple[int, Decimal]:
    """How many units are sold at once, and for how much: more of them where one costs less than a billionth.

    A price has twelve decimals at most, so a thousand units always do.
    """
    for factor in _SIZES:
        units, amount = size * factor, price * factor
        if units == units.to_integral_value() and (amount * NANOS_PER_UNIT) % 1 == 0:
            return int(units), amount
    return int(size * _SIZES[-1]), price * _SIZES[-1]
