"""``/billing/v2/electronic-address``: where an organization's e-invoices go to, from when to when.

The run of a month takes the address that holds at the month's end, before that of ``book/accounts.csv``.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from fastapi import APIRouter, Request
from starlette.responses import Response

from ratemill.api.scaleway.answers import answer, nothing
from ratemill.api.scaleway.directory import Directory, Known
from ratemill.api.scaleway.errors import not_found
from ratemill.api.scaleway.parameters import Arguments, Asked, Written, listed
from ratemill.api.scaleway.storing import Quota, delete, insert, times, update
from ratemill.api.scaleway.wire import instant
from ratemill.identifiers import ElectronicAddress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratemill.api.app import Core

router = APIRouter(prefix="/billing/v2/electronic-address", include_in_schema=False)

ORDERS = ("starts_at_asc", "starts_at_desc")
MOST_ADDRESSES = 100
_TABLE = "electronic_addresses"


@router.get("")
def list_addresses(request: Request, asked: Asked, known: Known) -> Response:
    """Addresses of organizations."""
    uuid = asked.uuid("organization_id")
    since, until = asked.instant("starts_after"), asked.instant("stops_before")
    order = asked.choice("order_by", ORDERS, ORDERS[0])
    page = asked.page()
    asked.refuse()
    organization = known.whole_organization(uuid, resource="electronic_address")
    core: Core = request.app.state.core
    of_account = "SELECT * FROM electronic_addresses WHERE account_id = :account_id"
    rows = [
        row
        for account in known.whole_organizations(organization)
        for row in core.store.rows(of_account, {"account_id": account})
        if (since is None or datetime.fromisoformat(row["starts_at"]) >= since)
        and (until is None or (row["stops_at"] is not None and datetime.fromisoformat(row["stops_at"]) < until))
    ]
    rows.sort(key=lambda row: (datetime.fromisoformat(row["starts_at"]), row["address_id"]))
    if order == ORDERS[1]:
        rows.reverse()
    return answer(listed([_address(row, known) for row in rows], page, key="electronic_addresses"))


@router.get("/{address_id}")
def get_address(address_id: str, request: Request, known: Known) -> Response:
    """One address."""
    return answer(_address(_known_address(request.app.state.core, address_id, known), known))


@router.post("")
def create_address(request: Request, written: Written, known: Known) -> Response:
    """An address from an instant on, or from now."""
    core: Core = request.app.state.core
    value = _value(written, required=True)
    uuid = written.uuid("organization_id", required=True)
    starts = written.instant("starts_at") or core.now()
    stops = written.instant("stops_at")
    if stops is not None and stops <= starts:
        written.wrong("stops_at", "is not after starts_at")
    written.refuse()
    row = {
        "address_id": str(uuid4()),
        "account_id": known.managed_organization(uuid or "", resource="electronic_address", action="write"),
        "value": value,
        "starts_at": starts.isoformat(),
        "stops_at": stops.isoformat() if stops else None,
    }
    quota = Quota("account_id", _TABLE, MOST_ADDRESSES)
    return answer(_address(insert(core, _TABLE, row, known.principal, quota), known))


@router.patch("/{address_id}")
def update_address(address_id: str, request: Request, written: Written, known: Known) -> Response:
    """Another value, or an end."""
    core: Core = request.app.state.core
    row = _managed_address(core, address_id, known, "write")
    value, stops = _value(written, required=False), written.instant("stops_at")
    if stops is not None and stops <= datetime.fromisoformat(row["starts_at"]):
        written.wrong("stops_at", "is not after starts_at")
    written.refuse()
    changes = {"value": value, "stops_at": stops.isoformat() if stops else None}
    return answer(_address(update(core, _TABLE, row, changes, known.principal), known))


@router.delete("/{address_id}", status_code=204)
def delete_address(address_id: str, request: Request, known: Known) -> Response:
    """Remove an address, as if it had never been."""
    core: Core = request.app.state.core
    delete(core, _TABLE, _managed_address(core, address_id, known, "delete"))
    return nothing()


def _value(written: Arguments, *, required: bool) -> str | None:
    value = written.text("value", required=required, longest=200)
    if value is not None:
        try:
            ElectronicAddress.parse(value)
        except ValueError as error:
            written.wrong("value", str(error), reason="format")
    return value


def _known_address(core: Core, uuid: str, known: Directory) -> dict[str, Any]:
    found = core.store.rows("SELECT * FROM electronic_addresses WHERE address_id = :id", {"id": uuid.lower()})
    for row in found:
        if row["account_id"] in known.whole:
            return row
    raise not_found("electronic_address", uuid)


def _managed_address(core: Core, uuid: str, known: Directory, action: str) -> dict[str, Any]:
    row = _known_address(core, uuid, known)
    organization = known.ids.organization(row["account_id"])
    known.managed_organization(organization, resource="electronic_address", action=action)
    return row


def _address(row: Mapping[str, Any], known: Directory) -> dict[str, Any]:
    return {
        "id": row["address_id"],
        "organization_id": known.ids.organization(row["account_id"]),
        "value": row["value"],
        "starts_at": instant(datetime.fromisoformat(row["starts_at"])),
        "stops_at": instant(datetime.fromisoformat(row["stops_at"])) if row["stops_at"] else None,
        **times(row),
    }
