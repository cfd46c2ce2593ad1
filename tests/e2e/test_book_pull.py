"""`ratemill book pull scaleway` against the compatible server, and against servers that misbehave."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import pytest

from api_server import new_key, serving_process
from members import make_customers
from ratemill.api.scaleway.ids import Ids
from ratemill.errors import ExitCode
from workspaces import make_workspace, run_here

pytestmark = pytest.mark.slow

IDS = Ids.of("Example Cloud")
KESTREL = IDS.organization("kestrel")
SECRET = str(UUID(int=2))


@pytest.fixture
def shop(tmp_path):
    return make_workspace(tmp_path / "mine", usage=[])


@pytest.fixture
def credentials(monkeypatch):
    """Sets SCW_*."""

    def given(url, access_key="SCW" + "A" * 17, secret=SECRET, organization=KESTREL):
        for name, value in (
            ("API_URL", url), ("ACCESS_KEY", access_key), ("SECRET_KEY", secret),
            ("DEFAULT_ORGANIZATION_ID", organization),
        ):  # fmt: skip
            monkeypatch.setenv(f"SCW_{name}", value)

    return given


def pull(shop, *options):
    command = ["book", "pull", "scaleway", "-w", str(shop.root), "--organization", f"{KESTREL}=acme", *options]
    return run_here(command)


def test_the_compatible_server_fills_projects_and_members(tmp_path, shop, credentials):
    source = make_customers(tmp_path / "theirs", months=1, documents=False)
    assert source.run().code == ExitCode.DONE
    with serving_process(source) as server:
        key = new_key(source, "--organization", "kestrel", "--role", "billing_manager")
        credentials(server.url, key["access_key"], key["secret"])
        looked = pull(shop, "--dry-run")
        assert looked.code == ExitCode.DONE, looked.stderr
        assert "Nothing was written (--dry-run)." in looked.stdout
        assert "Quartz Works" in looked.stdout
        assert not (shop.root / "book" / "projects.csv").exists()
        done = pull(shop, "--json")
        assert done.code == ExitCode.DONE, done.stderr
        summary = done.summary
        assert summary["projects"] == {"added": 6, "changed": 0, "ended": 0}
        assert summary["files"] == ["book/projects.csv", "book/members.csv"]
        members = (shop.root / "book" / "members.csv").read_text()
        assert "cfo@kestrel.example,billing_manager,acme,,,," in members
        assert f"topaz-now,billing_reader,acme,,{IDS.project('kestrel', 'topaz')},," in members
        assert pull(shop).stdout.strip() == "The book is up to date; nothing to do."

        # Quartz is gone there, and a member as well.
        source.write_book(
            "members", [{"principal": "cfo@kestrel.example", "role": "billing_reader", "organization_id": "kestrel"}]
        )
        again = pull(shop, "--only", "members", "--json")
        assert {one["what"] for one in again.summary["changes"]} == {"ended", "added"}
        assert again.summary["members"]["added"] == 1


@contextmanager
def server_that(answer):
    """``answer(path, page)`` gives status and bytes, or hangs."""
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found = answer(self.path)
            if found is None:
                stop.wait(20)
                return
            status, body = found
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        stop.set()
        server.shutdown()
        server.server_close()


def as_json(status: int, **body: Any) -> tuple[int, bytes]:
    return status, json.dumps(body).encode()


FULL = [{"id": f"p{number}", "name": "One", "organization_id": KESTREL, "status": "active"} for number in range(100)]
BROKEN = {
    "no such key": (as_json(401, type="denied_authentication", message="no"), ExitCode.USAGE, "does not know this key"),
    "no permission": (as_json(403, type="permissions_denied", message="no"), ExitCode.USAGE, "does not let this key read"),
    "another service": (as_json(404, message="no"), ExitCode.USAGE, "check SCW_API_URL"),
    "an error of theirs": (as_json(500, message="oops"), ExitCode.TEMPORARY, "HTTP 500"),
    "a page of a proxy": ((502, b"<html>Bad gateway</html>"), ExitCode.TEMPORARY, "can't be read"),
    "cut off": ((200, b'{"projects": [{"id": "a", "na'), ExitCode.TEMPORARY, "can't be read"),
    "something else": ((200, b'["projects"]'), ExitCode.TEMPORARY, "can't be read"),
    "nothing at all": (as_json(200, projects=[], total_count=0), ExitCode.USAGE, "shows no project of organization"),
    "the same page for ever": (as_json(200, projects=FULL, total_count=10**6), ExitCode.TEMPORARY, "again and again"),
    "silence": (None, ExitCode.TEMPORARY, "within 0.5 seconds"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_server_that_fails_changes_nothing_and_is_told_in_words(shop, credentials, name):
    answer, code, words = BROKEN[name]
    shop.write_book("projects", [{"project_id": "web", "account_id": "acme", "name": "Website"}])
    before = shop.written(), (shop.root / "book" / "projects.csv").read_bytes()
    with server_that(lambda _: answer) as url:
        credentials(url)
        ended = pull(shop, "--timeout", "0.5")
    assert (ended.code, words in ended.stderr) == (code, True), ended.stderr
    assert "Traceback" not in ended.stderr
    assert SECRET not in ended.stderr
    assert (shop.written(), (shop.root / "book" / "projects.csv").read_bytes()) == before


def test_nobody_there(shop, credentials):
    with server_that(lambda _: None) as url:
        pass
    credentials(url)
    ended = pull(shop)
    assert (ended.code, "can't be reached" in ended.stderr) == (ExitCode.TEMPORARY, True), ended.stderr
