"""``/billing/v2beta1``: consumptions, taxes, and charges. All three add up to the same invoices, to the last digit."""

from __future__ import annotations

import base64
import binascii
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from starlette.responses import Response

from ratemill.api.answers import Reading
from ratemill.api.problems import Problem
from ratemill.api.scaleway.answers import answer
from ratemill.api.scaleway.directory import Directory, Known
from ratemill.api.scaleway.errors import invalid_argument
from ratemill.api.scaleway.parameters import LARGEST_PAGE, Arguments, Asked, listed
from ratemill.api.scaleway.wire import (
    end_of,
    last_instant,
    money,
    money_of_nanos,
    number,
    slice_of,
    utc,
    whole_or_decimal,
)
from ratemill.money import ZERO
from ratemill.period import BillingPeriod

if TYPE_CHECKING:
    from datetime import datetime

    from ratemill.api.app import Core
    from ratemill.api.snapshots import Snapshot

router = APIRouter(prefix="/billing/v2beta1", include_in_schema=False)

ORDERS = ("updated_at_desc", "updated_at_asc", "category_name_desc", "category_name_asc")
CHARGE_ORDERS = ("start_date_asc", "start_date_desc")
_CATEGORIES = {
    "usage": "Other",
    "recurring": "Subscription",
    "adjustment": "Adjustment",
    "commitment": "Commitment",
    "correction": "Correction",
}
"""Kind of a line that is for no SKU → its category."""
_PERCENT = Decimal(100)


def current_month(core: Core) -> str:
    """The billing period that is running, by the clocks of the workspace."""
    today = core.now().astimezone(ZoneInfo(core.workspace.config.period.time_zone)).date()
    return str(BillingPeriod.containing(today))


def _updated_at(snapshot: Snapshot, period: str) -> str | None:
    found = [row["updated_at"] for row in snapshot.rows("api/scaleway/months") if row["period"] == period]
    return utc(found[0]) if found else None


# ------------------------------------------------------------------------------------------------------- consumptions


@router.get("/consumptions")
def list_consumptions(request: Request, asked: Asked, known: Known, snapshot: Reading) -> Response:
    """What was used in a month, before deductions, by project and SKU; and the deductions in one number."""
    organization, project = asked.uuid("organization_id"), asked.uuid("project_id")
    if organization and project:
        asked.wrong("project_id", "give organization_id or project_id, not both")
    category = asked.text("category_name")
    period = str(asked.period("billing_period") or current_month(request.app.state.core))
    order = asked.choice("order_by", ORDERS, ORDERS[0])
    page = asked.page()
    asked.refuse()
    account = known.account(organization)
    wanted = known.project(project) if project else None
    rows = [
        row
        for row in snapshot.rows("api/scaleway/consumptions", {"period": period})
        if (account is None or account in (row["account_id"], row["billing_account_id"]))
        and (wanted is None or (wanted.account_id, wanted.project_id) == (row["account_id"], row["project_id"]))
        and (category is None or category == _category(row))
    ]
    updated_at = _updated_at(snapshot, period)
    is_one_sum = not category and not wanted and len({row["currency"] for row in rows}) == 1
    deducted = -sum((row["deducted"] for row in rows), ZERO) if is_one_sum else ZERO
    if order.startswith("category"):
        rows.sort(key=_category, reverse=order.endswith("desc"))
    return answer(
        {
            **listed([_consumption(row, known) for row in rows], page, key="consumptions"),
            "total_discount_untaxed_value": number(deducted),
            "updated_at": updated_at,
        }
    )


def _category(row: dict[str, Any]) -> str:
    return str(row["category"] or _CATEGORIES[row["line_kind"]])


def _consumption(row: dict[str, Any], known: Directory) -> dict[str, Any]:
    uuid = known.ids.project(row["account_id"], row["project_id"])
    return {
        "value": money(row["amount"], row["currency"]),
        "product_name": row["product_name"],
        "resource_name": row["service"] or "",
        "sku": row["sku_id"] or "",
        "project_id": uuid,
        "project_name": row["project_name"] or _project_name(known, uuid),
        "category_name": _category(row),
        "unit": row["unit"],
        "billed_quantity": whole_or_decimal(row["quantity"]),
        "consumer_id": known.ids.organization(row["account_id"]),
        "organization_name": row["account_name"],
    }


def _project_name(known: Directory, uuid: str) -> str:
    return known.projects[uuid].name if uuid in known.projects else ""


# --------------------------------------------------------------------------------------------------------------- taxes


@router.get("/taxes")
def list_taxes(request: Request, asked: Asked, known: Known, snapshot: Reading) -> Response:
    """What tax a month's consumption comes to, by rate, for organizations as a whole."""
    uuid = asked.uuid("organization_id")
    period = str(asked.period("billing_period") or current_month(request.app.state.core))
    order = asked.choice("order_by", ORDERS, ORDERS[0])
    page = asked.page()
    asked.refuse()
    organization = known.whole_organization(uuid, resource="billing")
    rows = [
        row
        for row in snapshot.rows("api/scaleway/taxes", {"period": period})
        if organization is None or row["billing_account_id"] == organization
    ]
    if order == "category_name_desc":
        rows.reverse()
    taxes = [
        {
            "description": _description(row),
            "currency": row["currency"],
            "rate": number(row["rate"] / _PERCENT),
            "total_tax_value": number(row["tax_amount"]),
        }
        for row in rows
    ]
    return answer({**listed(taxes, page, key="taxes"), "updated_at": _updated_at(snapshot, period)})


def _description(row: dict[str, Any]) -> str:
    text = f"{row['tax_code']} {whole_or_decimal(row['rate'])} %"
    kind = "" if row["kind"] == "standard" else f" ({row['kind'].replace('_', ' ')})"
    return f"{text}{kind}{': ' + row['note'] if row['note'] else ''}"


# ------------------------------------------------------------------------------------------------------------- charges


@router.get("/charges")
def list_charges(request: Request, asked: Asked, known: Known, snapshot: Reading) -> Response:
    """What a resource cost on a day (or in an hour), before deductions; page after page by a token."""
    order = asked.choice("order_by", CHARGE_ORDERS, CHARGE_ORDERS[0])
    size = asked.integer("page_size", least=0, most=LARGEST_PAGE) or LARGEST_PAGE
    organization, projects = asked.uuid("organization_id"), asked.uuids("project_ids")
    since, until = asked.instant("start_date_after"), asked.instant("end_date_before")
    clamp = asked.truth("clamp_to_time_range") or False
    invoices, skus = asked.uuids("invoice_ids"), asked.texts("skus")
    resources, names = asked.texts("resource_ids"), asked.texts("resource_names")
    after = _after(asked, snapshot.version, order)
    if not organization and not projects:
        asked.wrong("organization_id", "give organization_id or project_ids", reason="required")
    if since and until and since > until:
        asked.wrong("end_date_before", "is before start_date_after")
    asked.refuse()
    until = end_of(until) if until else None
    has_window = bool(since or until or invoices)
    parameters = {
        "period": None if has_window else current_month(request.app.state.core),
        # The month of a charge is that of its invoice, which is never before its own, wherever on earth that is.
        "since_period": f"{BillingPeriod.containing(since.date()).shift(-1)}" if since else None,
        "organization": known.account(organization),
        "wanted_invoices": _invoice_ids(invoices, known, snapshot) if invoices else None,
        "wanted_projects": [known.project(uuid).key for uuid in projects] or None,
        "wanted_skus": skus or None,
        "wanted_resources": resources or None,
        "wanted_names": names or None,
        "since": since,
        "until": until,
        "clamp": clamp,
        "direction": 1 if order == CHARGE_ORDERS[0] else -1,
        "after_start": after[0] if after else None,
        "after_row": after[1] if after else None,
        "rows": size + 1,
    }
    rows = snapshot.rows("api/scaleway/charges", parameters)
    page = rows[:size]
    window = (since, until) if clamp else (None, None)
    updated_at = {row["period"]: utc(row["updated_at"]) for row in snapshot.rows("api/scaleway/months")}
    body: dict[str, Any] = {"charges": [_charge(row, known, window, updated_at) for row in page]}
    if len(rows) > size:
        body["next_page_token"] = _token(page[-1], snapshot.version, order)
    return answer(body)


def _charge(
    row: dict[str, Any],
    known: Directory,
    window: tuple[datetime | None, datetime | None],
    updated_at: dict[str, str | None],
) -> dict[str, Any]:
    start, end = row["charge_start"], row["charge_end"]
    since, until = max(window[0] or start, start), min(window[1] or end, end)
    uuid = known.ids.project(row["account_id"], row["project_id"])
    return {
        "organization_id": known.ids.organization(row["billing_account_id"]),
        "organization_name": known.name(row["billing_account_id"]),
        "project_id": uuid,
        "project_name": _project_name(known, uuid),
        "sku": row["sku_id"] or "",
        "invoice_id": known.ids.invoice(row["invoice_id"]),
        "resource_id": row["resource_id"] or "",
        "resource_name": row["resource_name"],
        "price": money_of_nanos(slice_of(row["nanos"], start, end, since, until), row["currency"]),
        "start_date": utc(since),
        "end_date": utc(last_instant(max(until, since))),
        "updated_at": updated_at.get(row["period"]),
    }


def _invoice_ids(uuids: list[str], known: Directory, snapshot: Snapshot) -> list[str]:
    """Invoices that charges are on, by UUID; one that is not seen leaves nothing."""
    seen = snapshot.rows("api/scaleway/billed_documents")
    ids = {known.ids.invoice(row["invoice_id"]): row["invoice_id"] for row in seen}
    return [ids[uuid] for uuid in uuids if uuid in ids]


def _token(row: dict[str, Any], version: str, order: str) -> str:
    """Where a page ended. It says nothing that the page did not, and is proven by nothing: it only skips rows."""
    text = json.dumps([version, order, row["start_us"], row["charge_row"]])
    return base64.urlsafe_b64encode(text.encode()).decode("ascii").rstrip("=")


def _after(asked: Arguments, version: str, order: str) -> tuple[int, int] | None:
    """What a token says, where one is given.

    Raises:
        Problem: it is none, or what was published has changed since, so that the pages would not fit together (400).
    """
    token = asked.text("page_token")
    if token is None:
        return None
    try:
        of_version, of_order, start, row = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        found = (int(start), int(row))
    except (ValueError, TypeError, binascii.Error):
        raise invalid_argument("page_token", "is none that this API gave", reason="format") from None
    if of_order != order:
        raise invalid_argument("page_token", f"is of pages in the order {of_order}")
    if of_version != version:
        raise _published_since()
    return found


def _published_since() -> Problem:
    return invalid_argument("page_token", "new figures were published since it was given; begin with the first page")
