"""What the description of the API says of every path: how keys are sent, and how problems look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi

from ratemill.api.answers import PROBLEM_TYPE

if TYPE_CHECKING:
    from fastapi import FastAPI

_DESCRIPTION = """\
Bills of a metered cloud: consumption, charges, invoices with their documents, prices, discounts, credits.

Amounts are `{"amount": "4112.38", "currency": "EUR"}`: decimal numbers as text, exact. Days are ISO 8601, instants are
in UTC. Every answer is made from one published state. See docs/api.md for keys, paging, errors and examples.
"""


def described(app: FastAPI) -> None:
    """Let ``app.openapi()`` describe the API; made once, when it is first asked for."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes,
                license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
            )  # fmt: skip
            app.openapi_schema = _completed(schema)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


_PROBLEMS = {
    "401": "No key, or none that holds",
    "404": "It is not there, or not for this key",
    "410": "The cursor is of a state that is no longer published",
    "413": "The body is too large",
    "414": "The URL is too long",
    "422": "Arguments are wrong; each is named",
    "429": "Too many requests; see the header Retry-After",
    "503": "Not now; see the header Retry-After",
}
_PROBLEM = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:ratemill:problem:not-found"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "For the person who reads it: what is wrong, and what to do"},
        "instance": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["in", "name", "reason", "detail"],
                "properties": {
                    "in": {"enum": ["query", "path", "body", "header"]},
                    "name": {"type": "string"},
                    "reason": {"enum": ["unknown", "missing", "invalid"]},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}


def _completed(schema: dict[str, Any]) -> dict[str, Any]:
    components = schema.setdefault("components", {})
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "The secret of a key"},
        "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token", "description": "The secret of a key"},
    }
    schemas = components["schemas"]
    schemas["Problem"] = _PROBLEM
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schema["security"] = [{"bearer": []}, {"token": []}]
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            for status in _statuses(path, method, operation):
                operation["responses"][status] = {
                    "description": _PROBLEMS[status],
                    "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
    return schema


def _statuses(path: str, method: str, operation: dict[str, Any]) -> list[str]:
    """Problems that an operation may answer with, besides errors of ours."""
    names = {parameter["name"] for parameter in operation.get("parameters", ())}
    may = {
        "404": "{" in path or bool(names & {"first_period", "period"}) or method == "post",
        "410": "cursor" in names,
        "413": method == "post",
        "414": bool(names),
        "422": bool(names) or method == "post",
    }
    return [status for status in _PROBLEMS if may.get(status, True)]
