"""An object store on loopback, real to the last socket, that can be told to misbehave.

::

    with S3Server() as server:
        server.put("usage", "2026-10/a.parquet", data)
        server.misbehave("PUT", "/objects/", answers(507, "QuotaExceeded"), times=3)
        ...
    assert server.count("GET", "a.parquet") == 1
    assert server.get("billing", "manifest.json")["runs"]

It is moto's S3 behind a layer of WSGI that writes down each request, refuses other keys than :data:`KEY`, and plays
tricks. Tricks happen to requests whose method and decoded path or query fit, in the order in which they were told.
"""

from __future__ import annotations

import io
import json
import re
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

import polars as pl
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

KEY, SECRET = "AKIAMERRYCUSTOMER000", "sp4t/NeverInAnyFileOrMessage+0123456789ab"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    "AWS_EC2_METADATA_DISABLED": "true",
}

Trick = "Callable[[dict[str, Any], Callable[..., Any], App], Iterable[bytes]]"
App = "Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]"


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


@dataclass
class _Told:
    method: str
    pattern: str
    trick: Any
    times: int

    def fits(self, request: Request) -> bool:
        return (
            self.times > 0
            and request.method == self.method
            and re.search(self.pattern, f"{request.path}?{request.query}", re.DOTALL) is not None
        )


@dataclass
class S3Server:
    """The store. Use as a context manager."""

    requests: list[Request] = field(default_factory=list)
    _tricks: list[_Told] = field(default_factory=list)

    def __enter__(self) -> Self:
        # two seconds of imports, which a run of tests without a store is spared
        import boto3  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415
        from moto.moto_server import werkzeug_app as moto  # noqa: PLC0415

        class QuietHandler(_Quiet, moto.MotoRequestHandler):
            pass

        self._app = moto.DomainDispatcherApplication(moto.create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=QuietHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.client = boto3.session.Session().client(
            "s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}),
        )  # fmt: skip
        return self

    def __exit__(self, *error: object) -> None:
        self.client.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self._server.port}"

    def config(self, **storage: Any) -> dict[str, Any]:
        """``[storage]`` of a workspace that uses this store, in few and quick attempts."""
        return {"endpoint_url": self.url, "allow_http": True, "attempts": 2, "timeout_seconds": 10, **storage}

    # ------------------------------------------------------------------------------------------------- what is in it

    def make_bucket(self, name: str) -> None:
        self.client.create_bucket(Bucket=name)

    def put(self, bucket: str, key: str, content: bytes | pl.DataFrame) -> None:
        """Write an object; a frame as Parquet."""
        if isinstance(content, pl.DataFrame):
            buffer = io.BytesIO()
            content.write_parquet(buffer)
            content = buffer.getvalue()
        self.client.put_object(Bucket=bucket, Key=key, Body=content)

    def read(self, bucket: str, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return content

    def get(self, bucket: str, key: str) -> dict[str, Any]:
        """An object of JSON."""
        parsed: dict[str, Any] = json.loads(self.read(bucket, key))
        return parsed

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    # ------------------------------------------------------------------------------------------------ what came to it

    def count(self, method: str, pattern: str = "") -> int:
        """How many requests fitted since the last :meth:`forget`."""
        return len(self.matching(method, pattern))

    def matching(self, method: str, pattern: str = "") -> list[Request]:
        return [one for one in self.requests if _Told(method, pattern, None, 1).fits(one)]

    def forget(self) -> None:
        """Forget requests, and tricks that were not played."""
        self.requests.clear()
        self._tricks.clear()

    def misbehave(self, method: str, pattern: str, trick: Any, *, times: int = 1_000) -> None:
        """Play ``trick`` on the next requests that fit."""
        self._tricks.append(_Told(method, pattern, trick, times))

    def _serve(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        headers = {name[5:].replace("_", "-"): value for name, value in environ.items() if name.startswith("HTTP_")}
        request = Request(environ["REQUEST_METHOD"], _path(environ), unquote(environ["QUERY_STRING"]), headers)
        self.requests.append(request)
        for told in self._tricks:
            if told.fits(request):
                told.times -= 1
                return told.trick(environ, start, self._app)  # type: ignore[no-any-return]
        if f"Credential={KEY}/" not in headers.get("AUTHORIZATION", ""):
            return answers(403, "InvalidAccessKeyId", AWSAccessKeyId=SECRET)(environ, start, self._app)
        return self._app(environ, start)  # type: ignore[no-any-return]


def _path(environ: dict[str, Any]) -> str:
    return str(environ["PATH_INFO"]).encode("latin-1").decode("utf-8", "replace")


class _Quiet:
    def log(self, *_: object) -> None:
        pass

    def log_error(self, *_: object) -> None:
        pass


# ------------------------------------------------------------------------------------------------------------- tricks


def answers(status: int, code: str, **elements: str) -> Any:
    """Refuse, in the words of S3. Other ``elements`` are what a real store repeats of the request."""

    def trick(environ: dict[str, Any], start: Callable[..., Any], app: Any) -> Iterable[bytes]:
        _drain(environ)
        more = "".join(f"<{name}>{value}</{name}>" for name, value in elements.items())
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>No: {code}</Message>{more}</Error>".encode()
        start(f"{status} {code}", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body]

    return trick


def deletes_nothing(environ: dict[str, Any], start: Callable[..., Any], app: Any) -> Iterable[bytes]:
    """Refuse each deletion in an answer that says that all is well, as S3 does."""
    _drain(environ)
    start("200 OK", [("Content-Type", "application/xml")])
    return [b"<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code></Error></DeleteResult>"]


def _drain(environ: dict[str, Any]) -> None:
    """Read what is sent; a server that answers before, and closes, breaks the connection."""
    if "HTTP_EXPECT" not in environ:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))


def hangs_up(environ: dict[str, Any], start: Callable[..., Any], app: Any) -> Iterable[bytes]:
    """Take a part of what is sent, and close the connection."""
    environ["wsgi.input"].read(min(1_000, int(environ.get("CONTENT_LENGTH") or 0)))
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    return []


def breaks_after(size: int) -> Any:
    """Answer as always, and close the connection after ``size`` bytes of the content."""

    def trick(environ: dict[str, Any], start: Callable[..., Any], app: Any) -> Iterator[bytes]:
        content = b"".join(app(environ, start))
        yield content[:size]
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)

    return trick


def first(act: Callable[[], object]) -> Any:
    """Do something else before the answer."""

    def trick(environ: dict[str, Any], start: Callable[..., Any], app: Any) -> Iterable[bytes]:
        act()
        return app(environ, start)  # type: ignore[no-any-return]

    return trick


def hides(key: str) -> Any:
    """List as if an object were not there yet."""

    def trick(environ: dict[str, Any], start: Callable[..., Any], app: Any) -> Iterable[bytes]:
        kept: list[Any] = []
        body = b"".join(app(environ, lambda *arguments: kept.extend(arguments))).decode()
        entries = re.findall(r"<Contents>.*?</Contents>", body, re.DOTALL)
        for entry in entries:
            if f"<Key>{key}</Key>" in unquote(entry):
                body = body.replace(entry, "")
        data = body.encode()
        start(kept[0], [(name, value) for name, value in kept[1] if name.lower() != "content-length"])
        return [data]

    return trick
