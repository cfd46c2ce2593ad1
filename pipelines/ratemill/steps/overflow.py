"""Amounts that no column can hold, told as the mistake in the data that they are."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import polars as pl

from ratemill.errors import DataRefusedError
from ratemill.frames import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def overflow_refused(what: str, where: Callable[[], str]) -> Iterator[None]:
    """Tell an overflow of DECIMAL(38,18) by ``what`` is too large, and ``where`` (asked only then) to look for it.

    Raises:
        DataRefusedError: in place of the overflow.
    """
    try:
        yield
    except (pl.exceptions.InvalidOperationError, pl.exceptions.ComputeError, OverflowError) as error:
        if "decimal" not in str(error).lower() and not isinstance(error, OverflowError):
            raise
        raise DataRefusedError(
            f"{what} does not fit into DECIMAL(38,18), which ends at 10^20; no invoice was drafted. {where()}"
            " → correct the usage, or the SKU's price and units_per_pricing_unit"
        ) from None


def largest_charge(charges: pl.LazyFrame) -> str:
    """The largest charge in words, to look for where a sum of charges overflows."""
    found = collect(charges.sort("cost", descending=True).head(1))
    if not found.height:
        return "It is no charge of usage: look at fees, adjustments and commitments"
    largest = found.row(0, named=True)
    return (
        f"The largest charge is {largest['cost'].normalize():f} {largest['currency']} for SKU {largest['sku_id']} of"
        f" account {largest['account_id']}, resource {largest['resource_id'] or '(none)'}, from"
        f" {largest['charge_start']:%Y-%m-%d %H:%M} UTC"
    )
