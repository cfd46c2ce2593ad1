"""Checks of scopes: which lines a discount, commitment, credit or budget is for.

All columns of a scope that are given must hold. Services, SKUs and projects are compared with the book; regions are
whatever usage says, and so are projects where the book lists none.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import polars as pl

from ratemill.book import intervals
from ratemill.book.rows import Row, findings_for, place, span
from ratemill.findings import Finding, Severity
from ratemill.period import is_time_zone
from ratemill.tables.book import EVERY_BOOK_TABLE

if TYPE_CHECKING:
    from ratemill.book.model import Book

SCOPED = ("discounts", "commitments", "credits", "budgets")
"""Tables with a scope."""
WITH_PROJECT = (*SCOPED, "recurring", "adjustments")

_NOUNS = {
    "discounts": "discount",
    "commitments": "commitment",
    "credits": "credit",
    "recurring": "recurring fee",
    "adjustments": "adjustment",
    "budgets": "budget",
}
_KEYS = {table.name: table.key[0] for table in EVERY_BOOK_TABLE}

_OF_SKUS = ["category", "service", "sku_ids", "excludes"]
"""Columns of a scope that choose among SKUs."""


def called(table: str, row: Row, suffix: str = "") -> str:
    """A row as messages name it: ``discount 'spring-10'``."""
    return f"{_NOUNS[table]} {row[_KEYS[table] + suffix]!r}"


def services_exist(book: Book) -> list[Finding]:
    """Services named in scopes are services of SKUs."""
    return [finding for table in book.filled(SCOPED) for finding in _unknown_services(book, table)]


def _unknown_services(book: Book, table: str) -> list[Finding]:
    return findings_for(
        book.frame(table).filter(~pl.col("service").is_in(book.skus["service"].implode())),
        rule=f"{table}.service",
        message=lambda row: f"{called(table, row)} is for service {row['service']!r}, which no SKU has",
        cure="write the service as in the SKUs, capitals and all",
        column="service",
    )


def projects_exist(book: Book) -> list[Finding]:
    """Projects are projects of the book, if it lists any; without a list they are whatever usage says."""
    if book.projects.is_empty():
        return []
    return [finding for table in book.filled(WITH_PROJECT) for finding in _unknown_projects(book, table)]


def _unknown_projects(book: Book, table: str) -> list[Finding]:
    return findings_for(
        book.frame(table).filter(~pl.col("project_id").is_in(book.projects["project_id"].implode())),
        rule=f"{table}.project_id",
        message=lambda row: f"{called(table, row)} is for project {row['project_id']!r}, which is not in the projects",
        cure="add the project, or mend its id",
        column="project_id",
    )


def scoped_skus_exist(book: Book) -> list[Finding]:
    """SKUs that scopes name are SKUs of the book."""
    return [
        finding
        for table in book.filled(SCOPED)
        for column in ("sku_ids", "excludes")
        if _is_used(book, table, column)
        for finding in _unknown_skus(book, table, column)
    ]


def _unknown_skus(book: Book, table: str, column: str) -> list[Finding]:
    return findings_for(
        _unknown(book, table, column),
        rule=f"{table}.{column}",
        message=lambda row: f"{column} of {called(table, row)} has SKU {row['_sku']!r}, which is not in the SKUs",
        cure="mend the id (ids are separated by spaces), or add the SKU",
        column=column,
    )


def scoped_skus_are_named_once(book: Book) -> list[Finding]:
    """A scope names a SKU once, and does not both include and exclude it."""
    return [
        finding
        for table in book.filled(SCOPED)
        for finding in [
            *_named_twice(book, table, "sku_ids"),
            *_named_twice(book, table, "excludes"),
            *_included_and_excluded(book, table),
        ]
    ]


def _is_used(book: Book, table: str, column: str) -> bool:
    """Whether any cell of the column says something; most scopes leave most columns empty."""
    return book.frame(table)[column].count() > 0


def _named_twice(book: Book, table: str, column: str) -> list[Finding]:
    if not _is_used(book, table, column):
        return []
    named = _named(book, table, column).filter(~pl.struct("_index", "_sku").is_first_distinct())
    return findings_for(
        named.unique(["_index", "_sku"], keep="first", maintain_order=True),
        rule=f"{table}.{column}_twice",
        message=lambda row: f"{column} of {called(table, row)} has SKU {row['_sku']!r} twice",
        cure="write it once, or mend the one that is meant to be another SKU",
        column=column,
    )


def _included_and_excluded(book: Book, table: str) -> list[Finding]:
    if not (_is_used(book, table, "sku_ids") and _is_used(book, table, "excludes")):
        return []
    left_out = _named(book, table, "excludes").unique(["_index", "_sku"], keep="first", maintain_order=True)
    return findings_for(
        left_out.join(_named(book, table, "sku_ids"), on=["_index", "_sku"], how="semi", maintain_order="left"),
        rule=f"{table}.included_and_excluded",
        message=lambda row: f"{called(table, row)} both includes SKU {row['_sku']!r} (sku_ids) and excludes it",
        cure="take it out of one of the two columns",
        column="excludes",
    )


def scopes_match_something(book: Book) -> list[Finding]:
    """Some SKU, and some project of the account, fits each scope; else it would never do what it is there for."""
    return [
        finding
        for table in book.filled(SCOPED)
        for finding in [*_matching_no_sku(book, table), *_matching_no_project(book, table)]
    ]


_IN_VAIN = {
    "discounts": "so it would never take anything off",
    "commitments": "so no usage would count and its whole amount would be billed each month",
    "credits": "so it could never be used",
    "budgets": "so nothing would ever count towards it",
}


def _matching_no_sku(book: Book, table: str) -> list[Finding]:
    if not any(_is_used(book, table, column) for column in ("category", "service", "sku_ids")):
        return []
    frame = book.frame(table).with_row_index("_index")
    named = pl.concat([_unknown(book, table, column).select("_index") for column in ("sku_ids", "excludes")])
    readable = frame.join(named, on="_index", how="anti", maintain_order="left").filter(
        pl.col("service").is_null() | pl.col("service").is_in(book.skus["service"].implode())
    )
    # excluding every SKU still leaves fees that are for none
    chosen = readable.filter(pl.any_horizontal(pl.col("category", "service", "sku_ids").is_not_null()))
    return findings_for(
        chosen.join(matching_skus(frame, book.skus), on=_OF_SKUS, how="anti", nulls_equal=True, maintain_order="left"),
        rule=f"{table}.matches_nothing",
        message=lambda row: f"no SKU fits the scope of {called(table, row)}, {_IN_VAIN[table]}",
        cure="all columns of a scope must hold at once: leave one empty, or mend it",
        severity=Severity.WARNING,
    )


def _matching_no_project(book: Book, table: str) -> list[Finding]:
    if not _is_used(book, table, "project_id"):
        return []
    payer = book.accounts.select("account_id", _payer=pl.col("billing_account_id").fill_null(pl.col("account_id")))
    owners = book.projects.select("project_id", "account_id")
    paid = owners.join(payer, on="account_id", validate="m:1").select("project_id", account_id="_payer")
    frame = book.frame(table).join(owners, on="project_id", how="semi", maintain_order="left")
    frame = frame.join(book.accounts, on="account_id", how="semi", maintain_order="left")
    return findings_for(
        frame.join(pl.concat([owners, paid]), on=["project_id", "account_id"], how="anti", maintain_order="left"),
        rule=f"{table}.project_of_account",
        message=lambda row: (
            f"{called(table, row)} is for project {row['project_id']!r}, which never belongs to account "
            f"{row['account_id']!r} or to one that it pays for, {_IN_VAIN[table]}"
        ),
        cure="mend the project or the account",
        column="project_id",
        severity=Severity.WARNING,
    )


def matching_skus(scopes: pl.DataFrame, skus: pl.DataFrame) -> pl.DataFrame:
    """The SKUs that fit: category, service, sku_ids and excludes of each different scope, with each sku_id."""
    pairs = (
        scopes.select(_OF_SKUS)
        .unique()
        .join(skus.select("sku_id", _category="category", _service="service"), how="cross")
    )
    included, excluded = (_ids(name).list.contains(pl.col("sku_id")) for name in ("sku_ids", "excludes"))
    return pairs.filter(
        pl.col("category").is_null() | (pl.col("category") == pl.col("_category")),
        pl.col("service").is_null() | (pl.col("service") == pl.col("_service")),
        pl.col("sku_ids").is_null() | included,
        pl.col("excludes").is_null() | ~excluded,
    ).select(*_OF_SKUS, "sku_id")


def commitments_do_not_overlap(book: Book) -> list[Finding]:
    """No usage counts towards two commitments of one account: each would be met by the same money."""
    rows = intervals.with_bounds(book.commitments)
    return findings_for(
        intervals.both_rows(rows, _counting_the_same(rows, book.skus)),
        rule="commitments.overlap",
        message=lambda row: (
            f"{called('commitments', row)} ({span(row)}) and {called('commitments', row, '_earlier')} at "
            f"{place(row, '_earlier')} ({span(row, '_earlier')}) of account {row['account_id']!r} would both count the "
            "same usage"
        ),
        cure="end the one where the other begins (valid_to is exclusive), or give them scopes that have no SKU, "
        "project and region in common",
        column="valid_from",
    )


def commitments_share_no_month(book: Book, *, time_zone: str) -> list[Finding]:
    """One that follows another inside a month: each is prorated by its days, but counts the usage of the whole month.

    ``time_zone`` is that of accounts that name none. Overlaps are told by :func:`commitments_do_not_overlap`.
    """
    rows = intervals.with_bounds(book.commitments)
    by_months = _in_months(rows, book.accounts, time_zone)
    together = _counting_the_same(by_months, book.skus)
    if not together.is_empty():
        together = together.join(_counting_the_same(rows, book.skus), on="_index", how="anti")
    return findings_for(
        intervals.both_rows(rows, together),
        rule="commitments.same_month",
        message=lambda row: (
            f"{called('commitments', row)} ({span(row)}) and {called('commitments', row, '_earlier')} at "
            f"{place(row, '_earlier')} ({span(row, '_earlier')}) of account {row['account_id']!r} meet inside a month, "
            "whose usage counts towards both"
        ),
        cure="let the one end and the other begin with a month",
        column="valid_from",
        severity=Severity.WARNING,
    )


def _in_months(rows: pl.DataFrame, accounts: pl.DataFrame, time_zone: str) -> pl.DataFrame:
    """``rows`` with ``_start`` and ``_end`` as numbers of local months: those of days whose noon is in the validity."""
    zones = accounts.select("account_id", _zone=pl.col("time_zone").fill_null(time_zone))
    zoned = rows.join(zones, on="account_id", how="inner", validate="m:1")
    half_a_day, instant = pl.duration(hours=12), pl.duration(microseconds=1)
    parts = [
        part.with_columns(
            _start=_month(pl.col("valid_from") + half_a_day - instant, zone).fill_null(intervals.SINCE_EVER),
            _end=(_month(pl.col("valid_to") - half_a_day - instant, zone) + 1).fill_null(intervals.OPEN),
        )
        for (zone,), part in zoned.partition_by("_zone", as_dict=True).items()
        if is_time_zone(zone)
    ]
    return pl.concat([zoned.clear(), *parts]).filter(pl.col("_start") < pl.col("_end"))


def _month(instant: pl.Expr, zone: str) -> pl.Expr:
    local = instant.dt.convert_time_zone(zone)
    return local.dt.year().cast(pl.Int64) * 12 + local.dt.month()


def _counting_the_same(rows: pl.DataFrame, skus: pl.DataFrame) -> pl.DataFrame:
    """Pairs of commitments that the same usage fits at the same time: ``_index`` and ``_earlier``.

    An empty project or region stands for any. So rows are parted by which of the two they set, and between two parts
    only what both set has to be equal.
    """
    if rows.height <= 1:
        return intervals.no_pairs(rows)
    fitting = rows.join(matching_skus(rows, skus), on=_OF_SKUS, nulls_equal=True)
    always = ["account_id", "sku_id"]
    parts = [
        (names, fitting.filter(*(pl.col(name).is_not_null() == (name in names) for name in ("project_id", "region"))))
        for names in ([], ["project_id"], ["region"], ["project_id", "region"])
    ]
    return pl.concat(
        [
            *(intervals.overlaps(part, [*always, *names]) for names, part in parts),
            *(
                intervals.cross_overlaps(part, other, [*always, *(name for name in names if name in other_names)])
                for (names, part), (other_names, other) in combinations(parts, 2)
            ),
        ]
    )


def _ids(column: str) -> pl.Expr:
    """The ids in a cell, which blanks separate."""
    return pl.col(column).str.extract_all(r"\S+")


def _named(book: Book, table: str, column: str) -> pl.DataFrame:
    """The table's rows with ``_index``, repeated for each ``_sku`` that the column names."""
    return (
        book.frame(table)
        .with_row_index("_index")
        .with_columns(_sku=_ids(column))
        .explode("_sku")
        .filter(pl.col("_sku").is_not_null())
    )


def _unknown(book: Book, table: str, column: str) -> pl.DataFrame:
    return _named(book, table, column).filter(~pl.col("_sku").is_in(book.skus["sku_id"].implode()))
