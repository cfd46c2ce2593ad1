"""The copy of what was published and made, in an object store that readers elsewhere can reach.

::

    <mirror>/objects/<sha256>/<name>     files, by their content; never written twice, never changed
    <mirror>/manifests/<version>.json    which of them make up a state, by their names here; never changed
    <mirror>/manifest.json               the newest of these, written last

A reader takes ``manifest.json`` and opens what it names: files of one state, whatever is uploaded meanwhile. An upload
that was cut off leaves objects that no manifest names; the next one finds them there and goes on.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ratemill.errors import RatemillError
from ratemill.io.atomic import write_file
from ratemill.io.storage import ObjectStore
from ratemill.object_urls import ObjectUrl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from ratemill.io.storage import StoredObject
    from ratemill.workspace import Workspace

FORMAT = 1
"""Of manifests; another number where readers must read them otherwise."""
_ABANDONED = timedelta(days=1)
"""A large upload that began so long ago and did not end never will."""


@dataclass(frozen=True)
class MirroredFile:
    """A file to be copied."""

    path: Path
    name: str
    """In the manifest, such as ``published/billing.duckdb`` or ``out/2026-10/index.html``."""
    sha256: str
    size: int

    @property
    def key(self) -> str:
        """Below the mirror's folder."""
        return f"objects/{self.sha256}/{self.name.rpartition('/')[2]}"

    def entry(self) -> dict[str, Any]:
        """As the manifest has it."""
        return {"name": self.name, "key": self.key, "sha256": self.sha256, "size": self.size}


@dataclass(frozen=True)
class Mirrored:
    """What an upload came to."""

    url: str
    version: str
    files: int
    """Files of this version."""
    size: int
    """Bytes of them."""
    uploaded: int
    """Objects that were not there before."""
    collected: int
    """Objects that no manifest needs any more, and that were removed."""
    trouble: str
    """Why some of these could not be removed; empty: they could."""


# ---------------------------------------------------------------------------------------------------- on this machine


def files_to_mirror(workspace: Workspace) -> list[MirroredFile]:
    """What was published, made and issued, with its hashes, by name."""
    return [MirroredFile(path, name, _sha256(path), path.stat().st_size) for name, path in _local_files(workspace)]


def look_of(workspace: Workspace) -> str:
    """A hash of names, sizes and times of these files: it stays the same while nothing writes them."""
    digest = hashlib.sha256()
    for name, path in _local_files(workspace):
        status = path.stat()
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _local_files(workspace: Workspace) -> list[tuple[str, Path]]:
    folders = {"published": workspace.published, "out": workspace.root / "out", "issued": workspace.issued}
    found = [
        (f"{name}/{path.relative_to(folder).as_posix()}", path)
        for name, folder in folders.items()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    ]
    return sorted((name, path) for name, path in found if "/." not in name)  # hidden ones are not whole yet


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@dataclass(frozen=True)
class MirrorState:
    """``state/mirror.json``: what is known of the mirror without asking it."""

    url: str
    version: str = ""
    look: str = ""
    """See :func:`look_of`, when it was brought up to date."""
    files: int = 0
    size: int = 0
    failed: str = ""
    """Why the last attempt to bring it up to date failed; empty: it did not."""

    @classmethod
    def read(cls, workspace: Workspace) -> MirrorState:
        """What is known of the mirror that the workspace has now."""
        url = workspace.config.storage.mirror
        try:
            state = cls(**json.loads(workspace.mirrored.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return cls(url)
        return state if state.url == url else cls(url)

    def write(self, workspace: Workspace) -> None:
        """Keep it."""
        write_file(workspace.mirrored, (json.dumps(vars(self), indent=1) + "\n").encode())

    def is_behind(self, workspace: Workspace) -> bool:
        """Whether the mirror lacks what is here."""
        return not self.look or self.look != look_of(workspace)


# ------------------------------------------------------------------------------------------------------- in the store


@dataclass(frozen=True)
class Mirror:
    """The folder ``[storage] mirror`` of a store. One workspace writes to it."""

    store: ObjectStore
    folder: ObjectUrl
    keep: timedelta
    """For so long after it was replaced, a version can still be read."""

    @classmethod
    def of(cls, workspace: Workspace) -> Mirror:
        """The mirror of a workspace."""
        storage = workspace.config.storage
        return cls(ObjectStore(storage), ObjectUrl.parse(storage.mirror), timedelta(days=storage.mirror_keep_days))

    def bring_up(
        self, files: Sequence[MirroredFile], about: dict[str, Any], *, done: Callable[[], None] = lambda: None
    ) -> Mirrored:
        """Upload what is missing, then the manifest, if it is another than the last; then remove what is too old.

        Args:
            files: all of a state.
            about: what else the manifest says of it.
            done: called after each upload.

        Raises:
            UsageError, TemporaryError: something could not be uploaded; readers see the former version.
        """
        there = {found.url.key: found for found in self.store.objects(self.folder / "objects/")}
        missing = {
            self.folder / file.key: file.path for file in files if not _is_there(there, self.folder / file.key, file)
        }
        self.store.upload(((path, url) for url, path in missing.items()), done=done)
        content = {"format": FORMAT, **about, "files": [file.entry() for file in files]}
        version = self._announce(content)
        try:
            collected, trouble = self._collect(there.values(), content), ""
        except RatemillError as error:
            collected, trouble = 0, str(error)
        return Mirrored(
            str(self.folder), version, len(files), sum(file.size for file in files), len(missing), collected, trouble
        )

    def _announce(self, content: dict[str, Any]) -> str:
        """Write the manifest, if the newest says something else; its version."""
        newest = _parsed(self.store.read(self.folder / "manifest.json"))
        if {name: value for name, value in newest.items() if name not in ("version", "written_at")} == content:
            return str(newest["version"])
        now = datetime.now(UTC)
        hashed = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        version = f"{now:%Y%m%dT%H%M%SZ}-{hashed[:12]}"
        manifest = {"version": version, "written_at": now.isoformat(timespec="seconds"), **content}
        written = (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode()
        self.store.write(self.folder / f"manifests/{version}.json", written)
        self.store.write(self.folder / "manifest.json", written)
        return version

    def _collect(self, there: Iterable[StoredObject], content: dict[str, Any]) -> int:
        """Remove what no reader needs any more; how many objects that were.

        A version is needed until ``keep`` after the one that replaced it; an object, as long as one of these names it,
        and until ``keep`` after its upload, since the upload that it belongs to may not have come to its end.
        """
        past = datetime.now(UTC) - self.keep
        versions = sorted(self.store.objects(self.folder / "manifests/"), key=lambda found: found.modified)
        old = [version for version, successor in pairwise(versions) if successor.modified < past]
        self.store.abort_uploads(self.folder / "objects/", before=datetime.now(UTC) - _ABANDONED)
        if not old:  # then hardly anything can go, and the manifests need not be read
            return 0
        doomed = {found.url for found in there if found.modified < past} - self._named(content)
        for version in versions[len(old) :]:
            doomed -= self._named(_parsed(self.store.read(version.url)))
        self.store.delete([*(version.url for version in old), *sorted(doomed)])
        return len(doomed)

    def _named(self, manifest: dict[str, Any]) -> set[ObjectUrl]:
        return {self.folder / file["key"] for file in manifest.get("files", ())}


def _is_there(there: dict[str, StoredObject], url: ObjectUrl, file: MirroredFile) -> bool:
    found = there.get(url.key)
    return found is not None and found.size == file.size


def _parsed(manifest: bytes | None) -> dict[str, Any]:
    """What a manifest says; nothing where there is none, or something else."""
    try:
        parsed = json.loads(manifest or b"{}")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
