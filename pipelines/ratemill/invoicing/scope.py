"""Which lines a discount, commitment or credit is for."""

from __future__ import annotations

import polars as pl

from ratemill.tables.book import SCOPE

_PREFIX = "scope_"
_LISTS = ("sku_ids", "excludes")


def scope_of_row() -> list[pl.Expr]:
    """The SCOPE columns of a table of the book under names of their own, lists of SKUs taken apart."""
    return [
        (pl.col(c.name).str.extract_all(r"\S+") if c.name in _LISTS else pl.col(c.name)).alias(f"{_PREFIX}{c.name}")
        for c in SCOPE
    ]


def in_scope() -> pl.Expr:
    """Whether a line (category, service, sku_id, project_id, region) is in the scope that stands beside it.

    Everything that the scope names must hold; what the line lacks (a fee has no region) is not what a scope names.
    """
    listed, excluded = pl.col(f"{_PREFIX}sku_ids"), pl.col(f"{_PREFIX}excludes")
    return pl.all_horizontal(
        *(_any_or_same(c.name) for c in SCOPE if c.name not in _LISTS),
        listed.is_null() | listed.list.contains(pl.col("sku_id")).fill_null(value=False),
        ~excluded.list.contains(pl.col("sku_id")).fill_null(value=False),
    )


def _any_or_same(name: str) -> pl.Expr:
    wanted = pl.col(f"{_PREFIX}{name}")
    return wanted.is_null() | (wanted == pl.col(name)).fill_null(value=False)
