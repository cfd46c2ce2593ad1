"""Which price version applies, and at which exchange rate. Rules: docs/how-we-bill.md, "Price version".

The account's price lists are searched in order; the first with any applicable row decides. In it, rows in the
account's currency come before all others; among those the row with the most conditions wins. Only a list that has none
in the account's currency is converted, at the rate of the local day or the latest one before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ratemill.money import PRICE
from ratemill.rating.calendar import WINDOW_SEPARATOR
from ratemill.tables.book import PUBLIC_PRICE_LIST

if TYPE_CHECKING:
    from ratemill.rating.versions import PriceVersions

BASE_KEY = ["price_lists", "currency", "sku_id", "region", "windows", "slot_start"]
NO_PRICE = "no_price"
NO_EXCHANGE_RATE = "no_exchange_rate"


def price_key(versions: PriceVersions) -> list[str]:
    """Columns that decide about a price; ``slot_start`` is an instant from which the SKU's prices stay the same."""
    return [*BASE_KEY, *(name for name in versions.conditions if name not in ("region", "window"))]


def find_prices(rows: pl.DataFrame, versions: PriceVersions, fx_rates: pl.DataFrame) -> pl.DataFrame:
    """The price version and the public one for each combination of price key and local day that occurs in ``rows``.

    ``rows``: the columns of :func:`price_key` and local_date. Comes back with price_id, exchange_rate (empty where the
    price is in the account's currency), no_price (why there is none), list_price_id, list_exchange_rate.
    """
    key = price_key(versions)
    wanted = rows.select(*key, "local_date").unique()
    contracted = _search(wanted, key, versions, fx_rates)
    public_wanted = wanted.with_columns(price_lists=pl.lit(PUBLIC_PRICE_LIST)).unique()
    public = (
        _search(public_wanted, key, versions, fx_rates)
        .drop("price_lists", "no_price")
        .rename({"price_id": "list_price_id", "exchange_rate": "list_exchange_rate"})
    )
    shared = [name for name in [*key, "local_date"] if name != "price_lists"]
    return contracted.join(public, on=shared, how="left", nulls_equal=True, validate="m:1")


def _search(wanted: pl.DataFrame, key: list[str], versions: PriceVersions, fx_rates: pl.DataFrame) -> pl.DataFrame:
    """``wanted`` (key and local_date) with price_id, exchange_rate and no_price."""
    keys = wanted.select(key).unique().with_row_index("key_number")
    best = _best(_candidates(keys, versions, fx_rates))
    own = best.filter(~pl.col("foreign")).select("key_number", own_price_id="price_id")
    numbered = (
        wanted.join(keys, on=key, how="left", nulls_equal=True, validate="m:1")
        .join(own, on="key_number", how="left", validate="m:1")
        .with_row_index("wanted_number")
    )
    converted = _converted(numbered, best.filter("foreign"), fx_rates)
    found = numbered.join(converted, on="wanted_number", how="left", validate="1:1")
    return found.select(
        *key,
        "local_date",
        price_id=pl.coalesce("own_price_id", "foreign_price_id"),
        exchange_rate="exchange_rate",
        no_price=pl.when(pl.col("own_price_id").is_null() & pl.col("foreign_price_id").is_null()).then(
            pl.when("has_foreign").then(pl.lit(NO_EXCHANGE_RATE)).otherwise(pl.lit(NO_PRICE))
        ),
    )


def _candidates(keys: pl.DataFrame, versions: PriceVersions, fx_rates: pl.DataFrame) -> pl.DataFrame:
    """Every row that applies: key_number, list_rank, foreign, conditions_met, price_currency, price_id."""
    listed = _in_currencies(_in_list_order(keys), versions, fx_rates)
    return pl.concat([_applicable(listed, versions, pattern) for pattern in _patterns(versions)])


def _best(candidates: pl.DataFrame) -> pl.DataFrame:
    """Per key the winning row; several where only prices in foreign currencies are left."""
    ranked = candidates.with_columns(
        rank=pl.struct("list_rank", "foreign", -pl.col("conditions_met")).rank("dense").over("key_number")
        if candidates.height
        else pl.lit(1, dtype=pl.UInt32)
    )
    return ranked.filter(pl.col("rank") == 1)


def _in_list_order(keys: pl.DataFrame) -> pl.DataFrame:
    """One row per key and price list to search, ranked; the public list comes last unless it was named."""
    lists = pl.col("price_lists").str.split(" ").list.eval(pl.element().filter(pl.element() != ""))
    return (
        keys.with_columns(
            price_list=pl.when(lists.list.contains(PUBLIC_PRICE_LIST))
            .then(lists)
            .otherwise(lists.list.concat(pl.lit([PUBLIC_PRICE_LIST])))
        )
        .with_columns(list_rank=pl.int_ranges(pl.col("price_list").list.len()))
        .explode("price_list", "list_rank")
    )


def _in_currencies(listed: pl.DataFrame, versions: PriceVersions, fx_rates: pl.DataFrame) -> pl.DataFrame:
    """The same in the account's currency, and in each currency that the book has a rate with, of whatever date."""
    own = listed.with_columns(price_currency=pl.col("currency"), foreign=pl.lit(False))
    pairs = _both_directions(fx_rates).select("price_currency", "currency").unique()
    sold = versions.rows.select("price_list", "sku_id", pl.col("currency").alias("price_currency")).unique()
    foreign = (
        listed.join(pairs, on="currency", how="inner", validate="m:m")
        .join(sold, on=["price_list", "sku_id", "price_currency"], how="semi")
        .with_columns(foreign=pl.lit(True))
    )
    return pl.concat([own, foreign.select(own.columns)])


def _patterns(versions: PriceVersions) -> list[tuple[str, ...]]:
    """The sets of conditions that occur, for example () and ("region",)."""
    names = versions.conditions
    flags = versions.rows.select(pl.col(name).is_not_null() for name in names).unique().sort(names)
    patterns = [tuple(name for name, is_set in zip(names, row, strict=True) if is_set) for row in flags.iter_rows()]
    return patterns or [()]


def _applicable(listed: pl.DataFrame, versions: PriceVersions, pattern: tuple[str, ...]) -> pl.DataFrame:
    """Versions with exactly these conditions that hold for the key at its instant.

    Versions of one pattern do not overlap (the book refuses that), so the latest one that started is the only
    candidate, and it applies if it has not ended: a sorted look-up, however many versions there are.
    """
    by = ["price_list", "sku_id", "price_currency", *pattern]
    is_pattern = pl.all_horizontal(
        pl.col(name).is_not_null() if name in pattern else pl.col(name).is_null() for name in versions.conditions
    )
    offered = (
        versions.rows.filter(is_pattern)
        .rename({"currency": "price_currency"})
        .select(*by, "valid_from", "valid_to", "price_id")
        .sort(*by, "valid_from")
    )
    if "window" in pattern:
        listed = listed.with_columns(window=pl.col("windows").str.split(WINDOW_SEPARATOR)).explode("window")
    return (
        listed.sort(*by, "slot_start")
        .join_asof(
            offered, left_on="slot_start", right_on="valid_from", by=by, strategy="backward", check_sortedness=False
        )
        .filter(pl.col("price_id").is_not_null() & (pl.col("slot_start") < pl.col("valid_to")))
        .select(
            "key_number",
            "list_rank",
            "foreign",
            "price_currency",
            "price_id",
            conditions_met=pl.lit(len(pattern), dtype=pl.Int32),
        )
    )


def _converted(numbered: pl.DataFrame, foreign: pl.DataFrame, fx_rates: pl.DataFrame) -> pl.DataFrame:
    """wanted_number, foreign_price_id, exchange_rate, has_foreign: of equal rows the first currency with a rate."""
    offers = numbered.select("wanted_number", "key_number", "currency", "local_date").join(
        foreign.select("key_number", "price_currency", "price_id"), on="key_number", how="inner", validate="m:m"
    )
    rated = exchange_rates(offers, fx_rates).sort("wanted_number", "price_currency")
    first = (
        rated.filter(pl.col("exchange_rate").is_not_null())
        .unique("wanted_number", keep="first", maintain_order=True)
        .select("wanted_number", "exchange_rate", foreign_price_id="price_id")
    )
    return (
        offers.select("wanted_number")
        .unique()
        .join(first, on="wanted_number", how="left", validate="1:1")
        .with_columns(has_foreign=pl.lit(True))
    )


def exchange_rates(offers: pl.DataFrame, fx_rates: pl.DataFrame) -> pl.DataFrame:
    """``offers`` (price_currency, currency, local_date) with exchange_rate: what one price_currency is worth.

    The rate of the day, else the latest earlier one. Rates written that way round come first; only where there is none
    by that day the other way round is inverted, half-even at 12 places. No third currency is gone through.
    """
    rates = _both_directions(fx_rates)
    found = offers
    for is_inverse, name in ((False, "_straight"), (True, "_inverse")):
        known = (
            rates.filter(pl.col("is_inverse") == is_inverse)
            .select("price_currency", "currency", "date", pl.col("rate").alias(name))
            .sort("price_currency", "currency", "date")
        )
        found = found.sort("price_currency", "currency", "local_date").join_asof(
            known, left_on="local_date", right_on="date", by=["price_currency", "currency"], strategy="backward",
            check_sortedness=False,
        ).drop("date")  # fmt: skip
    return found.with_columns(exchange_rate=pl.coalesce("_straight", "_inverse")).drop("_straight", "_inverse")


def _both_directions(fx_rates: pl.DataFrame) -> pl.DataFrame:
    """price_currency, currency, date, rate, is_inverse: each rate as it is written, and turned round."""
    one = pl.lit(1).cast(PRICE)
    straight = fx_rates.select(
        price_currency="base", currency="quote", date="date", rate="rate", is_inverse=pl.lit(False)
    )
    inverse = fx_rates.select(
        price_currency="quote", currency="base", date="date", rate=one / pl.col("rate"), is_inverse=pl.lit(True)
    )
    return pl.concat([straight, inverse])


def why_unpriced(rows: pl.DataFrame, versions: PriceVersions) -> pl.DataFrame:
    """``rows`` (sku_id, currency, region, no_price) with ``reason`` in words."""
    sold = versions.rows.group_by("sku_id").agg(
        currencies=pl.col("currency").unique().sort().str.join(", "),
        sold_on=pl.col("price_list").unique().sort().str.join(", "),
    )
    own = versions.rows.select("sku_id", "currency").unique().with_columns(in_currency=pl.lit(True))
    explained = rows.join(sold, on="sku_id", how="left", validate="m:1").join(
        own, on=["sku_id", "currency"], how="left", validate="m:1"
    )
    return explained.with_columns(
        reason=pl.when(pl.col("no_price") == NO_EXCHANGE_RATE)
        .then(pl.format("the price of SKU {} is in another currency, and fx_rates has no rate to {} by then", "sku_id",
                        "currency"))
        .when(pl.col("currencies").is_null())
        .then(pl.format("no price list has a price for SKU {}", "sku_id"))
        .when(pl.col("in_currency").is_null())
        .then(pl.format("SKU {} is priced in {}, the account is billed in {}", "sku_id", "currencies", "currency"))
        .otherwise(
            pl.format(
                "no price of SKU {} in {} applies at that time in region {} on the account's price lists (it is on:"
                " {})",
                "sku_id", "currency", pl.col("region").fill_null("(none)"), "sold_on",
            )
        )
    ).drop("currencies", "sold_on", "in_currency")  # fmt: skip
