"""Whether a change of the book can change what a month was billed that was rated before.

A rating key says that *something* in the book changed. Most such changes are none of a closed month's business: a new
customer, an address, the price of what nobody used. Where that can be told from what the month was billed for, the
month need not be rated again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from ratemill.book.model import SOURCE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ratemill.book.model import Book

WORDS = frozenset(
    {
        "name", "legal_name", "address_line1", "address_line2", "postal_code", "city", "tax_id", "language",
        "payment_terms_days", "email", "electronic_address", "buyer_reference", "cost_center", "note", "description",
        "reason", "author", "invoice_ref",
        "source",
    }
)  # fmt: skip
"""Columns that only documents and people read; no amount depends on them."""


@dataclass(frozen=True)
class Used:
    """What a month's usage named, as far as it was billed or waits for the book to know it."""

    accounts: Collection[str]
    """Accounts and payers of lines, and those that usage named and the book did not know."""
    projects: Collection[str]
    skus: Collection[str]
    """SKUs of lines, and those that usage named and the book did not know."""
    has_wrong_units: bool
    """Whether usage was rejected for its unit: any change of a SKU may mend that."""


def changes_that_matter(before: Book, after: Book, tables: Iterable[str], used: Used) -> list[str]:
    """Those of ``tables`` with a row that came, went or changed and that the month may depend on.

    ``before`` and ``after``: of the month (:func:`ratemill.book.of_period.book_of_period`). Where nothing is known
    about a table, every change of it matters.
    """
    countries, codes = _taxed_by(before, after, used)
    found = []
    for table in tables:
        old, new = before.frame(table), after.frame(table)
        rows = _different(old, new)
        if table == "accounts":
            # What usage names must be there, and a payer's zone decides which hours are of the month at all.
            rows = rows.filter(pl.col("account_id").is_in(used.accounts) | ~_is_added("account_id", old))
        elif table == "projects" and not _has_several_zones(before, after):
            rows = rows.filter(pl.col("project_id").is_in(used.projects) | ~_is_added("project_id", old))
        elif table == "prices" or (table == "skus" and not used.has_wrong_units):
            rows = rows.filter(pl.col("sku_id").is_in(used.skus))
        elif table == "discounts":
            rows = rows.filter(pl.col("account_id").is_null() | pl.col("account_id").is_in(used.accounts))
        elif table == "taxes":
            rows = rows.filter(pl.col("country").is_in(countries) | pl.col("tax_code").is_in(codes))
        if rows.height:
            found.append(table)
    return found


def _is_added(name: str, old: pl.DataFrame) -> pl.Expr:
    """Whether a row is of something that the book did not have at all before."""
    return ~pl.col(name).is_in(old[name].unique().to_list())


def _has_several_zones(*books: Book) -> bool:
    """Whether payers live in several zones, so that a project's new account may put its usage into another month."""
    return pl.concat([book.accounts["time_zone"] for book in books]).n_unique() > 1


def _different(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Rows that are on one side only, by the columns that amounts depend on."""
    sides = [
        frame.drop(name for name in frame.columns if name in {*WORDS, *SOURCE_SCHEMA}) for frame in (before, after)
    ]
    names = list(dict.fromkeys(name for side in sides for name in side.columns))
    filled = [
        side.with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in names if name not in side.columns)
        .select(names)
        for side in sides
    ]  # fmt: skip
    old, new = filled
    return pl.concat(
        [old.join(new, on=names, how="anti", nulls_equal=True), new.join(old, on=names, how="anti", nulls_equal=True)]
    )


def _taxed_by(before: Book, after: Book, used: Used) -> tuple[list[str], list[str]]:
    """Countries and tax codes of the accounts that were used."""
    accounts = pl.concat([book.accounts.select("account_id", "country", "tax_code") for book in (before, after)])
    rows = accounts.filter(pl.col("account_id").is_in(used.accounts))
    return rows["country"].unique().to_list(), rows["tax_code"].drop_nulls().unique().to_list()
