"""The server: one process with threads, or several processes behind one socket; it finishes what it began."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.supervisors import Multiprocess

from ratemill import logs
from ratemill.api.app import Settings, create_app
from ratemill.errors import UsageError
from ratemill.workspace import find_workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

    from ratemill.workspace import Workspace

LOG = logging.getLogger(__name__)
_WORKERS = "RATEMILL_API_WORKER"
"""Environment variable in which worker processes find what they serve."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Listening:
    """Where to listen, and whom to believe."""

    host: str = "127.0.0.1"
    port: int = 8080
    allow_remote: bool = False
    trusted_proxies: tuple[str, ...] = ()
    """Addresses whose X-Forwarded-For and X-Forwarded-Proto count; none: nobody's."""
    workers: int = 1
    grace_seconds: int = 30
    """How long requests under way may take once the server is told to stop."""


def serve(
    workspace: Workspace, listening: Listening, settings: Settings, *, log_format: logs.LogFormat, quiet: bool
) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are answered first.

    Raises:
        UsageError: the address can't be listened on, or is open to other machines without being meant to be.
    """
    if not listening.allow_remote and not _is_loopback(listening.host):
        raise UsageError(
            f"--host {listening.host} lets other machines in, without encryption → listen on 127.0.0.1 and put a proxy"
            " with TLS before it (docs/api.md); or add --allow-remote where the network is trusted"
        )
    with _bound(listening) as listener:
        config = uvicorn.Config(
            create_app(workspace, settings=settings) if listening.workers == 1 else f"{__name__}:worker",
            factory=listening.workers > 1,
            workers=listening.workers,
            log_config=None,
            access_log=False,  # ours says who asked
            server_header=False,
            proxy_headers=bool(listening.trusted_proxies),
            forwarded_allow_ips=list(listening.trusted_proxies),
            timeout_graceful_shutdown=listening.grace_seconds,
            limit_concurrency=1000,
        )
        host, port = listener.getsockname()[:2]
        _log_with_ours()
        shown = f"[{host}]" if ":" in host else host
        LOG.info("serving http://%s:%d, stop with Ctrl-C or SIGTERM", shown, port)
        if listening.workers == 1:
            _Server(config).run([listener])
        else:
            facts = {"root": str(workspace.root), "settings": asdict(settings), "log": log_format, "quiet": quiet}
            os.environ[_WORKERS] = json.dumps(facts)
            Multiprocess(config, sockets=[listener]).run()
    LOG.info("stopped; every request that had begun was answered")


def worker() -> FastAPI:
    """The application of a worker process."""
    facts = json.loads(os.environ[_WORKERS])
    logs.configure(facts["log"], level=logging.WARNING if facts["quiet"] else logging.INFO)
    _log_with_ours()
    return create_app(find_workspace(Path(facts["root"])), settings=Settings(**facts["settings"]))


class _Server(uvicorn.Server):
    """Ends when it is told to, and leaves it at that: uvicorn would send itself the signal again."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let signals end the server while it runs."""
        former = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


@contextmanager
def _bound(listening: Listening) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    try:
        listener = socket.create_server((listening.host, listening.port), family=family, backlog=1024)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(
            f"{listening.host}:{listening.port} can't be listened on: {reason} → end what uses it, or choose another"
            " --port"
        ) from None
    with listener:
        listener.set_inheritable(True)
        yield listener


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _log_with_ours() -> None:
    """What the server itself has to say goes where our lines go; that it started and stopped, we say ourselves."""
    server = logging.getLogger("uvicorn")
    server.handlers = list(logging.getLogger("ratemill").handlers)
    server.setLevel(logging.WARNING)
    server.propagate = False
