"""Answers of the dialect: plain JSON, numbers as numbers."""

from __future__ import annotations

import base64
from typing import Any

from starlette.responses import JSONResponse, Response


def answer(body: dict[str, Any]) -> Response:
    """A JSON object."""
    return JSONResponse(body)


def nothing() -> Response:
    """Done, and nothing to say."""
    return Response(status_code=204)


def file(name: str, content_type: str, content: bytes) -> Response:
    """A file inside a JSON object, as the dialect has it."""
    return answer({"name": name, "content_type": content_type, "content": base64.b64encode(content).decode("ascii")})
