"""What answers have in common: one snapshot each, exact numbers as text, problems in the form of RFC 9457."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from ratemill.api.access import Asking
from ratemill.api.snapshots import Snapshot
from ratemill.money import minor_unit_decimals

if TYPE_CHECKING:
    from starlette.responses import Response

    from ratemill.api.problems import Problem

PROBLEM_TYPE = "application/problem+json"


async def _opened(request: Request, principal: Asking) -> AsyncIterator[Snapshot]:
    current = request.app.state.core.snapshots.current(principal.scope)
    snapshot = await run_in_threadpool(current.__enter__)  # may open what was just published
    try:
        yield snapshot
    finally:
        current.__exit__(None, None, None)


Reading = Annotated[Snapshot, Depends(_opened, scope="function")]
"""``snapshot: Reading`` in a route: the one published state that its whole answer is made from."""


def exact(number: Decimal) -> str:
    """A decimal as text with every digit that counts and no exponent: 0.10 → 0.1, 1E+3 → 1000."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") or "0" if "." in text else text


def amount_text(amount: Decimal, currency: str) -> str:
    """An amount as text: at least the decimals of the currency's minor unit, and more only where they are not zero."""
    whole, _, decimals = exact(amount).partition(".")
    return ".".join(filter(None, (whole, decimals.ljust(minor_unit_decimals(currency), "0"))))


def instant_text(instant: datetime) -> str:
    """ISO 8601 in UTC: 2026-10-01T00:00:00Z."""
    return instant.isoformat().replace("+00:00", "Z")


Exact = Annotated[
    Decimal,
    PlainSerializer(exact, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^-?\d+(\.\d+)?$", "examples": ["744", "0.0125"]}),
]
"""A number that is no amount of money: a quantity, a rate, a percentage. Text, so that no reader makes it a float."""

Instant = Annotated[
    datetime,
    PlainSerializer(instant_text, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-10-01T00:00:00Z"]}),
]


class Answer(BaseModel):
    """Part of an answer."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Money(Answer):
    """An amount and its currency."""

    amount: Annotated[str, Field(pattern=r"^-?\d+(\.\d+)?$", examples=["4112.38"])]
    """A decimal number; never a float."""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$", examples=["EUR"])]
    """ISO 4217."""

    @classmethod
    def of(cls, amount: Decimal, currency: str) -> Money:
        """An amount as it is, not rounded."""
        return cls(amount=amount_text(amount, currency), currency=currency)

    @classmethod
    def or_none(cls, amount: Decimal | None, currency: str) -> Money | None:
        """The same of an amount that need not be there."""
        return None if amount is None else cls.of(amount, currency)


def problem_response(problem: Problem, request: Request) -> Response:
    """A problem as RFC 9457 has it; ``type`` is a name for programs; nothing is to be fetched from it."""
    content: dict[str, Any] = {
        "type": f"urn:ratemill:problem:{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": request.url.path,
        **problem.extra,
    }
    if problem.errors:
        content["errors"] = [
            {"in": error.where, "name": error.name, "reason": error.kind, "detail": error.message}
            for error in problem.errors
        ]
    facts = request.scope.get("ratemill")
    if facts is not None:
        content["request_id"] = facts.request_id
    return JSONResponse(content, problem.status, headers=problem.headers, media_type=PROBLEM_TYPE)
