"""Pages of lists: an opaque cursor says where the next one begins, and is good for that list and state alone.

A cursor carries the version of the published state, a fingerprint of the list (path, filters, key) and a position, and
is signed, so that none can be made up. After a publish it is refused (410): the rest of a list from another state would
repeat rows or miss some. Who reads a list begins again, which takes a second; nothing is told wrong.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from ratemill.api.access import Asking
from ratemill.api.answers import Reading
from ratemill.api.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratemill.api.access import Principal
    from ratemill.api.snapshots import Snapshot

DEFAULT_PAGE, MOST_PER_PAGE = 100, 1000
_TAG_BYTES = 16
_NOT_OF_THE_LIST = ("cursor", "page_size")


class Asked(BaseModel):
    """Query parameters of a list; unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    page_size: int = Field(default=DEFAULT_PAGE, ge=1, le=MOST_PER_PAGE)
    """Rows of an answer at most."""
    cursor: str | None = Field(default=None, max_length=2048, min_length=1)
    """`next_cursor` of the answer before; with the same other parameters."""


@dataclass(frozen=True)
class Pages:
    """One list, as one key asks for it of one state."""

    secret: bytes
    version: str
    fingerprint: str

    def position(self, cursor: str | None) -> Any:
        """Where a page begins; None: at the beginning.

        Raises:
            Problem: it is no cursor of this list (422), or of a state that is no longer published (410).
        """
        if cursor is None:
            return None
        try:
            data = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError):
            data = b""
        tag, content = data[:_TAG_BYTES], data[_TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(content)):
            raise Problem.wrong_query("cursor", "is no `next_cursor` of this list with these parameters and this key")
        version, position = json.loads(content)
        if version != self.version:
            raise Problem(
                410, "cursor-expired", "bills were published anew since this list was begun; begin it again without"
                " cursor",
            )  # fmt: skip
        return position

    def cursor(self, position: Any) -> str:
        """The cursor of a page that begins at a position."""
        content = json.dumps([self.version, position], separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._tag(content) + content).decode().rstrip("=")

    def _tag(self, content: bytes) -> bytes:
        return hmac.new(self.secret, self.fingerprint.encode() + content, hashlib.sha256).digest()[:_TAG_BYTES]

    def offset(self, cursor: str | None) -> int:
        """The same of lists whose positions are numbers of rows."""
        return int(self.position(cursor) or 0)

    def cut(self, rows: Sequence[dict[str, Any]], asked: Asked) -> tuple[list[dict[str, Any]], str | None]:
        """A page and the cursor of the next one, of rows that were asked for with one more than the page has."""
        page = list(rows[: asked.page_size])
        more = len(rows) > asked.page_size
        return page, self.cursor(self.offset(asked.cursor) + asked.page_size) if more else None

    def limits(self, asked: Asked) -> dict[str, int]:
        """``$limit`` and ``$offset`` of the query behind :meth:`cut`."""
        return {"limit": asked.page_size + 1, "offset": self.offset(asked.cursor)}


def pages_of(secret: bytes, snapshot: Snapshot, principal: Principal, list_name: str) -> Pages:
    """The pages of a list; ``list_name`` holds all that decides what is on it."""
    fingerprint = hashlib.sha256(f"{principal.key_id}\n{list_name}".encode()).hexdigest()
    return Pages(secret, snapshot.version, fingerprint)


async def _asked_list(request: Request, principal: Asking, snapshot: Reading) -> Pages:
    given = sorted((name, value) for name, value in request.query_params.multi_items() if name not in _NOT_OF_THE_LIST)
    return pages_of(request.app.state.core.cursor_secret, snapshot, principal, f"{request.url.path}\n{given}")


Paging = Annotated[Pages, Depends(_asked_list)]
"""``pages: Paging`` in a route of a list."""
