"""``/billing/v2beta1/discounts`` and ``redeem-coupon``: the book's discounts and promotional credits."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from fastapi import APIRouter, Request
from starlette.responses import Response

from ratemill.api.answers import Reading
from ratemill.api.scaleway.answers import answer
from ratemill.api.scaleway.consumption import current_month
from ratemill.api.scaleway.directory import Directory, Known
from ratemill.api.scaleway.errors import not_found, precondition_failed
from ratemill.api.scaleway.parameters import Asked, listed
from ratemill.api.scaleway.wire import last_instant, number, utc
from ratemill.book.coupons import coupon_of, granted_by
from ratemill.book.customers import credit_name
from ratemill.io.book_files import read_tables
from ratemill.money import ZERO
from ratemill.tables.book import COUPONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratemill.api.app import Core
    from ratemill.api.snapshots import Snapshot

router = APIRouter(prefix="/billing/v2beta1", include_in_schema=False)

_DATES = ("creation_date", "start_date", "stop_date")
ORDERS = tuple(f"{name}_{way}" for name in _DATES for way in ("desc", "asc"))
_EVER = "9999"
"""After every date: what never stops."""


@router.get("/discounts")
def list_discounts(request: Request, asked: Asked, known: Known, snapshot: Reading) -> Response:
    """Discounts and promotional credits of organizations, redeemed coupons among them."""
    uuid = asked.uuid("organization_id")
    order = asked.choice("order_by", ORDERS, ORDERS[0])
    page = asked.page()
    asked.refuse()
    organization = known.whole_organization(uuid, resource="billing")
    core: Core = request.app.state.core
    found = [*_discounts(core, known, snapshot, organization), *_credits(core, known, snapshot, organization)]
    name, _, way = order.rpartition("_")
    found.sort(key=lambda one: one["id"])
    found.sort(key=lambda one: one[name] or (_EVER if name == "stop_date" else ""), reverse=way == "desc")
    return answer(listed(found, page, key="discounts"))


def _discounts(core: Core, known: Directory, snapshot: Snapshot, organization: str | None) -> list[dict[str, Any]]:
    names = {row["sku_id"]: row["name"] for row in snapshot.rows("api/scaleway/skus")}
    rows: dict[str, dict[str, Any]] = {}
    used: dict[tuple[str, str], Decimal] = {}
    for row in snapshot.rows("api/scaleway/discounts", {"period": current_month(core)}):
        rows[row["discount_id"]] = row
        used[row["discount_id"], row["used_by"] or ""] = row["used_amount"]
    found = []
    for row in rows.values():
        of = sorted(known.whole) if row["account_id"] is None else [row["account_id"]]
        for account in of:
            payer = known.payer(account)
            if payer not in known.whole or not known.is_of(account, organization):
                continue
            taken = used.get((row["discount_id"], payer), ZERO)
            is_rate = row["percent"] is not None
            value = row["percent"] if is_rate else row["amount"]
            found.append(
                {
                    "id": known.ids.discount("discount", row["discount_id"]),
                    "organization_id": known.ids.organization(payer),
                    "description": row["note"] + _project(row, known, account),
                    "value": number(value),
                    "value_used": number(ZERO if is_rate else taken),
                    "value_remaining": number(value if is_rate else max(value - taken, ZERO)),
                    "mode": "discount_mode_rate" if is_rate else "discount_mode_value",
                    "filters": _filters(row, names),
                    **_dates(row["valid_from"], row["valid_to"]),
                    "coupon": None,
                }
            )
    return found


def _credits(core: Core, known: Directory, snapshot: Snapshot, organization: str | None) -> list[dict[str, Any]]:
    """Promotional credits: those that a run has seen, and coupons that were redeemed since."""
    names = {row["sku_id"]: row["name"] for row in snapshot.rows("api/scaleway/skus")}
    rows = {row["credit_id"]: row for row in snapshot.rows("api/scaleway/credits") if row["kind"] == "promotional"}
    of_account = "SELECT * FROM coupon_redemptions WHERE account_id = :account_id ORDER BY redemption_id"
    for account in known.whole_organizations(organization):
        for redeemed in core.store.rows(of_account, {"account_id": account}):
            rows.setdefault(credit_name(redeemed["coupon_id"], account), _as_credit(redeemed))
    return [
        _credit(row, known, names)
        for row in rows.values()
        if known.payer(row["account_id"]) in known.whole and known.is_of(row["account_id"], organization)
    ]


def _as_credit(redeemed: Mapping[str, Any]) -> dict[str, Any]:
    """A redemption as the credit that the next run makes of it."""
    return {
        "credit_id": credit_name(redeemed["coupon_id"], redeemed["account_id"]),
        "account_id": redeemed["account_id"],
        "amount": Decimal(redeemed["amount"]),
        "used_amount": ZERO,
        "note": redeemed["note"],
        "granted_on": datetime.fromisoformat(redeemed["granted_on"]),
        "expires_on": datetime.fromisoformat(redeemed["expires_on"]) if redeemed["expires_on"] else None,
        **dict.fromkeys(("category", "service", "sku_ids", "project_id", "region", "excludes")),
    }


def _credit(row: Mapping[str, Any], known: Directory, names: Mapping[str, str]) -> dict[str, Any]:
    note = row["note"] or row["credit_id"]
    return {
        "id": known.ids.discount("credit", row["credit_id"]),
        "organization_id": known.ids.organization(known.payer(row["account_id"])),
        "description": note + _project(row, known, row["account_id"]),
        "value": number(row["amount"]),
        "value_used": number(row["used_amount"]),
        "value_remaining": number(row["amount"] - row["used_amount"]),
        "mode": "discount_mode_splittable",
        "filters": _filters(row, names),
        **_dates(row["granted_on"], row["expires_on"]),
        "coupon": {"description": note} if row["credit_id"].startswith("coupon:") else None,
    }


def _dates(start: datetime | None, end: datetime | None) -> dict[str, str | None]:
    return {"creation_date": utc(start), "start_date": utc(start), "stop_date": utc(end and last_instant(end))}


def _project(row: Mapping[str, Any], known: Directory, account: str) -> str:
    """What the dialect has no filter for, in words."""
    if row["project_id"] is None:
        return ""
    uuid = known.ids.project(account, row["project_id"])
    return f" (project {known.projects[uuid].name if uuid in known.projects else row['project_id']})"


def _filters(row: Mapping[str, Any], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """What it is for, in the words of consumptions: category, service (resource_name), SKU (product_name), region."""
    wanted = [("category_name", row["category"]), ("resource_name", row["service"]), ("region", row["region"])]
    found = [{"type": kind, "value": value, "exclude": False} for kind, value in wanted if value]
    for column, exclude in (("sku_ids", False), ("excludes", True)):
        found += [
            {"type": "product_name", "value": names.get(sku, sku), "exclude": exclude}
            for sku in (row[column] or "").split()
        ]
    return found


# ------------------------------------------------------------------------------------------------------------- coupons


@router.post("/redeem-coupon")
def redeem_coupon(request: Request, asked: Asked, known: Known) -> Response:
    """Redeem a coupon of ``book/coupons.csv`` for an organization, once; its next draft draws on the credit.

    What it grants is kept as it is now. One transaction of the store decides who is first.
    """
    code = asked.text("code", required=True, longest=200)
    uuid = asked.uuid("organization_id", required=True)
    asked.refuse()
    core: Core = request.app.state.core
    account = known.managed_organization(uuid or "", resource="discount", action="write")
    core.limits.refuse_after_wrong_coupons(account)
    time_zone = core.workspace.config.period.time_zone
    coupons = read_tables(core.workspace.book, (COUPONS,), time_zone=time_zone)["coupons"]
    coupon = coupon_of(code or "", coupons.iter_rows(named=True))
    if coupon is None or coupon["account_id"] not in (None, account):
        core.limits.count_wrong_coupon(account)
        raise not_found("coupon", "code")
    now = core.now()
    if (coupon["valid_from"] and now < coupon["valid_from"]) or (coupon["valid_to"] and now >= coupon["valid_to"]):
        raise precondition_failed("coupon_is_valid", "the coupon can't be redeemed at this time")
    if coupon["currency"] != known.accounts[account]["currency"]:
        raise precondition_failed(
            "coupon_is_in_currency",
            f"the coupon is in {coupon['currency']}, and the organization is invoiced in"
            f" {known.accounts[account]['currency']}",
        )
    grant = granted_by(coupon, at=now, time_zone=known.zone(account))
    row = {
        "redemption_id": str(uuid4()),
        "coupon_id": coupon["coupon_id"],
        "account_id": account,
        "amount": f"{coupon['amount']:f}",
        "currency": coupon["currency"],
        "granted_on": grant.granted_on.isoformat(),
        "expires_on": grant.expires_on.isoformat() if grant.expires_on else None,
        "note": coupon["note"],
        "redeemed_by": known.principal.key_id,
    }
    with core.store.transaction() as connection:
        taken = [
            one["account_id"]
            for one in connection.execute("SELECT account_id FROM coupon_redemptions WHERE coupon_id = :coupon_id", row)
        ]
        if account in taken:
            raise precondition_failed("coupon_is_unused", "the organization has redeemed this coupon before")
        if len(taken) >= coupon["max_redemptions"]:
            raise precondition_failed("coupon_is_left", "the coupon has been redeemed as often as it can be")
        columns = ", ".join(row)
        values = ", ".join(f":{name}" for name in row)
        connection.execute(f"INSERT INTO coupon_redemptions ({columns}) VALUES ({values})", row)  # noqa: S608 - ours
    return answer(_credit(_as_credit(row), known, {}))
