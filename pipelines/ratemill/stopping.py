"""Signals that ask a command to stop: exceptions where it is, remembered until it ends."""

from __future__ import annotations

import signal
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


class Signalled(SystemExit):
    """Raised where the process was when SIGTERM or SIGHUP came, so that every ``finally`` runs."""


class Signals:
    """Turns signals into exceptions, and remembers them: libraries may swallow or rename what is raised in them."""

    def __init__(self) -> None:
        self.received: int | None = None

    def install(self) -> None:
        """Be what receives the signals of this process."""
        _installed.set(self)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a shell's background job
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.received is not None:
            return  # already stopping; a second signal must not cut the clean-up short
        self.received = number
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Signalled(128 + number)


_installed: ContextVar[Signals | None] = ContextVar("installed", default=None)


def is_stopping() -> bool:
    """Whether this command was asked to stop: whatever error it meets from then on may be of that alone."""
    signals = _installed.get()
    return signals is not None and signals.received is not None
