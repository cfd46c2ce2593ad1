"""Who gets notifications, for tests: a mail server and a web server on loopback, that can be told to misbehave.

::

    with MailServer() as mail, HookServer() as hooks:
        mail.answers["full@example.com"] = "452 4.2.2 mailbox full"
        hooks.answers = [500, 500, 200]
        ...
    assert mail.subjects == ["…"]
    assert hooks.received[0].is_signed_with("secret")
"""

# ruff: noqa: ARG002 - aiosmtpd calls its hooks with all it has
from __future__ import annotations

import hashlib
import hmac
import json
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import EmailMessage
    from pathlib import Path

USER, PASSWORD = "billing", "right password"


def free_port() -> int:
    """A port of loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


class MailServer:
    """An SMTP server that keeps what it takes."""

    def __init__(self, *, port: int | None = None, files: tuple[Path, Path] | None = None, tls: bool = False) -> None:
        """``files``: certificate and key, for STARTTLS or, with ``tls``, for TLS from the first byte."""
        self.port = port or free_port()
        self.taken: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.answers: dict[str, str] = {}
        """What a recipient is answered in place of 250."""
        self.data_answer = "250 OK"
        self.before_greeting: Callable[[str], None] | None = None
        """Called when a client says hello, before it is answered."""
        self.before_answer: Callable[[str], None] | None = None
        """Called when a message was taken, before its sender is told so."""
        self.logins: list[bool] = []
        context = None
        if files is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*files)
        self._options: dict[str, Any] = {"hostname": "127.0.0.1", "port": self.port, "decode_data": False}
        if context is not None and tls:
            self._options["ssl_context"] = context
        elif context is not None:
            self._options |= {"tls_context": context, "require_starttls": True}
        if files is not None:
            self._options |= {"authenticator": self._login, "auth_require_tls": not tls}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, for the first time or again, on the same port."""
        self._controller = Controller(self, **self._options)
        self._controller.start()

    def stop(self) -> None:
        """Be down: connections are refused."""
        self._controller.stop()

    def _login(self, server, session, envelope, mechanism, data) -> AuthResult:
        is_right = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        self.logins.append(is_right)
        return AuthResult(success=is_right, handled=False)

    async def handle_EHLO(self, server, session, envelope, hostname, responses) -> list[str]:  # noqa: N802
        if self.before_greeting is not None:
            self.before_greeting(hostname)
        session.host_name = hostname
        return list(responses)

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options) -> str:  # noqa: N802
        if address in self.answers:
            return self.answers[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope) -> str:  # noqa: N802
        if self.data_answer.startswith("250"):
            self.taken.append(message_from_bytes(envelope.content, policy=default))
            self.recipients.extend(envelope.rcpt_tos)
            if self.before_answer is not None:
                self.before_answer(envelope.rcpt_tos[0])
        return self.data_answer

    @property
    def subjects(self) -> list[str]:
        """Subjects in the order in which they came."""
        return [str(email["Subject"]) for email in self.taken]

    @property
    def keys(self) -> list[tuple[str, str]]:
        """(recipient, notification) of everything that came."""
        return [(to, key) for to, mail in zip(self.recipients, self.taken, strict=True)
                for key in mail.get_all("Ratemill-Key", [])]  # fmt: skip


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes
    answer: int | str = 200
    """What its sender was answered."""
    at: float = field(default_factory=time.time)

    @property
    def json(self) -> dict[str, Any]:
        """Its body."""
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    def is_signed_with(self, secret: str) -> bool:
        """What a receiver has to check, written as its programmer would."""
        parts = dict(part.split("=", 1) for part in self.headers["ratemill-signature"].split(","))
        expected = hmac.new(secret.encode(), parts["t"].encode() + b"." + self.body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected, parts["v1"]) and abs(self.at - int(parts["t"])) < 300


@dataclass
class HookServer:
    """A web server: ``answers`` one after the other, the last one for ever. A text is what it does instead."""

    answers: list[int | str] = field(default_factory=lambda: [200])
    received: list[Received] = field(default_factory=list)

    def __enter__(self) -> Self:
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = hooks.answers.pop(0) if len(hooks.answers) > 1 else hooks.answers[0]
                hooks.received.append(Received(self.path, headers, body, answer))
                hooks.answer(self, answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks"
        self._stop = threading.Event()
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, answer: int | str) -> None:
        """Answer one request."""
        if answer == "hang":
            self._stop.wait(30)
        elif answer == "drip":  # a letter now and then, so that no single read takes too long
            try:
                for letter in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"z" * 10_000:
                    request.wfile.write(bytes([letter]))
                    request.wfile.flush()
                    if self._stop.wait(0.05):
                        return
            except OSError:
                return
        elif answer == "cut":
            request.connection.shutdown(socket.SHUT_RDWR)
        elif answer == "redirect":
            request.send_response(302)
            request.send_header("Location", "http://127.0.0.1:1/elsewhere")
            request.end_headers()
        else:
            request.send_response(int(answer))
            request.end_headers()
            request.wfile.write(f"you got {answer}".encode())
