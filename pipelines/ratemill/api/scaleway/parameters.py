"""Parameters of a request, read leniently: clients of three languages and people with curl write them.

Names come in snake case and camel case, instants with a space for the T, truth as ``True``, lists as repeated keys.
Parameters that are not known are left alone: clients grow. Whatever is wrong is told at once, in one answer.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request

from ratemill.api.problems import FieldError, Problem
from ratemill.api.scaleway.errors import invalid_argument
from ratemill.api.scaleway.ids import is_uuid
from ratemill.period import BillingPeriod

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LARGEST_PAGE = 1000
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_LARGEST_NUMBER = 10**12


def _snake(name: str) -> str:
    """``pageSize`` as ``page_size``; a list may be written ``skus[]``."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name.removesuffix("[]")).lower()


class Arguments:
    """Named values of a request, each read once as what it must be; :meth:`refuse` tells what was wrong."""

    def __init__(self, given: Iterable[tuple[str, Any]]) -> None:
        self._given: dict[str, list[Any]] = {}
        for name, value in given:
            if value is None:
                continue
            values = value if isinstance(value, list) else [value]
            self._given.setdefault(_snake(name), []).extend(values)
        self.problems: list[FieldError] = []

    @classmethod
    def of_body(cls, body: bytes) -> Arguments:
        """Those of a JSON object; an empty body has none."""
        try:
            value = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise invalid_argument("body", "expected one JSON object", reason="format")
        return cls(value.items())

    def has(self, name: str) -> bool:
        """Whether it is given."""
        return name in self._given

    def wrong(self, name: str, help_message: str, *, reason: str = "constraint") -> None:
        """Remember that an argument is wrong."""
        self.problems.append(FieldError(name, "query", help_message, reason))

    def refuse(self) -> None:
        """Tell what was wrong.

        Raises:
            Problem: something was.
        """
        if self.problems:
            raise Problem.invalid(*self.problems)

    def text(self, name: str, *, required: bool = False, longest: int = 1000) -> str | None:
        """A text without control characters; an empty one is none."""
        value = self._one(name)
        if value in (None, ""):
            if required:
                self.wrong(name, "is required", reason="required")
            return None
        if not isinstance(value, str) or len(value) > longest or not value.isprintable():
            self.wrong(name, f"expected a text of at most {longest} printable characters", reason="format")
            return None
        return value

    def texts(self, name: str) -> list[str]:
        """A list of texts."""
        values = self._given.get(name, [])
        if all(isinstance(value, str) and value.isprintable() for value in values):
            return [value for value in values if value]
        self.wrong(name, "expected a list of printable texts", reason="format")
        return []

    def uuid(self, name: str, *, required: bool = False) -> str | None:
        """A UUID."""
        found = self.text(name, required=required)
        if found is not None and not is_uuid(found):
            self.wrong(name, "expected a UUID", reason="format")
            return None
        return found.lower() if found else None

    def uuids(self, name: str) -> list[str]:
        """A list of UUIDs."""
        found = self.texts(name)
        if all(map(is_uuid, found)):
            return [value.lower() for value in found]
        self.wrong(name, "expected a list of UUIDs", reason="format")
        return []

    def choice(self, name: str, options: Sequence[str], default: str) -> str:
        """One of some words."""
        found = self.text(name)
        if found is None or found in options:
            return found or default
        self.wrong(name, f"expected one of {', '.join(options)}", reason="constraint")
        return default

    def integer(self, name: str, *, least: int, most: int = _LARGEST_NUMBER) -> int | None:
        """A whole number, as one or as text."""
        value = self._one(name)
        if value is None:
            return None
        text = str(value)
        if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]{1,18}", text):
            self.wrong(name, "expected a whole number", reason="format")
            return None
        if not least <= int(text) <= most:
            self.wrong(name, f"expected a whole number from {least} to {most}")
            return None
        return int(text)

    def truth(self, name: str) -> bool | None:
        """True or false, in any spelling."""
        value = self._one(name)
        if value is None or isinstance(value, bool):
            return value
        found = _TRUTH.get(str(value).lower())
        if found is None:
            self.wrong(name, "expected true or false", reason="format")
        return found

    def instant(self, name: str) -> datetime | None:
        """An instant; without an offset it is in UTC, and a day or month is its first instant."""
        text = self.text(name)
        if text is None:
            return None
        # A plus that nobody encoded arrives as a blank: "2026-05-01T00:00:00 00:00".
        text = re.sub(r"(?<=:\d\d) (?=\d\d:?\d\d$)", "+", text.strip())
        if re.fullmatch(r"\d{4}-\d{2}", text, re.ASCII):
            text += "-01"
        try:
            found = datetime.fromisoformat(text)
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.wrong(name, "expected an instant such as 2026-10-01T00:00:00Z", reason="format")
            return None

    def period(self, name: str) -> BillingPeriod | None:
        """A billing period, YYYY-MM; an instant is taken for the month it is written in."""
        text = self.text(name)
        if text is None:
            return None
        try:
            if re.fullmatch(r"\d{4}-\d{2}", text, re.ASCII) is None:
                text = f"{datetime.fromisoformat(text):%Y-%m}"
            return BillingPeriod.parse(text)
        except ValueError:
            self.wrong(name, "expected a month, YYYY-MM", reason="format")
            return None

    def page(self) -> tuple[int, int]:
        """Offset and size of the page that is asked for; without a size, as many as a page may have.

        A larger page is refused, not cut: a client takes a short page for the last one.
        """
        page = self.integer("page", least=0) or 1
        size = self.integer("page_size", least=0, most=LARGEST_PAGE) or LARGEST_PAGE
        return (page - 1) * size, size

    def _one(self, name: str) -> Any:
        values = self._given.get(name, [])
        if len(values) > 1:
            self.wrong(name, "is given more than once", reason="format")
        return values[0] if values else None


def _in_query(request: Request) -> Arguments:
    return Arguments(request.query_params.multi_items())


async def _in_body(request: Request) -> Arguments:
    return Arguments.of_body(await request.body())


Asked = Annotated[Arguments, Depends(_in_query)]
"""``asked: Asked`` in a route: the parameters of its query."""
Written = Annotated[Arguments, Depends(_in_body)]
"""``written: Written`` in a route: the members of its body."""


def listed(rows: Sequence[Mapping[str, Any]], page: tuple[int, int], *, key: str) -> dict[str, Any]:
    """One page of rows, and how many there are in all; past the end it is empty."""
    offset, size = page
    return {key: list(rows[offset : offset + size]), "total_count": len(rows)}
