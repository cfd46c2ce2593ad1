"""Usage files in object stores: found by listing, told apart by ETag, read from a copy.

Why from a copy, and not by Polars straight from the store: a file is identified by the hash of all its bytes, so all of
them are fetched anyhow; and the guards against hostile files look at its ends, its footer and its pages with two
readers, one of which can't reach a store without an extension from the internet. A copy is deleted as soon as it is
read, and there are never more of them than reader processes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from ratemill.config import Storage
from ratemill.errors import TemporaryError
from ratemill.io.atomic import make_private_folder, translate_os_errors, write_file
from ratemill.io.storage import ObjectChangedError, ObjectStore, StoredObject
from ratemill.io.usage_files import MANIFEST_SUFFIX, UsageFile, find_usage_files
from ratemill.object_urls import ObjectUrl, has_wildcards, is_object_url

if TYPE_CHECKING:
    from pathlib import Path

    from ratemill.workspace import Workspace

_VERSIONS = 3
"""Versions of an object that are tried, where each is replaced while it is read."""


@dataclass(frozen=True)
class UsageObject:
    """A usage file in a store, as a listing shows it."""

    store: ObjectStore
    found: StoredObject
    manifest: StoredObject | None
    """What its supplier says of it, if that lies beside it."""
    sha256: str = ""
    """Of its content; empty: not known before it is downloaded."""

    @property
    def name(self) -> str:
        """As messages and tables name it."""
        return str(self.found.url)

    def as_request(self) -> dict[str, Any]:
        """Ready for JSON; see :meth:`of_request`."""
        return {
            "found": _as_json(self.found),
            "manifest": _as_json(self.manifest) if self.manifest is not None else None,
            "storage": self.store.config.model_dump(mode="json"),
        }

    @classmethod
    def of_request(cls, request: dict[str, Any]) -> UsageObject:
        """What :meth:`as_request` was made of."""
        manifest = request["manifest"]
        store = ObjectStore(Storage.model_validate(request["storage"]))
        return cls(store, _of_json(request["found"]), _of_json(manifest) if manifest is not None else None)

    def fetch(self, folder: Path) -> tuple[UsageFile, StoredObject]:
        """A copy in ``folder``, and the version that it is of: the newest, where it is replaced meanwhile.

        Raises:
            UsageError, TemporaryError: it can't be read, or does not stay the same for long enough.
        """
        found: StoredObject | None = self.found
        manifest = self.manifest
        path = folder / "usage.parquet"  # never named by the key, which is whatever its supplier likes
        beside = path.with_name(path.name + MANIFEST_SUFFIX)
        with translate_os_errors(f"downloading {self.name}"):
            make_private_folder(folder)
            for _ in range(_VERSIONS):
                if found is None:
                    break
                try:
                    sha256 = self.store.download(found, path)
                    beside.unlink(missing_ok=True)
                    if manifest is not None:
                        self.store.download(manifest, beside)
                except ObjectChangedError:
                    now = {one.url: one for one in self.store.objects(self.found.url)}
                    found, manifest = now.get(self.found.url), now.get(self.found.url.beside(MANIFEST_SUFFIX))
                else:
                    return UsageFile(path, self.name, sha256), found
        raise TemporaryError(f"{self.name} was replaced or removed while it was read; nothing was changed → run again")


@dataclass
class KnownContents:
    """``state/objects.json``: the hash of the content that each object had, for as long as its ETag is the same.

    It spares downloads, and is nothing but that: lost, the objects are downloaded once more, and found unchanged.
    Use as a context manager: what was learnt is kept when the block ends, however it ends.
    """

    path: Path
    _entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    _changed: bool = False

    @classmethod
    def read(cls, path: Path) -> KnownContents:
        """What is known."""
        try:
            return cls(path, json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return cls(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._changed:
            write_file(self.path, (json.dumps(self._entries, indent=1, sort_keys=True) + "\n").encode())

    def sha256_of(self, found: StoredObject) -> str:
        """The hash of the content of an object; empty where it is not known."""
        entry = self._entries.get(str(found.url), {})
        same = (entry.get("etag"), entry.get("size")) == (found.etag, found.size)
        return str(entry["sha256"]) if same else ""

    def learn(self, found: StoredObject, sha256: str) -> None:
        """Remember the content of an object that was downloaded."""
        self._entries[str(found.url)] = {"etag": found.etag, "size": found.size, "sha256": sha256}
        self._changed = True


def find_usage(workspace: Workspace) -> list[UsageFile | UsageObject | tuple[str, str]]:
    """All that ``[usage] files`` names, files before objects, each by name; an unreadable one as (name, reason).

    Raises:
        UsageError, TemporaryError: a pattern points at what can't be listed, or none is given.
    """
    return [*find_usage_files(workspace.root, workspace.config.usage), *_find_objects(workspace)]


def _find_objects(workspace: Workspace) -> list[UsageObject | tuple[str, str]]:
    store = ObjectStore(workspace.config.storage)
    contents = KnownContents.read(workspace.object_contents)
    objects: dict[str, UsageObject] = {}
    missing: list[tuple[str, str]] = []
    for pattern in filter(is_object_url, workspace.config.usage.files):
        found = _listed(store, ObjectUrl.parse(pattern))
        objects |= {one.name: one for one in found}
        if not found and not has_wildcards(pattern):
            missing.append(
                (pattern, "is named in [usage] files and is not there → put it there, or correct [usage] files")
            )
    known = (
        UsageObject(store, one.found, one.manifest, contents.sha256_of(one.found)) for _, one in sorted(objects.items())
    )
    return [*missing, *known]


def _listed(store: ObjectStore, pattern: ObjectUrl) -> list[UsageObject]:
    """The objects that a pattern means, each with its manifest; the listing shows both."""
    matching: list[StoredObject] = []
    manifests: dict[ObjectUrl, StoredObject] = {}
    for found in store.objects(ObjectUrl(pattern.bucket, pattern.fixed_part())):
        if found.url.key.endswith(MANIFEST_SUFFIX):
            manifests[found.url] = found
        elif pattern.matches(found.url.key) and not found.url.key.endswith("/"):  # a folder, as consoles make them
            matching.append(found)
    return [UsageObject(store, one, manifests.get(one.url.beside(MANIFEST_SUFFIX))) for one in matching]


def _as_json(found: StoredObject) -> dict[str, Any]:
    return {
        "bucket": found.url.bucket,
        "key": found.url.key,
        "size": found.size,
        "etag": found.etag,
        "modified": found.modified.isoformat(),
    }


def _of_json(entry: dict[str, Any]) -> StoredObject:
    url = ObjectUrl(entry["bucket"], entry["key"])
    return StoredObject(url, entry["size"], entry["etag"], datetime.fromisoformat(entry["modified"]))
