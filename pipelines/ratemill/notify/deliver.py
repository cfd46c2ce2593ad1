"""Messages to their recipients, by the way of each; an outcome as soon as one is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratemill.notify.chat import send_chat
from ratemill.notify.mail import send_emails
from ratemill.notify.outcomes import Outcome
from ratemill.notify.webhook import Patience, post

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ratemill.config import Config
    from ratemill.notify.messages import Message, Text


def deliver(
    messages: Sequence[Message],
    texts: Mapping[str, Text],
    *,
    config: Config,
    secrets: Mapping[str, str],
    root: Path,
    patience: Patience | None = None,
) -> Iterator[Outcome]:
    """Send messages; an outcome for each. Trouble with one recipient is nobody else's.

    Args:
        messages: what to send.
        texts: the words of each message to people, by its identity.
        config: the workspace's.
        secrets: environment variables: passwords, secrets of signatures, URLs of chats.
        root: the workspace's folder.
        patience: of webhooks.
    """
    settings = config.notify
    by_channel = {name: [m for m in messages if m.channel == name] for name in ("email", "webhook", "chat")}
    yield from send_emails(
        by_channel["email"], texts, settings=settings, seller=config.seller.name, secrets=secrets, root=root
    )
    silent: dict[str, str] = {}
    for message in by_channel["webhook"]:
        webhook = settings.webhooks.get(message.address)
        if webhook is None:
            yield Outcome.failed(message.message_id, f"[notify.webhooks] has no {message.address!r} any more")
        elif not secrets.get(webhook.secret_env):
            yield Outcome.later(message.message_id, f"the environment variable {webhook.secret_env} is not set")
        elif message.address in silent:  # it was given its chances just now
            yield Outcome.later(message.message_id, silent[message.address])
        else:
            outcome = post(message, webhook, secrets[webhook.secret_env], patience=patience)
            if outcome.result == "later":
                silent[message.address] = outcome.error
            yield outcome
    for message in by_channel["chat"]:
        variable = settings.chats.get(message.address)
        if variable is None:
            yield Outcome.failed(message.message_id, f"[notify.chats] has no {message.address!r} any more")
        elif not secrets.get(variable):
            yield Outcome.later(message.message_id, f"the environment variable {variable} is not set")
        else:
            yield send_chat(message, texts[message.message_id], secrets[variable])
