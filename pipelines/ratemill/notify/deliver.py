"""Messages to their recipients, by the way of each; an outcome as soon as one is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from ratemill.config import Webhook
from ratemill.identifiers import is_phone_number, is_url
from ratemill.notify.chat import send_chat
from ratemill.notify.mail import send_emails
from ratemill.notify.outcomes import Outcome
from ratemill.notify.webhook import Patience, post

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ratemill.config import Config, Notify
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
        ours = settings.webhooks.get(message.address)
        webhook = ours or _of_customer(message.address, settings)
        if webhook is None:
            why = "customers_webhooks allows no" if is_url(message.address) else "webhooks has no"
            yield Outcome.failed(message.message_id, f"[notify] {why} {message.address!r} any more")
        elif ours is not None and not secrets.get(ours.secret_env):
            yield Outcome.later(message.message_id, f"the environment variable {webhook.secret_env} is not set")
        elif message.address in silent:  # it was given its chances just now
            yield Outcome.later(message.message_id, silent[message.address])
        else:
            outcome = post(message, webhook, secrets.get(webhook.secret_env, ""), patience=patience)
            if outcome.result == "later":
                silent[message.address] = outcome.error
            yield outcome
    for message in by_channel["chat"]:
        by_number = is_phone_number(message.address)
        variable = settings.sms_env if by_number else settings.chats.get(message.address)
        if not variable:
            where = "sms_env is not set, for" if by_number else "chats has no"
            yield Outcome.failed(message.message_id, f"[notify] {where} {message.address!r} any more")
        elif not secrets.get(variable):
            yield Outcome.later(message.message_id, f"the environment variable {variable} is not set")
        else:
            url = secrets[variable].replace("{number}", message.address.lstrip("+")) if by_number else secrets[variable]
            yield send_chat(message, texts[message.message_id], url)


def _of_customer(address: str, settings: Notify) -> Webhook | None:
    """The webhook of a URL that a customer gave: none where it may not be told. Its messages are not signed."""
    if not is_url(address) or settings.customers_webhooks == "off":
        return None
    try:
        return Webhook(url=address, secret_env="", allow_private=settings.customers_webhooks == "any")
    except ValidationError:
        return None
