"""A headless browser that tests drive: Chromium, by its debugging protocol over two pipes.

::

    with Browser() as browser:
        browser.open("http://127.0.0.1:8080/")
        browser.run("document.querySelector('#key').value = 'secret'")
        browser.submit("form")
        browser.screenshot(tmp_path / "page.png")
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
_SECONDS = 60
_START = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for number, pipe in zip((3, 4), pipes):
    os.dup2(pipe, number)
os.execvp(sys.argv[3], sys.argv[3:])
"""
"""The protocol's two pipes are the file descriptors 3 and 4."""


class Browser:
    """One window."""

    def __init__(self, *, width: int = 1120, height: int = 1000) -> None:
        self._size = (width, height)
        self.console: list[str] = []
        """What pages complained of: what their policy did not allow, above all."""
        self._number = 0

    def __enter__(self) -> Self:
        self._profile = tempfile.mkdtemp(prefix="browser-")
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        root = ["--no-sandbox"] if os.geteuid() == 0 else []

        command = [
            CHROMIUM, "--headless", "--remote-debugging-pipe", "--disable-gpu", "--disable-background-networking",
            f"--user-data-dir={self._profile}", f"--window-size={self._size[0]},{self._size[1]}", *root, "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs_in), str(theirs_out), *command],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out = os.fdopen(ours_in, "rb", buffering=0), os.fdopen(ours_out, "wb", buffering=0)
        self._rest = b""
        self._session: str | None = None
        targets = self._ask("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self._ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(_SECONDS)
        self._in.close()
        self._out.close()
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, url: str) -> None:
        """Go there, and wait for the page."""
        self._loading(lambda: self._ask("Page.navigate", url=url))

    def submit(self, form: str) -> None:
        """Send a form, found by a CSS selector, as its button does."""
        self._loading(lambda: self.run(f"document.querySelector({json.dumps(form)}).requestSubmit()"))

    def download(self, link: str, folder: Path) -> Path:
        """Click a link to a file, found by a CSS selector; where the file is then."""
        self._downloaded: str | None = None
        allowed = {"behavior": "allowAndName", "downloadPath": str(folder), "eventsEnabled": True}
        self._ask("Browser.setDownloadBehavior", **allowed)
        self.run(f"document.querySelector({json.dumps(link)}).click()")
        deadline = time.monotonic() + _SECONDS
        while self._downloaded is None:
            assert time.monotonic() < deadline, "the file did not come"
            self._hear(self._read())
        return folder / self._downloaded

    def run(self, script: str) -> Any:
        """The value of a script, which may be a promise. It runs whatever the page's policy is, and fetches nothing that
        the policy forbids."""
        answer = self._ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def emulate(self, *, scheme: str = "light", media: str = "screen", width: int | None = None) -> None:
        """Look at it in the dark, on paper, or on a phone."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._ask("Emulation.setEmulatedMedia", media=media, features=features)
        size = {"width": width or self._size[0], "height": self._size[1], "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", **size)

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        data = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def cookies(self) -> list[dict[str, Any]]:
        """Those that scripts can't see included."""
        found: list[dict[str, Any]] = self._ask("Storage.getCookies")["cookies"]
        return found

    def _loading(self, act: Any) -> None:
        self._loaded = False
        act()
        deadline = time.monotonic() + _SECONDS
        while not self._loaded:
            assert time.monotonic() < deadline, "the page did not come"
            self._hear(self._read())

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._hear(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = self._in.read(1 << 20)
            assert part, "the browser is gone"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        parsed: dict[str, Any] = json.loads(message)
        return parsed

    def _hear(self, event: dict[str, Any]) -> None:
        if event.get("method") == "Page.loadEventFired":
            self._loaded = True
        elif event.get("method") == "Browser.downloadProgress" and event["params"]["state"] != "inProgress":
            assert event["params"]["state"] == "completed", event
            self._downloaded = event["params"]["guid"]
        elif event.get("method") == "Log.entryAdded":
            self.console.append(event["params"]["entry"]["text"])
