"""CSV for spreadsheets: text that cannot become a formula, numbers that stay exact."""

from __future__ import annotations

import io

import polars as pl

_STARTS_A_FORMULA = r"^([=+\-@\t\r\n\x00\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}])"
"""OWASP's list, with the full-width signs that some spreadsheet locales take for the ASCII ones."""


def spreadsheet_csv(frame: pl.DataFrame) -> bytes:
    """``frame`` as UTF-8 with byte order mark, CRLF, one header row.

    A text cell that a spreadsheet would take for a formula starts with an apostrophe. Numbers stay numbers, without
    trailing zeros, also negative ones. For machines there are JSON and the published tables.
    """
    decimals = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Decimal) and dtype.scale]
    safe = frame.with_columns(pl.col(pl.String).str.replace(_STARTS_A_FORMULA, "'${1}")).with_columns(
        pl.col(decimals).cast(pl.String).str.strip_chars_end("0").str.strip_chars_end(".")
    )
    buffer = io.BytesIO()
    safe.write_csv(buffer, include_bom=True, line_terminator="\r\n", quote_style="necessary")
    return buffer.getvalue()
