"""Checks of accounts and projects: who pays, where, in which currency, language and time zone."""

from __future__ import annotations

from functools import cache

import polars as pl
from babel import Locale, UnknownLocaleError

from ratemill.book import intervals
from ratemill.book.model import SOURCE_FILE, SOURCE_ROW, Book
from ratemill.book.rows import findings_for, place, span
from ratemill.findings import Finding, Severity
from ratemill.identifiers import ElectronicAddress, is_country
from ratemill.money import is_currency
from ratemill.period import is_time_zone
from ratemill.tables.book import PUBLIC_PRICE_LIST


@cache
def is_language(tag: str) -> bool:
    """Whether ``tag`` is a language of the Unicode CLDR, as BCP 47 writes it: ``fr`` or ``fr-CA``."""
    try:
        Locale.parse(tag, sep="-")
    except (UnknownLocaleError, ValueError):
        return False
    return True


def payers(book: Book) -> pl.DataFrame:
    """The accounts that pay for themselves, and so get invoices."""
    billing = pl.col("billing_account_id")
    return book.accounts.filter(billing.is_null() | (billing == pl.col("account_id")))


def billing_accounts_exist(book: Book) -> list[Finding]:
    """Who pays for an account is an account of the book."""
    known = book.accounts["account_id"].implode()
    return findings_for(
        book.accounts.filter(~pl.col("billing_account_id").is_in(known)),
        rule="accounts.billing_account_id",
        message=lambda row: (
            f"account {row['account_id']!r} is paid by {row['billing_account_id']!r}, which is no account"
        ),
        cure="add the paying account, or mend its id",
        column="billing_account_id",
    )


def payers_pay_for_themselves(book: Book) -> list[Finding]:
    """No chains: the account that pays for another is not itself paid for by a third."""
    payer = book.accounts.select("account_id", "billing_account_id", pl.col(SOURCE_FILE, SOURCE_ROW)).unique(
        "account_id", keep="first"
    )
    chained = book.accounts.join(
        payer, left_on="billing_account_id", right_on="account_id", suffix="_payer", validate="m:1",
        maintain_order="left",
    ).filter(pl.col("billing_account_id_payer") != pl.col("billing_account_id"))  # fmt: skip
    return findings_for(
        chained,
        rule="accounts.payer_chain",
        message=lambda row: (
            f"account {row['account_id']!r} is paid by {row['billing_account_id']!r}, which is itself paid "
            f"by {row['billing_account_id_payer']!r} ({place(row, '_payer')})"
        ),
        cure="name the account that pays in the end",
        column="billing_account_id",
    )


def payers_decide(book: Book) -> list[Finding]:
    """Currency and month of an account are its payer's; other values on the account have no effect."""
    payer = book.accounts.select("account_id", "currency", "time_zone").unique("account_id", keep="first")
    joined = book.accounts.join(
        payer, left_on="billing_account_id", right_on="account_id", suffix="_payer", validate="m:1",
        maintain_order="left",
    )  # fmt: skip
    found: list[Finding] = []
    for column in ("currency", "time_zone"):
        found += findings_for(
            joined.filter(pl.col(column) != pl.col(f"{column}_payer")),
            rule=f"accounts.{column}_of_payer",
            message=lambda row, column=column: (
                f"account {row['account_id']!r} has {column} {row[column]}, but "  # type: ignore[misc]
                f"{row['billing_account_id']!r} pays for it and has {row[f'{column}_payer']}, which is what counts"
            ),
            cure="give both accounts the same, or leave billing_account_id empty",
            column=column,
            severity=Severity.WARNING,
        )
    return found


def countries_are_known(book: Book) -> list[Finding]:
    """Countries of accounts and taxes are ISO 3166 codes."""
    found: list[Finding] = []
    for table in ("accounts", "taxes"):
        frame = book.frame(table)
        unknown = [code for code in frame["country"].unique() if not is_country(code)]
        found += findings_for(
            frame.filter(pl.col("country").is_in(unknown)),
            rule=f"{table}.country",
            message=lambda row: f"country is {row['country']!r}; expected a two-letter ISO 3166 code such as FR",
            cure="write the code in capitals (the United Kingdom is GB, Greece is GR)",
            column="country",
        )
    return found


def currencies_are_known(book: Book) -> list[Finding]:
    """Every currency is an ISO 4217 code."""
    found: list[Finding] = []
    for table, column in (
        ("accounts", "currency"), ("prices", "currency"), ("fx_rates", "base"), ("fx_rates", "quote"),
        ("discounts", "currency"), ("commitments", "currency"), ("credits", "currency"), ("recurring", "currency"),
        ("adjustments", "currency"), ("budgets", "currency"),
    ):  # fmt: skip
        frame = book.frame(table)
        if frame.is_empty():
            continue
        unknown = [code for code in frame[column].drop_nulls().unique() if not is_currency(code)]
        found += findings_for(
            frame.filter(pl.col(column).is_in(unknown)),
            rule=f"{table}.{column}",
            message=lambda row, column=column: f"{column} is {row[column]!r}; expected an ISO 4217 code such as EUR",  # type: ignore[misc]
            cure="write the three-letter code in capitals",
            column=column,
        )
    return found


def languages_are_known(book: Book) -> list[Finding]:
    """Languages of documents are known to the Unicode CLDR."""
    unknown = [tag for tag in book.accounts["language"].drop_nulls().unique() if not is_language(tag)]
    return findings_for(
        book.accounts.filter(pl.col("language").is_in(unknown)),
        rule="accounts.language",
        message=lambda row: f"language is {row['language']!r}; expected a BCP 47 tag such as en, fr or pt-BR",
        cure="write the tag with a hyphen, or leave it empty for English",
        column="language",
    )


def time_zones_are_known(book: Book) -> list[Finding]:
    """Time zones are IANA names."""
    unknown = [name for name in book.accounts["time_zone"].drop_nulls().unique() if not is_time_zone(name)]
    return findings_for(
        book.accounts.filter(pl.col("time_zone").is_in(unknown)),
        rule="accounts.time_zone",
        message=lambda row: f"time_zone is {row['time_zone']!r}; expected an IANA zone such as Europe/Paris",
        cure="write the zone's name (not CET or +01:00, which know no summer time), or leave it empty",
        column="time_zone",
    )


def electronic_addresses_are_known(book: Book) -> list[Finding]:
    """Addresses of e-invoices name a scheme that there is; a wrong one would make the e-invoice invalid."""
    wrong = {
        text: reason for text in book.accounts["electronic_address"].drop_nulls().unique() if (reason := _wrong(text))
    }
    return findings_for(
        book.accounts.filter(pl.col("electronic_address").is_in(list(wrong))),
        rule="accounts.electronic_address",
        message=lambda row: f"account {row['account_id']!r}: {wrong[row['electronic_address']]}",
        cure="ask the customer for its Peppol address, or leave the cell empty: the e-mail address counts then",
        column="electronic_address",
    )


def _wrong(electronic_address: str) -> str:
    try:
        ElectronicAddress.parse(electronic_address)
    except ValueError as error:
        return str(error)
    return ""


def price_lists_exist(book: Book) -> list[Finding]:
    """Price lists named on accounts have prices."""
    known = {*book.prices["price_list"], PUBLIC_PRICE_LIST}
    named = book.accounts.with_columns(_list=pl.col("price_lists").str.split(" ")).explode("_list")
    return findings_for(
        named.filter(pl.col("_list").is_not_null() & (pl.col("_list") != "") & ~pl.col("_list").is_in(known)),
        rule="accounts.price_lists",
        message=lambda row: f"account {row['account_id']!r} names price list {row['_list']!r}, which has no prices",
        cure="mend the name (lists are separated by spaces), or add the list to the prices",
        column="price_lists",
    )


def payers_have_prices_in_their_currency(book: Book) -> list[Finding]:
    """Each account that pays finds at least one price in its currency, or in one that ``fx_rates`` converts to it."""
    own = book.prices.select("price_list", "currency").unique()
    pairs = pl.concat(
        [
            book.fx_rates.select(currency="base", invoiced="quote"),
            book.fx_rates.select(currency="quote", invoiced="base"),
        ]
    ).unique()
    converted = own.join(pairs, on="currency", how="inner", validate="m:m").select("price_list", currency="invoiced")
    priced = pl.concat([own, converted]).unique()
    lists = payers(book).with_columns(
        price_list=pl.concat_str(pl.col("price_lists").fill_null(""), pl.lit(f" {PUBLIC_PRICE_LIST}")).str.split(" ")
    )
    found = lists.explode("price_list").join(priced, on=["price_list", "currency"], how="semi")
    return findings_for(
        payers(book).join(found, on="account_id", how="anti", maintain_order="left"),
        rule="accounts.prices_in_currency",
        message=lambda row: (
            f"account {row['account_id']!r} is invoiced in {row['currency']}, but none of its price lists "
            f"({row['price_lists'] or PUBLIC_PRICE_LIST}) has a price in {row['currency']}, and fx_rates converts none"
        ),
        cure="add prices in this currency or exchange rates to it, or mend the account's currency",
        column="currency",
        severity=Severity.WARNING,
    )


def project_accounts_exist(book: Book) -> list[Finding]:
    """Projects belong to accounts of the book."""
    return findings_for(
        book.projects.join(book.accounts, on="account_id", how="anti", maintain_order="left"),
        rule="projects.account_id",
        message=lambda row: f"project {row['project_id']!r} belongs to {row['account_id']!r}, which is no account",
        cure="add the account, or mend its id",
        column="account_id",
    )


def projects_are_at_one_account(book: Book) -> list[Finding]:
    """A project belongs to one account at a time."""
    projects = intervals.with_bounds(book.projects)
    return findings_for(
        intervals.both_rows(projects, intervals.overlaps(projects, ["project_id"])),
        rule="projects.overlap",
        message=lambda row: (
            f"project {row['project_id']!r} is at account {row['account_id']!r} ({span(row)}) while it is "
            f"still at {row['account_id_earlier']!r} ({span(row, '_earlier')}; {place(row, '_earlier')})"
        ),
        cure="let the one end where the other begins (valid_to is exclusive)",
        column="valid_from",
    )
