"""What surrounds every request: its id, its limits, the headers of its answer, and the note of how it ended."""

from __future__ import annotations

import hashlib
import logging
import re
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request

from ratemill.api.accesses import Access
from ratemill.api.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ratemill.api.access import Principal
    from ratemill.api.app import Core

LOG = logging.getLogger(__name__)

MOST_URL_BYTES = 8_192
MOST_BODY_BYTES = 64 << 10
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

SECURITY_HEADERS = {
    "Strict-Transport-Security": "max-age=63072000",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Of every answer that does not set its own. Browsers heed the first only over TLS."""


@dataclass
class Facts:
    """What is known of a request while it is answered: ``scope["ratemill"]``."""

    request_id: str
    started: float = field(default_factory=time.perf_counter)
    principal: Principal | None = None
    status: int = 500
    """Unless something else is said."""
    is_answered: bool = False


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, core: Core, respond: Callable[[Request, Problem], Any]) -> None:
        self._app, self._core, self._respond = app, core, respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        facts = scope["ratemill"] = Facts(_request_id(scope))
        sender = _Sender(scope, facts, send)
        self._core.metrics.under_way.inc()
        try:
            try:
                await self._answer(scope, receive, sender)
            except Exception:
                LOG.exception("%s %s failed, request %s", scope["method"], _noted_path(scope), facts.request_id)
                if facts.is_answered:
                    raise  # half an answer is out: the connection is cut, so that nobody takes it for whole
                detail = f"an error of ours; tell us the request id {facts.request_id}"
                await self._problem(Problem(500, "internal-error", detail), scope, receive, sender)
        finally:
            self._core.metrics.under_way.dec()
            self._note(scope, facts)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        url = len(scope.get("raw_path", b"")) + len(scope["query_string"])
        if url > MOST_URL_BYTES:
            problem = Problem(414, "url-too-long", f"the URL has {url:,} bytes; {MOST_URL_BYTES:,} are allowed")
        elif _length(scope) > MOST_BODY_BYTES:
            problem = _too_large()
        else:
            await self._app(scope, _Limited(receive).receive, send)
            return
        await self._problem(problem, scope, receive, send)

    async def _problem(self, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        await self._respond(Request(scope), problem)(scope, receive, send)

    def _note(self, scope: Scope, facts: Facts) -> None:
        seconds = time.perf_counter() - facts.started
        matched = scope.get("route")
        route = getattr(matched, "path", "(none)")
        self._core.metrics.count(method=scope["method"], route=route, status=facts.status, seconds=seconds)
        if route in _NOT_NOTED:
            return
        client = scope.get("client")
        self._core.log.note(
            Access(
                at=self._core.now().isoformat(timespec="milliseconds"),
                request_id=facts.request_id,
                access_key=facts.principal.key_id if facts.principal is not None else None,
                address=client[0] if client else "unknown",
                method=scope["method"][:16],
                path=_noted_path(scope),
                status=facts.status,
                milliseconds=round(seconds * 1000),
            )
        )


_NOT_NOTED = ("/healthz", "/readyz", "/metrics")
"""Asked every few seconds by machines, and nobody's data."""


class _Sender:
    """Sends an answer with the headers that all have, and without its content where the client has it already."""

    def __init__(self, scope: Scope, facts: Facts, send: Send) -> None:
        self._facts, self._send = facts, send
        self._is_read = scope["method"] in ("GET", "HEAD")
        self._known = Headers(scope=scope).get("if-none-match", "")
        self._held: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            headers["X-Request-Id"] = self._facts.request_id
            self._facts.status = message["status"]
            if self._is_read and message["status"] == 200:  # noqa: PLR2004
                self._held = message
                return
        elif message["type"] == "http.response.body" and self._held is not None:
            start, self._held = self._held, None
            if not message.get("more_body", False):
                message = self._tagged(start, message)
            self._facts.is_answered = True
            await self._send(start)
        self._facts.is_answered = True
        await self._send(message)

    def _tagged(self, start: Message, body: Message) -> Message:
        """Give an answer its ETag; without its content where the client knows that tag."""
        headers = MutableHeaders(scope=start)
        tag = headers.setdefault("ETag", f'"{hashlib.sha256(body.get("body", b"")).hexdigest()[:32]}"')
        if not _matches(self._known, tag):
            return body
        start["status"] = self._facts.status = 304
        for name in ("content-length", "content-type", "content-disposition"):
            del headers[name]
        return {"type": "http.response.body", "body": b""}


def _matches(known: str, tag: str) -> bool:
    tags = [one.strip().removeprefix("W/") for one in known.split(",")]
    return "*" in tags or tag in tags


class _Limited:
    """Receives a body up to the limit."""

    def __init__(self, receive: Callable[[], Awaitable[Message]]) -> None:
        self._receive, self._bytes = receive, 0

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            if self._bytes > MOST_BODY_BYTES:
                raise HTTPException(413, _too_large().detail)  # which FastAPI lets pass while it reads a body
        return message


def _noted_path(scope: Scope) -> str:
    """The path as it was sent, percent-encoded: decoded, it may hold line ends, and forge lines of the log."""
    return quote(scope.get("raw_path") or scope["path"].encode(), safe="/%:@!$&'()*+,;=~")[:1024]


def _length(scope: Scope) -> int:
    """What the client says that the body has; how much comes is counted all the same."""
    told = Headers(scope=scope).get("content-length", "")
    return int(told) if told.isdecimal() else 0


def _too_large() -> Problem:
    return Problem(413, "body-too-large", f"a body may have {MOST_BODY_BYTES:,} bytes")


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
