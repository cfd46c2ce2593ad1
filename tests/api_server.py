"""``ratemill serve`` as a process of its own, on a free port of this machine."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from workspaces import SOURCE_ROOT, run_here

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workspaces import TinyWorkspace

_SECONDS = 60


@dataclass
class Server:
    """A server that answers."""

    url: str
    process: subprocess.Popen[str]
    log: list[dict[str, Any]] = field(default_factory=list)
    """Its log so far."""

    def client(self, secret: str) -> httpx.Client:
        """A client with a key."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {secret}"}, timeout=_SECONDS)

    def stop(self) -> int:
        """Send SIGTERM; how it ended."""
        self.process.terminate()
        return self.process.wait(_SECONDS)


@contextmanager
def serving_process(shop: TinyWorkspace, *options: str) -> Iterator[Server]:
    """A server on a workspace, with ``options`` of ``ratemill serve``; it is gone when the block ends."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "ratemill",
            "serve",
            "-w",
            str(shop.root),
            "--port",
            "0",
            "--log-format",
            "json",
            *options,
        ],
        env={**os.environ, "PYTHONPATH": SOURCE_ROOT},
        stderr=subprocess.PIPE,
        text=True,
    )
    started: queue.Queue[str] = queue.Queue()
    server = Server("", process)
    reader = threading.Thread(target=_read, args=(process, server.log, started), daemon=True)
    reader.start()
    try:
        server.url = started.get(timeout=_SECONDS)
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(_SECONDS)
        reader.join(_SECONDS)
        assert process.stderr is not None
        process.stderr.close()


def _read(process: subprocess.Popen[str], log: list[dict[str, Any]], started: queue.Queue[str]) -> None:
    assert process.stderr is not None
    for text in process.stderr:
        line = json.loads(text) if text.startswith("{") else {"message": text}
        log.append(line)
        if line["message"].startswith("serving "):
            started.put(line["message"].split()[1].rstrip(","))


def new_key(shop: TinyWorkspace, *options: str) -> dict[str, Any]:
    """A key by ``ratemill keys create``, with its secret."""
    made = run_here(["keys", "create", "-w", str(shop.root), "--name", "a test's", *options, "--json"])
    assert made.code == 0, made.stderr
    return made.summary
