"""Checks of members: who may see what is said once, completely, and about things that exist.

A mistake here shows one customer's data to another. So nothing is implied: a row without a scope is refused rather than
taken for everything, and a project that may be of several customers has to be given with the one that is meant.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import polars as pl

from ratemill.book import intervals
from ratemill.book.rows import findings_for, place, span
from ratemill.findings import Finding, Severity
from ratemill.tables.book import MEMBER_ROLES

if TYPE_CHECKING:
    from ratemill.book.model import Book
    from ratemill.book.rows import Row

MEMBER_SCOPE = ("organization_id", "account_id", "project_id")
"""Columns that say what a member may see; all that are given must hold."""

_EMAIL = re.compile(r"[^\s@,;<>\"*?]+@[^\s@,;<>\"*?]+\.[^\s@,;<>\"*?.]+")
_KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def payers_of_accounts(book: Book) -> pl.DataFrame:
    """``account_id, _payer``: who pays for each account."""
    return book.accounts.select("account_id", _payer=pl.coalesce("billing_account_id", "account_id"))


def payers_of_projects(book: Book) -> pl.DataFrame:
    """``project_id, _payers``: the accounts that ever paid for each project of the book, sorted."""
    owned = book.projects.join(payers_of_accounts(book), on="account_id", how="inner", validate="m:1")
    return owned.group_by("project_id").agg(_payers=pl.col("_payer").unique().sort())


def principals_are_names(book: Book) -> list[Finding]:
    """A principal is one e-mail address or the name of one key: no list, no pattern, no blanks."""
    wrong = [name for name in book.members["principal"].unique() if not _is_principal(name)]
    return findings_for(
        book.members.filter(pl.col("principal").is_in(wrong)),
        rule="members.principal",
        message=lambda row: (
            f"principal is {row['principal']!r}; expected one e-mail address, or the name of one key (letters, digits, "
            "'.', '_' and '-')"
        ),
        cure="write one person or key per row; there are no patterns",
        column="principal",
    )


def _is_principal(name: str) -> bool:
    return bool((_EMAIL if "@" in name else _KEY_NAME).fullmatch(name))


def principals_are_written_alike(book: Book) -> list[Finding]:
    """Two principals differ by more than capitals: names are compared as they are written."""
    rows = book.members.with_columns(_folded=pl.col("principal").str.to_lowercase())
    first = rows.unique("_folded", keep="first", maintain_order=True)
    other = rows.join(first, on="_folded", how="inner", suffix="_earlier", validate="m:1", maintain_order="left")
    return findings_for(
        other.filter(pl.col("principal") != pl.col("principal_earlier")),
        rule="members.principal_in_capitals",
        message=lambda row: (
            f"principal is {row['principal']!r}, but {row['principal_earlier']!r} at {place(row, '_earlier')}; they "
            "would be two"
        ),
        cure="write the name alike in every row",
        column="principal",
    )


def members_see_something_named(book: Book) -> list[Finding]:
    """A member is given an organization, an account or a project: nothing given is not everything."""
    return findings_for(
        book.members.filter(pl.all_horizontal(pl.col(name).is_null() for name in MEMBER_SCOPE)),
        rule="members.scope_given",
        message=lambda row: (
            f"{_called(row)} has no organization_id, account_id or project_id, and nothing is not everything"
        ),
        cure="name what the member may see; a row for each",
        column="organization_id",
    )


def organizations_of_members_pay(book: Book) -> list[Finding]:
    """The organization of a member is an account that gets invoices."""
    payers = payers_of_accounts(book).select("_payer", organization_id="account_id")
    known = book.members.join(payers, on="organization_id", how="left", validate="m:1", maintain_order="left")
    unknown = findings_for(
        known.filter(pl.col("organization_id").is_not_null(), pl.col("_payer").is_null()),
        rule="members.organization_id",
        message=lambda row: f"{_called(row)} is of organization {row['organization_id']!r}, which is no account",
        cure="write the account_id of the account that pays",
        column="organization_id",
    )
    paid = findings_for(
        known.filter(pl.col("_payer") != pl.col("organization_id")),
        rule="members.organization_pays",
        message=lambda row: (
            f"{_called(row)} is of organization {row['organization_id']!r}, which gets no invoices: {row['_payer']!r} "
            "pays for it"
        ),
        cure="write it in account_id to give this account alone, or name the account that pays to give all of it",
        column="organization_id",
    )
    return [*unknown, *paid]


def accounts_of_members_exist(book: Book) -> list[Finding]:
    """The account of a member is an account of the book."""
    return findings_for(
        book.members.filter(~pl.col("account_id").is_in(book.accounts["account_id"].implode())),
        rule="members.account_id",
        message=lambda row: f"{_called(row)} is of account {row['account_id']!r}, which is no account",
        cure="add the account, or mend its id",
        column="account_id",
    )


def accounts_of_members_are_of_their_organization(book: Book) -> list[Finding]:
    """Where both are given, the organization pays for the account: else the member would never see anything."""
    payers = payers_of_accounts(book)
    rows = book.members.join(payers, on="account_id", how="left", validate="m:1", maintain_order="left")
    return findings_for(
        rows.filter(
            pl.col("organization_id").is_in(book.accounts["account_id"].implode()),
            pl.col("_payer") != pl.col("organization_id"),
        ),
        rule="members.account_of_organization",
        message=lambda row: (
            f"{_called(row)} is of account {row['account_id']!r} in organization {row['organization_id']!r}, but "
            f"{row['_payer']!r} pays for it, so the member would see nothing"
        ),
        cure="mend one of the two; for both, write two rows",
        column="account_id",
    )


def projects_of_members_exist(book: Book) -> list[Finding]:
    """The project of a member is one of the book, if it lists any; without a list it is whatever usage says."""
    if book.projects.is_empty():
        return []
    return findings_for(
        book.members.filter(~pl.col("project_id").is_in(book.projects["project_id"].implode())),
        rule="members.project_id",
        message=lambda row: f"{_called(row)} is of project {row['project_id']!r}, which is not in the projects",
        cure="add the project, or mend its id",
        column="project_id",
    )


def projects_of_members_are_of_one_organization(book: Book) -> list[Finding]:
    """A project alone says whose it is: two customers may call a project alike, or one may have taken it over."""
    alone = book.members.filter(
        pl.col("project_id").is_not_null(), pl.col("account_id").is_null(), pl.col("organization_id").is_null()
    )
    rows = alone.join(payers_of_projects(book), on="project_id", how="left", validate="m:1", maintain_order="left")
    several = findings_for(
        rows.filter(pl.col("_payers").list.len() > 1),
        rule="members.project_of_several",
        message=lambda row: (
            f"{_called(row)} is of project {row['project_id']!r}, which was paid by "
            f"{' and '.join(map(repr, row['_payers']))}: the one would be shown what the other used"
        ),
        cure="write in organization_id whose part of the project is meant",
        column="organization_id",
    )
    if not book.projects.is_empty():
        return several
    return findings_for(
        rows,
        rule="members.project_of_several",
        message=lambda row: (
            f"{_called(row)} is of project {row['project_id']!r}, and the book lists no projects, so usage of several "
            "customers may be called that"
        ),
        cure="write in organization_id whose project is meant, or list the projects in book/projects.csv",
        column="organization_id",
    )


def projects_of_members_fit(book: Book) -> list[Finding]:
    """Where an account or organization is given as well, the project was once there."""
    payers = payers_of_accounts(book)
    owned = book.projects.join(payers, on="account_id", how="inner", validate="m:1")
    listed = book.members.filter(pl.col("project_id").is_in(book.projects["project_id"].implode()))
    of_account = listed.filter(pl.col("account_id").is_in(book.accounts["account_id"].implode())).join(
        owned, on=["project_id", "account_id"], how="anti", maintain_order="left"
    )
    of_payer = listed.filter(
        pl.col("account_id").is_null(), pl.col("organization_id").is_in(book.accounts["account_id"].implode())
    ).join(
        owned.select("project_id", organization_id="_payer"),
        on=["project_id", "organization_id"],
        how="anti",
        maintain_order="left",
    )
    return findings_for(
        pl.concat([of_account, of_payer]),
        rule="members.project_of_account",
        message=lambda row: (
            f"{_called(row)} is of project {row['project_id']!r}, which never belongs to "
            f"{row['account_id'] or row['organization_id']!r}, so the member would see nothing"
        ),
        cure="mend the project, the account or the organization",
        column="project_id",
        severity=Severity.WARNING,
    )


def members_are_said_once(book: Book) -> list[Finding]:
    """No two rows give one member the same thing at the same time: with two roles they would contradict each other."""
    rows = intervals.with_bounds(book.members)
    pairs = intervals.overlaps(rows, ["principal", *MEMBER_SCOPE])
    return findings_for(
        intervals.both_rows(rows, pairs),
        rule="members.overlap",
        message=lambda row: (
            f"{_called(row)} is {row['role']} of {_scope(row)} ({span(row)}), and {row['role_earlier']} of the same at "
            f"{place(row, '_earlier')} ({span(row, '_earlier')})"
        ),
        cure="end the one where the other begins (valid_to is exclusive), or remove one",
        column="role",
    )


def narrower_rows_add_something(book: Book) -> list[Finding]:
    """A row inside another one of the member adds a higher role; it never takes anything away."""
    rows = intervals.with_bounds(book.members).with_columns(
        _rank=pl.col("role").replace_strict({role: rank for rank, role in enumerate(MEMBER_ROLES)}),
        _given=pl.sum_horizontal(pl.col(name).is_not_null().cast(pl.Int64) for name in MEMBER_SCOPE),
        _paid_by=_payer_of_row(book),
    )
    narrower, wider = rows, rows.rename({name: f"{name}_earlier" for name in rows.columns if name != "principal"})
    pairs = narrower.join(wider, on="principal").filter(
        pl.col("_index") != pl.col("_index_earlier"),
        pl.col("_start") < pl.col("_end_earlier"),
        pl.col("_start_earlier") < pl.col("_end"),
        pl.col("_rank") <= pl.col("_rank_earlier"),
        pl.col("_given") >= pl.col("_given_earlier"),
        ~pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_earlier")) for name in MEMBER_SCOPE),
        pl.col("organization_id_earlier").is_null() | (pl.col("_paid_by") == pl.col("organization_id_earlier")),
        *(
            pl.col(f"{name}_earlier").is_null() | (pl.col(name) == pl.col(f"{name}_earlier"))
            for name in ("account_id", "project_id")
        ),
        pl.any_horizontal(pl.col(f"{name}_earlier").is_not_null() for name in MEMBER_SCOPE),
    )
    return findings_for(
        pairs.unique("_index", keep="first", maintain_order=True).sort("_index"),
        rule="members.adds_nothing",
        message=lambda row: (
            f"{_called(row)} is {row['role']} of {_scope(row)}, and {row['role_earlier']} of "
            f"{_scope(row, '_earlier')} at {place(row, '_earlier')}, which includes it: roles add up, so this row "
            "takes nothing away"
        ),
        cure="remove the row, or the wider one",
        column="role",
        severity=Severity.WARNING,
    )


def _payer_of_row(book: Book) -> pl.Expr:
    """Who pays for what a row names: its organization, else that of its account, else that of its project."""
    of_account = dict(payers_of_accounts(book).iter_rows())
    of_project = {name: payers[0] for name, payers in payers_of_projects(book).iter_rows() if len(payers) == 1}
    return pl.coalesce(
        pl.col("organization_id"),
        pl.col("account_id").replace_strict(of_account, default=None, return_dtype=pl.String),
        pl.col("project_id").replace_strict(of_project, default=None, return_dtype=pl.String),
    )


def _called(row: Row) -> str:
    return f"member {row['principal']!r}"


def _scope(row: Row, suffix: str = "") -> str:
    """What a row gives, as messages name it: ``organization 'acme', project 'web'``."""
    return ", ".join(
        f"{name.removesuffix('_id')} {row[name + suffix]!r}" for name in MEMBER_SCOPE if row[name + suffix] is not None
    )
