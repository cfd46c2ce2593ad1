"""What of the book decides what a month is billed: which changes give its rating another identity, and which do not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from ratemill.book.model import Book
from ratemill.book.of_period import book_of_period
from ratemill.money import AMOUNT, PRICE
from ratemill.period import BillingPeriod
from ratemill.tables.book import BOOK_TABLES
from ratemill.tables.columns import INSTANT

if TYPE_CHECKING:
    from collections.abc import Callable

OCTOBER = BillingPeriod(2026, 10)

ROWS: dict[str, list[dict[str, Any]]] = {
    "accounts": [{"account_id": "acme", "name": "Acme", "country": "FR", "currency": "EUR"}],
    "projects": [{"project_id": "rover", "account_id": "acme", "name": "Rover"}],
    "skus": [
        {"sku_id": "vm", "service": "S", "category": "Compute", "name": "VM", "usage_unit": "h", "pricing_unit": "h"}
    ],
    "prices": [{"price_id": "vm-1", "sku_id": "vm", "currency": "EUR", "unit_price": Decimal("0.10")}],
    "windows": [{"window": "night", "days": "mon", "from_time": "00:00", "to_time": "06:00"}],
    "discounts": [{"discount_id": "ten", "percent": Decimal(10), "note": "Ten percent"}],
    "commitments": [
        {"commitment_id": "year", "account_id": "acme", "amount": Decimal(900), "currency": "EUR", "note": "Year"}
    ],
    "credits": [
        {"credit_id": "welcome", "account_id": "acme", "amount": Decimal(50), "currency": "EUR", "kind": "promotional",
         "granted_on": datetime(2026, 9, 1, tzinfo=UTC), "note": "Welcome"}
    ],
    "recurring": [{"recurring_id": "support", "account_id": "acme", "description": "Support", "amount": Decimal(99)}],
    "adjustments": [
        {"adjustment_id": "move", "account_id": "acme", "period": "2026-10", "amount": Decimal(5), "reason": "Move",
         "author": "Jo Example"}
    ],
    "taxes": [{"tax_code": "FR", "country": "FR", "rate": Decimal(20)}],
    "fx_rates": [
        {"date": date(2026, 9, 30), "base": "EUR", "quote": "CHF", "rate": Decimal("0.93"), "source": "Example Bank"}
    ],
}  # fmt: skip
TYPES = {"valid_from": INSTANT, "valid_to": INSTANT, "granted_on": INSTANT, "expires_on": INSTANT}
DECIMALS = {"unit_price": PRICE, "percent": PRICE, "rate": PRICE, "amount": AMOUNT}


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    types = {name: dtype for name, dtype in (TYPES | DECIMALS).items() if any(name in row for row in rows)}
    return pl.DataFrame(rows, schema_overrides=types)


def book_of(**changed: list[dict[str, Any]]) -> Book:
    return Book.of(**{name: frame(rows) for name, rows in (ROWS | changed).items() if rows})


def with_row(table: str, **changes: Any) -> Book:
    """The book with the table's one row changed."""
    return book_of(**{table: [ROWS[table][0] | changes]})


def with_another(table: str, **changes: Any) -> Book:
    """The book with a second row."""
    return book_of(**{table: [ROWS[table][0], ROWS[table][0] | changes]})


def at(month: int, day: int, hour: int = 0, year: int = 2026) -> datetime:
    return datetime(year, month, day, hour, tzinfo=UTC)


# what is changed in the book, which is made when it is asked for
COUNTS: dict[str, Callable[[], Book]] = {
    "the price": lambda: with_row("prices", unit_price=Decimal("0.11")),
    "a price that ends in October": lambda: with_row("prices", valid_to=at(10, 8)),
    "a price that begins in October": lambda: with_another("prices", price_id="vm-2", valid_from=at(10, 31)),
    "a price of a plan": lambda: book_of(
        prices=[
            ROWS["prices"][0] | {"price_list": "public"},
            ROWS["prices"][0] | {"price_id": "vm-gold", "price_list": "gold"},
        ]
    ),
    "another unit": lambda: with_row("skus", usage_unit="s"),
    "hours of a window": lambda: with_row("windows", to_time="07:00"),
    "who pays": lambda: with_another("accounts", account_id="lab", billing_account_id="acme"),
    "a project that moved in October": lambda: with_row("projects", valid_from=at(10, 15)),
    "a discount's percent": lambda: with_row("discounts", percent=Decimal(15)),
    "a discount that is withdrawn": lambda: book_of(discounts=[]),
    "a discount that ends in October": lambda: with_row("discounts", valid_to=at(10, 20)),
    "a commitment's amount": lambda: with_row("commitments", amount=Decimal(901)),
    "a commitment that began in October": lambda: with_row("commitments", valid_from=at(10, 2)),
    "a fee's amount": lambda: with_row("recurring", amount=Decimal(100)),
    "a fee from the 15th": lambda: with_row("recurring", valid_from=at(10, 15)),
    "an adjustment of October": lambda: with_row("adjustments", amount=Decimal(6)),
    "the reason of an adjustment": lambda: with_row("adjustments", reason="Move of 3 October"),
    "a second adjustment of October": lambda: with_another("adjustments", adjustment_id="again"),
    "a tax rate": lambda: with_row("taxes", rate=Decimal(21)),
    "an exchange rate of September": lambda: with_row("fx_rates", rate=Decimal("0.94")),
    "an exchange rate of October": lambda: with_another("fx_rates", date=date(2026, 10, 31)),
    "an exchange rate of 1 November, which is October's last day where the day is latest": lambda: with_another(
        "fx_rates", date=date(2026, 11, 1)
    ),
    "a price that ends where October ends in Paris": lambda: with_row("prices", valid_to=at(10, 31, 23)),
    "a price that begins where October begins in Auckland": lambda: with_row("prices", valid_from=at(9, 30, 11)),
}
DOES_NOT_COUNT: dict[str, Callable[[], Book]] = {
    "a price that ends in November": lambda: with_row("prices", valid_to=at(11, 2)),
    "a price that ends where October ends in the last place on earth": lambda: with_row(
        "prices", valid_to=at(11, 1, 12)
    ),
    "a price that has begun long ago": lambda: with_row("prices", valid_from=at(1, 1, year=2024)),
    "a price that begins where October begins in the first place on earth": lambda: with_row(
        "prices", valid_from=at(9, 30, 10)
    ),
    "a price that ended in September": lambda: with_another("prices", price_id="vm-0", valid_to=at(9, 15)),
    "a price of next month": lambda: with_another("prices", price_id="vm-2", valid_from=at(11, 2)),
    "a project that moves in November": lambda: with_row("projects", valid_to=at(11, 15)),
    "a discount of next year": lambda: with_another("discounts", discount_id="next", valid_from=at(1, 1, year=2027)),
    "a discount of last year": lambda: with_another("discounts", discount_id="last", valid_to=at(1, 1)),
    "a commitment that is renewed": lambda: with_another(
        "commitments", commitment_id="next", valid_from=at(1, 1, year=2027)
    ),
    "a commitment that ends with the year": lambda: with_row("commitments", valid_to=at(1, 1, year=2027)),
    "a fee that ended in August": lambda: with_another("recurring", recurring_id="old", valid_to=at(9, 1)),
    "an adjustment of November": lambda: with_another("adjustments", adjustment_id="later", period="2026-11"),
    "an adjustment of September": lambda: with_another("adjustments", adjustment_id="before", period="2026-09"),
    "a tax rate of next year": lambda: with_another("taxes", rate=Decimal(22), valid_from=at(1, 1, year=2027)),
    "an exchange rate of November": lambda: with_another("fx_rates", date=date(2026, 11, 2)),
    "a credit, which pays but changes no line": lambda: with_row("credits", amount=Decimal(60)),
    "no credit": lambda: book_of(credits=[]),
}


def identity(book: Book, period: BillingPeriod = OCTOBER) -> str:
    return book_of_period(book, period).sha256


@pytest.mark.parametrize("change", COUNTS)
def test_what_can_change_a_bill_changes_its_identity(change: str) -> None:
    assert identity(COUNTS[change]()) != identity(book_of())


@pytest.mark.parametrize("change", DOES_NOT_COUNT)
def test_what_cannot_change_a_bill_leaves_its_identity(change: str) -> None:
    book = DOES_NOT_COUNT[change]()
    assert book.sha256 != book_of().sha256, "the whole book knows of it"
    assert identity(book) == identity(book_of())


def test_each_month_has_the_changes_of_its_own() -> None:
    """A price that rises on 1 December, midnight UTC, where November still goes on in zones that are behind."""
    risen = book_of(
        prices=[
            ROWS["prices"][0] | {"valid_to": at(12, 1)},
            ROWS["prices"][0] | {"price_id": "vm-2", "unit_price": Decimal("0.12"), "valid_from": at(12, 1)},
        ]
    )
    months = [BillingPeriod(2026, 10), BillingPeriod(2026, 11), BillingPeriod(2026, 12), BillingPeriod(2027, 1)]
    changed = [str(month) for month in months if identity(risen, month) != identity(book_of(), month)]
    assert changed == ["2026-11", "2026-12", "2027-01"]


def test_where_rows_stand_does_not_count() -> None:
    """The order of rows, the file and its lines are not what is billed."""
    one = book_of(
        prices=[
            ROWS["prices"][0] | {"price_list": "public"},
            ROWS["prices"][0] | {"price_id": "vm-gold", "price_list": "gold"},
        ]
    )
    turned = one.prices.reverse().with_columns(source_file=pl.lit("book/prices.parquet"), source_row=pl.lit(7))
    assert identity(replace(one, prices=turned)) == identity(one)


def test_everything_that_is_not_dated_is_kept_whole() -> None:
    """Of today's book, October has every row but the credits; a table that is added later must be thought of here."""
    parts = book_of_period(book_of(), OCTOBER)
    left_out = {table.name for table in BOOK_TABLES if parts.frame(table.name).is_empty()}
    assert left_out == {"credits"}
    assert set(ROWS) == {table.name for table in BOOK_TABLES}
