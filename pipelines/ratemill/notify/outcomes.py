"""How an attempt to send a message went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LONGEST_ERROR = 500


@dataclass(frozen=True)
class Outcome:
    """What became of one message."""

    message_id: str
    result: Literal["sent", "later", "failed"]
    """sent: the other side took it; later: it may work another time; failed: it was refused for good."""
    error: str = ""
    """Why not, in one line."""

    @classmethod
    def later(cls, message_id: str, error: str) -> Outcome:
        """It may work another time."""
        return cls(message_id, "later", one_line(error))

    @classmethod
    def failed(cls, message_id: str, error: str) -> Outcome:
        """It was refused for good."""
        return cls(message_id, "failed", one_line(error))


def one_line(text: str) -> str:
    """A message of somebody else's system, short and without line breaks."""
    joined = " ".join(text.split())
    return joined if len(joined) <= LONGEST_ERROR else f"{joined[:LONGEST_ERROR]}…"
