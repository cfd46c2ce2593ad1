"""E-mails over SMTP: one connection for all, and a verdict for each."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import TYPE_CHECKING

from ratemill.errors import UsageError
from ratemill.notify.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from ratemill.config import Notify
    from ratemill.notify.messages import Message, Text

_POLICY = SMTP.clone(max_line_length=250)
"""Longer than usual, so that a subject begins on its own line: some filters take one that does not for an empty one."""
_REFUSED = 500
"""SMTP codes from here on are final; those of 400 may pass."""


def email_of(message: Message, text: Text, sender: str, seller: str) -> EmailMessage:
    """A message as an e-mail: the same bytes however often it is made, so that receivers know it again.

    Message-ID and date are of the notification, not of the attempt.
    """
    email = EmailMessage(policy=_POLICY)
    email["From"] = _mailbox(seller, sender)
    email["To"] = message.address
    email["Subject"] = " ".join(text.subject.split())
    email["Date"] = format_datetime(max(row["queued_at"] for row in message.rows))
    email["Message-ID"] = f"<{message.message_id}@{sender.rpartition('@')[2]}>"
    email["Auto-Submitted"] = "auto-generated"
    email["Content-Language"] = message.language
    for row in message.rows:
        email["Ratemill-Key"] = row["notification_id"]
    email.set_content(text.text)
    email.add_alternative(text.html, subtype="html")
    email.set_boundary(f"=_{message.message_id[:32]}")
    return email


def _mailbox(name: str, address: str) -> str:
    plain = " ".join(name.split()).replace("\\", "").replace('"', "")
    return f'"{plain}" <{address}>' if plain else address


def send_emails(
    messages: Iterable[Message],
    texts: Mapping[str, Text],
    *,
    settings: Notify,
    seller: str,
    secrets: Mapping[str, str],
    root: Path,
) -> Iterator[Outcome]:
    """Send messages one after the other; an outcome for each, at once.

    A server that can't be reached, or goes away, is not asked again: what is left may be sent later.
    """
    down = _not_set_up(settings, secrets)
    connection: smtplib.SMTP | None = None
    try:
        for message in messages:
            if down:
                yield Outcome.later(message.message_id, down)
                continue
            email = email_of(message, texts[message.message_id], settings.sender, seller)
            try:
                connection = connection or _connect(settings, secrets, root)
                connection.send_message(email, settings.sender, [message.address])
            except smtplib.SMTPRecipientsRefused as refusal:
                code, answer = next(iter(refusal.recipients.values()))
                yield _verdict(message.message_id, code, answer)
                _reset(connection)
            except smtplib.SMTPAuthenticationError as error:
                down = f"{settings.smtp.host} does not take the password: {error.smtp_code} {_text(error.smtp_error)}"
                yield Outcome.later(message.message_id, down)
            except smtplib.SMTPResponseException as error:
                if connection is None:  # it did not even greet
                    down = f"{settings.smtp.host}: {error.smtp_code} {_text(error.smtp_error)}"
                    yield Outcome.later(message.message_id, down)
                else:
                    yield _verdict(message.message_id, error.smtp_code, error.smtp_error)
                    _reset(connection)
            except smtplib.SMTPNotSupportedError as error:
                down = f"{settings.smtp.host} can't do what [notify.smtp] asks for: {error}"
                yield Outcome.later(message.message_id, down)
            except (OSError, smtplib.SMTPException) as error:
                where = f"{settings.smtp.host}:{settings.smtp.port}"
                down = f"{where} can't be reached: {str(error) or type(error).__name__}"
                yield Outcome.later(message.message_id, down)
            else:
                yield Outcome(message.message_id, "sent")
    finally:
        _quit(connection)


def _not_set_up(settings: Notify, secrets: Mapping[str, str]) -> str:
    """Why no e-mail can be sent; empty where one can."""
    if not settings.sender:
        return "[notify] sender is not set, so e-mails have no sender"
    if not settings.smtp.host:
        return "[notify.smtp] host is not set, so there is no mail server"
    name = settings.smtp.password_env
    if settings.smtp.user and not secrets.get(name):
        named = name or "that [notify.smtp] password_env should name"
        return f"the environment variable {named} with the mail server's password is not set"
    if settings.smtp.user and settings.smtp.security == "none":
        return '[notify.smtp] security = "none" would send the password in the clear'
    return ""


def _connect(settings: Notify, secrets: Mapping[str, str], root: Path) -> smtplib.SMTP:
    smtp = settings.smtp
    timeout = float(smtp.timeout_seconds)
    trusted = None if smtp.security == "none" else _trust(settings, root)
    connection = (
        smtplib.SMTP_SSL(smtp.host, smtp.port, timeout=timeout, context=trusted)
        if smtp.security == "tls"
        else smtplib.SMTP(smtp.host, smtp.port, timeout=timeout)
    )
    try:
        if smtp.security == "starttls":
            connection.starttls(context=trusted)
        if smtp.user:
            connection.login(smtp.user, secrets[smtp.password_env])
    except BaseException:
        connection.close()
        raise
    return connection


def _trust(settings: Notify, root: Path) -> ssl.SSLContext:
    file = settings.smtp.ca_file
    try:
        return ssl.create_default_context(cafile=str(root / file) if file else None)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"[notify.smtp] ca_file = {file!r} can't be read: {error}") from None


def _verdict(message_id: str, code: int, answer: bytes | str) -> Outcome:
    told = f"{code} {_text(answer)}"
    return Outcome.failed(message_id, told) if code >= _REFUSED else Outcome.later(message_id, told)


def _text(answer: bytes | str) -> str:
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer


def _reset(connection: smtplib.SMTP | None) -> None:
    try:
        if connection is not None:
            connection.rset()
    except (OSError, smtplib.SMTPException):
        pass  # the next message finds out


def _quit(connection: smtplib.SMTP | None) -> None:
    try:
        if connection is not None:
            connection.quit()
    except (OSError, smtplib.SMTPException):
        pass  # what was taken was taken
