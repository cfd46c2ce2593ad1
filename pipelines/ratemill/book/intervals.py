"""Overlaps and holes of half-open validities, by one sort and one sweep per question.

Quadratic self-joins would be the shorter way and take hours on a book that changes prices every hour.
"""

from __future__ import annotations

import polars as pl

SINCE_EVER = -(2**62)
OPEN = 2**62


def with_bounds(rows: pl.DataFrame) -> pl.DataFrame:
    """Adds ``_index`` (position), ``_start`` and ``_end`` (microseconds); rows with an empty validity are left out."""
    return (
        rows.with_row_index("_index")
        .with_columns(
            _start=pl.col("valid_from").dt.epoch("us").fill_null(SINCE_EVER),
            _end=pl.col("valid_to").dt.epoch("us").fill_null(OPEN),
        )
        .filter(pl.col("_start") < pl.col("_end"))
    )


def overlaps(rows: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Rows that begin before an earlier one with the same keys has ended: ``_index`` and ``_earlier``.

    ``rows`` come from :func:`with_bounds`. Each row is named once, with the earlier row that ends last: linear in
    the rows however many pairs there are. Empty keys equal each other.
    """
    if rows.height <= 1:
        return no_pairs(rows)
    return _begun_too_early(rows, keys, earlier=pl.lit(True), later=pl.lit(True))


def cross_overlaps(left: pl.DataFrame, right: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Like :func:`overlaps`, where one row of the pair is of ``left`` and the other of ``right``."""
    if left.is_empty() or right.is_empty():
        return no_pairs(left)
    columns = [*keys, "_index", "_start", "_end"]
    both = pl.concat(
        [left.select(columns).with_columns(_left=pl.lit(True)), right.select(columns).with_columns(_left=pl.lit(False))]
    )
    return pl.concat(
        [
            _begun_too_early(both, keys, earlier=pl.col("_left"), later=~pl.col("_left")),
            _begun_too_early(both, keys, earlier=~pl.col("_left"), later=pl.col("_left")),
        ]
    )


def holes(rows: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Rows that begin after every earlier one with the same keys has ended: ``_index`` and ``_earlier``."""
    if rows.height <= 1:
        return no_pairs(rows)
    return _swept(rows, keys, earlier=pl.lit(True)).filter(pl.col("_start") > pl.col("_ended")).select(_PAIR)


def both_rows(rows: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Each pair once, as its later row with the columns of the earlier one behind ``_earlier``; in the rows' order."""
    if pairs.is_empty():
        after = {f"{name}_earlier": dtype for name, dtype in rows.schema.items() if name != "_index"}
        return pl.DataFrame(schema={**pairs.schema, **rows.schema, **after})
    earlier = rows.rename({name: f"{name}_earlier" for name in rows.columns})
    return (
        pairs.unique()
        .join(rows, on="_index", validate="m:1")
        .join(earlier, left_on="_earlier", right_on="_index_earlier", validate="m:1")
        .sort("_index", "_earlier")
    )


_PAIR = ("_index", "_earlier")


def no_pairs(rows: pl.DataFrame) -> pl.DataFrame:
    """What a sweep finds where nothing can meet, as in most tables of most books: a sweep would cost the same there."""
    return pl.DataFrame(schema=dict.fromkeys(_PAIR, rows.schema["_index"]))


def _begun_too_early(rows: pl.DataFrame, keys: list[str], *, earlier: pl.Expr, later: pl.Expr) -> pl.DataFrame:
    return _swept(rows, keys, earlier=earlier).filter(later & (pl.col("_start") < pl.col("_ended"))).select(_PAIR)


def _swept(rows: pl.DataFrame, keys: list[str], *, earlier: pl.Expr) -> pl.DataFrame:
    """Rows in order of their start, with the latest ``_ended`` among the rows before and that row's ``_earlier``.

    One running maximum over the whole frame: a group's number is worth more than any end, so it starts anew in each
    group. (A window function per group is ten times slower where groups are many.)
    """
    ordered = rows.sort(*keys, "_start", "_index").with_columns(
        _group=pl.struct(keys).rle_id().cast(pl.Int64), _position=pl.int_range(pl.len())
    )
    height = ordered.height + 1  # more than any rank
    worth = pl.when(earlier).then(pl.col("_group") * height + pl.col("_end").rank("dense"))
    latest = pl.when(worth == worth.cum_max()).then(pl.col("_position")).forward_fill().shift(1)
    before = ordered.with_columns(_latest=latest)
    same_group = pl.col("_group") == pl.col("_group").gather(pl.col("_latest"))
    return before.with_columns(
        _ended=pl.when(same_group).then(pl.col("_end").gather(pl.col("_latest"))),
        _earlier=pl.when(same_group).then(pl.col("_index").gather(pl.col("_latest"))),
    )
