"""Another book: tables that take the place of its own or come over them, and prices raised by percentages."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl

from ratemill.book.model import SOURCE_FILE, SOURCE_SCHEMA, Book
from ratemill.money import PRICE, scaled_price
from ratemill.tables.book import BOOK_TABLES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EVERYTHING = "*"
"""Name of a raise that is for every SKU."""

RAISED = ("unit_price", "flat_fee", "cap", "minimum")
"""Every amount of money on a row of prices: where a cap stayed, a dearer product would cost what it did before."""

_RAISE = re.compile(r"(?P<name>.+)=\s*(?P<percent>[+-]?[0-9]{1,6}(\.[0-9]{1,10})?)\s*%?\s*", re.DOTALL)
_LOWEST = Decimal(-100)


@dataclass(frozen=True)
class Raise:
    """Prices of some SKUs are to change by a percentage."""

    name: str
    """A SKU, service or category, however it is capitalised; :data:`EVERYTHING` for all."""
    percent: Decimal
    """5 is five percent dearer, -5 cheaper."""

    @classmethod
    def parse(cls, text: str) -> Raise:
        """Read ``storage=5%``.

        Raises:
            ValueError: for anything else, and for more than everything off.
        """
        match = _RAISE.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{text!r} is no raise; write a SKU, service or category and a percentage with at most 10 decimals:"
                " storage=5%, or *=-2.5% for everything"
            )
        percent = Decimal(match["percent"])
        if percent < _LOWEST:
            raise ValueError(f"{text!r} takes off more than the whole price")
        return cls(match["name"].strip(), percent)

    @property
    def factor(self) -> Decimal:
        """What prices are multiplied by: 1.05."""
        return 1 + self.percent.scaleb(-2)

    def __str__(self) -> str:
        name = "every price" if self.name == EVERYTHING else self.name
        return f"{name} {'+' if self.percent >= 0 else ''}{self.percent.normalize():f} %"


def changed_book(
    book: Book,
    tables: Mapping[str, pl.DataFrame],
    *,
    merge: bool = False,
    raises: Sequence[Raise] = (),
    price_lists: Sequence[str] = (),
) -> Book:
    """``book`` with other tables, and then with raised prices.

    Args:
        book: the book to change.
        tables: name → what takes the place of the table.
        merge: put the rows over those of the table instead, see :func:`overlaid`.
        raises: see :func:`raised_prices`.
        price_lists: lists whose prices are raised; none: all.
    """
    parts = {name: overlaid(name, book.frame(name), rows) if merge else rows for name, rows in tables.items()}
    changed = replace(book, **parts)
    if not raises:
        return changed
    prices = raised_prices(changed.prices, raise_factors(changed.skus, raises), price_lists=price_lists)
    return replace(changed, prices=prices)


def overlaid(table: str, rows: pl.DataFrame, over: pl.DataFrame) -> pl.DataFrame:
    """``rows`` of a table of the book, those replaced whose key a row of ``over`` has, and the rest of ``over`` added.

    All tiers of a price version belong together: one row of a price in ``over`` replaces the version as a whole.
    """
    contract = next(each for each in BOOK_TABLES if each.name == table)
    key = ["price_id"] if table == "prices" else list(contract.key)
    kept = rows.join(over.select(key).unique(), on=key, how="anti", nulls_equal=True, maintain_order="left")
    both = pl.concat([kept, over], how="diagonal")
    own = {*contract.names, *SOURCE_SCHEMA}
    return both.select(*contract.names, *sorted(name for name in both.columns if name not in own), *SOURCE_SCHEMA)


def raise_factors(skus: pl.DataFrame, raises: Sequence[Raise]) -> dict[str, Decimal]:
    """SKU → what its prices are multiplied by; a raise of the SKU goes before one of its service, then its category."""
    by_name = {each.name.casefold(): each.factor for each in raises}
    factors: dict[str, Decimal] = {}
    for names in skus.select("sku_id", "service", "category").iter_rows():
        found = (by_name.get(name.casefold()) for name in (*names, EVERYTHING))
        factor = next((each for each in found if each is not None), None)
        if factor is not None:
            factors[names[0]] = factor
    return factors


def names_to_raise(skus: pl.DataFrame) -> list[str]:
    """Everything that a raise may name, but for :data:`EVERYTHING`."""
    names = {name for column in ("sku_id", "service", "category") for name in skus[column]}
    return sorted(names, key=lambda name: (name.casefold(), name))


def raised_prices(
    prices: pl.DataFrame, factors: Mapping[str, Decimal], *, price_lists: Sequence[str] = ()
) -> pl.DataFrame:
    """``prices`` with each amount of money multiplied by its SKU's factor, rounded half-even at 12 decimals."""
    by_sku = pl.DataFrame({"sku_id": list(factors), "_factor": list(factors.values())},
                          schema={"sku_id": pl.String, "_factor": PRICE})  # fmt: skip
    listed = pl.col("price_list").is_in(list(price_lists)) if price_lists else pl.lit(value=True)
    factor = pl.when(listed).then("_factor").fill_null(pl.lit(Decimal(1), dtype=PRICE))
    return (
        prices.join(by_sku, on="sku_id", how="left", validate="m:1", maintain_order="left")
        .with_columns(scaled_price(pl.col(name), factor).alias(name) for name in RAISED)
        .drop("_factor")
    )


def with_sources(book: Book, label: str) -> Book:
    """``book`` whose rows say where they are from, where they don't yet: ``prices of <label>``."""
    return replace(
        book,
        **{
            table.name: book.frame(table.name).with_columns(
                pl.col(SOURCE_FILE).fill_null(pl.lit(f"{table.name} of {label}"))
            )
            for table in BOOK_TABLES
        },
    )
