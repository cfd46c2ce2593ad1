"""Coupons: checks of their table, and what redeeming one grants."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import polars as pl

from ratemill.book.accounts import payers
from ratemill.book.rows import findings_for, place
from ratemill.money import is_currency, minor_unit_decimals, rounded_amount
from ratemill.period import BillingPeriod

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from ratemill.book.model import Book
    from ratemill.book.rows import Row
    from ratemill.findings import Finding

SHORTEST_CODE = 8
"""Characters: a shorter one could be guessed."""
_HASHED = re.compile(r"sha256:[0-9a-f]{64}")


def code_sha256(code: str) -> str:
    """The SHA-256 of a code, or the one that a cell holds."""
    if _HASHED.fullmatch(code):
        return code.removeprefix("sha256:")
    return hashlib.sha256(code.encode()).hexdigest()


def coupon_of(code: str, coupons: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The row of COUPONS that a code is of; a hash is no code."""
    wanted = hashlib.sha256(code.encode()).hexdigest()
    return next((row for row in coupons if code_sha256(row["code"]) == wanted), None)


@dataclass(frozen=True)
class Grant:
    """What a redemption grants, as a row of CREDITS has it."""

    granted_on: datetime
    expires_on: datetime | None


def granted_by(coupon: Mapping[str, Any], *, at: datetime, time_zone: str) -> Grant:
    """What redeeming a coupon at ``at`` grants an account whose months are those of ``time_zone``.

    An invoice uses the credits of its month's last instant, so the month of the redemption is the first.
    """
    month = BillingPeriod.containing(at.astimezone(ZoneInfo(time_zone)).date())
    ends = None if coupon["months"] is None else month.shift(coupon["months"]).start(time_zone)
    return Grant(at, ends)


# --------------------------------------------------------------------------------------------------------------- checks


def _called(row: Row) -> str:
    return f"coupon {row['coupon_id']!r}"


def coupon_accounts_pay(book: Book) -> list[Finding]:
    """A coupon for one account is for one that gets invoices."""
    return findings_for(
        book.coupons.filter(~pl.col("account_id").is_in(payers(book)["account_id"].implode())),
        rule="coupons.account_id",
        message=lambda row: f"{_called(row)} is for account {row['account_id']!r}, which gets no invoices",
        cure="write the account_id of the account that pays, or leave it empty for everybody",
        column="account_id",
    )


def coupon_amounts_can_be_invoiced(book: Book) -> list[Finding]:
    """A coupon is in a currency in which it can be used, with no more decimals than that has."""
    own = dict(payers(book).select("account_id", "currency").iter_rows())
    found = []
    for row in book.coupons.iter_rows(named=True):
        wanted = {own[row["account_id"]]} if row["account_id"] in own else set(own.values())
        mistake = ""
        if not is_currency(row["currency"]):
            mistake = f"currency of {_called(row)} is {row['currency']!r}, which is no ISO 4217 code"
        elif row["currency"] not in wanted:
            whom = f"account {row['account_id']!r} is" if row["account_id"] in own else "some account is"
            mistake = f"{_called(row)} is in {row['currency']}, but {whom} invoiced in {', '.join(sorted(wanted))}"
        elif row["amount"] != rounded_amount(row["amount"], row["currency"]):
            decimals = minor_unit_decimals(row["currency"]) or "no"
            amount = f"{row['amount'].normalize():f}"
            mistake = f"{_called(row)} grants {amount}, but {row['currency']} has {decimals} decimals"
        if mistake:
            found += findings_for(
                book.coupons.filter(coupon_id=row["coupon_id"]),
                rule="coupons.amount",
                message=lambda _, mistake=mistake: mistake,  # type: ignore[misc]
                cure="write an amount that can be paid, in the currency of the invoices",
                column="amount",
            )
    return found


def coupon_codes_can_be_typed(book: Book) -> list[Finding]:
    """A code is long enough not to be guessed, and has no blanks."""
    wrong = [code for code in book.coupons["code"] if not _HASHED.fullmatch(code) and not _is_code(code)]
    return findings_for(
        book.coupons.filter(pl.col("code").is_in(wrong)).with_columns(code=pl.lit(None, dtype=pl.String)),
        rule="coupons.code",
        message=lambda row: (
            f"the code of {_called(row)} is none: expected at least {SHORTEST_CODE} characters without blanks, or"
            " sha256: and 64 digits in hex"
        ),
        cure="write a longer code that nobody guesses, or its SHA-256",
        column="code",
    )


def _is_code(code: str) -> bool:
    return len(code) >= SHORTEST_CODE and not code.startswith("sha256:") and not re.search(r"\s", code)


def coupon_codes_differ(book: Book) -> list[Finding]:
    """A code is of one coupon."""
    rows = book.coupons.with_columns(_hash=pl.col("code").map_elements(code_sha256, return_dtype=pl.String))
    first = rows.unique("_hash", keep="first", maintain_order=True)
    other = rows.join(first, on="_hash", how="inner", suffix="_earlier", validate="m:1", maintain_order="left")
    return findings_for(
        other.filter(pl.col("coupon_id") != pl.col("coupon_id_earlier")).with_columns(
            code=pl.lit(None, dtype=pl.String)
        ),
        rule="coupons.code_twice",
        message=lambda row: (
            f"{_called(row)} has the code of coupon {row['coupon_id_earlier']!r} at {place(row, '_earlier')}"
        ),
        cure="give each coupon a code of its own",
        column="code",
    )
