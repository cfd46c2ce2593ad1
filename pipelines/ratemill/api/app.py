"""The application: both dialects over one core, and how every request ends."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from ratemill import __version__
from ratemill.api import health, pages, scaleway
from ratemill.api.accesses import AccessLog
from ratemill.api.answers import problem_response
from ratemill.api.keys import Keys, store_secret
from ratemill.api.limits import Limits
from ratemill.api.metrics import Metrics
from ratemill.api.middleware import Guard
from ratemill.api.openapi import described
from ratemill.api.problems import FieldError, Problem
from ratemill.api.sessions import Sessions
from ratemill.api.snapshots import Snapshots
from ratemill.api.store import STORE_FILE, Store
from ratemill.api.v1 import ROUTERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.responses import Response

    from ratemill.workspace import Workspace


@dataclass(frozen=True)
class Settings:
    """What a server may use, and what it allows."""

    memory: str = "512MB"
    """Of the database."""
    query_threads: int = 2
    readers: int = 4
    """Queries at a time."""
    query_seconds: float = 20.0
    request_threads: int = 16
    """Requests at a time."""
    requests_per_minute: int = 600
    """Of one key."""
    failures_per_minute: int = 10
    """Wrong keys from one address."""
    metrics: bool = True


@dataclass(frozen=True)
class Core:
    """What every route works with: ``request.app.state.core``."""

    workspace: Workspace
    snapshots: Snapshots
    store: Store
    keys: Keys
    sessions: Sessions
    limits: Limits
    log: AccessLog
    metrics: Metrics
    now: Callable[[], datetime]
    cursor_secret: bytes
    """Signs cursors, in every process of the store alike."""
    settings: Settings


def _clock() -> datetime:
    return datetime.now(UTC)


def create_app(
    workspace: Workspace, *, now: Callable[[], datetime] = _clock, settings: Settings | None = None
) -> FastAPI:
    """The API on a workspace; it reads what was published and writes ``state/api.sqlite`` alone.

    Args:
        workspace: the workspace.
        now: the clock: whether keys hold, and which prices are of today.
        settings: limits.

    Raises:
        UsageError: a newer version of ratemill made the store.
    """
    settings = settings or Settings()
    store = Store(workspace.state / STORE_FILE)
    limits = Limits(settings.requests_per_minute, settings.failures_per_minute)
    core = Core(
        workspace=workspace,
        snapshots=Snapshots(
            workspace.published_database,
            memory=settings.memory,
            threads=settings.query_threads,
            readers=settings.readers,
            seconds=settings.query_seconds,
        ),
        store=store,
        keys=Keys(store, now=now, limits=limits),
        sessions=Sessions(store, now=now),
        limits=limits,
        log=AccessLog(store, now=now),
        metrics=Metrics(),
        now=now,
        cursor_secret=store_secret(store, "cursors"),
        settings=settings,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = settings.request_threads
        core.log.start()
        try:
            yield
        finally:
            core.log.stop()
            core.snapshots.close()
            core.store.close()

    app = FastAPI(
        title="Ratemill Billing API",
        version=__version__,
        lifespan=lifespan,
        openapi_url=None,  # served by health.router, with what every answer has in common
        docs_url=None,  # their scripts would come from other hosts
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    app.state.core = core
    app.include_router(health.router)
    app.include_router(pages.router)
    for router in (*ROUTERS, *scaleway.ROUTERS):
        app.include_router(router)
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_wrong_arguments)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_middleware(Guard, core=core, respond=respond)
    described(app)
    return app


def respond(request: Request, problem: Problem) -> Response:
    """A problem in the words of the dialect that was asked."""
    if pages.is_page(request.url.path):
        return pages.problem_page(request, problem)
    if request.url.path.startswith(scaleway.PREFIXES):
        return scaleway.errors.response(problem, request)
    return problem_response(problem, request)


async def _on_problem(request: Request, error: Exception) -> Response:
    if not isinstance(error, Problem):
        raise error
    return respond(request, error)


async def _on_wrong_arguments(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    return respond(request, Problem.invalid(*(_field_error(one) for one in error.errors())))


_KINDS = {"missing": "missing", "extra_forbidden": "unknown"}


def _field_error(error: dict[str, Any]) -> FieldError:
    where, *path = [str(part) for part in error["loc"]]
    message = {
        "missing": "must be given",
        "extra_forbidden": "is not known; see /openapi.json",
        "json_invalid": "is no JSON",
    }.get(error["type"], error["msg"].removeprefix("Value error, "))
    return FieldError(".".join(path), where, message, _KINDS.get(error["type"], "invalid"))


async def _on_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == 400:  # noqa: PLR2004 - a body that is no text, or nested without end
        return respond(request, Problem.invalid(FieldError("body", "body", "can't be read as JSON")))
    details = {
        404: f"there is nothing at {request.url.path}; see /openapi.json",
        405: f"{request.url.path} does not take {request.method}",
    }
    slugs = {404: "no-such-path", 405: "method-not-allowed"}
    detail = details.get(error.status_code, str(error.detail))
    slug = slugs.get(error.status_code, "bad-request")
    return respond(request, Problem(error.status_code, slug, detail, headers=dict(error.headers or {})))
