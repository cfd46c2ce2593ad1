"""What watches over a template while it runs.

The sandbox of :mod:`ratemill.documents.environment` keeps a template from what is none of its business. It doesn't keep
it from never ending, or from writing without end. Where a workspace has templates of its own, documents are made in
processes with limits (:mod:`ratemill.io.document_pool`), and the guard is what template code and those limits know of
each other.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class LimitError(Exception):
    """A template went over a limit; ``str()`` says which, without the template's name."""


@dataclass
class _DataLimit:
    """How much writable memory this process may have, besides what libraries reserve and never touch.

    The system counts both alike. Whatever it does not do, the process that started this one looks after as well.
    """

    _allowed: int | None = None
    _reserved: int = 250_000_000
    """At first: stacks of threads, and what allocators keep in hand; with the shipped templates 215 MB."""

    def allow(self, size: int) -> None:
        """Allow so many bytes from now on."""
        self._allowed = size
        self._set()

    def reserve(self, size: int) -> None:
        """A library is about to reserve so many bytes, once."""
        self._reserved += size
        self._set()

    def _set(self) -> None:
        if self._allowed is not None:
            _, most = resource.getrlimit(resource.RLIMIT_DATA)
            wanted = self._allowed + self._reserved
            with suppress(ValueError, OSError):  # a system without it
                resource.setrlimit(
                    resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most)
                )


DATA_LIMIT = _DataLimit()
"""Of this process."""


class Guard:
    """The limits of the document under way; by itself there are none."""

    def __init__(self, announce: Callable[[str], None] | None = None) -> None:
        """``announce`` is told each template before it runs, so that somebody knows should the process end in it."""
        self.current = ""
        """The template that runs, or ran last."""
        self.max_characters: int | None = None
        """How long a page may become, and how many bytes a PDF may have."""
        self.is_limited = announce is not None
        self._announce = announce

    def begin(self, template: str) -> None:
        """``template`` runs from now on."""
        self.current = template
        if self._announce is not None:
            self._announce(template)

    def collect(self, chunks: Generator[str, None, None]) -> str:
        """The whole text of what a template generates.

        Raises:
            LimitError: it is too long; raised where the template is, so that its line is in the traceback.
        """
        parts: list[str] = []
        length = 0
        for chunk in chunks:
            parts.append(chunk)
            length += len(chunk)
            if self.max_characters is not None and length > self.max_characters:
                chunks.throw(self._too_long("characters"))
        return "".join(parts)

    def check_size(self, content: bytes) -> bytes:
        """``content``, if it is not too long.

        Raises:
            LimitError: it is.
        """
        if self.max_characters is not None and len(content) > self.max_characters:
            raise self._too_long("bytes")
        return content

    def _too_long(self, unit: str) -> LimitError:
        return LimitError(f"it writes more than {self.max_characters:,} {unit} → look for a loop that has no end")


def out_of_time(seconds: float) -> NoReturn:
    """Raise what a template is told that computes for too long.

    Raises:
        LimitError: always.
    """
    raise LimitError(too_slow(seconds))


def too_slow(seconds: float) -> str:
    """The message for a template that computes for too long."""
    return f"it was stopped after {seconds:,.0f} s of computing → look for a loop that has no end"


def too_large(memory_bytes: int) -> str:
    """The message for a template that takes too much memory."""
    return f"it needs more than {memory_bytes / 1e6:,.0f} MB of memory → look for a text or list that grows and grows"
