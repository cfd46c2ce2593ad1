"""Who may see what: a member's scope, and every published table as far as the member may see it.

Pure: the book and published frames in, smaller frames out. Three kinds of grants, from wide to narrow:

- an **organization** (an account that pays): everything of its invoices, whoever of its accounts used it;
- an **account**: what it used, its lines and what was taken off them; nothing of the other accounts of the same payer;
- a **project**: the same of the project.

A grant may name several; then all must hold. Grants of one member add up. What stands at the account that pays and is
for no project and no SKU (shortfalls of commitments, fees and adjustments without a SKU, and what was taken off these)
is of the organization as a whole: a shortfall says what all its accounts used together.

Default deny: a table is shown by its rule in :data:`RULES`, to the columns the rule leaves; one without a rule is shown
to nobody. Rows are chosen by what they are billed to (the payer, account and project of the charge or line), never by
what the book says now, so that a project that moved shows each side its own part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property, reduce
from operator import or_
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.book.members import payers_of_accounts, payers_of_projects
from ratemill.tables.book import PUBLIC_PRICE_LIST
from ratemill.tables.columns import INSTANT

if TYPE_CHECKING:
    from datetime import datetime

    from ratemill.book.model import Book

LINE = ["invoice_id", "line_number"]


class Level(StrEnum):
    """How wide a grant is."""

    ORGANIZATION = "organization"
    ACCOUNT = "account"
    PROJECT = "project"


@dataclass(frozen=True, order=True)
class Grant:
    """One row of members.csv that holds: all that are given must hold, and one of the three is."""

    role: str
    organization_id: str = ""
    """Account that pays; empty: any (an account has its own)."""
    account_id: str = ""
    project_id: str = ""

    def __post_init__(self) -> None:
        if not (self.organization_id or self.account_id or self.project_id):
            raise ValueError("a grant of nothing is not a grant of everything")
        if self.project_id and not (self.organization_id or self.account_id):
            raise ValueError(f"project {self.project_id!r} is granted without saying whose")

    @property
    def level(self) -> Level:
        """What is given at the narrowest."""
        if self.project_id:
            return Level.PROJECT
        return Level.ACCOUNT if self.account_id else Level.ORGANIZATION

    def __str__(self) -> str:
        given = (("project", self.project_id), ("account", self.account_id), ("organization", self.organization_id))
        return ", ".join(f"{name} {value}" for name, value in given if value)


@dataclass(frozen=True)
class Scope:
    """What a member may see at an instant."""

    principal: str
    grants: tuple[Grant, ...]
    """Sorted; none: nothing."""

    def managed(self) -> Scope:
        """The part in which the member is a billing manager."""
        return replace(self, grants=tuple(grant for grant in self.grants if grant.role == "billing_manager"))

    @property
    def organizations(self) -> frozenset[str]:
        """Payers that are granted as a whole: all of their accounts, invoices and documents."""
        return frozenset(grant.organization_id for grant in self.grants if grant.level is Level.ORGANIZATION)

    @property
    def accounts(self) -> frozenset[str]:
        """Accounts that are granted one by one."""
        return frozenset(grant.account_id for grant in self.grants if grant.level is Level.ACCOUNT)

    @property
    def projects(self) -> frozenset[str]:
        """Projects that are granted one by one."""
        return frozenset(grant.project_id for grant in self.grants if grant.level is Level.PROJECT)

    def whole(self, payer: str = "billing_account_id") -> pl.Expr:
        """Whether a row is of an organization that is granted as a whole."""
        return pl.col(payer).is_in(sorted(self.organizations)).fill_null(value=False)

    def part(
        self,
        payer: str = "billing_account_id",
        account: str = "account_id",
        project: str = "project_id",
        *,
        levels: tuple[Level, ...] = (Level.ACCOUNT, Level.PROJECT),
    ) -> pl.Expr:
        """Whether a row is of an account or project that is granted; a null is nobody's."""
        columns = {"organization_id": payer, "account_id": account, "project_id": project}
        granted = [
            pl.all_horizontal(
                (pl.col(columns[name]) == value).fill_null(value=False)
                for name in columns
                if (value := getattr(grant, name))
            )
            for grant in self.grants
            if grant.level in levels
        ]
        return reduce(or_, granted, pl.lit(value=False))


def scope_of(principal: str, *, book: Book, at: datetime) -> Scope:
    """What ``principal`` may see at ``at``: nothing where no row of the book's members holds.

    A project that is given alone is that of the one organization it was ever paid by: a customer that calls a project
    of its own alike stays apart. (The checks of the book refuse a project of several.)
    """
    mine = replace(book, members=book.members.filter(pl.col("principal") == principal))
    return scopes_at(mine, at=at).get(principal, Scope(principal, ()))


def scopes_at(book: Book, *, at: datetime) -> dict[str, Scope]:
    """What each member may see at ``at``, by name, as :func:`scope_of` says; those who see nothing are not in it."""
    instant = pl.lit(at, dtype=INSTANT)
    holds = (pl.col("valid_from").is_null() | (pl.col("valid_from") <= instant)) & (
        pl.col("valid_to").is_null() | (instant < pl.col("valid_to"))
    )
    owners = dict(payers_of_projects(book).iter_rows())
    grants: dict[str, set[Grant]] = {}
    for row in book.members.filter(holds).iter_rows(named=True):
        given = {name: row[name] or "" for name in ("organization_id", "account_id", "project_id")}
        if given["project_id"] and not (given["organization_id"] or given["account_id"]):
            payers = owners.get(given["project_id"], [])
            if len(payers) != 1:
                continue  # whose it is cannot be told, so nobody's
            given["organization_id"] = payers[0]
        if any(given.values()):
            grants.setdefault(row["principal"], set()).add(Grant(row["role"], **given))
    return {name: Scope(name, tuple(sorted(found))) for name, found in sorted(grants.items())}


_ORGANIZATIONS_OWN = (
    (pl.col("account_id") == pl.col("billing_account_id")) & pl.col("project_id").is_null() & pl.col("sku_id").is_null()
)
"""Of the organization as a whole, not of the account it stands at; columns of charges, and of lines with the payer."""


def _of_scope(scope: Scope) -> pl.Expr:
    return scope.whole() | (scope.part() & ~_ORGANIZATIONS_OWN)


@dataclass(frozen=True)
class Ledger:
    """The published tables that decide about the others. All periods, all customers: it is filtered in here."""

    invoices: pl.DataFrame
    lines: pl.DataFrame
    """Rows of INVOICE_LINES."""
    book: Book


@dataclass(frozen=True)
class Seen:
    """What a member sees of the ledger, from which follows what is seen of every other table."""

    scope: Scope
    ledger: Ledger

    @cached_property
    def of_organizations(self) -> Seen:
        """What is seen of whole organizations alone."""
        whole = tuple(grant for grant in self.scope.grants if grant.level is Level.ORGANIZATION)
        return Seen(replace(self.scope, grants=whole), self.ledger)

    @cached_property
    def payers(self) -> dict[str, str]:
        """invoice_id → who pays, of every invoice there is."""
        return dict(self.ledger.invoices.select("invoice_id", "billing_account_id").iter_rows())

    @cached_property
    def invoices(self) -> frozenset[str]:
        """Invoices and credit notes that are seen as a whole."""
        return frozenset(name for name, payer in self.payers.items() if payer in self.scope.organizations)

    @cached_property
    def lines(self) -> pl.DataFrame:
        """Every line that is seen, with its ``billing_account_id``."""
        payers = self.ledger.invoices.select("invoice_id", "billing_account_id")
        lines = self.ledger.lines.join(payers, on="invoice_id", how="left", validate="m:1", maintain_order="left")
        return lines.filter(_of_scope(self.scope))

    @cached_property
    def owned(self) -> pl.DataFrame:
        """The book's accounts with ``_payer``."""
        payers = payers_of_accounts(self.ledger.book)
        return self.ledger.book.accounts.join(payers, on="account_id", validate="1:1", maintain_order="left")

    @cached_property
    def own_accounts(self) -> frozenset[str]:
        """Accounts of which everything is seen: granted one by one, or paid by an organization that is."""
        paid = self.owned.filter(pl.col("_payer").is_in(sorted(self.scope.organizations)))
        payers = dict(self.owned.select("account_id", "_payer").iter_rows())
        granted = {
            grant.account_id
            for grant in self.scope.grants
            if grant.level is Level.ACCOUNT and grant.organization_id in ("", payers.get(grant.account_id))
        }
        return frozenset({*paid["account_id"], *granted})

    @cached_property
    def accounts(self) -> frozenset[str]:
        """Accounts whose name is seen: those, and the ones that granted projects are or were at.

        Of an account that has another payer by now, only what its lines say: its row says who that is.
        """
        still = self.lines.join(self.owned, on="account_id", how="inner", validate="m:1").filter(
            pl.col("_payer") == pl.col("billing_account_id")
        )
        return frozenset({*self.own_accounts, *self.projects["account_id"], *still["account_id"]})

    @cached_property
    def projects(self) -> pl.DataFrame:
        """Rows of PROJECTS that are seen."""
        owners = payers_of_accounts(self.ledger.book)
        rows = self.ledger.book.projects.join(
            owners, on="account_id", how="left", validate="m:1", maintain_order="left"
        )
        seen = rows.filter(self.scope.whole("_payer") | self.scope.part(payer="_payer"))
        return seen.drop("_payer")

    @cached_property
    def prices(self) -> pl.DataFrame:
        """Rows of PRICES that are seen: public ones, those of the lists of own accounts, and those that lines name."""
        lists = self.owned.join(
            self.owned.select(_payer="account_id", _payer_lists="price_lists"), on="_payer", how="left", validate="m:1"
        ).filter(pl.col("account_id").is_in(sorted(self.own_accounts)))
        texts = lists.select(pl.coalesce("price_lists", "_payer_lists").fill_null("")).to_series()
        own = sorted({PUBLIC_PRICE_LIST, *" ".join(texts).split()})
        named = sorted(set(self.lines["price_id"].drop_nulls()))
        return self.ledger.book.prices.filter(pl.col("price_list").is_in(own) | pl.col("price_id").is_in(named))

    @cached_property
    def skus(self) -> frozenset[str]:
        """SKUs that have a price that is seen, or are on a line that is."""
        return frozenset({*self.prices["sku_id"], *self.lines["sku_id"].drop_nulls()})

    @cached_property
    def currencies(self) -> list[str]:
        """Currencies of own accounts and of the prices that are seen."""
        own = self.owned.filter(pl.col("account_id").is_in(sorted(self.accounts)))["currency"]
        return sorted({*own, *self.prices["currency"]})

    @cached_property
    def taxes(self) -> pl.Expr:
        """Which rows of TAXES are seen: those of lines, and those that may come to be of own accounts.

        Not a code of the same country that was made for others, who name it.
        """
        is_own = pl.col("account_id").is_in(sorted(self.own_accounts))
        own, others = self.owned.filter(is_own), self.owned.filter(~is_own)
        codes = {*self.lines["tax_code"].drop_nulls(), *own["tax_code"].drop_nulls()}
        countries = sorted({*own.filter(pl.col("tax_code").is_null())["country"]})
        of_others = sorted({*others["tax_code"].drop_nulls()} - codes)
        of_country = pl.col("country").is_in(countries) & ~pl.col("tax_code").is_in(of_others)
        return pl.col("tax_code").is_in(sorted(codes)) | of_country


Rows = Callable[[pl.DataFrame, Seen], pl.DataFrame]


@dataclass(frozen=True)
class Rule:
    """What of a table is shown to whom."""

    rows: Rows
    organization: str
    """What a reader of an organization sees of it, in words; empty: nothing."""
    account: str = ""
    project: str = ""
    hides: tuple[str, ...] = ()
    """Columns that are always filled in the table, and may be empty here."""


def visible(table: str, rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    """``rows`` of a published table as far as they may be seen; the columns stay, and are empty where hidden.

    Raises:
        KeyError: the table has no rule, so it is shown to nobody.
    """
    return RULES[table].rows(rows, seen)


def _charges(rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    return rows.filter(_of_scope(seen.scope))


def _invoices(rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    return rows.filter(pl.col("invoice_id").is_in(sorted(seen.invoices))).with_columns(_own_correction(seen))


def _lines(rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    shown = rows.join(seen.lines.select(LINE), on=LINE, how="semi", maintain_order="left")
    return shown.with_columns(_own_correction(seen))


def _own_correction(seen: Seen) -> pl.Expr:
    """``corrects_invoice_id``, where that is an invoice of the same payer."""
    payers, corrected = seen.payers, pl.col("corrects_invoice_id")
    own, other = (
        pl.col(name).replace_strict(payers, default=None, return_dtype=pl.String)
        for name in ("invoice_id", "corrects_invoice_id")
    )
    return pl.when(own == other).then(corrected).alias("corrects_invoice_id")


def _deductions(rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    return rows.join(seen.lines.select(LINE), on=LINE, how="semi", maintain_order="left")


def _of_invoices(rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    """Of tables with invoice_id that say something about the invoice as a whole."""
    return rows.filter(pl.col("invoice_id").is_in(sorted(seen.invoices)))


_ACCOUNT_SHOWN = ("account_id", "billing_account_id", "name", "country", "currency", "time_zone", "language")


def _accounts(rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    """Own accounts whole; of the account that a granted project is at, what its costs can't be read without."""
    own = pl.col("account_id").is_in(sorted(seen.own_accounts))
    return rows.filter(pl.col("account_id").is_in(sorted(seen.accounts))).with_columns(
        pl.when(own).then(pl.col(name)).alias(name) for name in rows.columns if name not in _ACCOUNT_SHOWN
    )


def _projects(rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    key = ["project_id", "account_id", "valid_from"]
    return rows.join(seen.projects.select(key), on=key, how="semi", nulls_equal=True, maintain_order="left")


def _skus(rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    return rows.filter(pl.col("sku_id").is_in(sorted(seen.skus)))


def _prices(rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    return rows.filter(pl.col("price_id").is_in(seen.prices["price_id"].unique().sort().to_list()))


def _windows(rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    return rows.filter(pl.col("window").is_in(seen.prices["window"].drop_nulls().unique().sort().to_list()))


def _taxes(rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    return rows.filter(seen.taxes)


def _fx_rates(rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    return rows.filter(pl.col("base").is_in(seen.currencies), pl.col("quote").is_in(seen.currencies))


def _with_payer(rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    owners = seen.owned.select("account_id", billing_account_id="_payer")
    return rows.join(owners, on="account_id", how="left", validate="m:1", maintain_order="left")


def _deals(rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    """Discounts, commitments and credits of the organization, and discounts that are everybody's.

    One that is everybody's, but for a project or SKUs that are not seen, was made for somebody else.
    """
    organizations = seen.of_organizations
    known = [
        pl.col(name)
        .str.extract_all(r"\S+")
        .list.set_difference(pl.lit(sorted(organizations.skus)))
        .list.len()
        .fill_null(0)
        == 0
        for name in ("sku_ids", "excludes")
    ]
    projects = sorted(set(organizations.projects["project_id"]))
    everybodys = (
        pl.lit(bool(seen.scope.organizations))
        & pl.col("account_id").is_null()
        & (pl.col("project_id").is_null() | pl.col("project_id").is_in(projects))
        & pl.all_horizontal(known)
    )
    return _with_payer(rows, seen).filter(seen.scope.whole() | everybodys).select(rows.columns)


def _fees(rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    return _with_payer(rows, seen).filter(_of_scope(seen.scope)).select(rows.columns)


def _adjustments(rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    """Who decided is the seller's business; the invoice it is about, the organization's."""
    shown = _with_payer(rows, seen).filter(_of_scope(seen.scope))
    return shown.with_columns(
        author=pl.lit(None, dtype=pl.String), invoice_ref=pl.when(seen.scope.whole()).then("invoice_ref")
    ).select(rows.columns)


def _focus(rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    """Of parts, the rows of lines that are seen: taxes and prepaid credits are for no line."""
    of_lines = seen.lines.select(x_LedgerInvoiceId="invoice_id", x_InvoiceLineNumber="line_number").with_columns(
        _of_line=pl.lit(value=True)
    )
    key = ["x_LedgerInvoiceId", "x_InvoiceLineNumber"]
    joined = rows.join(of_lines, on=key, how="left", validate="m:1", maintain_order="left")
    part = seen.scope.part("BillingAccountId", "SubAccountId", "x_ProjectId")
    shown = joined.filter(seen.scope.whole("BillingAccountId") | (part & pl.col("_of_line").fill_null(value=False)))
    return shown.select(rows.columns)


def _budgets(rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    """Budgets that are for the managed part alone: one for every account is the seller's own."""
    managed = seen.scope.managed()
    of_projects = {
        name: payers[0] for name, payers in payers_of_projects(seen.ledger.book).iter_rows() if len(payers) == 1
    }
    of_project = pl.col("project_id").replace_strict(of_projects, default=None, return_dtype=pl.String)
    owned = _with_payer(rows, seen).with_columns(pl.coalesce("billing_account_id", of_project))
    return owned.filter(managed.whole() | managed.part()).select(rows.columns)


def _subscriptions(rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    """The member's own, and those of whole accounts that are managed."""
    managed = seen.scope.managed()
    of_accounts = managed.whole() | managed.part(project="_no_project", levels=(Level.ACCOUNT,))
    mine = (pl.col("principal") == seen.scope.principal).fill_null(value=False) & pl.lit(bool(managed.grants))
    return _with_payer(rows, seen).filter(mine | of_accounts).select(rows.columns)


RULES: Mapping[str, Rule] = {
    "charges": Rule(_charges, "all", "its own", "its own"),
    "focus_cost_and_usage": Rule(_focus, "all", "its own", "its own"),
    "invoices": Rule(_invoices, "all"),
    "invoice_lines": Rule(_lines, "all", "its own", "its own"),
    "invoice_deductions": Rule(_deductions, "all", "off its own lines", "off its own lines"),
    "tax_lines": Rule(_of_invoices, "all"),
    "credit_ledger": Rule(_of_invoices, "all"),
    "commitment_ledger": Rule(_of_invoices, "all"),
    "documents": Rule(_of_invoices, "all"),
    "accounts": Rule(
        _accounts, "the payer and whom it pays for", "itself", "the one it is at: name, country, currency"
    ),
    "projects": Rule(_projects, "of its accounts", "its own", "itself"),
    "skus": Rule(_skus, "with a price or line it sees", "with a price or line it sees", "with a price or line it sees"),
    "prices": Rule(
        _prices, "public, and its accounts' own", "public, and its own", "public, and those of its lines"
    ),
    "windows": Rule(_windows, "of those prices", "of those prices", "of those prices"),
    "taxes": Rule(_taxes, "of its accounts and lines", "of itself and its lines", "of its lines"),
    "fx_rates": Rule(
        _fx_rates, "between currencies it sees", "between currencies it sees", "between currencies it sees"
    ),
    "discounts": Rule(_deals, "its own, and everybody's"),
    "commitments": Rule(_deals, "its own"),
    "credits": Rule(_deals, "its own"),
    "recurring": Rule(_fees, "all", "its own", "its own"),
    "adjustments": Rule(
        _adjustments,
        "all, without who decided",
        "its own, without who decided",
        "its own, without who decided",
        hides=("author",),
    ),
    "budgets": Rule(_budgets, "managers: of its accounts", "managers: its own", "managers: its own"),
    "subscriptions": Rule(_subscriptions, "managers: of its accounts", "managers: its own", "managers: one's own"),
}  # fmt: skip
"""Table → who sees what of it. A table that is not here is shown to nobody."""

OF_MANAGERS = ("budgets", "subscriptions")
"""Tables of billing managers alone."""

NOBODY: Mapping[str, str] = {
    "usage": "whose it is, charges say; the view of this name reads those that are seen",
    "usage_files": "files hold the usage of many customers, and their names say whose",
    "usage_rejects": "values of rows that nobody could be billed for",
    "runs": "counts, sums and hashes over all customers",
    "findings": "about files and rows of all customers",
    "closed_periods": "first and last number of all invoices, and how many there are",
    "checklist": "sums and names of all customers",
    "events": "the audit log of the seller",
    "unpriced_usage": "usage that is not billed yet",
    "report_queries": "files of the seller, and what they are for",
    "notifications": "addresses and messages of all customers",
    "members": "who else may see it",
}
"""Published tables that are shown to nobody, and why. Everything else without a rule is, too."""


def tables_of(scope: Scope) -> list[str]:
    """Names of the tables that a member may see anything of, in the order of the rules."""
    levels = {grant.level for grant in scope.grants}
    names = [name for name, rule in RULES.items() if any(getattr(rule, level.value) for level in levels)]
    return names if scope.managed().grants else [name for name in names if name not in OF_MANAGERS]


def as_facts(scope: Scope) -> list[dict[str, Any]]:
    """The grants for a manifest, without what is not given."""
    names = ("role", "organization_id", "account_id", "project_id")
    return [{name: getattr(grant, name) for name in names if getattr(grant, name)} for grant in scope.grants]
