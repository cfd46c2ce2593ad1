"""The one place where a lazy frame becomes data."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def collect(frame: pl.LazyFrame) -> pl.DataFrame:
    """The rows of ``frame``, computed by the streaming engine.

    Always this engine: a sum of decimals that overflows inside a ``group_by`` raises there, while the in-memory
    engine wraps it silently into a wrong amount (tests/unit/test_library_traps.py). Row order is not kept by joins
    and groups: sort by the table's key before writing.

    Raises:
        polars.exceptions.ComputeError: when a decimal overflows.
    """
    return frame.collect(engine="streaming")
