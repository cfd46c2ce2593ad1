"""What customers write through the API becomes rows of the book: budgets, subscriptions, credits, addresses."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest

from ratemill.book.coupons import coupon_of, granted_by
from ratemill.book.customers import CustomerRows, with_customer_rows, with_electronic_addresses
from ratemill.book.model import Book

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
BUDGET = {
    "budget_id": "b1", "account_id": "acme", "amount": Decimal(100), "currency": "EUR", "is_enabled": True,
    "valid_from": OCTOBER,
}  # fmt: skip
ALERTS = [
    {"alert_id": "a1", "budget_id": "b1", "threshold": 80},
    {"alert_id": "a2", "budget_id": "b1", "threshold": 100},
]
NOTIFICATIONS = [
    {
        "notification_id": "n1",
        "alert_id": "a1",
        "channel": "email",
        "recipients": ["cfo@acme.example", "x@acme.example"],
    },
    {"notification_id": "n2", "alert_id": "a2", "channel": "webhook", "recipients": ["https://acme.example/hook"]},
    {"notification_id": "n3", "alert_id": "a2", "channel": "sms", "recipients": ["+33612345678"]},
]
REDEMPTION = {
    "coupon_id": "spring", "account_id": "acme", "amount": Decimal("20.50"), "currency": "EUR", "granted_on": OCTOBER,
    "expires_on": None, "note": "Spring voucher",
}  # fmt: skip


@pytest.fixture
def book():
    """acme, which pays for lab; both in euros."""
    accounts = pl.DataFrame({
        "account_id": ["acme", "lab"], "billing_account_id": [None, "acme"], "name": ["Acme", "Lab"],
        "country": ["FR", "FR"], "currency": ["EUR", "EUR"], "language": ["fr", None],
        "electronic_address": ["0225:1", None],
    })  # fmt: skip
    return Book.of(accounts=accounts)


def test_a_budget_is_told_of_by_threshold_and_recipient(book):
    merged, findings = with_customer_rows(book, CustomerRows((BUDGET,), ALERTS, NOTIFICATIONS))
    assert findings == []
    (budget,) = merged.budgets.iter_rows(named=True)
    assert (budget["budget_id"], budget["thresholds"], budget["measure"], budget["basis"]) == (
        "api:b1", "80% 100%", "taxed", "actual",
    )  # fmt: skip
    assert (budget["amount"], budget["valid_from"], budget["note"]) == (100, OCTOBER, "Acme (100 EUR)")
    columns = ("subscription_id", "threshold", "channel", "address", "language", "budget_id")
    assert merged.subscriptions.select(columns).rows() == [
        ("api:n1:1", "80%", "email", "cfo@acme.example", "fr", "api:b1"),
        ("api:n1:2", "80%", "email", "x@acme.example", "fr", "api:b1"),
        ("api:n2:1", "100%", "webhook", "https://acme.example/hook", "fr", "api:b1"),
        ("api:n3:1", "100%", "chat", "+33612345678", "fr", "api:b1"),
    ]


def test_a_budget_that_is_off_is_not_looked_at(book):
    merged, _ = with_customer_rows(book, CustomerRows(({**BUDGET, "is_enabled": False},), ALERTS, NOTIFICATIONS))
    assert (merged.budgets.height, merged.subscriptions.height) == (0, 0)


def test_a_redeemed_coupon_is_a_credit_and_part_of_what_identifies_a_run(book):
    merged, _ = with_customer_rows(book, CustomerRows(redemptions=(REDEMPTION,)))
    (credit,) = merged.credits.iter_rows(named=True)
    assert (credit["credit_id"], credit["amount"], credit["kind"]) == (
        "coupon:spring:acme", Decimal("20.50"), "promotional",
    )  # fmt: skip
    assert merged.sha256 != book.sha256
    untouched, _ = with_customer_rows(book, CustomerRows())
    assert untouched.sha256 == book.sha256


def test_a_row_of_a_file_counts_before_the_customers(book):
    """What was promised can be moved into the book by hand, under the same name, without being granted twice."""
    by_hand = {**REDEMPTION, "credit_id": "coupon:spring:acme", "kind": "promotional", "amount": Decimal(7)}
    book = Book.of(accounts=book.accounts, credits=pl.DataFrame([by_hand]).drop("coupon_id").cast(
        {"amount": pl.Decimal(38, 4), "expires_on": pl.Datetime("us", "UTC")}))  # fmt: skip
    merged, _ = with_customer_rows(book, CustomerRows(redemptions=(REDEMPTION,)))
    assert merged.credits["amount"].to_list() == [Decimal(7)]


@pytest.mark.parametrize(
    ("row", "why"),
    [({"account_id": "lab"}, "gets no invoices"), ({"currency": "USD"}, "is invoiced in EUR"), ({"account_id": "gone"}, "gets no")],
)  # fmt: skip
def test_what_the_book_does_not_bear_any_more_is_left_out_with_a_warning(book, row, why):
    """A customer never stops the billing."""
    rows = CustomerRows((BUDGET | row,), ALERTS, NOTIFICATIONS, redemptions=(REDEMPTION | row,))
    merged, findings = with_customer_rows(book, rows)
    assert (merged.budgets.height, merged.subscriptions.height, merged.credits.height) == (0, 0, 0)
    assert [finding.severity.value for finding in findings] == ["warning", "warning"]
    assert all(why in str(finding) and "it is left out" in str(finding) for finding in findings)


def test_the_latest_electronic_address_that_holds_counts(book):
    rows = [
        {"address_id": "1", "account_id": "acme", "value": "0225:2", "starts_at": OCTOBER, "stops_at": None},
        {"address_id": "2", "account_id": "acme", "value": "0225:3", "starts_at": datetime(2026, 11, 5, tzinfo=UTC),
         "stops_at": datetime(2026, 12, 1, tzinfo=UTC)},
    ]  # fmt: skip

    def address_on(*day: int) -> str:
        merged = with_electronic_addresses(book, rows, at=datetime(*day, tzinfo=UTC))
        return str(merged.accounts["electronic_address"][0])

    assert [address_on(2026, 9, 30), address_on(2026, 10, 31), address_on(2026, 11, 30), address_on(2026, 12, 31)] == [
        "0225:1", "0225:2", "0225:3", "0225:2",
    ]  # fmt: skip


def test_a_coupon_is_found_by_its_code_and_never_by_its_hash():
    hashed = "sha256:3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0"
    coupons = [{"coupon_id": "plain", "code": "SPRING-2026"}, {"coupon_id": "hashed", "code": hashed}]
    found = [coupon_of(code, coupons) for code in ("SPRING-2026", "SPRING-2025", hashed, "SPRING-2027")]
    assert [row and row["coupon_id"] for row in found] == ["plain", None, None, None]
    secret = "sha256:" + __import__("hashlib").sha256(b"SPRING-2027").hexdigest()
    assert coupon_of("SPRING-2027", [{"coupon_id": "hashed", "code": secret}])["coupon_id"] == "hashed"


def test_a_coupon_grants_whole_months_of_the_customers_zone():
    at = datetime(2026, 10, 31, 23, 30, tzinfo=UTC)  # already November in Paris
    granted = granted_by({"months": 2}, at=at, time_zone="Europe/Paris")
    assert (granted.granted_on, granted.expires_on) == (at, datetime(2026, 12, 31, 23, tzinfo=UTC))
    assert granted_by({"months": None}, at=at, time_zone="UTC").expires_on is None
