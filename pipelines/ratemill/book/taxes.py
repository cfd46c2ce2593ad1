"""Checks of taxes: rates fit their kinds, and every invoice finds exactly one rate.

The row of a line is found by the payer's ``tax_code`` or, without one, by its country and state (a row for the state
comes before one for any), and by the SKU's tax category; it must be valid at the tax point.
"""

from __future__ import annotations

import polars as pl

from ratemill.book import intervals
from ratemill.book.accounts import payers
from ratemill.book.model import SOURCE_FILE, SOURCE_ROW, Book
from ratemill.book.rows import findings_for, place, span
from ratemill.findings import Finding, Severity
from ratemill.tables.book import SKUS


def tax_rates_fit_their_kind(book: Book) -> list[Finding]:
    """Only a standard supply has a rate above 0, and it has one."""
    charged = findings_for(
        book.taxes.filter((pl.col("kind") != "standard") & (pl.col("rate") != 0)),
        rule="taxes.rate_of_kind",
        message=lambda row: f"tax {row['tax_code']!r} is {row['kind']} but has a rate of {row['rate'].normalize():f} %",
        cure="write rate 0, or kind standard",
        column="rate",
    )
    free = findings_for(
        book.taxes.filter((pl.col("kind") == "standard") & (pl.col("rate") == 0)),
        rule="taxes.standard_at_zero",
        message=lambda row: f"tax {row['tax_code']!r} is standard but has a rate of 0 %",
        cure="write the rate, or the kind that says why there is no tax: zero, exempt, reverse_charge or outside_scope",
        column="kind",
        severity=Severity.WARNING,
    )
    return [*charged, *free]


def untaxed_kinds_have_a_note(book: Book) -> list[Finding]:
    """Invoices without tax must say why."""
    return findings_for(
        book.taxes.filter(pl.col("kind").is_in(["exempt", "reverse_charge"]) & pl.col("note").is_null()),
        rule="taxes.note",
        message=lambda row: (
            f"tax {row['tax_code']!r} is {row['kind']} but has no note; the invoice must say why no tax is due"
        ),
        cure="write the sentence the law asks for, such as: Reverse charge, the customer accounts for the VAT",
        column="note",
    )


def tax_rates_do_not_overlap(book: Book) -> list[Finding]:
    """A tax code has one rate per category and region at a time."""
    return findings_for(
        _overlapping(book.taxes, ["tax_code", "category", "region"]),
        rule="taxes.overlap",
        message=lambda row: (
            f"tax {row['tax_code']!r}, category {row['category']!r}, has this rate ({span(row)}) while it "
            f"still has the one at {place(row, '_earlier')} ({span(row, '_earlier')})"
        ),
        cure="let the one end where the other begins (valid_to is exclusive), or give one another tax_code",
        column="valid_from",
    )


def account_tax_codes_exist(book: Book) -> list[Finding]:
    """Tax codes named on accounts are in the taxes."""
    return findings_for(
        book.accounts.filter(pl.col("tax_code").is_not_null()).join(
            book.taxes, on="tax_code", how="anti", maintain_order="left"
        ),
        rule="accounts.tax_code",
        message=lambda row: f"account {row['account_id']!r} has tax code {row['tax_code']!r}, which no tax has",
        cure="add the tax, mend the code, or leave it empty to find the tax by country",
        column="tax_code",
    )


def sku_tax_categories_exist(book: Book) -> list[Finding]:
    """Tax categories of SKUs are in the taxes."""
    return findings_for(
        book.skus.join(book.taxes, left_on="tax_category", right_on="category", how="anti", maintain_order="left"),
        rule="skus.tax_category",
        message=lambda row: f"SKU {row['sku_id']!r} has tax category {row['tax_category']!r}, which no tax has",
        cure="add a tax of this category, or mend the category",
        column="tax_category",
    )


def payers_find_a_tax(book: Book) -> list[Finding]:
    """Some tax can apply to each account that pays: an error if none at all, a warning if none of a category."""
    found: list[Finding] = []
    taxes = book.taxes.select("tax_code", "country", "category", "region")
    wanted = (
        payers(book)
        .filter(pl.col("tax_code").is_null() | pl.col("tax_code").is_in(taxes["tax_code"].implode()))
        .join(_categories(book), how="cross")
    )
    by_code = wanted.join(taxes, on=["tax_code", "category"])
    by_place = wanted.filter(pl.col("tax_code").is_null()).join(taxes.drop("tax_code"), on=["country", "category"])
    fits = pl.col("region").is_null() | (pl.col("region") == pl.col("state"))
    keys = ["account_id", "category"]
    taxed = pl.concat([by_code.filter(fits).select(keys), by_place.filter(fits).select(keys)])
    untaxed = wanted.join(taxed, on=keys, how="anti", maintain_order="left")
    never = untaxed.join(taxed, on="account_id", how="anti", maintain_order="left")
    found += findings_for(
        never.unique("account_id", keep="first", maintain_order=True),
        rule="accounts.taxable",
        message=lambda row: (
            f"no tax can ever apply to account {row['account_id']!r}: taxes have no row for "
            + _sought(row["tax_code"], row["country"], row["state"])
        ),
        cure="add a tax for it (kind outside_scope with rate 0 if none is due), or give the account a tax_code",
        column="country",
    )
    found += findings_for(
        untaxed.join(taxed, on="account_id", how="semi", maintain_order="left"),
        rule="accounts.taxable_category",
        message=lambda row: (
            f"account {row['account_id']!r} could not be billed for what is of tax category "
            f"{row['category']!r}: taxes have no row of it for {_sought(row['tax_code'], row['country'], row['state'])}"
        ),
        cure="add a tax of this category",
        column="country",
        severity=Severity.WARNING,
    )
    return found


def _categories(book: Book) -> pl.DataFrame:
    """Every tax category that lines may have: those of SKUs, and the default's where there are lines of no SKU."""
    of_skus = book.skus.select(category="tax_category")
    without_sku = pl.concat(
        [frame.filter(pl.col("sku_id").is_null()).select("sku_id") for frame in (book.recurring, book.adjustments)]
    )
    has_others = not (without_sku.is_empty() and book.commitments.is_empty())
    of_others = pl.DataFrame({"category": [SKUS["tax_category"].default] * has_others}, schema=of_skus.schema)
    return pl.concat([of_skus, of_others]).unique().sort("category")


def payers_find_only_one_tax(book: Book) -> list[Finding]:
    """An account without a tax code finds its tax by country: two codes at once would leave the choice open."""
    rivals = (
        _overlapping(book.taxes, ["country", "region", "category"])
        .filter(pl.col("tax_code") != pl.col("tax_code_earlier"))
        .select(
            "country",
            "region",
            "category",
            "tax_code_earlier",
            pl.col("tax_code", SOURCE_FILE, SOURCE_ROW).name.suffix("_later"),
            pl.col(f"{SOURCE_FILE}_earlier", f"{SOURCE_ROW}_earlier"),
        )
    )
    undecided = payers(book).filter(pl.col("tax_code").is_null())
    joined = undecided.join(rivals, on="country", maintain_order="left").filter(
        pl.col("region").is_null() | (pl.col("region") == pl.col("state"))
    )
    return findings_for(
        joined,
        rule="accounts.tax_ambiguous",
        message=lambda row: (
            f"account {row['account_id']!r} names no tax code, and taxes {row['tax_code_earlier']!r} "
            f"({place(row, '_earlier')}) and {row['tax_code_later']!r} ({place(row, '_later')}) both apply to category "
            f"{row['category']!r} in {row['country']} at the same time"
        ),
        cure="write the code that applies in the account's tax_code",
        column="tax_code",
    )


def _sought(tax_code: str | None, country: str, state: str | None) -> str:
    if tax_code is not None:
        return f"tax code {tax_code!r}" + (f" in region {state!r} or any" if state else "")
    return f"country {country}" + (f", region {state!r} or any" if state else "")


def _overlapping(taxes: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Rows that begin before another with the same keys has ended, with the columns of that one as ``…_earlier``."""
    rows = intervals.with_bounds(taxes)
    return intervals.both_rows(rows, intervals.overlaps(rows, keys))
