"""The one place where a column is defined; Polars, DuckDB and pandera forms are derived from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    import pandera.polars as pa

INSTANT = pl.Datetime("us", "UTC")
TEXT = pl.String


@dataclass(frozen=True)
class Column:
    """A column: its type, what it means, and what a value must look like."""

    name: str
    dtype: pl.DataType | type[pl.DataType]
    meaning: str
    unit: str = ""
    """Unit of measure, or the name of the column that carries it."""
    nullable: bool = False
    default: str | None = None
    """Value, as a file would spell it, where a file leaves the cell empty or the column out."""
    one_of: tuple[str, ...] = ()
    minimum: Decimal | None = None
    above: Decimal | None = None
    maximum: Decimal | None = None
    max_length: int | None = None

    def optional(self) -> Column:
        """The same column where nulls are allowed."""
        return replace(self, nullable=True)

    def renamed(self, name: str, meaning: str | None = None) -> Column:
        """The same column under another name."""
        return replace(self, name=name, meaning=meaning or self.meaning)

    def expected(self) -> str:
        """What a value must be, in words, for messages."""
        if self.one_of:
            return "one of " + ", ".join(self.one_of)
        text = {
            pl.Decimal: "a decimal number such as 0.0125",
            pl.Int64: "a whole number",
            pl.Int32: "a whole number",
            pl.Date: "a date, YYYY-MM-DD",
            pl.Datetime: "an instant such as 2026-10-01T00:00:00Z, or a date",
            pl.Boolean: "true or false",
        }.get(self.dtype.base_type(), "text")
        limits = [
            f"{words} {limit:,}"
            for words, limit in (("above", self.above), ("of at least", self.minimum), ("of at most", self.maximum))
            if limit is not None
        ]
        if limits:
            text += f" {' and '.join(limits)}"
        if self.max_length is not None:
            text += f" of at most {self.max_length} characters"
        return text

    def checks(self) -> list[pa.Check]:
        """The rules on values as pandera checks, named by rule; :meth:`kept` is the same as expressions."""
        import pandera.polars as pa  # noqa: PLC0415 - takes a second, and what is as it should be needs none of it

        checks: list[pa.Check] = []
        if self.one_of:
            checks.append(pa.Check.isin(list(self.one_of), name="one_of"))
        if self.minimum is not None:
            checks.append(pa.Check.ge(self.minimum, name="minimum"))
        if self.above is not None:
            checks.append(pa.Check.gt(self.above, name="above"))
        if self.maximum is not None:
            checks.append(pa.Check.le(self.maximum, name="maximum"))
        if self.max_length is not None:
            checks.append(pa.Check.str_length(max_value=self.max_length, name="max_length"))
        return checks

    def kept(self) -> list[pl.Expr]:
        """Whether every value of the column keeps the contract, one expression a rule; null keeps each but its own."""
        values = pl.col(self.name)
        rules: list[pl.Expr] = []
        if not self.nullable:
            rules.append(values.is_not_null())
        if self.one_of:
            rules.append(values.is_in(self.one_of))
        if self.minimum is not None:
            rules.append(values >= self.minimum)
        if self.above is not None:
            rules.append(values > self.above)
        if self.maximum is not None:
            rules.append(values <= self.maximum)
        if self.max_length is not None:
            rules.append(values.str.len_chars() <= self.max_length)
        return [rule.all() for rule in rules]


@dataclass(frozen=True)
class Table:
    """A table: its grain, key and columns, in order."""

    name: str
    grain: str
    """What one row is."""
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    open_prefix: str | None = None
    """Text columns whose name starts with this may be added by users (``attr.``)."""

    @cached_property
    def polars_schema(self) -> pl.Schema:
        """Names and dtypes, in order."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    @cached_property
    def names(self) -> list[str]:
        """Column names, in order."""
        return [column.name for column in self.columns]

    def __getitem__(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def empty(self) -> pl.DataFrame:
        """No rows, the right columns."""
        return self._empty.clone()

    @cached_property
    def _empty(self) -> pl.DataFrame:
        return pl.DataFrame(schema=self.polars_schema)

    def with_open_columns(self, names: Iterable[str]) -> Table:
        """The table with those of ``names`` that users may add to it."""
        prefix = self.open_prefix
        added = sorted(name for name in names if prefix is not None and name.startswith(prefix))
        columns = [Column(name, TEXT, "Condition of the book's own", nullable=True) for name in added]
        return replace(self, columns=(*self.columns, *columns)) if columns else self

    def conform(self, frame: pl.DataFrame) -> pl.DataFrame:
        """``frame`` with this table's columns, in order, cast to its types; a value that does not fit raises."""
        own = frame if frame.columns == self.names else frame.select(self.names)
        return own if own.schema == self.polars_schema else own.cast(self.polars_schema)

    @cached_property
    def pandera_schema(self) -> pa.DataFrameSchema:
        """The contract: dtypes, nulls, values, key. Validate frames, not lazy frames (those check no value)."""
        import pandera.polars as pa  # noqa: PLC0415 - as above

        return pa.DataFrameSchema(
            {c.name: pa.Column(c.dtype, c.checks(), nullable=c.nullable) for c in self.columns},
            name=self.name,
            strict=self.open_prefix is None,
            unique=list(self.key) or None,
        )

    @cached_property
    def _kept(self) -> pl.Expr:
        unique = [~pl.struct(self.key).is_duplicated().any()] if self.key else []
        return pl.all_horizontal(pl.lit(True), *unique, *(rule for column in self.columns for rule in column.kept()))

    def is_kept_by(self, frame: pl.DataFrame) -> bool:
        """Whether the frame keeps the contract, by one query. What is wrong with one that does not, pandera tells.

        pandera asks several queries of each column, which for the small tables of a book cost more than all else.
        """
        own = frame if frame.columns == self.names else frame.select(self.names)
        return own.schema == self.polars_schema and bool(own.select(self._kept).item())

    def validate(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame itself, proven to keep the contract.

        Raises:
            pandera.errors.SchemaErrors: naming every broken rule; a bug where the frame is our own.
        """
        own = frame.select(self.names)
        return own if self.is_kept_by(own) else self.pandera_schema.validate(own, lazy=True)

    def duckdb_columns(self) -> str:
        """Column definitions for CREATE TABLE."""
        return ", ".join(f'"{c.name}" {duckdb_type(c.dtype)}{"" if c.nullable else " NOT NULL"}' for c in self.columns)


def duckdb_type(dtype: pl.DataType | type[pl.DataType]) -> str:
    """The DuckDB type that holds a Polars dtype exactly."""
    if isinstance(dtype, pl.Decimal):
        return f"DECIMAL({dtype.precision},{dtype.scale})"
    return {
        pl.String: "VARCHAR",
        pl.Date: "DATE",
        pl.Datetime: "TIMESTAMPTZ",
        pl.Boolean: "BOOLEAN",
        pl.Int32: "INTEGER",
        pl.Int64: "BIGINT",
        pl.UInt32: "UINTEGER",
    }[dtype.base_type()]
