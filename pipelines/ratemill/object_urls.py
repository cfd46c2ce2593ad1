"""URLs of objects and patterns of them: ``s3://bucket/usage/2026-*/*.parquet``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_FORM = re.compile(r"s3://(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9])(?:/(?P<key>.*))?", re.DOTALL)
_WILDCARD = re.compile(r"[*?\[]")


def is_object_url(place: str) -> bool:
    """Whether ``place`` is a URL, and no path."""
    return _SCHEME.match(place) is not None


def has_wildcards(text: str) -> bool:
    """Whether a path or URL names more than one thing."""
    return _WILDCARD.search(text) is not None


@dataclass(frozen=True, order=True)
class ObjectUrl:
    """An object of a bucket, or a folder of objects. Keys are taken as they are: ``..`` and ``%2e`` mean nothing."""

    bucket: str
    key: str = ""

    @classmethod
    def parse(cls, text: str) -> ObjectUrl:
        """The URL that ``text`` is.

        Raises:
            ValueError: it is none of an object store that speaks S3.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no URL such as s3://bucket/folder/*.parquet; other stores are not supported")
        return cls(match["bucket"], match["key"] or "")

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def __truediv__(self, name: str) -> ObjectUrl:
        return ObjectUrl(self.bucket, f"{self.key.rstrip('/')}/{name}".lstrip("/"))

    def beside(self, suffix: str) -> ObjectUrl:
        """The object whose key goes on with ``suffix``."""
        return ObjectUrl(self.bucket, self.key + suffix)

    def fixed_part(self) -> str:
        """What the keys of all objects that match begin with."""
        wildcard = _WILDCARD.search(self.key)
        return self.key if wildcard is None else self.key[: wildcard.start()]

    def matches(self, key: str) -> bool:
        """Whether this pattern means ``key``: as for files, ``*`` ends at a slash, ``**`` goes through folders."""
        return _expression(self.key).fullmatch(key) is not None


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        if pattern.startswith("**/", position):
            step, meaning = 3, "(?:.*/)?"
        elif pattern.startswith("**", position):
            step, meaning = 2, ".*"
        elif (choice := _CHOICE.match(pattern, position)) is not None:
            inside = choice["inside"].replace("\\", "\\\\").replace("[", "\\[").replace("&", "\\&").replace("~", "\\~")
            step, meaning = len(choice[0]), f"[{'^/' if choice['but'] else ''}{inside}]"
        else:
            sign = pattern[position]
            step, meaning = 1, {"*": "[^/]*", "?": "[^/]"}.get(sign, re.escape(sign))
        parts.append(meaning)
        position += step
    return re.compile("".join(parts), re.DOTALL)


_CHOICE = re.compile(r"\[(?P<but>!)?(?P<inside>\]?[^\]/]*)\]")
