"""The book as frames: what a provider sells, to whom, at which price and tax."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING

import polars as pl

from ratemill.tables.book import BOOK_TABLES, BUDGETS, COUPONS, EVERY_BOOK_TABLE, MEMBERS, PRICES, SUBSCRIPTIONS
from ratemill.tables.columns import INSTANT, TEXT, Column, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

SOURCE_FILE = "source_file"
SOURCE_ROW = "source_row"
SOURCE_DEFAULTS = "source_defaults"
SOURCE_SCHEMA = pl.Schema({SOURCE_FILE: TEXT, SOURCE_ROW: pl.Int64, SOURCE_DEFAULTS: TEXT})
"""Where a row came from, behind the columns of the contract: the file as messages name it, the line an editor shows,
and the columns the file left empty that got their default, each followed by a space."""

_TABLES = {table.name: table for table in EVERY_BOOK_TABLE}


def without_rows(table: Table) -> pl.DataFrame:
    """The frame of a table that has no file."""
    return _no_rows(table.name).clone()


@cache
def _no_rows(table: str) -> pl.DataFrame:
    """Made once a table: most books leave a dozen of them empty, and making one takes longer than most queries."""
    return pl.DataFrame(schema={**_TABLES[table].polars_schema, **SOURCE_SCHEMA})


@dataclass(frozen=True, eq=False)
class Book:
    """Every table of the book: the columns of its contract, then prices' ``attr.*``, then :data:`SOURCE_SCHEMA`.

    ``book.prices.select(PRICES.names)`` is the contract alone. Compare books by :attr:`sha256`.
    """

    accounts: pl.DataFrame
    projects: pl.DataFrame
    skus: pl.DataFrame
    prices: pl.DataFrame
    windows: pl.DataFrame
    discounts: pl.DataFrame
    commitments: pl.DataFrame
    credits: pl.DataFrame
    recurring: pl.DataFrame
    adjustments: pl.DataFrame
    taxes: pl.DataFrame
    fx_rates: pl.DataFrame
    members: pl.DataFrame = field(default_factory=partial(without_rows, MEMBERS))
    budgets: pl.DataFrame = field(default_factory=partial(without_rows, BUDGETS))
    subscriptions: pl.DataFrame = field(default_factory=partial(without_rows, SUBSCRIPTIONS))
    coupons: pl.DataFrame = field(default_factory=partial(without_rows, COUPONS))

    @classmethod
    def of(cls, **frames: pl.DataFrame) -> Book:
        """A book of the given tables; the others are empty.

        Columns that have a default or may be null can be left out, and so can where the rows came from.

        Raises:
            KeyError: for a name that is no table of the book.
            pandera.errors.SchemaErrors: for a frame that breaks its contract.
        """
        for name in frames:
            _TABLES[name]  # an unknown table is a mistake of the caller
        return cls(
            **{
                name: _completed(table, frames[name]) if name in frames else without_rows(table)
                for name, table in _TABLES.items()
            }
        )

    def frame(self, table: str) -> pl.DataFrame:
        """The frame of a table, by name."""
        frame: pl.DataFrame = getattr(self, table)
        return frame

    def filled(self, tables: Iterable[str]) -> list[str]:
        """Those of ``tables`` that have rows. Most books leave most tables empty, and a check of nothing costs time."""
        return [table for table in tables if not self.frame(table).is_empty()]

    @property
    def price_attributes(self) -> list[str]:
        """Names of the ``attr.*`` columns of the prices, sorted."""
        return sorted(name for name in self.prices.columns if name.startswith(str(PRICES.open_prefix)))

    @property
    def price_conditions(self) -> list[str]:
        """Columns that narrow a price down; empty means any: region, window, and every ``attr.*``."""
        return ["region", "window", *self.price_attributes]

    @property
    def conditions_of_prices(self) -> dict[str, str]:
        """price_id → its time window and attributes, for people to read, of the prices that have any."""
        names = [name for name in self.price_conditions if name != "region"]
        texts = self.prices.unique("price_id").select(
            "price_id", text=pl.concat_str(pl.col(names).cast(TEXT), separator=" · ", ignore_nulls=True)
        )
        return dict(texts.filter(pl.col("text") != "").iter_rows())

    @cached_property
    def sha256(self) -> str:
        """Hash of what is billed by: every value counts; file names, formats, row order and empty attributes do not.

        Nor do the tables of :data:`ratemill.tables.book.TABLES_THAT_RATE_NOTHING`.
        """
        digest = hashlib.sha256()
        for table in BOOK_TABLES:
            digest.update(f"{table.name}:{self.table_sha256(table.name)}\n".encode())
        return digest.hexdigest()

    def table_sha256(self, table: str) -> str:
        """Hash of one table's content, as :attr:`sha256` is of all."""
        if table not in self._hashes:
            frame = self.frame(table)
            self._hashes[table] = _hash_of_no_rows(table) if frame.is_empty() else _content_hash(frame, _TABLES[table])
        return self._hashes[table]

    @cached_property
    def _hashes(self) -> dict[str, str]:
        """Hashes of tables that were asked for: a run records each, and asks for all of them together as well."""
        return {}


def _completed(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """``frame`` with the columns it leaves out, in the contract's order, proven to keep the contract."""
    frame = frame.with_columns(_default(column) for column in table.columns if column.name not in frame.columns)
    frame = frame.with_columns(
        pl.lit(None, dtype=dtype).alias(name) for name, dtype in SOURCE_SCHEMA.items() if name not in frame.columns
    )
    known = {*table.names, *SOURCE_SCHEMA}
    extra = sorted(
        name for name in frame.columns if name not in known and table.open_prefix and name.startswith(table.open_prefix)
    )
    table.validate(frame)
    return frame.select(*table.names, *extra, *SOURCE_SCHEMA)


def _default(column: Column) -> pl.Expr:
    if column.default is None:
        return pl.lit(None, dtype=column.dtype).alias(column.name)
    if column.dtype == pl.Boolean:
        return pl.lit(column.default == "true").alias(column.name)
    return pl.lit(column.default).cast(column.dtype).alias(column.name)


def _content_hash(frame: pl.DataFrame, table: Table) -> str:
    """SHA-256 of the rows as sorted, unambiguous text."""
    extra = sorted(set(frame.columns) - {*table.names, *SOURCE_SCHEMA})
    filled = [name for name in extra if frame[name].null_count() < frame.height]
    text = frame.select(_unambiguous(name, frame.schema[name]) for name in [*table.names, *filled])
    return hashlib.sha256(text.sort(text.columns).write_csv(quote_style="always").encode()).hexdigest()


@cache
def _hash_of_no_rows(table: str) -> str:
    return _content_hash(without_rows(_TABLES[table]), _TABLES[table])


def _unambiguous(name: str, dtype: pl.DataType) -> pl.Expr:
    """A value as text behind a mark, so that an empty cell differs from every text."""
    column = pl.col(name)
    if dtype == INSTANT:
        column = column.dt.epoch("us")
    return pl.when(column.is_null()).then(pl.lit("-")).otherwise(pl.lit("=") + column.cast(TEXT)).alias(name)
