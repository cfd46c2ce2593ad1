"""Checks of discounts, commitments, credits, recurring fees and adjustments: whose they are, and of which money."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ratemill.book.accounts import payers
from ratemill.book.rows import findings_for, instant
from ratemill.book.scopes import called
from ratemill.findings import Finding, Severity
from ratemill.money import is_currency, minor_unit_decimals, round_half_up
from ratemill.period import BillingPeriod, is_time_zone

if TYPE_CHECKING:
    from ratemill.book.model import Book

DEALS = ("discounts", "commitments", "credits", "recurring", "adjustments")
OF_PAYERS = ("commitments", "credits")
"""Tables whose account is one that pays."""
FEES = ("recurring", "adjustments")


def accounts_of_deals_exist(book: Book) -> list[Finding]:
    """Discounts, commitments, credits, fees and adjustments are for accounts of the book."""
    return [finding for table in book.filled(DEALS) for finding in _unknown_accounts(book, table)]


def _unknown_accounts(book: Book, table: str) -> list[Finding]:
    return findings_for(
        book.frame(table).filter(~pl.col("account_id").is_in(book.accounts["account_id"].implode())),
        rule=f"{table}.account_id",
        message=lambda row: f"{called(table, row)} is for account {row['account_id']!r}, which is no account",
        cure="add the account, or mend its id",
        column="account_id",
    )


def accounts_of_deals_pay(book: Book) -> list[Finding]:
    """Commitments and credits belong to an account that gets invoices."""
    return [finding for table in book.filled(OF_PAYERS) for finding in _paid_by_others(book, table)]


def _paid_by_others(book: Book, table: str) -> list[Finding]:
    paid = _with_payer(book, table).filter(pl.col("_payer") != pl.col("account_id"))
    return findings_for(
        paid,
        rule=f"{table}.account_pays",
        message=lambda row: (
            f"{called(table, row)} is for account {row['account_id']!r}, which gets no invoices: {row['_payer']!r} "
            "pays for it"
        ),
        cure="write the account that pays; a scope (project_id, service, …) says what it is for",
        column="account_id",
    )


def fee_skus_exist(book: Book) -> list[Finding]:
    """SKUs of recurring fees and adjustments are SKUs of the book."""
    return [finding for table in book.filled(FEES) for finding in _unknown_fee_skus(book, table)]


def _unknown_fee_skus(book: Book, table: str) -> list[Finding]:
    return findings_for(
        book.frame(table).filter(~pl.col("sku_id").is_in(book.skus["sku_id"].implode())),
        rule=f"{table}.sku_id",
        message=lambda row: f"{called(table, row)} is for SKU {row['sku_id']!r}, which is not in the SKUs",
        cure="add the SKU, or mend its id",
        column="sku_id",
    )


def recurring_fees_have_a_name(book: Book) -> list[Finding]:
    """An invoice can call a recurring fee something."""
    return findings_for(
        book.recurring.filter(pl.col("sku_id").is_null() & pl.col("description").is_null()),
        rule="recurring.description",
        message=lambda row: (
            f"{called('recurring', row)} has neither sku_id nor description, so invoices could not say what it is for"
        ),
        cure="write what the invoice is to call it, or the SKU it is for",
        column="description",
    )


def discounts_are_one_of_percent_and_amount(book: Book) -> list[Finding]:
    """A discount is a percent or an amount in a currency: one of the two."""
    percent, amount, currency = (pl.col(name).is_not_null() for name in ("percent", "amount", "currency"))
    neither = findings_for(
        book.discounts.filter(~percent & ~amount),
        rule="discounts.percent_or_amount",
        message=lambda row: f"{called('discounts', row)} has neither percent nor amount",
        cure="write a percent, or an amount with its currency",
        column="percent",
    )
    both = findings_for(
        book.discounts.filter(percent & amount),
        rule="discounts.percent_or_amount",
        message=lambda row: (
            f"{called('discounts', row)} has both percent {row['percent'].normalize():f} and amount "
            f"{row['amount'].normalize():f}"
        ),
        cure="leave one of them empty; to give both, write two discounts",
        column="amount",
    )
    without = findings_for(
        book.discounts.filter(amount & ~percent & ~currency),
        rule="discounts.currency_of_amount",
        message=lambda row: (
            f"{called('discounts', row)} has amount {row['amount'].normalize():f} but no currency; an amount is never "
            "converted"
        ),
        cure="write the currency of the invoices that it is for",
        column="currency",
    )
    needless = findings_for(
        book.discounts.filter(percent & ~amount & currency),
        rule="discounts.currency_of_percent",
        message=lambda row: (
            f"{called('discounts', row)} has a percent and currency {row['currency']}; a percent is for every currency"
        ),
        cure="leave the currency empty, or write an amount in place of the percent",
        column="currency",
    )
    return [*neither, *both, *without, *needless]


def currencies_of_deals_are_invoiced(book: Book) -> list[Finding]:
    """Amounts are in a currency that their payer is invoiced in: nothing is converted, so another never applies."""
    fees = [_with_payer(book, table).select("_payer", "currency").drop_nulls() for table in FEES]
    own = payers(book).select("currency", _payer="account_id").select("_payer", "currency")
    invoiced = pl.concat([own, *fees]).unique()
    amounts = book.discounts.filter(pl.col("amount").is_not_null(), pl.col("account_id").is_null())
    anybodys = findings_for(
        amounts.filter(_is_known_currency(amounts)).join(invoiced, on="currency", how="anti", maintain_order="left"),
        rule="discounts.currency_of_payer",
        message=lambda row: f"{called('discounts', row)} is in {row['currency']}, in which no account is invoiced",
        cure="mend the currency, or remove the discount",
        column="currency",
    )
    return [
        *_never_invoiced(book, "discounts", invoiced),
        *anybodys,
        *_never_invoiced(book, "commitments", own),  # usage is always in the payer's own currency
        *_never_invoiced(book, "credits", invoiced),
        *(finding for table in book.filled(FEES) for finding in _invoiced_apart(book, table)),
    ]


_IN_VAIN = {
    "discounts": "it could never apply",
    "commitments": "no usage would count towards it",
    "credits": "it could never be used",
}


def _never_invoiced(book: Book, table: str, invoiced: pl.DataFrame) -> list[Finding]:
    if not book.filled([table]):
        return []
    rows = _with_payer(book, table)
    amounts = rows.filter(
        pl.col("amount").is_not_null(), pl.col("_payer_currency").is_not_null(), _is_known_currency(rows)
    )
    return findings_for(
        amounts.join(invoiced, on=["_payer", "currency"], how="anti", maintain_order="left"),
        rule=f"{table}.currency_of_payer",
        message=lambda row: (
            f"{called(table, row)} is in {row['currency']}, but account {row['_payer']!r} is invoiced in "
            f"{row['_payer_currency']}, so {_IN_VAIN[table]}"
        ),
        cure="write the amount in the currency of the invoices; nothing is converted here",
        column="currency",
    )


def _invoiced_apart(book: Book, table: str) -> list[Finding]:
    rows = _with_payer(book, table)
    return findings_for(
        rows.filter(pl.col("currency") != pl.col("_payer_currency"), _is_known_currency(rows)),
        rule=f"{table}.currency_of_payer",
        message=lambda row: (
            f"{called(table, row)} is in {row['currency']}, but account {row['_payer']!r} is invoiced in "
            f"{row['_payer_currency']}: there will be an invoice of its own in {row['currency']}"
        ),
        cure="leave the currency empty for the payer's, unless that is meant",
        column="currency",
        severity=Severity.WARNING,
    )


def _is_known_currency(rows: pl.DataFrame) -> pl.Expr:
    """Other codes are reported as such, and once is enough."""
    return pl.col("currency").is_in([code for code in rows["currency"].drop_nulls().unique() if is_currency(code)])


def amounts_fit_their_currency(book: Book) -> list[Finding]:
    """An amount has no more decimals than its currency: it is billed as it is written."""
    return [finding for table in book.filled(DEALS) for finding in _finer_than_currency(book, table)]


def _finer_than_currency(book: Book, table: str) -> list[Finding]:
    rows = _with_payer(book, table).with_columns(_currency=pl.coalesce("currency", "_payer_currency"))
    finer = pl.lit(False)
    for code in sorted(rows["_currency"].drop_nulls().unique()):
        if is_currency(code):
            rounded = round_half_up(pl.col("amount"), minor_unit_decimals(code))
            finer = finer | ((pl.col("_currency") == code) & (pl.col("amount") != rounded))
    return findings_for(
        rows.filter(finer),
        rule=f"{table}.amount_decimals",
        message=lambda row: (
            f"amount of {called(table, row)} is {row['amount'].normalize():f}, but {row['_currency']} has "
            f"{minor_unit_decimals(row['_currency']) or 'no'} decimals"
        ),
        cure="round it to what can be paid",
        column="amount",
    )


def credits_run_forward(book: Book) -> list[Finding]:
    """A credit expires after it is granted."""
    return findings_for(
        book.credits.filter(pl.col("granted_on") >= pl.col("expires_on")),
        rule="credits.validity",
        message=lambda row: (
            f"{called('credits', row)} would expire at {instant(row['expires_on'], empty='never')}, which is not "
            f"after it is granted at {instant(row['granted_on'], empty='never')}, so it could never be used"
        ),
        cure="expires_on is the first instant or day at which it can no longer be used; empty is never",
        column="expires_on",
    )


def credits_reach_an_invoice(book: Book, *, time_zone: str) -> list[Finding]:
    """A credit pays the invoices of months at whose end it can be used; one that sees no month's end pays none.

    ``time_zone`` is that of accounts that name none.
    """
    zones = book.accounts.select("account_id", _zone=pl.col("time_zone").fill_null(time_zone))
    known = [zone for zone in zones["_zone"].unique() if is_time_zone(zone)]
    rows = book.credits.join(zones, on="account_id", how="left", validate="m:1", maintain_order="left")
    too_short = pl.lit(False)
    for zone in sorted(known):
        month = pl.col("granted_on").dt.convert_time_zone(zone).dt.truncate("1mo")
        ends_before = pl.col("expires_on") < month.dt.offset_by("1mo").dt.convert_time_zone("UTC")
        too_short = too_short | ((pl.col("_zone") == zone) & ends_before)
    return findings_for(
        rows.filter(too_short & (pl.col("granted_on") < pl.col("expires_on"))),
        rule="credits.never_at_a_month_end",
        message=lambda row: (
            f"{called('credits', row)} can be used from {instant(row['granted_on'], empty='ever')} to "
            f"{instant(row['expires_on'], empty='ever')}, in which no month ends in {row['_zone']}; invoices use the "
            "credits of their month's last instant, so it could never be used"
        ),
        cure="to use it up to and including a month, write the first day of the next one in expires_on",
        column="expires_on",
        severity=Severity.WARNING,
    )


def prepaid_credits_have_no_scope(book: Book) -> list[Finding]:
    """A prepaid credit pays what is due on the invoice as a whole: it cannot be for a part of it."""
    scope = ("category", "service", "sku_ids", "project_id", "region", "excludes")
    return findings_for(
        book.credits.filter(
            pl.col("kind") == "prepaid", pl.any_horizontal(pl.col(name).is_not_null() for name in scope)
        ),
        rule="credits.scope_of_prepaid",
        message=lambda row: (
            f"{called('credits', row)} is prepaid, which pays the taxed total of an invoice, but has "
            + ", ".join(f"{name} {row[name]!r}" for name in scope if row[name] is not None)
        ),
        cure="leave the scope empty, or make it promotional: those lower chosen lines before tax",
        column="kind",
    )


def adjustment_periods_are_months(book: Book) -> list[Finding]:
    """An adjustment names the month whose invoice it is on."""
    wrong = [text for text in book.adjustments["period"].unique().sort() if not _is_month(text)]
    return findings_for(
        book.adjustments.filter(pl.col("period").is_in(wrong)),
        rule="adjustments.period",
        message=lambda row: f"period is {row['period']!r}; expected a month such as 2026-10",
        cure="write year and month as YYYY-MM; a spreadsheet keeps that in cells formatted as text",
        column="period",
    )


def _is_month(text: str) -> bool:
    try:
        BillingPeriod.parse(text)
    except ValueError:
        return False
    return True


def _with_payer(book: Book, table: str) -> pl.DataFrame:
    """The table's rows with the account that pays and its currency, null where the account is unknown or empty."""
    payer = book.accounts.select("account_id", _payer=pl.col("billing_account_id").fill_null(pl.col("account_id")))
    currencies = book.accounts.select(_payer="account_id", _payer_currency="currency")
    return (
        book.frame(table)
        .join(payer, on="account_id", how="left", validate="m:1", maintain_order="left")
        .join(currencies, on="_payer", how="left", validate="m:1", maintain_order="left")
    )
