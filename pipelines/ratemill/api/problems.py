"""What goes wrong with a request, as a value; each dialect words it in its own form."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any


@dataclass(frozen=True)
class FieldError:
    """One argument that is wrong."""

    name: str
    """As the client spelled it."""
    where: str
    """query, path, body or header."""
    message: str
    kind: str = "invalid"
    """unknown, missing, or invalid."""


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818 - as RFC 9457 calls it
    """Raised anywhere while a request is answered; becomes the answer.

    ``Problem.not_found("invoice", "2026-10-acme-EUR")`` and the like make the usual ones.
    """

    status: int
    slug: str
    """Stable name, the last part of the type's URI: ``not-found``."""
    detail: str
    """One or two sentences for the person who reads it: what is wrong, and what to do."""
    errors: tuple[FieldError, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    """More members of the answer; ``resource`` and ``resource_id`` where something is not there."""

    def __str__(self) -> str:
        return self.detail

    @property
    def title(self) -> str:
        """The same for all problems of a status."""
        return HTTPStatus(self.status).phrase

    @classmethod
    def invalid(cls, *errors: FieldError) -> Problem:
        """Arguments that are wrong."""
        detail = "; ".join(f"{error.where} {error.name}: {error.message}" for error in errors)
        return cls(422, "invalid-arguments", detail, errors)

    @classmethod
    def wrong_query(cls, name: str, message: str) -> Problem:
        """One query parameter that is wrong."""
        return cls.invalid(FieldError(name, "query", message))

    @classmethod
    def unauthenticated(cls, detail: str, *, reason: str) -> Problem:
        """No key, or none that holds. ``reason``: missing, malformed, invalid, expired or revoked."""
        return cls(
            401, "unauthenticated", detail, headers={"WWW-Authenticate": 'Bearer realm="ratemill"'},
            extra={"reason": reason},
        )  # fmt: skip

    @classmethod
    def forbidden(cls, detail: str, *, resource: str, action: str) -> Problem:
        """The key may see it, and not do this with it."""
        return cls(403, "forbidden", detail, extra={"resource": resource, "action": action})

    @classmethod
    def not_found(cls, resource: str, resource_id: str) -> Problem:
        """It is not there, or not for this key: nobody can tell the one from the other."""
        return cls(
            404, "not-found", f"there is no {resource.replace('_', ' ')} {resource_id!r} that this key may see",
            extra={"resource": resource, "resource_id": resource_id},
        )  # fmt: skip

    @classmethod
    def unavailable(cls, slug: str, detail: str, *, retry_after: int) -> Problem:
        """For the moment."""
        return cls(503, slug, detail, headers={"Retry-After": str(retry_after)})

    @classmethod
    def too_many(cls, detail: str, *, retry_after: int) -> Problem:
        """Above a rate limit."""
        return cls(429, "too-many-requests", detail, headers={"Retry-After": str(max(1, retry_after))})
