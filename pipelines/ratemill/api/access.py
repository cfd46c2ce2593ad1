"""Who asks, and how far it may see: the key's grants as the scope that every query is filtered by.

A key carries grants of its own, of the same kinds as the book's members (:mod:`ratemill.insight.access`): whole
organizations, or accounts and projects of one organization. So a key is given and taken back without touching the book,
and a person leaving takes no key along.

**Nothing is seen by default.** A query of ``sql/api`` reads relations named ``seen_…``, each defined by a file of
``sql/api/seen``, and nothing else: those files alone name the published tables, and each is filtered by the scope's
parameters (:class:`ScopeParameters`), which no request can set. The database's own catalogue is out of reach
(:mod:`ratemill.api.snapshots`), so a query that forgot would find no table. Tests hold every one of these relations
against :data:`ratemill.insight.access.RULES`, which the exports for members follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from ratemill.api.problems import Problem
from ratemill.insight.access import Level, Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

READER, MANAGER = "billing_reader", "billing_manager"


@dataclass(frozen=True)
class Principal:
    """Whoever a key is of."""

    key_id: str
    """The access key, ``SCW…``: names the key, and is no secret."""
    name: str
    role: str
    """billing_reader or billing_manager."""
    scope: Scope

    @property
    def organizations(self) -> Sequence[str]:
        """Organizations of which it sees anything, sorted."""
        return sorted({grant.organization_id for grant in self.scope.grants})

    @property
    def sees_all(self) -> bool:
        """Whether its organizations are granted as a whole, with their invoices."""
        return all(grant.level is Level.ORGANIZATION for grant in self.scope.grants)

    def require_manager(self, resource: str, action: str) -> None:
        """Go on if it may change things.

        Raises:
            Problem: it is a reader (403).
        """
        if self.role != MANAGER:
            raise Problem.forbidden(
                f"this key may read; to {action} {resource} takes one of role {MANAGER}",
                resource=resource,
                action=action,
            )


@dataclass(frozen=True)
class ScopeParameters:
    """The scope as the parameters of ``sql/api/seen``."""

    whole: tuple[str, ...]
    """Organizations that are granted with all that they pay for."""
    payers: tuple[str, ...]
    """Organizations of which anything is granted."""
    accounts: tuple[str, ...]
    projects: tuple[str, ...]
    """Parts of the one organization that are granted one by one."""

    @classmethod
    def of(cls, scope: Scope) -> ScopeParameters:
        """The parameters of a key's scope.

        Raises:
            ValueError: the grants are of another form than keys have: each names its organization; those of parts name
                one and the same; and what is granted in part is not granted as a whole.
        """
        payers = {grant.organization_id for grant in scope.grants}
        parts = [grant for grant in scope.grants if grant.level is not Level.ORGANIZATION]
        if "" in payers or (parts and (len(payers) != 1 or scope.organizations)):
            raise ValueError(f"the grants of {scope.principal} are none that a key can have")
        if any(grant.account_id and grant.project_id for grant in parts):
            raise ValueError(f"a grant of {scope.principal} names both an account and a project")
        return cls(*(tuple(sorted(ids)) for ids in (scope.organizations, payers, scope.accounts, scope.projects)))


async def authenticated(request: Request) -> Principal:
    """Whoever the request's key is of; what every route but those of health depends on.

    Raises:
        Problem: there is no key, none that holds (401), or it asks too often (429).
    """
    core = request.app.state.core
    principal: Principal | None = core.keys.remembered(request)
    if principal is None:
        proven: Principal = await run_in_threadpool(core.keys.authenticate, request)
        principal = proven
    request.scope["ratemill"].principal = principal
    core.limits.count_request(principal)
    return principal


Asking = Annotated[Principal, Depends(authenticated)]
"""``principal: Asking`` in a route."""
