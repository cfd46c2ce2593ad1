"""Checks of price versions: agreement between tiers, tier shapes, overlaps and holes.

A *price version* is all rows of one ``price_id``. Which version prices a record: among the versions of the list, SKU
and currency that are valid and whose conditions (region, window, ``attr.*``; empty: any) hold, the one with the most
conditions set. Two versions with equally many conditions must therefore never be able to apply at the same instant.
"""

from __future__ import annotations

from itertools import combinations, count
from typing import TYPE_CHECKING

import polars as pl

from ratemill.book import intervals
from ratemill.book.model import SOURCE_DEFAULTS, SOURCE_FILE, SOURCE_ROW, Book
from ratemill.book.rows import Row, findings_for, instant, place, span
from ratemill.book.windows import hours_of_the_week
from ratemill.findings import Finding, Severity

if TYPE_CHECKING:
    from decimal import Decimal

_SOLD_AS = ["price_list", "sku_id", "currency"]
"""What a search for a price always fixes."""

_PER_VERSION = [
    *_SOLD_AS, "valid_from", "valid_to", "region", "window", "mode", "scope", "cap", "minimum", "flat_at_zero",
    "tier_reset",
]  # fmt: skip
"""What all tiers of a price version must agree on, besides ``attr.*``."""


def price_windows_exist(book: Book) -> list[Finding]:
    """Time windows named on prices are windows of the book."""
    return findings_for(
        book.prices.filter(pl.col("window").is_not_null()).join(
            book.windows, on="window", how="anti", maintain_order="left"
        ),
        rule="prices.window",
        message=lambda row: f"price {row['price_id']!r} is for window {row['window']!r}, which is not in the windows",
        cure="add the window to windows.csv, or mend its name",
        column="window",
    )


def price_is_given(book: Book) -> list[Finding]:
    """A row must say its price, be it 0: nothing is free because a cell was left empty."""
    left_empty = pl.col(SOURCE_DEFAULTS).fill_null("")
    return findings_for(
        book.prices.filter(
            left_empty.str.contains("unit_price ", literal=True) & left_empty.str.contains("flat_fee ", literal=True)
        ),
        rule="prices.price_given",
        message=lambda row: f"price {row['price_id']!r} gives neither unit_price nor flat_fee",
        cure="write the price; for something that is free, write 0",
        column="unit_price",
    )


def tiers_agree(book: Book) -> list[Finding]:
    """All tiers of a price version agree on everything that belongs to the version ("two currencies in one price")."""
    names = [*_PER_VERSION, *book.price_attributes]
    first = book.prices.unique("price_id", keep="first", maintain_order=True)
    differs = [pl.col(name).ne_missing(pl.col(f"{name}_first")) for name in names]
    rows = book.prices.join(first, on="price_id", how="left", suffix="_first", validate="m:1", maintain_order="left")
    found: list[Finding] = []
    for row in rows.filter(pl.any_horizontal(differs)).iter_rows(named=True):
        found += [_disagreement(row, name) for name in names if row[name] != row[f"{name}_first"]]
    return found


def _disagreement(row: Row, name: str) -> Finding:
    here, there = (("empty" if row[key] is None else str(row[key])) for key in (name, f"{name}_first"))
    return Finding(
        Severity.ERROR,
        f"prices.tiers_agree.{name}",
        f"price {row['price_id']!r} has {name} {here} here and {there} at {place(row, '_first')}; all rows of one "
        "price_id are tiers of one price",
        f"give both rows the same {name}, or another price_id",
        file=row[SOURCE_FILE],
        row=row[SOURCE_ROW],
        column=name,
        value=here,
    )


def tiers_are_whole(book: Book) -> list[Finding]:
    """Each price version has exactly one open tier, tiers of different bounds, and only one if it is per_unit."""
    tiers = book.prices.with_columns(
        _open=pl.col("up_to").is_null().sum().over("price_id"),
        _open_before=(pl.col("up_to").is_null().cum_sum() - pl.col("up_to").is_null()).over("price_id"),
        _repeated=pl.col("up_to").is_not_null() & pl.struct("price_id", "up_to").is_duplicated(),
        _last=pl.int_range(pl.len()).over("price_id") == pl.len().over("price_id") - 1,
    )
    per_unit = pl.col("mode") == "per_unit"
    bounded = findings_for(
        tiers.filter(per_unit & pl.col("up_to").is_not_null()),
        rule="prices.tiers.per_unit",
        message=lambda row: (
            f"price {row['price_id']!r} is per_unit, which has one price for every quantity, but this "
            f"row ends at {row['up_to'].normalize():f}"
        ),
        cure="leave up_to empty, or use mode graduated or volume",
        column="up_to",
    )
    closed = findings_for(
        tiers.filter(~per_unit & (pl.col("_open") == 0) & pl.col("_last")),
        rule="prices.tiers.open",
        message=lambda row: (
            f"price {row['price_id']!r} has no last tier: no row of it leaves up_to empty, so larger "
            "quantities would have no price"
        ),
        cure="leave up_to empty on the last tier",
        column="up_to",
    )
    several = findings_for(
        tiers.filter(pl.col("up_to").is_null() & (pl.col("_open_before") > 0)),
        rule="prices.tiers.open",
        message=lambda row: (
            f"price {row['price_id']!r} leaves up_to empty on more than one row; only the last tier is open"
        ),
        cure="give every tier but the last its up_to, or the rows different price_ids",
        column="up_to",
    )
    repeated = findings_for(
        tiers.filter(~per_unit & pl.col("_repeated")),
        rule="prices.tiers.bounds",
        message=lambda row: f"price {row['price_id']!r} has more than one tier up to {row['up_to'].normalize():f}",
        cure="give each tier its own up_to",
        column="up_to",
    )
    return [*bounded, *closed, *several, *repeated]


def per_unit_prices_are_plain(book: Book) -> list[Finding]:
    """A ``per_unit`` price is one number per unit; fees and packages belong to tiers, even where there is one tier."""
    per_unit = book.prices.filter(pl.col("mode") == "per_unit")
    found: list[Finding] = []
    for column, has_it in (
        ("flat_fee", pl.col("flat_fee") != 0),
        ("package_size", pl.col("package_size").is_not_null()),
        ("flat_at_zero", pl.col("flat_at_zero")),
    ):
        found += findings_for(
            per_unit.filter(has_it),
            rule=f"prices.per_unit.{column}",
            message=lambda row, column=column: (
                f"price {row['price_id']!r} is per_unit, which is quantity × unit_price and nothing else, but this "  # type: ignore[misc]
                f"row has {column} {_plain(row[column])}"
            ),
            cure=f"use mode graduated (one tier is enough: leave up_to empty), or leave {column} empty",
            column=column,
        )
    return found


def _plain(value: Decimal | bool) -> str:  # noqa: FBT001 - a cell
    return str(value).lower() if isinstance(value, bool) else f"{value.normalize():f}"


def flat_at_zero_has_a_fee(book: Book) -> list[Finding]:
    """``flat_at_zero`` asks for the first tier's flat fee without usage; without a fee it does nothing."""
    first = book.prices.sort("up_to", nulls_last=True, maintain_order=True).unique(
        "price_id", keep="first", maintain_order=True
    )
    return findings_for(
        first.filter((pl.col("mode") != "per_unit") & pl.col("flat_at_zero") & (pl.col("flat_fee") == 0)).sort(
            SOURCE_FILE, SOURCE_ROW
        ),
        rule="prices.flat_at_zero",
        message=lambda row: f"price {row['price_id']!r} has flat_at_zero, but its first tier has no flat_fee to be due",
        cure="give the first tier a flat_fee, or leave flat_at_zero empty",
        column="flat_at_zero",
        severity=Severity.WARNING,
    )


def cap_is_not_below_minimum(book: Book) -> list[Finding]:
    """Never more than the cap and never less than the minimum: the cap must not be the smaller."""
    return findings_for(
        book.prices.filter(pl.col("cap") < pl.col("minimum")),
        rule="prices.cap_below_minimum",
        message=lambda row: (
            f"price {row['price_id']!r} has a cap of {row['cap'].normalize():f} below its minimum of "
            f"{row['minimum'].normalize():f}"
        ),
        cure="raise the cap or lower the minimum",
        column="cap",
    )


def prices_do_not_overlap(book: Book) -> list[Finding]:
    """Two versions that are equally specific never apply to the same usage at the same instant."""
    versions = _versions(book)
    pairs = _ambiguous_pairs(_with_window_tokens(versions, book), book.price_conditions)
    return findings_for(
        intervals.both_rows(versions, pairs),
        rule="prices.overlap",
        message=lambda row: (
            f"price {row['price_id']!r} ({span(row)}) and price {row['price_id_earlier']!r} at "
            f"{place(row, '_earlier')} ({span(row, '_earlier')}) can both apply to SKU {row['sku_id']!r} on list "
            f"{row['price_list']!r} in {row['currency']}"
        ),
        cure="end the one where the other begins (valid_to is exclusive), or set one more condition on the one that "
        "is to win",
        column="valid_from",
    )


def prices_leave_no_hole(book: Book) -> list[Finding]:
    """Versions with the same conditions follow each other without a hole: usage in a hole may find no price."""
    versions = _versions(book)
    pairs = intervals.holes(versions, [*_SOLD_AS, *book.price_conditions])
    return findings_for(
        intervals.both_rows(versions, pairs),
        rule="prices.gap",
        message=lambda row: (
            f"SKU {row['sku_id']!r} on list {row['price_list']!r} has no price with these conditions "
            f"from {instant(row['valid_to_earlier'], empty='open')}, where price {row['price_id_earlier']!r} at "
            f"{place(row, '_earlier')} ends, to {instant(row['valid_from'], empty='ever')}, where price "
            f"{row['price_id']!r} begins"
        ),
        cure="let the earlier price end where this one begins, unless the hole is meant",
        column="valid_from",
        severity=Severity.WARNING,
    )


def _versions(book: Book) -> pl.DataFrame:
    """One row per price version (its first), with bounds."""
    return intervals.with_bounds(book.prices.unique("price_id", keep="first", maintain_order=True))


def _with_window_tokens(versions: pl.DataFrame, book: Book) -> pl.DataFrame:
    """``window`` replaced by tokens that two rows share just when their windows share an hour of the week.

    A window has a token of its own and one with each window it meets; a row is repeated for each token. So windows
    that meet can be found by equality, like every other condition.
    """
    hours = hours_of_the_week(book.windows)
    names = versions["window"].drop_nulls().unique().sort().to_list()
    numbers = count()
    tokens = {name: [next(numbers)] for name in names}
    for one, other in combinations(names, 2):
        if hours.get(one, 0) & hours.get(other, 0):
            shared = next(numbers)
            tokens[one].append(shared)
            tokens[other].append(shared)
    schema = pl.Schema([("window", pl.String()), ("_token", pl.List(pl.Int64))])
    table = pl.DataFrame([list(tokens), list(tokens.values())], schema=schema).explode("_token")
    return versions.join(table, on="window", how="left", maintain_order="left").with_columns(window="_token")


def _ambiguous_pairs(versions: pl.DataFrame, conditions: list[str]) -> pl.DataFrame:
    """Pairs of versions that can apply together and are equally specific: ``_index`` and ``_earlier``.

    Versions that set the same conditions meet where the values are equal. Versions that set different conditions,
    but equally many, meet where the values of those that both set are equal.
    """
    is_set = [pl.col(name).is_not_null() for name in conditions]
    versions = versions.with_columns(
        _mask=pl.concat_str([flag.cast(pl.Int8).cast(pl.String) for flag in is_set]),
        _count=pl.sum_horizontal(is_set),
    )
    by_mask = {str(mask): rows for (mask,), rows in versions.partition_by("_mask", as_dict=True).items()}
    pairs = [
        intervals.overlaps(rows, [*_SOLD_AS, *_set_in(mask, conditions)])  # sorted, for the same findings in any order
        for mask, rows in sorted(by_mask.items())
    ]
    masks = versions.select(*_SOLD_AS, "_count", "_mask").unique()
    meeting = (
        masks.join(masks, on=[*_SOLD_AS, "_count"], suffix="_other", nulls_equal=True)
        .filter(pl.col("_mask") < pl.col("_mask_other"))
        .select("_mask", "_mask_other")
        .unique()
        .sort("_mask", "_mask_other")
    )
    for mask, other in meeting.iter_rows():
        shared = [name for name in _set_in(mask, conditions) if name in _set_in(other, conditions)]
        pairs.append(intervals.cross_overlaps(by_mask[mask], by_mask[other], [*_SOLD_AS, *shared]))
    return pl.concat(pairs) if pairs else pl.DataFrame(schema={"_index": pl.UInt32, "_earlier": pl.UInt32})


def _set_in(mask: str, conditions: list[str]) -> list[str]:
    return [name for name, flag in zip(conditions, mask, strict=True) if flag == "1"]
