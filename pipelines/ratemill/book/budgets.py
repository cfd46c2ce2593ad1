"""Checks of budgets and subscriptions, and what their cells mean: thresholds, kinds of events."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl

from ratemill.book.accounts import is_language, payers
from ratemill.book.rows import findings_for
from ratemill.findings import Finding, Severity
from ratemill.identifiers import is_mailbox
from ratemill.money import is_currency, minor_unit_decimals, percent_of_amount, round_half_up
from ratemill.notify.schedule import quiet_hours
from ratemill.tables.book import EVENT_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratemill.book.model import Book
    from ratemill.book.rows import Row

ALL_EVENTS = "all"
_EVENTS_OF_ACCOUNTS = ("budget", "anomaly", "invoice")
"""Kinds of events that are about an account; the others are about a whole period."""
_THRESHOLD = re.compile(r"(\d{1,12}(?:\.\d{1,4})?)(%?)")


@dataclass(frozen=True)
class Threshold:
    """One point at which somebody is told."""

    text: str
    """As the cell has it: ``80%``, ``500``."""
    limit: Decimal
    """The amount it stands for."""


def thresholds_of(text: str, amount: Decimal) -> list[Threshold]:
    """The thresholds of a budget of ``amount``, lowest first: percents of it (``80%``), and amounts (``500``).

    Raises:
        ValueError: with the word that is none.
    """
    found = []
    for word in text.split():
        matched = _THRESHOLD.fullmatch(word)
        if matched is None or not Decimal(matched[1]):
            raise ValueError(word)
        number = Decimal(matched[1])
        found.append(Threshold(word, percent_of_amount(amount, number) if matched[2] else number))
    return sorted(found, key=lambda threshold: threshold.limit)


# -------------------------------------------------------------------------------------------------------------- budgets


def _called(row: Row) -> str:
    return f"budget {row['budget_id']!r}"


def budget_accounts_exist(book: Book) -> list[Finding]:
    """Budgets and subscriptions are for accounts of the book."""
    found = []
    calls = {"budgets": _called, "subscriptions": _subscription}
    for table in book.filled(calls):
        found += findings_for(
            book.frame(table).filter(~pl.col("account_id").is_in(book.accounts["account_id"].implode())),
            rule=f"{table}.account_id",
            message=lambda row, called=calls[table]: (  # type: ignore[misc]
                f"{called(row)} is for account {row['account_id']!r}, which is no account"
            ),
            cure="add the account, or mend its id",
            column="account_id",
        )
    return found


def thresholds_can_be_read(book: Book) -> list[Finding]:
    """Thresholds are percents and amounts above zero, each once."""
    return [
        *_wrong_cells(
            book.budgets.filter(pl.col("thresholds").map_elements(_threshold_mistake, return_dtype=pl.String) != ""),
            "budgets.thresholds",
            "thresholds",
            lambda row: f"thresholds of {_called(row)} have {_threshold_mistake(row['thresholds'])}",
            "write percents of the amount and amounts, separated by spaces, such as 50% 80% 100% 1500",
        )
    ]


def _threshold_mistake(text: str) -> str:
    """What is wrong with a cell of thresholds; empty where nothing is."""
    try:
        found = [threshold.text for threshold in thresholds_of(text, Decimal(1))]
    except ValueError as error:
        return f"{str(error)!r}, which is neither a percent above 0 nor an amount above 0"
    twice = sorted({word for word in found if found.count(word) > 1})
    return f"{twice[0]!r} twice" if twice else ""


def budget_tags_have_a_key(book: Book) -> list[Finding]:
    """The value of a tag says nothing without its key."""
    return _wrong_cells(
        book.budgets.filter(pl.col("tag_value").is_not_null() & pl.col("tag_key").is_null()),
        "budgets.tag_key",
        "tag_key",
        lambda row: f"{_called(row)} is for tag value {row['tag_value']!r}, and no tag_key says of which tag",
        "write the tag's name in tag_key",
    )


def budgets_of_conditions_are_actual(book: Book) -> list[Finding]:
    """A condition looks at charges, and the future has none."""
    return _wrong_cells(
        book.budgets.filter(pl.col("where").is_not_null() & (pl.col("basis") == "forecast")),
        "budgets.forecast_of_condition",
        "basis",
        lambda row: (
            f"{_called(row)} has basis forecast and a condition in where, which looks at charges that are not there yet"
        ),
        "say it with the other columns (account_id, service, tag_key, …), or take basis actual",
    )


def budget_currencies_are_invoiced(book: Book) -> list[Finding]:
    """A budget is in a currency in which its account is invoiced: nothing is converted, so another would stay empty."""
    payer = book.accounts.select("account_id", _payer=pl.col("billing_account_id").fill_null(pl.col("account_id")))
    currency = payers(book).select(_payer="account_id", _own="currency")
    invoiced = set(currency["_own"])
    rows = (
        book.budgets.join(payer, on="account_id", how="left", validate="m:1", maintain_order="left")
        .join(currency, on="_payer", how="left", validate="m:1", maintain_order="left")
        .filter(pl.col("currency").is_in([code for code in book.budgets["currency"].unique() if is_currency(code)]))
    )
    in_vain = rows.filter(
        pl.col("account_id").is_null() & ~pl.col("currency").is_in(sorted(invoiced))
        | (pl.col("_own").is_not_null() & (pl.col("_own") != pl.col("currency")))
    )
    return findings_for(
        in_vain,
        rule="budgets.currency_of_payer",
        message=lambda row: (
            f"{_called(row)} is in {row['currency']}, "
            + (
                "in which no account is invoiced"
                if row["account_id"] is None
                else f"but account {row['_payer']!r} is invoiced in {row['_own']}"
            )
            + ", so nothing would count towards it"
        ),
        cure="write the amount in the currency of the invoices; nothing is converted here",
        column="currency",
        severity=Severity.WARNING,
    )


def budget_amounts_fit_their_currency(book: Book) -> list[Finding]:
    """An amount has no more decimals than its currency."""
    finer = pl.lit(False)
    for code in sorted(book.budgets["currency"].unique()):
        if is_currency(code):
            rounded = round_half_up(pl.col("amount"), minor_unit_decimals(code))
            finer = finer | ((pl.col("currency") == code) & (pl.col("amount") != rounded))
    return findings_for(
        book.budgets.filter(finer),
        rule="budgets.amount_decimals",
        message=lambda row: (
            f"amount of {_called(row)} is {row['amount'].normalize():f}, but {row['currency']} has "
            f"{minor_unit_decimals(row['currency']) or 'no'} decimals"
        ),
        cure="round it to what can be paid",
        column="amount",
    )


# -------------------------------------------------------------------------------------------------------- subscriptions


def _subscription(row: Row) -> str:
    return f"subscription {row['subscription_id']!r}"


def events_of(text: str) -> set[str]:
    """The kinds of events that a cell names."""
    words = set(text.split())
    return set(EVENT_KINDS) if ALL_EVENTS in words else words


def subscribed_events_are_known(book: Book) -> list[Finding]:
    """Subscriptions name kinds of events that there are."""
    return _wrong_cells(
        book.subscriptions.filter(pl.col("events").map_elements(_unknown_event, return_dtype=pl.String) != ""),
        "subscriptions.events",
        "events",
        lambda row: f"{_subscription(row)} is for {_unknown_event(row['events'])!r}, which is no kind of event",
        f"write some of {' '.join(EVENT_KINDS)}, or {ALL_EVENTS}",
    )


def _unknown_event(text: str) -> str:
    return next((word for word in text.split() if word not in (*EVENT_KINDS, ALL_EVENTS)), "")


def subscribed_budgets_exist(book: Book) -> list[Finding]:
    """A subscription for one budget is for one of the book, and told of budgets at all."""
    rows = book.subscriptions.filter(pl.col("budget_id").is_not_null())
    known = pl.col("budget_id").is_in(book.budgets["budget_id"].implode())
    told = pl.col("events").map_elements(lambda text: "budget" in events_of(text), return_dtype=pl.Boolean)
    return [
        *_wrong_cells(
            rows.filter(~known),
            "subscriptions.budget_id",
            "budget_id",
            lambda row: f"{_subscription(row)} is for budget {row['budget_id']!r}, which is not in the budgets",
            "add the budget, or mend its id",
        ),
        *_wrong_cells(
            rows.filter(known & ~told),
            "subscriptions.budget_without_event",
            "events",
            lambda row: f"{_subscription(row)} is for budget {row['budget_id']!r}, but its events have no budget",
            "add budget to its events, or leave budget_id empty",
        ),
    ]


def subscribed_thresholds_exist(book: Book) -> list[Finding]:
    """A subscription for one threshold is for one that its budget has."""
    given = dict(book.budgets.select("budget_id", "thresholds").iter_rows())
    rows = book.subscriptions.filter(pl.col("threshold").is_not_null())
    unknown = [
        index
        for index, row in enumerate(rows.iter_rows(named=True))
        if row["budget_id"] is None or row["threshold"] not in given.get(row["budget_id"], row["threshold"]).split()
    ]
    return _wrong_cells(
        rows[unknown],
        "subscriptions.threshold",
        "threshold",
        lambda row: (
            f"{_subscription(row)} is for threshold {row['threshold']!r}, "
            + (
                "and no budget_id says of which budget"
                if row["budget_id"] is None
                else f"and budget {row['budget_id']!r} has {given[row['budget_id']]}"
            )
        ),
        "write one of the budget's thresholds as it stands there, or leave threshold empty",
    )


def subscriptions_can_happen(book: Book) -> list[Finding]:
    """A subscription for one account has some event that is about an account."""
    about = pl.col("events").map_elements(
        lambda text: not events_of(text) - set(EVENT_KINDS) and not events_of(text) & set(_EVENTS_OF_ACCOUNTS),
        return_dtype=pl.Boolean,
    )
    narrowed = pl.any_horizontal(pl.col("account_id", "principal").is_not_null())
    return _wrong_cells(
        book.subscriptions.filter(narrowed & about),
        "subscriptions.never",
        "events",
        lambda row: (
            f"{_subscription(row)} is for an account or a member, and {row['events']} is about whole periods, so it "
            "would never be told anything"
        ),
        f"take events of {', '.join(_EVENTS_OF_ACCOUNTS)}, or leave account_id and principal empty",
    )


def subscriptions_have_an_address(book: Book) -> list[Finding]:
    """There is somewhere to send to; an e-mail address is one."""
    address = pl.coalesce("address", pl.when(pl.col("channel") == "email").then("principal"))
    rows = book.subscriptions.with_columns(_address=address)
    wrong = [text for text in rows.filter(channel="email")["_address"].drop_nulls().unique() if not is_mailbox(text)]
    return [
        *_wrong_cells(
            rows.filter(pl.col("_address").is_null()),
            "subscriptions.address",
            "address",
            lambda row: f"{_subscription(row)} has no address",
            "write the e-mail address, or the name of the webhook or chat in [notify] of ratemill.toml",
        ),
        *_wrong_cells(
            rows.filter(pl.col("channel") == "email", pl.col("_address").is_in(wrong)),
            "subscriptions.email",
            "address",
            lambda row: f"{_subscription(row)} goes to {row['_address']!r}, which is no e-mail address",
            "write one address, name@example.com; for several people write a row each",
        ),
    ]


def subscribed_members_exist(book: Book) -> list[Finding]:
    """A subscription for a member is for one of the members."""
    return _wrong_cells(
        book.subscriptions.filter(~pl.col("principal").is_in(book.members["principal"].implode())),
        "subscriptions.principal",
        "principal",
        lambda row: f"{_subscription(row)} is for {row['principal']!r}, who is not in the members",
        "add the member, or leave principal empty",
    )


def subscription_cells_can_be_read(book: Book) -> list[Finding]:
    """Quiet hours and languages are such."""
    quiet = book.subscriptions["quiet"].drop_nulls().unique()
    language = book.subscriptions["language"].drop_nulls().unique()
    return [
        *_wrong_cells(
            book.subscriptions.filter(pl.col("quiet").is_in([text for text in quiet if _quiet_mistake(text)])),
            "subscriptions.quiet",
            "quiet",
            lambda row: f"quiet of {_subscription(row)}: {_quiet_mistake(row['quiet'])}",
            "write local hours, from-to, or leave it empty for those of [notify]",
        ),
        *_wrong_cells(
            book.subscriptions.filter(pl.col("language").is_in([tag for tag in language if not is_language(tag)])),
            "subscriptions.language",
            "language",
            lambda row: f"language is {row['language']!r}; expected a BCP 47 tag such as en, fr or pt-BR",
            "write the tag with a hyphen, or leave it empty",
        ),
    ]


def _quiet_mistake(text: str) -> str:
    try:
        quiet_hours(text)
    except ValueError as error:
        return str(error)
    return ""


def _wrong_cells(rows: pl.DataFrame, rule: str, column: str, message: Callable[[Row], str], cure: str) -> list[Finding]:
    return findings_for(rows, rule=rule, message=message, cure=cure, column=column)
