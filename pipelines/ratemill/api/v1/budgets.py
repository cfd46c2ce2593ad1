"""``/v1/budgets``: what an organization set itself, and how far this month's bill is."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from ratemill.api.answers import Answer, Exact, Instant, Money, Reading
from ratemill.api.paging import Asked, Paging
from ratemill.api.periods import PeriodText, latest_period
from ratemill.money import percent_reached

router = APIRouter(prefix="/v1", tags=["Budgets and alerts"])


class AskedBudgets(Asked):
    """Which budgets, and of which month."""

    organization_id: str | None = None
    period: PeriodText | None = None
    """The month that is looked at; else the last one that is published."""


class Alert(Answer):
    """A share of a budget at which somebody is told."""

    alert_id: str
    threshold: int
    """Percent of the budget."""
    is_reached: bool


class Budget(Answer):
    """What an organization means to owe in a month at most: after discounts, with tax."""

    budget_id: str
    organization_id: str
    amount: Money
    is_enabled: bool
    first_period: Instant
    """The first instant of the first month that it is for."""
    period: str
    spent: Money
    """Total of the invoices of the month in the budget's currency, drafts included."""
    spent_percent: Exact
    """To one decimal, rounded down."""
    alerts: list[Alert]


class Budgets(Answer):
    """A page of budgets."""

    items: list[Budget]
    next_cursor: str | None


@router.get("/budgets")
def budgets(asked: Annotated[AskedBudgets, Query()], request: Request, snapshot: Reading, pages: Paging) -> Budgets:
    """Budgets of organizations that the key sees as a whole, with their alerts, and what was spent.

    They are set by `/billing/v2/budgets`, and `ratemill alerts` tells who is to be told.
    """
    store = request.app.state.core.store
    stored = store.rows("SELECT * FROM budgets ORDER BY account_id, created_at, budget_id")
    own = [
        row
        for row in stored
        if row["account_id"] in snapshot.organizations and asked.organization_id in (None, row["account_id"])
    ]
    period = asked.period or (latest_period(snapshot) if own else "")
    totals = snapshot.rows("api/v1/billed_totals", {"period": period})
    spent = {(row["organization_id"], row["currency"]): row["total_amount"] for row in totals}
    offset = pages.offset(asked.cursor)
    page, following = pages.cut(own[offset : offset + asked.page_size + 1], asked)
    alerts = store.rows("SELECT * FROM budget_alerts ORDER BY threshold, alert_id")
    return Budgets(
        items=[
            _budget(
                row, period, spent.get((row["account_id"], row["currency"]), Decimal()),
                [alert for alert in alerts if alert["budget_id"] == row["budget_id"]],
            )
            for row in page
        ],
        next_cursor=following,
    )  # fmt: skip


def _budget(row: dict[str, Any], period: str, spent: Decimal, alerts: list[dict[str, Any]]) -> Budget:
    percent = percent_reached(max(spent, Decimal()), Decimal(row["amount"]))
    return Budget(
        budget_id=row["budget_id"],
        organization_id=row["account_id"],
        amount=Money.of(Decimal(row["amount"]), row["currency"]),
        is_enabled=bool(row["is_enabled"]),
        first_period=row["valid_from"],
        period=period,
        spent=Money.of(spent, row["currency"]),
        spent_percent=percent,
        alerts=[
            Alert(alert_id=one["alert_id"], threshold=one["threshold"], is_reached=percent >= one["threshold"])
            for one in alerts
        ],
    )
