"""For machines that run the server: alive, ready, figures; and the description of the API."""

from __future__ import annotations

import ipaddress

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from ratemill.api.metrics import CONTENT_TYPE
from ratemill.api.problems import Problem

router = APIRouter(include_in_schema=False)
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
def readyz(request: Request) -> dict[str, str]:
    """Bills are published and can be read, and keys can be proven."""
    core = request.app.state.core
    version = core.snapshots.version()
    core.store.rows("SELECT generation FROM key_changes")
    return {"status": "ready", "snapshot": version}


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Figures for Prometheus, for this machine alone: what a proxy passes on comes from somewhere else."""
    core = request.app.state.core
    if not (core.settings.metrics and _is_local(request)):
        raise Problem(404, "no-such-path", f"there is nothing at {request.url.path}; see /openapi.json")
    return Response(core.metrics.text(), media_type=CONTENT_TYPE)


@router.get("/openapi.json")
async def openapi(request: Request) -> JSONResponse:
    """The description of every path, for people and for generators of clients."""
    return JSONResponse(request.app.openapi())


def _is_local(request: Request) -> bool:
    if any(name in request.headers for name in _FORWARDED) or request.client is None:
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
