"""What another system says about projects and members, put into the rows of the book.

Rows are as the files have them: texts by column, so that whatever else stands in them stays. Nothing is removed, since
bills and usage name it: a project that is gone ends (``valid_to``), and so does what a member may no longer see. Rows
of other accounts are left alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Row = dict[str, str]

_NO_KEY_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class RemoteProject:
    """A project as the other system has it."""

    project_id: str
    name: str


@dataclass(frozen=True, order=True)
class RemoteGrant:
    """What one member may see of an organization: all of it, or one project."""

    principal: str
    role: str
    project_id: str = ""


@dataclass(frozen=True)
class Remote:
    """One organization as the other system has it."""

    account_id: str
    """The account of the book that it is."""
    projects: tuple[RemoteProject, ...]
    grants: tuple[RemoteGrant, ...]


@dataclass(frozen=True, order=True)
class Change:
    """One difference between the book and the other system."""

    table: str
    what: str
    """added, changed or ended."""
    name: str
    """What it is about, as people call it."""
    detail: str


def principal_name(name: str) -> str:
    """A name as members have it: an e-mail address in small letters, else letters, digits, ``.``, ``_`` and ``-``."""
    if "@" in name:
        return name.strip().lower()
    return _NO_KEY_NAME.sub("-", name.strip()).strip("-._") or "unnamed"


def strongest(grants: Iterable[RemoteGrant]) -> tuple[RemoteGrant, ...]:
    """Grants without those that add nothing to a wider or higher one of the same member."""
    highest: dict[tuple[str, str], str] = {}
    for grant in sorted(grants, key=lambda grant: grant.role):  # billing_manager comes before billing_reader
        highest.setdefault((grant.principal, grant.project_id), grant.role)
    kept = []
    for (principal, project_id), role in highest.items():
        whole = highest.get((principal, ""))
        if not project_id or whole is None or (whole != role and role == "billing_manager"):
            kept.append(RemoteGrant(principal, role, project_id))
    return tuple(sorted(kept))


def with_projects(
    rows: Sequence[Row], remote: Remote, *, is_over: Callable[[Row], bool], today: str, tomorrow: str
) -> tuple[list[Row], list[Change]]:
    """Rows of PROJECTS with the projects of one account as the other system has them.

    Args:
        rows: the file's.
        remote: the organization.
        is_over: whether a row has ended.
        today: the day from which on a project is there that was elsewhere, or had ended.
        tomorrow: the day before which a project ends that is gone: what it used today is still billed to it.
    """
    made = [dict(row) for row in rows]
    changes = []
    known = {project.project_id: project for project in remote.projects}
    here: set[str] = set()
    for row in made:
        if is_over(row):
            continue
        project = known.get(row["project_id"])
        if row["account_id"] == remote.account_id:
            if project is None:
                if not row.get("valid_to"):  # else its end is known, and to come
                    row["valid_to"] = tomorrow
                    changes.append(Change("projects", "ended", _told(row), f"valid_to {tomorrow}"))
                continue
            here.add(project.project_id)
            if row["name"] != project.name:
                changes.append(Change("projects", "changed", project.project_id, f"{row['name']} → {project.name}"))
                row["name"] = project.name
        elif project is not None:
            row["valid_to"] = today
            changes.append(Change("projects", "ended", _told(row), f"at {row['account_id']}, valid_to {today}"))
    ever = {row["project_id"] for row in rows}
    for project in sorted(remote.projects, key=lambda project: project.project_id):
        if project.project_id not in here:
            since = today if project.project_id in ever else ""
            row = {"project_id": project.project_id, "account_id": remote.account_id, "name": project.name}
            made.append(row | {"valid_from": since})
            detail = f"at {remote.account_id}" + (f", valid_from {since}" if since else "")
            changes.append(Change("projects", "added", f"{project.name} ({project.project_id})", detail))
    return made, changes


def _told(row: Mapping[str, str]) -> str:
    return f"{row['name']} ({row['project_id']})"


def with_members(
    rows: Sequence[Row], remote: Remote, *, is_over: Callable[[Row], bool], now: str
) -> tuple[list[Row], list[Change]]:
    """Rows of MEMBERS with those of one organization as the other system has them; ``now``: when what is gone ends.

    Only rows that name the organization are looked at; those that give an account or project by itself are a person's.
    """
    made = [dict(row) for row in rows]
    changes = []
    spelled = {row["principal"].lower(): row["principal"] for row in rows}
    wanted = {
        (spelled.get(grant.principal.lower(), grant.principal), grant.project_id): grant for grant in remote.grants
    }
    held = set()
    for row in made:
        if row.get("organization_id") != remote.account_id or row.get("account_id") or is_over(row):
            continue
        key = (row["principal"], row.get("project_id", ""))
        grant = wanted.get(key)
        if grant is not None and grant.role == row["role"]:
            held.add(key)
            continue
        row["valid_to"] = now
        changes.append(Change("members", "ended", row["principal"], f"{row['role']} of {_scope(remote, key[1])}"))
    for (principal, project_id), grant in sorted(wanted.items()):
        if (principal, project_id) in held:
            continue
        was_there = any(
            row["principal"] == principal
            and row.get("organization_id") == remote.account_id
            and row.get("project_id", "") == project_id
            for row in rows
        )
        made.append(
            {
                "principal": principal,
                "role": grant.role,
                "organization_id": remote.account_id,
                "project_id": project_id,
                "valid_from": now if was_there else "",
            }
        )
        changes.append(Change("members", "added", principal, f"{grant.role} of {_scope(remote, project_id)}"))
    return made, changes


def _scope(remote: Remote, project_id: str) -> str:
    if not project_id:
        return remote.account_id
    names = {project.project_id: project.name for project in remote.projects}
    return f"project {names.get(project_id, project_id)}"
