"""Which price version applies: price lists in order, then the row with the most conditions met, at an instant."""

from __future__ import annotations

import polars as pl

from ratemill.rating.owners import EVER, NEVER
from ratemill.tables.book import PUBLIC_PRICE_LIST

CONDITIONS = ["region"]
"""Columns of a price row that narrow it down; empty means any."""
KEY = ["price_lists", "currency", "sku_id", "region", "slot_start"]
"""What decides about a price. ``slot_start`` is an instant from which on the SKU's prices stay the same."""


def find_prices(keys: pl.DataFrame, prices: pl.DataFrame) -> pl.DataFrame:
    """The price version and the public one for each row of ``keys``.

    ``keys`` has the columns KEY, one row each. Comes back with price_id, unit_price, list_price_id and
    list_unit_price; null where nothing applies. Rules: docs/how-we-bill.md, "Price version".
    """
    contracted = _search(keys, prices).rename({"found_price_id": "price_id", "found_unit_price": "unit_price"})
    public = (
        _search(keys.with_columns(price_lists=pl.lit(PUBLIC_PRICE_LIST)).unique(), prices)
        .drop("price_lists")
        .rename({"found_price_id": "list_price_id", "found_unit_price": "list_unit_price"})
    )
    return contracted.join(
        public, on=[name for name in KEY if name != "price_lists"], how="left", nulls_equal=True, validate="m:1"
    )


def _search(keys: pl.DataFrame, prices: pl.DataFrame) -> pl.DataFrame:
    numbered = keys.with_row_index("key_number")
    wanted = _in_list_order(numbered)
    found = pl.concat([_applicable(wanted, prices, pattern) for pattern in _patterns(prices)])
    best = (
        found.sort("key_number", "list_rank", "conditions_met", descending=[False, False, True])
        .unique("key_number", keep="first", maintain_order=True)
        .select("key_number", "found_price_id", "found_unit_price")
    )
    return numbered.join(best, on="key_number", how="left", validate="1:1").drop("key_number")


def _in_list_order(numbered: pl.DataFrame) -> pl.DataFrame:
    """One row per key and price list to search, ranked; the public list comes last unless it was named."""
    lists = pl.col("price_lists").str.split(" ").list.eval(pl.element().filter(pl.element() != ""))
    return (
        numbered.with_columns(
            price_list=pl.when(lists.list.contains(PUBLIC_PRICE_LIST))
            .then(lists)
            .otherwise(lists.list.concat(pl.lit([PUBLIC_PRICE_LIST])))
        )
        .with_columns(list_rank=pl.int_ranges(pl.col("price_list").list.len()))
        .explode("price_list", "list_rank")
    )


def _patterns(prices: pl.DataFrame) -> list[tuple[str, ...]]:
    """The sets of conditions that occur, for example () and ("region",)."""
    flags = prices.select(pl.col(name).is_not_null() for name in CONDITIONS).unique().sort(CONDITIONS)
    patterns = [
        tuple(name for name, is_set in zip(CONDITIONS, row, strict=True) if is_set) for row in flags.iter_rows()
    ]
    return patterns or [()]


def _applicable(wanted: pl.DataFrame, prices: pl.DataFrame, pattern: tuple[str, ...]) -> pl.DataFrame:
    """Price versions with exactly these conditions that hold for the key at its instant.

    Versions of one pattern do not overlap (the book refuses that), so the latest one that started is the only
    candidate, and it applies if it has not ended: a sorted look-up, however many versions there are.
    """
    by = ["price_list", "sku_id", "currency", *pattern]
    is_pattern = pl.all_horizontal(
        pl.col(name).is_not_null() if name in pattern else pl.col(name).is_null() for name in CONDITIONS
    )
    versions = (
        prices.filter(is_pattern)
        .select(
            *by,
            pl.col("valid_from").fill_null(EVER),
            pl.col("valid_to").fill_null(NEVER),
            found_price_id="price_id",
            found_unit_price="unit_price",
        )
        .sort(*by, "valid_from")
    )
    return (
        wanted.sort(*by, "slot_start")
        .join_asof(
            versions, left_on="slot_start", right_on="valid_from", by=by, strategy="backward", check_sortedness=False
        )
        .filter(pl.col("found_price_id").is_not_null() & (pl.col("slot_start") < pl.col("valid_to")))
        .select("key_number", "list_rank", "found_price_id", "found_unit_price",
                conditions_met=pl.lit(len(pattern), dtype=pl.Int32))
    )  # fmt: skip


def why_unpriced(keys: pl.DataFrame, prices: pl.DataFrame) -> pl.DataFrame:
    """``keys`` (columns KEY) that found no price, with ``reason`` in words."""
    sold = prices.group_by("sku_id").agg(
        currencies=pl.col("currency").unique().sort().str.join(", "),
        price_lists_with=pl.col("price_list").unique().sort().str.join(", "),
    )
    in_currency = prices.select("sku_id", "currency").unique().with_columns(has_currency=pl.lit(True))
    explained = keys.join(sold, on="sku_id", how="left", validate="m:1").join(
        in_currency, on=["sku_id", "currency"], how="left", validate="m:1"
    )
    return explained.with_columns(
        reason=pl.when(pl.col("currencies").is_null())
        .then(pl.format("no price list has a price for SKU {}", "sku_id"))
        .when(pl.col("has_currency").is_null())
        .then(pl.format("SKU {} is priced in {}, the account is billed in {}", "sku_id", "currencies", "currency"))
        .otherwise(
            pl.format(
                "no price of SKU {} in {} applies at that time in region {} on the account's price lists (it is on:"
                " {})",
                "sku_id", "currency", pl.col("region").fill_null("(none)"), "price_lists_with",
            )
        )
    ).select(*KEY, "reason")  # fmt: skip
