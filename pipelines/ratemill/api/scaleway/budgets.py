"""``/billing/v2``: budgets, alerts at a percentage of them, and who is told of those.

They are kept in the store and are rows of the book from then on (:mod:`ratemill.book.customers`): ``ratemill alerts``
looks at them and sends. A budget is for what an organization owes for a month: after discounts, with tax.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from starlette.responses import Response

from ratemill.api.scaleway.answers import answer, nothing
from ratemill.api.scaleway.directory import Directory, Known
from ratemill.api.scaleway.errors import not_found
from ratemill.api.scaleway.parameters import Arguments, Asked, Written
from ratemill.api.scaleway.storing import Quota, delete, insert, times, update
from ratemill.identifiers import is_mailbox, is_phone_number, is_url
from ratemill.period import BillingPeriod

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratemill.api.app import Core
    from ratemill.api.store import Store
    from ratemill.config import Notify

router = APIRouter(prefix="/billing/v2", include_in_schema=False)

MOST_BUDGETS, MOST_ALERTS, MOST_NOTIFICATIONS, MOST_RECIPIENTS = 10, 10, 10, 10
"""Of an organization, a budget, an alert, a notification."""
_LARGEST_THRESHOLD = 1000
_CHANNELS = {"sms_phone_numbers": "sms", "email_addresses": "email", "webhook_urls": "webhook"}


# ------------------------------------------------------------------------------------------------------------- budgets


@router.get("/budgets")
def list_budgets(request: Request, asked: Asked, known: Known) -> Response:
    """Budgets of organizations, the oldest first."""
    uuid = asked.uuid("organization_id")
    page = asked.page()
    asked.refuse()
    organization = known.whole_organization(uuid, resource="budget")
    store: Store = request.app.state.core.store
    of_account = "SELECT * FROM budgets WHERE account_id = :account_id ORDER BY created_at, budget_id"
    rows = [
        row
        for account in known.whole_organizations(organization)
        for row in store.rows(of_account, {"account_id": account})
    ]
    offset, size = page
    shown = [_budget(store, row, known) for row in rows[offset : offset + size]]
    return answer({"budgets": shown, "total_count": len(rows)})


@router.get("/budgets/{budget_id}")
def get_budget(budget_id: str, request: Request, known: Known) -> Response:
    """One budget."""
    store: Store = request.app.state.core.store
    return answer(_budget(store, _known_budget(store, budget_id, known), known))


@router.post("/budgets")
def create_budget(request: Request, written: Written, known: Known) -> Response:
    """A budget for an organization, from this month on."""
    limit = _limit(written)
    if not written.has("consumption_limit"):
        written.wrong("consumption_limit", "is required", reason="required")
    enabled = written.truth("enabled")
    uuid = written.uuid("organization_id", required=True)
    written.refuse()
    core: Core = request.app.state.core
    account = known.managed_organization(uuid or "", resource="budget", action="write")
    month = BillingPeriod.containing(core.now().astimezone(ZoneInfo(core.workspace.config.period.time_zone)).date())
    row = {
        "budget_id": str(uuid4()),
        "account_id": account,
        "amount": limit,
        "currency": known.accounts[account]["currency"],
        "is_enabled": int(enabled is not False),
        "valid_from": month.start(core.workspace.config.period.time_zone).isoformat(),
    }
    stored = insert(core, "budgets", row, known.principal, Quota("account_id", "budgets", MOST_BUDGETS))
    return answer(_budget(core.store, stored, known))


@router.patch("/budgets/{budget_id}")
def update_budget(budget_id: str, request: Request, written: Written, known: Known) -> Response:
    """Another limit, on or off. With another limit its thresholds are others, and are told again."""
    limit, enabled = _limit(written), written.truth("enabled")
    written.refuse()
    core: Core = request.app.state.core
    row = _managed_budget(core.store, budget_id, known, "write")
    changes = {"amount": limit, "is_enabled": None if enabled is None else int(enabled)}
    return answer(_budget(core.store, update(core, "budgets", row, changes, known.principal), known))


@router.delete("/budgets/{budget_id}", status_code=204)
def delete_budget(budget_id: str, request: Request, known: Known) -> Response:
    """Remove a budget with its alerts."""
    core: Core = request.app.state.core
    delete(core, "budgets", _managed_budget(core.store, budget_id, known, "delete"))
    return nothing()


def _limit(written: Arguments) -> int | None:
    return written.integer("consumption_limit", least=1)


def _known_budget(store: Store, uuid: str, known: Directory) -> dict[str, Any]:
    for row in _seen_budgets(store, uuid, known):
        return row
    raise not_found("budget", uuid)


def _seen_budgets(store: Store, uuid: str, known: Directory) -> list[dict[str, Any]]:
    """The budget, if it is there and seen."""
    rows = store.rows("SELECT * FROM budgets WHERE budget_id = :budget_id", {"budget_id": uuid.lower()})
    return [row for row in rows if row["account_id"] in known.whole]


def _managed_budget(store: Store, uuid: str, known: Directory, action: str) -> dict[str, Any]:
    row = _known_budget(store, uuid, known)
    known.managed_organization(known.ids.organization(row["account_id"]), resource="budget", action=action)
    return row


def _budget(store: Store, row: Mapping[str, Any], known: Directory) -> dict[str, Any]:
    alerts = store.rows(
        "SELECT * FROM budget_alerts WHERE budget_id = :budget_id ORDER BY threshold, alert_id",
        {"budget_id": row["budget_id"]},
    )
    return {
        "id": row["budget_id"],
        "organization_id": known.ids.organization(row["account_id"]),
        "enabled": bool(row["is_enabled"]),
        "consumption_limit": {"currency_code": row["currency"], "units": row["amount"], "nanos": 0},
        "alerts": [_alert(store, alert) for alert in alerts],
        **times(row),
    }


# -------------------------------------------------------------------------------------------------------------- alerts


@router.post("/budget-alerts")
def create_budget_alert(request: Request, written: Written, known: Known) -> Response:
    """An alert at a percentage of a budget."""
    budget_id, threshold = written.uuid("budget_id", required=True), _threshold(written)
    written.refuse()
    core: Core = request.app.state.core
    budget = _managed_budget(core.store, budget_id or "", known, "write")
    row = {
        "alert_id": str(uuid4()),
        "budget_id": budget["budget_id"],
        "threshold": threshold,
    }
    stored = insert(core, "budget_alerts", row, known.principal, Quota("budget_id", "budget_alerts", MOST_ALERTS))
    return answer(_alert(core.store, stored))


@router.patch("/budget-alerts/{alert_id}")
def update_budget_alert(alert_id: str, request: Request, written: Written, known: Known) -> Response:
    """Another percentage."""
    threshold = _threshold(written)
    written.refuse()
    core: Core = request.app.state.core
    row = _managed_alert(core.store, alert_id, known, "write")
    changed = update(core, "budget_alerts", row, {"threshold": threshold}, known.principal)
    return answer(_alert(core.store, changed))


@router.delete("/budget-alerts/{alert_id}", status_code=204)
def delete_budget_alert(alert_id: str, request: Request, known: Known) -> Response:
    """Remove an alert with its notifications."""
    core: Core = request.app.state.core
    delete(core, "budget_alerts", _managed_alert(core.store, alert_id, known, "delete"))
    return nothing()


def _threshold(written: Arguments) -> int | None:
    if not written.has("threshold"):
        written.wrong("threshold", "is required", reason="required")
    return written.integer("threshold", least=1, most=_LARGEST_THRESHOLD)


def _managed_alert(store: Store, uuid: str, known: Directory, action: str) -> dict[str, Any]:
    for row in store.rows("SELECT * FROM budget_alerts WHERE alert_id = :alert_id", {"alert_id": uuid.lower()}):
        if _seen_budgets(store, row["budget_id"], known):
            _managed_budget(store, row["budget_id"], known, action)
            return row
    raise not_found("budget_alert", uuid)


def _alert(store: Store, row: Mapping[str, Any]) -> dict[str, Any]:
    notifications = store.rows(
        "SELECT * FROM budget_notifications WHERE alert_id = :alert_id ORDER BY created_at, notification_id",
        {"alert_id": row["alert_id"]},
    )
    return {
        "id": row["alert_id"],
        "threshold": row["threshold"],
        "notifications": [_notification(one) for one in notifications],
        **times(row),
    }


# ------------------------------------------------------------------------------------------------------- notifications


@router.post("/budget-alert-notifications")
def create_notification(request: Request, written: Written, known: Known) -> Response:
    """Who is told of an alert: by e-mail, webhook or, where the seller has a service for it, SMS."""
    alert_id = written.uuid("budget_alert_id", required=True)
    core: Core = request.app.state.core
    told = _recipients(written, core.workspace.config.notify)
    if told is None:
        written.wrong("recipient_type", f"give one of {', '.join(_CHANNELS)}", reason="required")
    written.refuse()
    alert = _managed_alert(core.store, alert_id or "", known, "write")
    channel, recipients = told or ("", [])
    row = {
        "notification_id": str(uuid4()),
        "alert_id": alert["alert_id"],
        "channel": channel,
        "recipients": json.dumps(recipients),
    }
    quota = Quota("alert_id", "budget_alert_notifications", MOST_NOTIFICATIONS)
    return answer(_notification(insert(core, "budget_notifications", row, known.principal, quota)))


@router.patch("/budget-alert-notifications/{notification_id}")
def update_notification(notification_id: str, request: Request, written: Written, known: Known) -> Response:
    """Other recipients, or another way to tell them."""
    core: Core = request.app.state.core
    told = _recipients(written, core.workspace.config.notify)
    written.refuse()
    row = _managed_notification(core.store, notification_id, known, "write")
    changes = {"channel": told[0], "recipients": json.dumps(told[1])} if told else {}
    return answer(_notification(update(core, "budget_notifications", row, changes, known.principal)))


@router.delete("/budget-alert-notifications/{notification_id}", status_code=204)
def delete_notification(notification_id: str, request: Request, known: Known) -> Response:
    """Tell them no more."""
    core: Core = request.app.state.core
    delete(core, "budget_notifications", _managed_notification(core.store, notification_id, known, "delete"))
    return nothing()


def _recipients(written: Arguments, settings: Notify) -> tuple[str, list[str]] | None:
    """Channel and recipients, where any are given."""
    given = [name for name in _CHANNELS if written.has(name)]
    if len(given) > 1:
        written.wrong("recipient_type", f"give one of {', '.join(given)}")
    if not given:
        return None
    name = given[0]
    recipients = list(dict.fromkeys(written.texts(name)))
    if not 1 <= len(recipients) <= MOST_RECIPIENTS:
        written.wrong(name, f"expected one to {MOST_RECIPIENTS} recipients")
    if name == "sms_phone_numbers" and not settings.sms_env:
        written.wrong(name, "no SMS are sent here; give email_addresses or webhook_urls")
    if name == "webhook_urls" and settings.customers_webhooks == "off":
        written.wrong(name, "no webhooks are called here; give email_addresses")
    wrong = [one for one in recipients if not _is_recipient(name, one, settings)]
    if wrong:
        written.wrong(name, f"{wrong[0]!r}: expected {_EXPECTED[name]}", reason="format")
    return _CHANNELS[name], recipients


_EXPECTED = {
    "sms_phone_numbers": "a number such as +33612345678",
    "email_addresses": "an e-mail address such as name@example.com",
    "webhook_urls": "a URL that begins with https://, without user and password",
}


def _is_recipient(name: str, text: str, settings: Notify) -> bool:
    if name == "sms_phone_numbers":
        return is_phone_number(text)
    if name == "email_addresses":
        return is_mailbox(text)
    return is_url(text) and (text.startswith("https:") or settings.customers_webhooks == "any")


def _managed_notification(store: Store, uuid: str, known: Directory, action: str) -> dict[str, Any]:
    of_notification = "SELECT budget_id FROM budget_alerts WHERE alert_id = :alert_id"
    for row in store.rows("SELECT * FROM budget_notifications WHERE notification_id = :id", {"id": uuid.lower()}):
        (alert,) = store.rows(of_notification, {"alert_id": row["alert_id"]})
        if _seen_budgets(store, alert["budget_id"], known):
            _managed_budget(store, alert["budget_id"], known, action)
            return row
    raise not_found("budget_alert_notification", uuid)


def _notification(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": row["notification_id"],
        "type": row["channel"],
        "recipients": json.loads(row["recipients"]),
        **times(row),
    }
