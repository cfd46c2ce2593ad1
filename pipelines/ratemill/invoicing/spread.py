"""An amount over rows, pro rata, in whole minor units, exactly: by largest remainder.

Everything here is a whole number of minor units in Int128 columns. Polars' Int128 wraps where it overflows, so the
numbers are kept far from it: an exact cost ends at 10^20, hence an amount at 10^24 of the smallest minor unit there is.
"""

from __future__ import annotations

import polars as pl

from ratemill.money import AMOUNT, minor_unit_decimals

WHOLE = pl.Int128()
"""A number of minor units."""

_AMOUNT_DECIMALS = 4
_LIMIT = 10**24
_CHUNK = 10**12
_PERCENT_UNITS = 100 * 10**12  # a percent has 12 places


def minor_units(currencies: pl.Series) -> pl.DataFrame:
    """One row per currency: currency, unit (its minor unit in units of an amount's last place: 1 is 10^-4)."""
    codes = currencies.unique().drop_nulls().sort()
    units = [10 ** (_AMOUNT_DECIMALS - minor_unit_decimals(code)) for code in codes]
    return pl.DataFrame({"currency": codes, "unit": units}, schema={"currency": pl.String, "unit": WHOLE})


def to_whole(amount: str) -> pl.Expr:
    """The amount as a whole number of the row's ``unit``; what is less than one is cut off (amounts below 0: added)."""
    return pl.col(amount).cast(AMOUNT).to_physical().cast(WHOLE) // pl.col("unit")


def to_amount(whole: str) -> pl.Expr:
    """A whole number of the row's ``unit`` as an amount."""
    last_place = pl.lit(f"0.{'0' * (_AMOUNT_DECIMALS - 1)}1").cast(AMOUNT)
    return ((pl.col(whole) * pl.col("unit")).cast(pl.Decimal(38, 0)) * last_place).cast(AMOUNT)


def percent_of(base: pl.Expr, percent: pl.Expr) -> pl.Expr:
    """Percent (at most 12 places) of a whole number of at least 0, rounded half-up to a whole number."""
    exact = base.cast(WHOLE) * percent.to_physical().cast(WHOLE)
    divisor = pl.lit(_PERCENT_UNITS, dtype=WHOLE)
    return exact // divisor + (2 * (exact % divisor) >= divisor).cast(WHOLE)


def spread(rows: pl.DataFrame) -> pl.DataFrame:
    """``rows`` with ``share``: each group's total over its rows, pro rata to base.

    ``rows``: group, total (the same on each row of a group, from 0 to the sum of its bases), base (above 0), both
    whole; line_number, which decides ties. Each row gets its exact share rounded down; what is left goes one by one
    to the rows that lost most, the smallest line_number first among equals. So shares add up to the total, each is
    less than one from its exact share, and none is above its base. Row order is not kept.

    Raises:
        OverflowError: when a group's bases add up to more than there are digits for.
    """
    if rows.height and rows.select(pl.col("base").sum().over("group").max()).item() >= _LIMIT:
        raise OverflowError(f"decimal amounts of more than {_LIMIT} minor units")
    whole, base, total = pl.col("whole"), pl.col("base"), pl.col("total")
    chunk = pl.lit(_CHUNK, dtype=WHOLE)
    # Long division of total × base by whole, twelve digits of the total at a time: the product would not fit.
    divided = (
        rows.with_columns(whole=base.sum().over("group"))
        .with_columns(high=(total // chunk) * base)
        .with_columns(low=(pl.col("high") % whole) * chunk + (total % chunk) * base)
        .with_columns(share=(pl.col("high") // whole) * chunk + pl.col("low") // whole, remainder=pl.col("low") % whole)
        .sort("group", "remainder", "line_number", descending=[False, True, False])
    )
    left_over = total - pl.col("share").sum().over("group")
    place = pl.int_range(pl.len()).over("group")
    return divided.with_columns(share=pl.col("share") + (place < left_over).cast(WHOLE)).drop(
        "whole", "high", "low", "remainder"
    )
