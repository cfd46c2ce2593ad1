"""Decimal types and the only places where a number is multiplied, divided or rounded.

Source of the rules: docs/how-we-bill.md, "Numbers". Polars keeps the larger scale of two decimal operands and
rounds half-even, so the *scale of the operands* decides the rounding; these helpers make that visible.
tests/unit/test_library_traps.py pins each behaviour this module leans on.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal, localcontext
from functools import cache

import polars as pl
from babel.core import get_global

QUANTITY = pl.Decimal(38, 12)
"""Usage and pricing quantities."""
PRICE = pl.Decimal(38, 12)
"""Unit prices, flat fees, caps, minimums."""
COST = pl.Decimal(38, 18)
"""Exact cost before invoice rounding."""
AMOUNT = pl.Decimal(38, 4)
"""Money on an invoice, already rounded to the currency's minor unit (at most 4 decimals in ISO 4217)."""

QUANTITY_DECIMALS = 12
PRICE_DECIMALS = 12
COST_DECIMALS = 18


def plain_decimal(decimals: int) -> str:
    """Pattern of text that is a number of so many decimals exactly: nothing is rounded, no exponent, no separators."""
    return rf"^-?[0-9]{{1,26}}(\.[0-9]{{1,{decimals}}}0*)?$"


PLAIN_DECIMAL = plain_decimal(QUANTITY_DECIMALS)
"""Text that is a DECIMAL(38,12) exactly."""

ZERO = Decimal(0)


def exact_cost(quantity: pl.Expr, unit_price: pl.Expr) -> pl.Expr:
    """Quantity × unit price, rounded half-even once at 18 places; overflow raises.

    The quantity is widened to 18 places first, else Polars would round the product to 12.
    """
    return quantity.cast(COST) * unit_price.cast(PRICE)


def scaled_price(price: pl.Expr, factor: pl.Expr) -> pl.Expr:
    """Price × factor (1.05: five percent more), rounded half-even once at 12 places; overflow raises."""
    return price.cast(PRICE) * factor.cast(PRICE)


def percent_of(part: Decimal, whole: Decimal, *, decimals: int = 1) -> Decimal | None:
    """``part`` in percent of ``whole``, rounded half away from zero; None unless ``whole`` is above zero."""
    if whole <= 0:
        return None
    with localcontext(prec=80):
        return (part * 100 / whole).quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP)


def convert_quantity(quantity: pl.Expr, divisor: pl.Expr) -> pl.Expr:
    """Usage quantity ÷ units per pricing unit, rounded half-even at 12 places."""
    return quantity.cast(QUANTITY) / divisor.cast(QUANTITY)


def round_half_up(value: pl.Expr, decimals: int) -> pl.Expr:
    """Round half away from zero to ``decimals`` places (invoice rounding), at the scale of an amount."""
    return value.round(decimals, mode="half_away_from_zero").cast(AMOUNT)


def round_to_minor_unit(value: pl.Expr, currency: pl.Expr, currencies: list[str]) -> pl.Expr:
    """Round half away from zero to each row's currency's minor unit.

    ``currencies`` lists the codes that occur; a row in another currency becomes null, which the caller's
    not-null schema refuses.
    """
    rounded = pl.lit(None, dtype=AMOUNT)
    for code in currencies:
        rounded = pl.when(currency == code).then(round_half_up(value, minor_unit_decimals(code))).otherwise(rounded)
    return rounded


def percent_of_amount(amount: Decimal, percent: Decimal) -> Decimal:
    """Percent of an amount, exact: 80 percent of 12.50 is 10."""
    with localcontext(prec=80):
        return (amount * percent).scaleb(-2)


def percent_reached(part: Decimal, whole: Decimal) -> Decimal:
    """``part`` in percent of ``whole`` (above zero), to one decimal, rounded down: 99.99 is not yet all."""
    with localcontext(prec=80):
        return (part * 100 / whole).quantize(Decimal("0.1"), ROUND_FLOOR)


def rounded_amount(value: Decimal, currency: str) -> Decimal:
    """A number rounded half away from zero to the minor unit of ``currency``."""
    with localcontext(prec=80):
        return value.quantize(Decimal(1).scaleb(-minor_unit_decimals(currency)), ROUND_HALF_UP)


def scaled(value: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """``value`` × part ÷ whole, to 18 places; the value itself where the whole is zero."""
    with localcontext(prec=80):
        return (value * part / whole).quantize(Decimal(1).scaleb(-COST_DECIMALS)) if whole else value


def part_by_days(cost: pl.Expr, days: pl.Expr, of_days: pl.Expr) -> pl.Expr:
    """The part of a cost that ``days`` of ``of_days`` whole days bear, rounded half-even at 18 places."""
    part = cost.cast(COST) * days.cast(COST) / of_days.cast(COST)
    return pl.when(days >= of_days).then(cost.cast(COST)).otherwise(part)


@cache
def minor_unit_decimals(currency: str) -> int:
    """Decimals of a currency's minor unit (JPY 0, EUR 2, KWD 3).

    Source: ISO 4217. CLDR lists some currencies with the decimals of their cash in use (e.g. 0 for HUF and IDR),
    where ISO says 2; the ISO figures of those are given here.
    """
    if currency in _ISO_4217_OVER_CLDR:
        return _ISO_4217_OVER_CLDR[currency]
    fractions = get_global("currency_fractions")
    return int(fractions.get(currency, fractions["DEFAULT"])[0])


def is_currency(code: str) -> bool:
    """Whether ``code`` is an ISO 4217 alphabetic code known to the Unicode CLDR."""
    return code in get_global("all_currencies")


# ISO 4217 list one (2024-06): exponents where CLDR's "digits" follow daily use instead of the standard.
_ISO_4217_OVER_CLDR = {
    "AFN": 2,
    "ALL": 2,
    "HUF": 2,
    "IDR": 2,
    "IQD": 3,
    "IRR": 2,
    "KPW": 2,
    "LAK": 2,
    "LBP": 2,
    "MGA": 2,
    "MMK": 2,
    "MRU": 2,
    "RSD": 2,
    "SLE": 2,
    "SOS": 2,
    "STN": 2,
    "SYP": 2,
    "TZS": 2,
    "UZS": 2,
    "YER": 2,
    "ZMW": 2,
}
