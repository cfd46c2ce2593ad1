"""Chat services and push messages through Apprise, an extra: ``pip install 'ratemill[notify]'``."""

from __future__ import annotations

import importlib
import logging
import warnings
from typing import TYPE_CHECKING, Self

from ratemill.notify.outcomes import Outcome

if TYPE_CHECKING:
    from ratemill.notify.messages import Message, Text


def send_chat(message: Message, text: Text, url: str) -> Outcome:
    """Send a message to the service that an Apprise URL names. The URL is a secret, and so is in no error."""
    try:
        apprise = importlib.import_module("apprise")
    except ImportError:
        return Outcome.later(message.message_id, "chats need Apprise → run: pip install 'ratemill[notify]'")
    with warnings.catch_warnings(), _Heard() as heard:
        warnings.simplefilter("ignore", DeprecationWarning)  # it loads some hundred plugins; what they use is theirs
        service = apprise.Apprise()
        if not service.add(url):
            return Outcome.failed(message.message_id, f"the URL of chat {message.address!r} is none that Apprise knows")
        sent = service.notify(title=text.subject, body=text.text, body_format=apprise.NotifyFormat.TEXT)
    if sent:
        return Outcome(message.message_id, "sent")
    why = next((line for line in reversed(heard.lines) if url not in line), "")
    return Outcome.later(message.message_id, f"the chat {message.address!r} did not take it{f': {why}' if why else ''}")


class _Heard(logging.Handler):
    """What Apprise logs while it sends: it tells no other way why it failed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self._logger = logging.getLogger("apprise")

    def __enter__(self) -> Self:
        self._logger.addHandler(self)
        self._former, self._logger.propagate = self._logger.propagate, False
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._former

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(record.getMessage())
