"""``/iam/v1alpha1``: the members of the book as users, applications, policies and rules, to be read.

A member with an e-mail address is a user, any other an application. What one may see of one organization is a policy;
each of its grants is a rule with the permission set ``BillingReadOnly`` or ``BillingManager``, for the organization or
for projects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ratemill.api.scaleway.answers import answer
from ratemill.api.scaleway.directory import Directory, Known
from ratemill.api.scaleway.errors import not_found, permissions_denied
from ratemill.api.scaleway.parameters import Arguments, Asked, listed
from ratemill.book.members import payers_of_accounts
from ratemill.book.model import Book
from ratemill.insight.access import Grant, Level, scopes_at
from ratemill.io.book_files import read_tables
from ratemill.tables.book import ACCOUNTS, MEMBERS, PROJECTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratemill.api.app import Core

router = APIRouter(prefix="/iam/v1alpha1", include_in_schema=False)

PERMISSION_SETS = {"billing_reader": "BillingReadOnly", "billing_manager": "BillingManager"}
_MEANINGS = {
    "BillingReadOnly": "Read what is billed: consumption, charges, invoices, discounts, budgets",
    "BillingManager": "Read what is billed, and change budgets, alerts and electronic addresses",
}


@router.get("/users")
def list_users(request: Request, asked: Asked, known: Known) -> Response:
    """Members with an e-mail address."""
    organization = _organization(asked, known)
    ids, page = asked.uuids("user_ids"), asked.page()
    asked.refuse()
    found = [_user(*one, known) for one in _principals(request, known, organization) if "@" in one[0]]
    return answer(listed([one for one in found if not ids or one["id"] in ids], page, key="users"))


@router.get("/users/{user_id}")
def get_user(user_id: str, request: Request, known: Known) -> Response:
    """One of them."""
    return answer(_one("user", user_id, (_user(*p, known) for p in _principals(request, known, None) if "@" in p[0])))


@router.get("/applications")
def list_applications(request: Request, asked: Asked, known: Known) -> Response:
    """Members that are keys of programs."""
    organization = _organization(asked, known)
    ids, name, page = asked.uuids("application_ids"), asked.text("name"), asked.page()
    asked.refuse()
    found = [
        one
        for one in (_application(*p, known) for p in _principals(request, known, organization) if "@" not in p[0])
        if (not ids or one["id"] in ids) and (name is None or name in one["name"])
    ]
    return answer(listed(found, page, key="applications"))


@router.get("/applications/{application_id}")
def get_application(application_id: str, request: Request, known: Known) -> Response:
    """One of them."""
    found = (_application(*p, known) for p in _principals(request, known, None) if "@" not in p[0])
    return answer(_one("application", application_id, found))


@router.get("/groups")
def list_groups(asked: Asked, known: Known) -> Response:
    """None: the book grants to each member alone."""
    _organization(asked, known)
    page = asked.page()
    asked.refuse()
    return answer(listed([], page, key="groups"))


@router.get("/policies")
def list_policies(request: Request, asked: Asked, known: Known) -> Response:
    """What each member may do, one policy per member and organization."""
    organization = _organization(asked, known)
    users, applications, groups = (asked.uuids(f"{name}_ids") for name in ("user", "application", "group"))
    ids, name, page = asked.uuids("policy_ids"), asked.text("policy_name"), asked.page()
    order = asked.choice("order_by", ("policy_name_asc", "policy_name_desc", "created_at_asc", "created_at_desc"),
                         "policy_name_asc")  # fmt: skip
    asked.refuse()
    wanted = {*users, *applications, *groups}
    found = [
        policy
        for policy in _policies(request, known, organization)
        if (not wanted or {policy["user_id"], policy["application_id"]} & wanted)
        and (not ids or policy["id"] in ids)
        and (name is None or name in policy["name"])
    ]
    found.sort(key=lambda one: (one["name"], one["id"]), reverse=order.endswith("desc"))
    return answer(listed(found, page, key="policies"))


@router.get("/policies/{policy_id}")
def get_policy(policy_id: str, request: Request, known: Known) -> Response:
    """One of them."""
    return answer(_one("policy", policy_id, _policies(request, known, None)))


@router.get("/rules")
def list_rules(request: Request, asked: Asked, known: Known) -> Response:
    """The grants of a policy."""
    uuid = asked.uuid("policy_id", required=True)
    page = asked.page()
    asked.refuse()
    for name, organization, grants in _principals(request, known, None):
        if known.ids.policy(name, organization) == uuid:
            return answer(listed([_rule(name, organization, grant, known) for grant in grants], page, key="rules"))
    raise not_found("policy", uuid or "")


@router.get("/permission-sets")
def list_permission_sets(asked: Asked, known: Known) -> Response:
    """The two there are."""
    _organization(asked, known)
    page = asked.page()
    order = asked.choice("order_by", ("name_asc", "name_desc", "created_at_asc", "created_at_desc"), "name_asc")
    asked.refuse()
    found = [
        {
            "id": known.ids.permission_set(name),
            "name": name,
            "scope_type": "organization",
            "description": meaning,
            "categories": ["Billing"],
        }
        for name, meaning in sorted(_MEANINGS.items(), reverse=order.endswith("desc"))
    ]
    return answer(listed(found, page, key="permission_sets"))


@router.get("/api-keys")
def list_api_keys(asked: Asked, known: Known) -> Response:
    """The key that asks, and no other."""
    _organization(asked, known)
    page = asked.page()
    asked.refuse()
    return answer(listed([_own_key(known)], page, key="api_keys"))


@router.get("/api-keys/{access_key}")
def get_api_key(access_key: str, known: Known) -> Response:
    """The key that asks, without its secret."""
    if access_key != known.principal.key_id:
        raise not_found("api_key", access_key)
    return answer(_own_key(known))


@router.get("/organizations/{organization_id}")
def get_organization(organization_id: str, known: Known) -> Response:
    """An account that pays, by name."""
    account = known.account(organization_id.lower(), resource="organization")
    if account is None or account not in known.accounts:
        raise permissions_denied("organization", "read")
    return answer(
        {
            "id": known.ids.organization(account),
            "name": known.name(account),
            "alias": "",
            **dict.fromkeys(
                ("login_password_enabled", "login_magic_code_enabled", "login_oauth2_enabled", "login_saml_enabled"),
                False,
            ),
        }
    )


# -------------------------------------------------------------------------------------------------------------- members


def _organization(asked: Arguments, known: Directory) -> str | None:
    return known.whole_organization(asked.uuid("organization_id"), resource="iam")


def _principals(request: Request, known: Directory, organization: str | None) -> Iterator[tuple[str, str, list[Grant]]]:
    """Each member, an organization that is seen as a whole, and what the member may see of it; as the book is now."""
    core: Core = request.app.state.core
    config = core.workspace.config
    tables = read_tables(core.workspace.book, (ACCOUNTS, PROJECTS, MEMBERS), time_zone=config.period.time_zone)
    book = Book.of(**tables)
    payers = dict(payers_of_accounts(book).iter_rows())
    for name, scope in scopes_at(book, at=core.now()).items():
        granted: dict[str, list[Grant]] = {}
        for grant in scope.grants:
            payer = grant.organization_id or payers.get(grant.account_id, "")
            granted.setdefault(payer, []).append(grant)
        for payer in sorted(granted):
            if payer in known.whole and organization in (None, payer):
                yield name, payer, granted[payer]


def _one(resource: str, uuid: str, found: Iterator[dict[str, Any]]) -> dict[str, Any]:
    for one in found:
        if one["id"] == uuid.lower():
            return one
    raise not_found(resource, uuid)


def _user(name: str, organization: str, _: list[Grant], known: Directory) -> dict[str, Any]:
    return {
        "id": known.ids.principal(name),
        "email": name,
        "username": name,
        **dict.fromkeys(("first_name", "last_name", "phone_number", "locale", "account_root_user_id"), ""),
        "organization_id": known.ids.organization(organization),
        "type": "member",
        "status": "activated",
        "tags": [],
        **dict.fromkeys(("deletable", "mfa", "two_factor_enabled", "locked"), False),
        **dict.fromkeys(("created_at", "updated_at", "last_login_at")),
    }


def _application(name: str, organization: str, _: list[Grant], known: Directory) -> dict[str, Any]:
    return {
        "id": known.ids.principal(name),
        "name": name,
        "description": "",
        "organization_id": known.ids.organization(organization),
        "nb_api_keys": 0,
        "tags": [],
        **dict.fromkeys(("editable", "deletable", "managed"), False),
        **dict.fromkeys(("created_at", "updated_at")),
    }


def _policies(request: Request, known: Directory, organization: str | None) -> Iterator[dict[str, Any]]:
    for name, payer, grants in _principals(request, known, organization):
        is_user = "@" in name
        yield {
            "id": known.ids.policy(name, payer),
            "name": name,
            "description": f"{name} at {known.name(payer)}",
            "organization_id": known.ids.organization(payer),
            "nb_rules": len(grants),
            "nb_scopes": len(grants),
            "nb_permission_sets": len({grant.role for grant in grants}),
            "tags": [],
            "user_id": known.ids.principal(name) if is_user else None,
            "application_id": None if is_user else known.ids.principal(name),
            "group_id": None,
            "no_principal": None,
            **dict.fromkeys(("editable", "deletable", "managed"), False),
            **dict.fromkeys(("created_at", "updated_at")),
        }


def _rule(name: str, organization: str, grant: Grant, known: Directory) -> dict[str, Any]:
    is_whole = grant.level is Level.ORGANIZATION
    return {
        "id": known.ids.rule(name, grant.role, grant.organization_id, grant.account_id, grant.project_id),
        "permission_set_names": [PERMISSION_SETS[grant.role]],
        "permission_sets_scope_type": "organization" if is_whole else "projects",
        "condition": "",
        "organization_id": known.ids.organization(organization) if is_whole else None,
        "project_ids": None if is_whole else _projects(organization, grant, known),
        "account_root_user_id": None,
    }


def _projects(organization: str, grant: Grant, known: Directory) -> list[str]:
    """Projects of a grant: the one that it names, or all of its account."""
    return sorted(
        uuid
        for uuid, project in known.projects.items()
        if known.payer(project.account_id) == organization
        and grant.account_id in ("", project.account_id)
        and grant.project_id in ("", project.project_id)
    )


def _own_key(known: Directory) -> dict[str, Any]:
    organization = next(iter(known.principal.organizations), "")
    return {
        "access_key": known.principal.key_id,
        "secret_key": None,
        "description": known.principal.name,
        "application_id": known.ids.principal(known.principal.name),
        "user_id": None,
        "default_project_id": known.ids.project(organization, None),
        "creation_ip": "",
        **dict.fromkeys(("editable", "deletable", "managed"), False),
        **dict.fromkeys(("created_at", "updated_at", "expires_at")),
    }
