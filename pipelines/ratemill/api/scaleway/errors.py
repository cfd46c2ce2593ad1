"""What the dialect answers when it refuses: one body for each kind, as its clients read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from ratemill.api.problems import FieldError, Problem

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_UNAUTHENTICATED = {"missing": "invalid_argument", "malformed": "invalid_argument", "expired": "expired"}
"""Why a key is none → the dialect's word; ``not_found`` for any other reason."""
_REASONS = {"missing": "required", "unknown": "unknown", "invalid": "constraint"}
"""What is wrong with an argument → the dialect's word."""
_KINDS = {
    405: "method_not_allowed", 409: "conflict", 413: "request_too_large", 414: "request_too_large",
    429: "too_many_requests", 500: "internal_error", 503: "unavailable",
}  # fmt: skip


def response(problem: Problem, request: Request) -> Response:
    """A problem as the dialect's clients read it."""
    status, body = _worded(problem, request)
    return JSONResponse(body, status, headers=problem.headers)


def _worded(problem: Problem, request: Request) -> tuple[int, dict[str, Any]]:
    extra = problem.extra
    if problem.slug in (PRECONDITION, QUOTA):
        return problem.status, {"type": problem.slug.replace("-", "_"), "message": problem.detail, **extra}
    if problem.status == 401:  # noqa: PLR2004
        reason = _UNAUTHENTICATED.get(extra.get("reason", ""), "not_found")
        return 401, {"type": "denied_authentication", "message": problem.detail, "method": "api_key", "reason": reason}
    if problem.status == 403:  # noqa: PLR2004
        denied = {"resource": extra.get("resource", "billing"), "action": extra.get("action", "read")}
        return 403, {"type": "permissions_denied", "message": "insufficient permissions", "details": [denied]}
    if problem.status == 404:  # noqa: PLR2004
        what = {"resource": extra.get("resource", "path"), "resource_id": extra.get("resource_id", request.url.path)}
        return 404, {"type": "not_found", "message": "resource is not found", **what}
    if problem.status in (400, 422):
        details = [
            {"argument_name": error.name, "reason": _REASONS.get(error.kind, error.kind), "help_message": error.message}
            for error in problem.errors
        ]
        return 400, {"type": "invalid_arguments", "message": "invalid argument(s)", "details": details}
    return problem.status, {"type": _KINDS.get(problem.status, "unknown"), "message": problem.detail}


PRECONDITION, QUOTA = "precondition-failed", "quotas-exceeded"


def permissions_denied(resource: str, action: str) -> Problem:
    """The key may not do that; the same whether the thing is there or not."""
    return Problem.forbidden(f"this key may not {action} {resource}", resource=resource, action=action)


def not_found(resource: str, resource_id: str) -> Problem:
    """There is no such thing, or the key does not see it."""
    return Problem.not_found(resource, resource_id)


def invalid_argument(name: str, help_message: str, *, reason: str = "constraint") -> Problem:
    """One argument is wrong; ``reason``: unknown, required, format or constraint."""
    return Problem.invalid(FieldError(name, "query", help_message, reason))


def quotas_exceeded(resource: str, quota: int, current: int) -> Problem:
    """There are as many as there may be."""
    details = [{"resource": resource, "quota": quota, "current": current}]
    return Problem(403, QUOTA, "quota(s) exceeded for this resource", extra={"details": details})


def precondition_failed(precondition: str, help_message: str) -> Problem:
    """The request is well made, and can't be done as things are."""
    extra = {"precondition": precondition, "help_message": help_message}
    return Problem(412, PRECONDITION, "precondition is not respected", extra=extra)
