"""A table as one file for other systems: Parquet, or CSV as programs read it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

import polars as pl

from ratemill.io.atomic import write_file

if TYPE_CHECKING:
    from pathlib import Path

    from ratemill.tables.columns import Table

FileFormat = Literal["csv", "parquet"]
_ROW_GROUP = 250_000


def write_table(path: Path, table: Table, rows: pl.DataFrame, file_format: FileFormat) -> None:
    """Write ``rows`` with the table's columns and types, whole or not at all; equal rows give equal bytes.

    CSV is RFC 4180 in UTF-8: a header, LF, an empty field for what is not known, every digit of a number but zeros at
    the end of its fraction, days as 2026-10-31. Values are as they are: for programs, not made safe for spreadsheets.

    Raises:
        TemporaryError, UsageError: as :func:`ratemill.io.atomic.write_file`.
    """
    ordered = rows.pipe(table.conform).rechunk()
    buffer = io.BytesIO()
    if file_format == "parquet":
        ordered.write_parquet(buffer, compression="zstd", row_group_size=_ROW_GROUP)
    else:
        decimals = [name for name, dtype in ordered.schema.items() if isinstance(dtype, pl.Decimal) and dtype.scale]
        texts = ordered.with_columns(pl.col(decimals).cast(pl.String).str.replace(r"\.?0+$", ""))
        texts.write_csv(buffer, quote_style="necessary", null_value="")
    write_file(path, buffer.getvalue())
