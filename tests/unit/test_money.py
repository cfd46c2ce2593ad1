"""Decimal types, minor units and rounding: docs/how-we-bill.md, "Numbers"."""

from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratemill.money import (
    AMOUNT,
    COST,
    PRICE,
    QUANTITY,
    convert_quantity,
    exact_cost,
    is_currency,
    minor_unit_decimals,
    round_half_up,
    round_to_minor_unit,
)

# ISO 4217, list one: every currency in use and the decimals of its minor unit.
ISO_4217 = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF "
        "CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG "
        "HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR "
        "MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD "
        "SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG "
        "YER ZAR ZMW ZWG"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
MINOR_UNITS = [(code, decimals) for decimals, codes in ISO_4217.items() for code in codes.split()]


def evaluate(expression, **columns):
    """The expression's values over named columns of (values, dtype)."""
    frame = pl.DataFrame({name: pl.Series(values, dtype=dtype) for name, (values, dtype) in columns.items()})
    return frame.select(result=expression)["result"]


@pytest.mark.parametrize(("code", "decimals"), MINOR_UNITS)
def test_minor_unit_is_the_one_of_iso_4217(code, decimals):
    assert is_currency(code)
    assert minor_unit_decimals(code) == decimals


def test_amounts_can_hold_every_minor_unit():
    assert max(decimals for _, decimals in MINOR_UNITS) == AMOUNT.scale


@pytest.mark.parametrize("code", ["", "eur", "EURO", "€", "ZZZ", "BTC"])
def test_what_is_no_currency(code):
    assert not is_currency(code)


COSTS = [  # (quantity, unit price, exact product rounded half-even at 18 places)
    ("0.123456789012", "0.000000000001", "0.000000000000123457"),  # 19th place 7: up
    ("0.0000005", "0.000000000001", "0"),  # exactly half: to the even neighbour, 0
    ("0.0000015", "0.000000000001", "0.000000000000000002"),  # exactly half: to the even neighbour, 2
    ("-0.0000015", "0.000000000001", "-0.000000000000000002"),
    ("744", "0.0074", "5.5056"),
    ("0", "1", "0"),
]


@pytest.mark.parametrize(("quantity", "price", "cost"), COSTS)
def test_cost_is_rounded_once_half_even_at_18_places(quantity, price, cost):
    with localcontext(prec=76):
        assert Decimal(cost) == (Decimal(quantity) * Decimal(price)).quantize(Decimal("1e-18"), ROUND_HALF_EVEN)

    result = evaluate(
        exact_cost(pl.col("q"), pl.col("p")), q=([Decimal(quantity)], QUANTITY), p=([Decimal(price)], PRICE)
    )

    assert result.dtype == COST
    assert result[0] == Decimal(cost)


def decimals_with(places: int, digits: int):
    """Any decimal with so many places and at most so many digits before the point."""
    bound = 10 ** (places + digits) - 1
    return st.integers(-bound, bound).map(lambda units: Decimal(units).scaleb(-places))


@given(st.lists(st.tuples(decimals_with(12, 12), decimals_with(12, 7)), min_size=1, max_size=20))
def test_cost_agrees_with_python(pairs):
    quantities, prices = zip(*pairs, strict=True)
    result = evaluate(exact_cost(pl.col("q"), pl.col("p")), q=(quantities, QUANTITY), p=(prices, PRICE))
    with localcontext(prec=76):
        expected = [(q * p).quantize(Decimal("1e-18"), ROUND_HALF_EVEN) for q, p in pairs]
    assert result.to_list() == expected


@pytest.mark.parametrize(
    ("quantity", "price"),
    [
        (Decimal(10) ** 20, Decimal("0.01")),  # the quantity itself has no room at 18 places
        (Decimal(10) ** 19, Decimal(10)),  # the product has none
    ],
)
def test_a_cost_too_large_is_an_error_and_never_wraps(quantity, price):
    with pytest.raises(pl.exceptions.PolarsError, match=r"conversion from|overflow"):
        evaluate(exact_cost(pl.col("q"), pl.col("p")), q=([quantity], QUANTITY), p=([price], PRICE))


CONVERSIONS = [  # (usage quantity, units per pricing unit, pricing quantity)
    ("744", "744", "1"),
    ("1", "3", "0.333333333333"),
    ("2", "3", "0.666666666667"),
    ("0.000000000001", "2", "0"),  # exactly half: to the even neighbour
    ("0.000000000003", "2", "0.000000000002"),
    ("-0.000000000003", "2", "-0.000000000002"),
    ("1500000000", "1000000000", "1.5"),
    ("1", "730", "0.001369863014"),
]


@pytest.mark.parametrize(("usage", "divisor", "pricing"), CONVERSIONS)
def test_quantities_convert_half_even_at_12_places(usage, divisor, pricing):
    result = evaluate(
        convert_quantity(pl.col("q"), pl.col("d")), q=([Decimal(usage)], QUANTITY), d=([Decimal(divisor)], QUANTITY)
    )
    assert result.dtype == QUANTITY
    assert result[0] == Decimal(pricing)


@given(st.lists(st.tuples(decimals_with(12, 12), st.integers(1, 10**12)), min_size=1, max_size=20))
def test_conversion_agrees_with_python(pairs):
    quantities, divisors = zip(*pairs, strict=True)
    result = evaluate(
        convert_quantity(pl.col("q"), pl.col("d")),
        q=(quantities, QUANTITY),
        d=([Decimal(divisor) for divisor in divisors], QUANTITY),
    )
    with localcontext(prec=90):
        expected = [(q / d).quantize(Decimal("1e-12"), ROUND_HALF_EVEN) for q, d in pairs]
    assert result.to_list() == expected


ROUNDINGS = [  # (exact, decimals, on the invoice)
    ("0.005", 2, "0.01"),
    ("-0.005", 2, "-0.01"),  # away from zero: a credit mirrors its charge
    ("0.004999999999999999", 2, "0.00"),
    ("10.333333", 2, "10.33"),
    ("4.9728", 2, "4.97"),
    ("100.4", 0, "100"),
    ("200.5", 0, "201"),
    ("300.6", 0, "301"),
    ("0.0005", 3, "0.001"),
    ("0.00005", 4, "0.0001"),
]


@pytest.mark.parametrize(("exact", "decimals", "amount"), ROUNDINGS)
def test_invoice_rounding_is_half_away_from_zero(exact, decimals, amount):
    result = evaluate(round_half_up(pl.col("c"), decimals), c=([Decimal(exact)], COST))
    assert result.dtype == AMOUNT
    assert result[0] == Decimal(amount)


@given(st.lists(decimals_with(18, 12), min_size=1, max_size=20), st.integers(0, 4))
def test_rounding_agrees_with_python(values, decimals):
    result = evaluate(round_half_up(pl.col("c"), decimals), c=(values, COST))
    with localcontext(prec=76):
        assert result.to_list() == [value.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP) for value in values]


def test_each_row_rounds_to_its_own_currency():
    amounts = evaluate(
        round_to_minor_unit(pl.col("c"), pl.col("cur"), ["EUR", "JPY", "KWD", "CLF"]),
        c=([Decimal("0.50555")] * 5, COST),
        cur=(["EUR", "JPY", "KWD", "CLF", "USD"], pl.String),
    )
    # USD is not among the currencies given: null, which the invoice table's schema refuses
    assert amounts.to_list() == [Decimal("0.51"), Decimal(1), Decimal("0.506"), Decimal("0.5056"), None]
    assert amounts.dtype == AMOUNT
