"""Checks of SKUs: units that can be converted, and a price for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ratemill.book.rows import findings_for
from ratemill.findings import Finding, Severity
from ratemill.money import PLAIN_DECIMAL
from ratemill.tables.book import HOURS_IN_MONTH

if TYPE_CHECKING:
    from ratemill.book.model import Book


def units_can_be_converted(book: Book) -> list[Finding]:
    """``units_per_pricing_unit`` is a number above 0 of at most 12 decimals, or ``hours_in_month``."""
    units = pl.col("units_per_pricing_unit")
    is_number = units.str.contains(PLAIN_DECIMAL) & units.str.contains("[1-9]") & ~units.str.starts_with("-")
    return findings_for(
        book.skus.filter(~is_number & (units != HOURS_IN_MONTH)),
        rule="skus.units_per_pricing_unit",
        message=lambda row: (
            f"units_per_pricing_unit is {row['units_per_pricing_unit']!r}; expected a number above 0 with "
            f"at most 12 decimals, or {HOURS_IN_MONTH}"
        ),
        cure="write how many usage units one pricing unit has, for example 1024 for GiB sold by the TiB",
        column="units_per_pricing_unit",
    )


def skus_have_a_price(book: Book) -> list[Finding]:
    """Each SKU has a price on some list: its usage could not be billed."""
    return findings_for(
        book.skus.join(book.prices, on="sku_id", how="anti", maintain_order="left"),
        rule="skus.price",
        message=lambda row: f"SKU {row['sku_id']!r} has no price on any list; usage of it would be unpriced",
        cure="add a price, be it 0, or remove the SKU",
        column="sku_id",
        severity=Severity.WARNING,
    )


def price_skus_exist(book: Book) -> list[Finding]:
    """Prices are for SKUs of the book."""
    return findings_for(
        book.prices.join(book.skus, on="sku_id", how="anti", maintain_order="left"),
        rule="prices.sku_id",
        message=lambda row: f"price {row['price_id']!r} is for SKU {row['sku_id']!r}, which is not in the SKUs",
        cure="add the SKU, or mend its id",
        column="sku_id",
    )
