"""Object stores that speak S3: the only code that talks to one.

Everything goes through boto3, an extra: ``pip install 'ratemill[s3]'``. It finds credentials as AWS's own tools do
(environment, profile, web identity, the machine's role), tries again what may pass, and cuts large uploads into parts.
What it raises is told here with bucket, operation and cure. Words of the server are left out: they may repeat what
was signed.

A store is a value that can be handed to other processes: connections are made where they are used.
"""

from __future__ import annotations

import hashlib
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from ratemill.errors import TemporaryError, UsageError
from ratemill.object_urls import ObjectUrl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from ratemill.config import Storage

_CHUNK = 1 << 20
_CONNECTIONS = 10
_DELETED_AT_ONCE = 1000
_READ, _WRITE, _DELETE = "s3:GetObject", "s3:PutObject", "s3:DeleteObject"


class ObjectChangedError(Exception):
    """An object is not there any more, or is another one than was listed."""


@dataclass(frozen=True)
class StoredObject:
    """An object as a listing shows it."""

    url: ObjectUrl
    size: int
    etag: str
    """Another one for other content; no hash of it that could be relied upon."""
    modified: datetime


@dataclass(frozen=True)
class ObjectStore:
    """The store that ``[storage]`` describes."""

    config: Storage

    def objects(self, beginning: ObjectUrl) -> Iterator[StoredObject]:
        """Every object whose URL begins so, by key.

        Raises:
            UsageError, TemporaryError: the bucket can't be listed.
        """
        with _told("listing", beginning, "s3:ListBucket", self.config):
            paginator = _client(self.config).get_paginator("list_objects_v2")
            for page in paginator.paginate(Bucket=beginning.bucket, Prefix=beginning.key):
                for entry in page.get("Contents", ()):
                    url = ObjectUrl(beginning.bucket, entry["Key"])
                    yield StoredObject(url, entry["Size"], entry["ETag"].strip('"'), entry["LastModified"])

    def read(self, url: ObjectUrl) -> bytes | None:
        """The content of a small object; None where there is none.

        Raises:
            UsageError, TemporaryError: it can't be read.
        """
        try:
            with _told("reading", url, _READ, self.config):
                content: bytes = _client(self.config).get_object(Bucket=url.bucket, Key=url.key)["Body"].read()
                return content
        except ObjectChangedError:
            return None

    def download(self, found: StoredObject, path: Path) -> str:
        """Write the object to a file; the SHA-256 of what was written.

        All of it is of the version that was listed. A connection that breaks is taken up where it broke.

        Raises:
            ObjectChangedError: there is another version by now, or none.
            UsageError, TemporaryError: it can't be read.
        """
        digest = hashlib.sha256()
        with path.open("wb") as file, _told("reading", found.url, _READ, self.config):
            for chunk in self._chunks(found):
                file.write(chunk)
                digest.update(chunk)
            if file.tell() != found.size:
                raise ObjectChangedError(str(found.url))
        return digest.hexdigest()

    def _chunks(self, found: StoredObject) -> Iterator[bytes]:
        client = _client(self.config)
        from botocore.exceptions import HTTPClientError, IncompleteReadError  # noqa: PLC0415 - an extra

        done = 0
        for attempt in range(1, self.config.attempts + 1):
            rest = {"Range": f"bytes={done}-"} if done else {}
            answer = client.get_object(Bucket=found.url.bucket, Key=found.url.key, IfMatch=f'"{found.etag}"', **rest)
            try:
                for chunk in answer["Body"].iter_chunks(_CHUNK):
                    done += len(chunk)
                    yield chunk
            except (HTTPClientError, IncompleteReadError):
                if attempt == self.config.attempts:
                    raise
            else:
                return

    def write(self, url: ObjectUrl, content: bytes) -> None:
        """Write a small object: readers see what was there before, or all of it.

        Raises:
            UsageError, TemporaryError: it can't be written.
        """
        with _told("writing", url, _WRITE, self.config):
            _client(self.config).put_object(Bucket=url.bucket, Key=url.key, Body=content)

    def upload(self, files: Iterable[tuple[Path, ObjectUrl]], *, done: Callable[[], None] = lambda: None) -> None:
        """Write files as objects, several at a time; each appears whole or not at all.

        ``done`` is called after each of them, in order.

        Raises:
            UsageError, TemporaryError: one could not be written. Those before it are there, its parts are not.
        """
        client = _client(self.config)
        from s3transfer.manager import TransferConfig, TransferManager  # noqa: PLC0415 - an extra

        under_way: deque[tuple[ObjectUrl, Any]] = deque()

        def finish() -> None:
            url, written = under_way.popleft()
            with _told("writing", url, _WRITE, self.config):
                written.result()
            done()

        with TransferManager(client, TransferConfig(max_request_concurrency=_CONNECTIONS)) as manager:
            for path, url in files:
                if len(under_way) == 2 * _CONNECTIONS:  # no more: the first failure ends it all
                    finish()
                under_way.append((url, manager.upload(str(path), url.bucket, url.key)))
            while under_way:
                finish()

    def delete(self, urls: Sequence[ObjectUrl]) -> None:
        """Delete objects of one bucket; one that is not there is no error.

        Raises:
            UsageError, TemporaryError: one of them can't be deleted.
        """
        for first in range(0, len(urls), _DELETED_AT_ONCE):
            part = urls[first : first + _DELETED_AT_ONCE]
            doomed = {"Objects": [{"Key": url.key} for url in part], "Quiet": True}
            with _told("deleting", part[0], _DELETE, self.config):
                answer = _client(self.config).delete_objects(Bucket=part[0].bucket, Delete=doomed)
            for refused in answer.get("Errors", ()):
                url = ObjectUrl(part[0].bucket, refused.get("Key", ""))
                raise _of_answer({"Error": refused}, f"deleting {url}", _DELETE)

    def abort_uploads(self, folder: ObjectUrl, *, before: datetime) -> int:
        """Throw away the parts of large uploads that killed processes began before that instant; how many.

        Raises:
            UsageError, TemporaryError: they can't be listed or thrown away.
        """
        aborted = 0
        with _told("clearing", folder, "s3:ListBucketMultipartUploads and s3:AbortMultipartUpload", self.config):
            client = _client(self.config)
            pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=folder.bucket, Prefix=folder.key)
            for page in pages:
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"] < before:
                        client.abort_multipart_upload(
                            Bucket=folder.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
                        aborted += 1
        return aborted


@cache
def _client(config: Storage) -> Any:
    """One per process and configuration: a client holds connections, and threads may share it."""
    try:
        import boto3  # noqa: PLC0415 - an extra, and 0.3 seconds
        from botocore.config import Config  # noqa: PLC0415
    except ModuleNotFoundError:
        raise UsageError("s3:// URLs need boto3 → install it: pip install 'ratemill[s3]'") from None
    try:
        return boto3.session.Session().client(
            "s3",
            endpoint_url=config.endpoint_url or None,
            region_name=config.region or None,
            config=Config(
                connect_timeout=config.timeout_seconds,
                read_timeout=config.timeout_seconds,
                retries={"mode": "standard", "total_max_attempts": config.attempts},
                max_pool_connections=_CONNECTIONS,
                s3={"addressing_style": config.addressing},
            ),
        )
    except ValueError:
        raise UsageError(f"{config.endpoint_url} is no endpoint → correct [storage] endpoint_url") from None


# --------------------------------------------------------------------------------------------------------------- errors

_ENVIRONMENT = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of this machine"
_CREDENTIALS_WRONG = ("the store does not accept these credentials", f"correct {_ENVIRONMENT}")
_CREDENTIALS_OLD = ("the credentials have expired", f"renew them: {_ENVIRONMENT}")
_OTHER_REGION = ("the bucket is in another region", "set [storage] region in ratemill.toml")
_DENIED = ("access denied", "allow {action} to these credentials")
_TOO_LARGE = ("the store takes no object as large as this", "raise its limit")
_REFUSALS = {
    "NoSuchBucket": ("there is no such bucket", "make it, or correct the URL in ratemill.toml"),
    "InvalidBucketName": ("the store takes this for no name of a bucket", "correct the URL in ratemill.toml"),
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "403": _DENIED,
    "InvalidAccessKeyId": _CREDENTIALS_WRONG,
    "SignatureDoesNotMatch": _CREDENTIALS_WRONG,
    "InvalidToken": _CREDENTIALS_WRONG,
    "ExpiredToken": _CREDENTIALS_OLD,
    "TokenRefreshRequired": _CREDENTIALS_OLD,
    "PermanentRedirect": _OTHER_REGION,
    "301": _OTHER_REGION,
    "AuthorizationHeaderMalformed": _OTHER_REGION,
    "IllegalLocationConstraintException": _OTHER_REGION,
    "RequestTimeTooSkewed": ("the clock of this machine differs too much from the store's", "set it"),
    "EntityTooLarge": _TOO_LARGE,
    "413": _TOO_LARGE,
    "KeyTooLongError": ("the store takes no key as long as this", "shorten the path of the URL in ratemill.toml"),
    "NotImplemented": ("the store does not know this operation", "use a store that speaks S3"),
}
"""Code → what is wrong and how to mend it: trying again changes nothing."""
_GONE = {"NoSuchKey", "404", "PreconditionFailed", "412"}
_FULL = {
    "QuotaExceeded", "InsufficientCapacity", "InsufficientStorage", "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded", "ServiceQuotaExceededException",
}  # fmt: skip
_MAY_PASS = {"SlowDown", "RequestTimeout", "TooManyRequests", "Throttling", "OperationAborted"}
_MAY_PASS_STATUS = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}

_NO_CREDENTIALS = (UsageError, "there are no credentials, or only a part of them", f"set {_ENVIRONMENT}")
_NO_CONNECTION = (
    TemporaryError,
    "no connection to {where}, or it broke",
    "check the network, and [storage] endpoint_url and region; then run again",
)
_RAISED = {
    "NoCredentialsError": _NO_CREDENTIALS,
    "PartialCredentialsError": _NO_CREDENTIALS,
    "ProfileNotFound": _NO_CREDENTIALS,
    "CredentialRetrievalError": _NO_CREDENTIALS,
    "TokenRetrievalError": _NO_CREDENTIALS,
    "SSOError": _NO_CREDENTIALS,
    "LoginError": _NO_CREDENTIALS,
    "SSLError": (
        UsageError,
        "the certificate of {where} is not trusted",
        "correct [storage] endpoint_url, or name the file of its authority in AWS_CA_BUNDLE",
    ),
    "HTTPClientError": _NO_CONNECTION,
    "ConnectionError": _NO_CONNECTION,
    "IncompleteReadError": _NO_CONNECTION,
    "FlexibleChecksumError": (TemporaryError, "what arrived is not what was sent", "run again"),
    "BotoCoreError": (UsageError, "the library refuses", "correct [storage] in ratemill.toml"),
}
"""Class of the library's error, the first that fits → what it is for us, what is wrong and how to mend it."""


@contextmanager
def _told(doing: str, url: ObjectUrl, action: str, config: Storage) -> Iterator[None]:
    """Tell what the library raises while ``doing`` something with ``url``, for which ``action`` must be allowed."""
    try:
        yield
    except Exception as error:
        kinds = {kind.__name__ for kind in type(error).__mro__ if kind.__module__.startswith("botocore.")}
        if "ClientError" in kinds:
            raise _of_answer(getattr(error, "response", {}), f"{doing} {url}", action) from None
        for name, (told, reason, cure) in _RAISED.items():
            if name in kinds:
                said = f"{reason.format(where=config.endpoint_url or 'Amazon S3')} ({type(error).__name__})"
                raise told(f"{doing} {url}: {said} → {cure}") from None
        raise


def _of_answer(answer: dict[str, Any], doing: str, action: str) -> Exception:
    code = str(answer.get("Error", {}).get("Code", ""))[:60]
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    said = f"({code}, HTTP {status})"
    if action == _READ and code in _GONE:
        return ObjectChangedError(doing)
    if code in _FULL or status == HTTPStatus.INSUFFICIENT_STORAGE:
        return TemporaryError(f"{doing}: the bucket is full {said} → make room, or raise its quota; then run again")
    if code in _REFUSALS:
        reason, cure = _REFUSALS[code]
        return UsageError(f"{doing}: {reason} {said} → {cure.format(action=action)}")
    if code in _MAY_PASS or status in _MAY_PASS_STATUS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return TemporaryError(
            f"{doing}: the store is busy or in trouble {said} → run again later; where it stays so, check [storage]"
            " endpoint_url"
        )
    return UsageError(f"{doing}: the store refuses {said} → correct [storage] or the URL in ratemill.toml")
