"""Which column of a file is which of ours, and what type it must have."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from ratemill.tables.usage import ATTRIBUTE_PREFIX, INPUT_COLUMNS, REQUIRED_INPUT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratemill.config import Usage as UsageConfig

PRESETS: Mapping[str, Mapping[str, str]] = {
    "native": {},
    # FOCUS 1.0 and later. What is priced is PricingQuantity of a SkuPriceId, so that list price × quantity = ListCost.
    "focus": {
        "account_id": "SubAccountId",
        "sku_id": "SkuPriceId",
        "region": "RegionId",
        "resource_id": "ResourceId",
        "resource_name": "ResourceName",
        "usage_start": "ChargePeriodStart",
        "usage_end": "ChargePeriodEnd",
        "quantity": "PricingQuantity",
        "unit": "PricingUnit",
        "tags": "Tags",
    },
}


@dataclass(frozen=True)
class SchemaProblem:
    """Why a file cannot be read as usage at all."""

    column: str
    message: str
    cure: str


@dataclass(frozen=True)
class ColumnMapping:
    """Our name → the file's name, for the columns that the file has."""

    columns: Mapping[str, str]
    filters: Mapping[str, tuple[str, ...]]

    @property
    def file_columns(self) -> list[str]:
        """Columns to read from the file."""
        return sorted({*self.columns.values(), *self.filters})


def map_columns(file_schema: Mapping[str, pl.DataType], config: UsageConfig) -> ColumnMapping | list[SchemaProblem]:
    """Match a file's schema with ours; every problem at once.

    Optional columns that a preset expects may be missing; a column the configuration names must exist.
    """
    attributes = {name: name for name in file_schema if name.startswith(ATTRIBUTE_PREFIX)}
    wanted = dict(zip(INPUT_COLUMNS, INPUT_COLUMNS, strict=True)) | attributes
    wanted |= dict(PRESETS[config.preset]) | config.columns
    problems: list[SchemaProblem] = []
    found: dict[str, str] = {}
    for ours, theirs in wanted.items():
        if ours not in INPUT_COLUMNS and not ours.startswith(ATTRIBUTE_PREFIX):
            problems.append(_unknown(ours))
        elif theirs in file_schema:
            found[ours] = theirs
            problem = _type_problem(ours, theirs, file_schema[theirs], config)
            if problem is not None:
                problems.append(problem)
        elif ours in REQUIRED_INPUT_COLUMNS or ours in config.columns:
            problems.append(_missing(ours, theirs, file_schema))
    problems += [
        SchemaProblem(column, f"the row filter's column {column!r} is missing", "correct [usage.filter]")
        for column in config.filter
        if column not in file_schema
    ]
    return problems or ColumnMapping(found, config.filter)


def _unknown(ours: str) -> SchemaProblem:
    return SchemaProblem(
        ours,
        f"[usage.columns] names {ours!r}, which is no usage column",
        f"use one of {', '.join(INPUT_COLUMNS)}, or {ATTRIBUTE_PREFIX}NAME",
    )


def _missing(ours: str, theirs: str, file_schema: Mapping[str, pl.DataType]) -> SchemaProblem:
    free = [name for name in file_schema if name not in INPUT_COLUMNS]  # the others are something else already
    near = difflib.get_close_matches(theirs, free, n=1, cutoff=0.6)
    cure = f'map it: [usage.columns] {ours} = "{near[0]}"' if near else f"add it, or map it in [usage.columns] {ours}"
    return SchemaProblem(theirs, f"the required column {theirs!r} is missing; the file has {_list(file_schema)}", cure)


def _list(names: Mapping[str, object], most: int = 12) -> str:
    shown = ", ".join(list(names)[:most])
    return f"{shown}, …" if len(names) > most else shown or "no columns"


def _type_problem(ours: str, theirs: str, dtype: pl.DataType, config: UsageConfig) -> SchemaProblem | None:
    if ours == "quantity":
        return _quantity_problem(theirs, dtype, config)
    if ours in ("usage_start", "usage_end"):
        return _instant_problem(theirs, dtype)
    if ours == "tags":
        fits = _is_text_map(dtype) or dtype in (pl.String, pl.Null)
        expected, cure = "a map of text to text, or JSON text", f"write {theirs} as MAP(VARCHAR, VARCHAR)"
    else:
        fits = isinstance(dtype, pl.Categorical | pl.Enum) or dtype in (pl.String, pl.Null) or dtype.is_integer()
        expected, cure = "text", f"write {theirs} as text"
    return None if fits else SchemaProblem(theirs, f"{theirs!r} is {dtype}, expected {expected}", cure)


def _instant_problem(theirs: str, dtype: pl.DataType) -> SchemaProblem | None:
    if not isinstance(dtype, pl.Datetime):
        return SchemaProblem(theirs, f"{theirs!r} is {dtype}, expected a timestamp with a time zone", _INSTANT_CURE)
    if dtype.time_zone is None:
        return SchemaProblem(
            theirs, f"{theirs!r} is a timestamp without a time zone, so its instants are ambiguous", _INSTANT_CURE
        )
    return None


_INSTANT_CURE = "write it as TIMESTAMP with time zone UTC"


def _quantity_problem(theirs: str, dtype: pl.DataType, config: UsageConfig) -> SchemaProblem | None:
    if dtype.is_float() and config.float_quantity == "refuse":
        return SchemaProblem(
            theirs,
            f"{theirs!r} is {dtype}: a binary float cannot hold a decimal quantity exactly",
            'write it as DECIMAL(38,12), or take each float\'s shortest decimal: [usage] float_quantity = "as_text"',
        )
    if dtype.is_float() or dtype.is_decimal() or dtype.is_integer() or dtype == pl.String:
        return None
    return SchemaProblem(theirs, f"{theirs!r} is {dtype}, expected a decimal number", "write it as DECIMAL(38,12)")


def _is_text_map(dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.Map):
        return dtype.key == pl.String and dtype.value == pl.String
    if isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct):
        return [field.dtype for field in dtype.inner.fields] == [pl.String, pl.String]
    return False
