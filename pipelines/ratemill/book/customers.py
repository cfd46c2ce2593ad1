"""What customers wrote through the Billing API, as rows of the book: budgets, who is told of them, redeemed coupons.

They stand behind the rows of the files, under names of their own (``api:…``, ``coupon:…``), and from then on nothing
tells them apart: a budget is looked at by ``ratemill alerts``, a redeemed coupon is a credit of the next run and part
of what identifies it. A customer can't stop the billing: a row that the book does not bear any more (its account is no
longer invoiced, or in another currency) is left out, with a warning.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from ratemill.book.accounts import payers
from ratemill.book.model import SOURCE_DEFAULTS, SOURCE_FILE, SOURCE_ROW, SOURCE_SCHEMA
from ratemill.findings import Finding, Severity
from ratemill.tables.book import ACCOUNTS, BUDGETS, CREDITS, SUBSCRIPTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from ratemill.book.model import Book
    from ratemill.tables.columns import Table

CUSTOMERS_FILE = "state/api.sqlite"
"""Where these rows are from, as messages name it."""
CHANNELS = {"email": "email", "webhook": "webhook", "sms": "chat"}
"""How a customer is told → the channel of the subscription."""


@dataclass(frozen=True)
class CustomerRows:
    """Rows of the API's store, with instants and decimals as such."""

    budgets: Sequence[Mapping[str, Any]] = ()
    """budget_id, account_id, amount, currency, is_enabled, valid_from."""
    alerts: Sequence[Mapping[str, Any]] = ()
    """alert_id, budget_id, threshold (percent)."""
    notifications: Sequence[Mapping[str, Any]] = ()
    """notification_id, alert_id, channel, recipients (a list)."""
    addresses: Sequence[Mapping[str, Any]] = ()
    """address_id, account_id, value, starts_at, stops_at."""
    redemptions: Sequence[Mapping[str, Any]] = ()
    """coupon_id, account_id, amount, currency, granted_on, expires_on, note."""


def with_customer_rows(book: Book, rows: CustomerRows) -> tuple[Book, list[Finding]]:
    """The book with budgets, subscriptions and credits of customers, and what had to be left out."""
    invoiced = {row["account_id"]: row for row in payers(book).iter_rows(named=True)}
    found: list[Finding] = []

    def usable(what: str, row: Mapping[str, Any]) -> bool:
        account = invoiced.get(row["account_id"])
        if account is not None and account["currency"] == row["currency"]:
            return True
        why = "gets no invoices" if account is None else f"is invoiced in {account['currency']}"
        found.append(
            Finding(
                Severity.WARNING,
                "customers.account",
                f"{what} of {row['account_id']!r}, made through the API, is in {row['currency']}, but the account {why}"
                " now: it is left out",
                "give the account its currency or its invoices back, or do by hand what the customer was promised",
                file=CUSTOMERS_FILE,
            )
        )
        return False

    budgets = [row for row in rows.budgets if row["is_enabled"] and usable("a budget", row)]
    redemptions = [row for row in rows.redemptions if usable(f"the redeemed coupon {row['coupon_id']!r}", row)]
    merged = replace(
        book,
        budgets=_extended(book.budgets, BUDGETS, [_budget(row, rows.alerts, invoiced) for row in budgets]),
        subscriptions=_extended(book.subscriptions, SUBSCRIPTIONS, _subscriptions(budgets, rows, invoiced)),
        credits=_extended(book.credits, CREDITS, [_credit(row) for row in redemptions]),
    )
    return merged, found


def with_electronic_addresses(book: Book, addresses: Sequence[Mapping[str, Any]], *, at: datetime) -> Book:
    """The book with the electronic addresses that customers gave and that hold at ``at``: the latest of each."""
    holding = {
        row["account_id"]: row["value"]
        for row in sorted(addresses, key=lambda row: (row["starts_at"], row["address_id"]))
        if row["starts_at"] <= at and (row["stops_at"] is None or at < row["stops_at"])
    }
    if not holding:
        return book
    given = pl.col("account_id").replace_strict(holding, default=None, return_dtype=pl.String)
    accounts = book.accounts.with_columns(electronic_address=pl.coalesce(given, "electronic_address"))
    return replace(book, accounts=accounts.cast({"electronic_address": ACCOUNTS["electronic_address"].dtype}))


def budget_name(budget_id: str) -> str:
    """What the book calls a budget of the API's store."""
    return f"api:{budget_id}"


def credit_name(coupon_id: str, account_id: str) -> str:
    """What the book calls the credit of a redeemed coupon."""
    return f"coupon:{coupon_id}:{account_id}"


def _budget(
    row: Mapping[str, Any], alerts: Sequence[Mapping[str, Any]], accounts: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    percents = sorted({alert["threshold"] for alert in alerts if alert["budget_id"] == row["budget_id"]})
    return {
        "budget_id": budget_name(row["budget_id"]),
        "account_id": row["account_id"],
        "amount": row["amount"],
        "currency": row["currency"],
        "period": "month",
        "thresholds": " ".join(f"{percent}%" for percent in percents),
        "basis": "actual",
        "measure": "taxed",
        "valid_from": row["valid_from"],
        "note": f"{accounts[row['account_id']]['name']} ({row['amount']} {row['currency']})",
    }


def _subscriptions(
    budgets: Sequence[Mapping[str, Any]], rows: CustomerRows, accounts: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    alerts = {alert["alert_id"]: alert for alert in rows.alerts}
    account_of = {row["budget_id"]: row["account_id"] for row in budgets}
    found = []
    for notification in rows.notifications:
        alert = alerts[notification["alert_id"]]
        account_id = account_of.get(alert["budget_id"])
        if account_id is None:
            continue  # of a budget that is switched off or left out
        found += [
            {
                "subscription_id": f"api:{notification['notification_id']}:{number}",
                "events": "budget",
                "account_id": account_id,
                "budget_id": budget_name(alert["budget_id"]),
                "threshold": f"{alert['threshold']}%",
                "channel": CHANNELS[notification["channel"]],
                "address": recipient,
                "language": accounts[account_id]["language"],
            }
            for number, recipient in enumerate(notification["recipients"], start=1)
        ]
    return found


def _credit(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "credit_id": credit_name(row["coupon_id"], row["account_id"]),
        "kind": "promotional",
        **{name: row[name] for name in ("account_id", "amount", "currency", "granted_on", "expires_on", "note")},
    }


def _extended(frame: pl.DataFrame, table: Table, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """``frame`` and the rows behind it; a row that a file has under the same name counts in its place."""
    (key,) = table.key
    taken = set(frame[key])
    rows = [row for row in rows if row[key] not in taken]
    if not rows:
        return frame
    source = {SOURCE_FILE: CUSTOMERS_FILE, SOURCE_ROW: None, SOURCE_DEFAULTS: ""}
    added = pl.DataFrame([{**row, **source} for row in rows], schema={**table.polars_schema, **SOURCE_SCHEMA})
    return pl.concat([frame, added.select(frame.columns)])
