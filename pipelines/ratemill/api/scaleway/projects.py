"""``/account/v3/projects``: the projects of the book and of the bills, to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ratemill.api.scaleway.answers import answer
from ratemill.api.scaleway.directory import Directory, Known, Project
from ratemill.api.scaleway.parameters import Asked, listed
from ratemill.api.scaleway.wire import utc

if TYPE_CHECKING:
    from datetime import datetime

router = APIRouter(prefix="/account/v3/projects", include_in_schema=False)

ORDERS = ("created_at_asc", "created_at_desc", "name_asc", "name_desc")


@router.get("")
def list_projects(request: Request, asked: Asked, known: Known) -> Response:
    """Projects that are there now; bills go on naming those that are not any more."""
    uuid, name, uuids = asked.uuid("organization_id"), asked.text("name"), asked.uuids("project_ids")
    order = asked.choice("order_by", ORDERS, ORDERS[0])
    page = asked.page()
    asked.refuse()
    organization = known.account(uuid, resource="project")
    now = request.app.state.core.now()
    found = [
        (uuid, project)
        for uuid, project in known.projects.items()
        if known.is_of(project.account_id, organization)
        and (name is None or name == project.name)
        and (not uuids or uuid in uuids)
        and _is_there(project, now)
    ]
    by_name = order.startswith("name")
    found.sort(key=lambda pair: pair[0])
    found.sort(key=lambda pair: pair[1].name if by_name else utc(pair[1].since) or "", reverse=order.endswith("desc"))
    return answer(listed([_project(uuid, project, known) for uuid, project in found], page, key="projects"))


@router.get("/{project_id}")
def get_project(project_id: str, known: Known) -> Response:
    """One project, also one that is no longer there."""
    uuid = project_id.lower()
    return answer(_project(uuid, known.existing_project(uuid), known))


def _is_there(project: Project, now: datetime) -> bool:
    return (project.since is None or project.since <= now) and (project.until is None or now < project.until)


def _project(uuid: str, project: Project, known: Directory) -> dict[str, Any]:
    return {
        "id": uuid,
        "name": project.name,
        "organization_id": known.ids.organization(known.payer(project.account_id)),
        "description": project.description,
        "status": "active",
        "created_at": utc(project.since),
        "updated_at": utc(project.since),
        "qualification": None,
    }
