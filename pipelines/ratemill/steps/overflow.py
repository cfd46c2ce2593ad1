"""Amounts that no column can hold, told as the mistake in the data that they are."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import polars as pl

from ratemill.errors import DataRefusedError

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
