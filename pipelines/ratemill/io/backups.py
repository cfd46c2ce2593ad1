"""Backups: a folder each, whole by itself, with a manifest that says what must be in it.

Files that never change (charges, issued documents, usage) are hard links to the backup before, so that a backup a day
costs little more than the database. Nothing is ever linked to the workspace itself: what spoils a file there must not
spoil its backups.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ratemill.errors import DataRefusedError, UsageError
from ratemill.io.atomic import PRIVATE_FILE, StagedFolder, make_private_folder, translate_os_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

MANIFEST = "backup.json"
_KIND = "ratemill backup"
_BLOCK = 1 << 20
_MADE_AGAIN = ("out", "published", "exports")
"""Folders of a workspace that a run makes again from the rest, or that were made to be taken away."""
_PASSING = (
    "state/lock", "state/notify.lock", "state/reading", "state/spill", "state/errors", "state/heartbeat.json",
    "state/objects.json", "state/mirror.json", "state/spark.log",
)  # fmt: skip
"""What is in ``state/`` while something is at work, saves work that can be done again, or is for the maintainers."""
_SQLITE = ("state/api.sqlite", "state/api.sqlite-wal", "state/api.sqlite-shm", "state/api.sqlite-journal")
"""Written by the Billing API, which takes no lock: the database is copied by its own means, with what its log holds."""


@dataclass(frozen=True)
class Backup:
    """One backup as it lies on disk."""

    folder: Path
    facts: dict[str, Any]
    """What its manifest says: made_at, code_version, last_act, periods, …"""
    files: dict[str, dict[str, Any]]
    """Path in the workspace → sha256, size, modified (nanoseconds)."""


def backups_in(folder: Path) -> list[Backup]:
    """Every backup in a folder, oldest first; anything else there is left alone."""
    if not folder.is_dir():
        return []
    entries = [one for one in folder.iterdir() if not one.name.startswith(".") and (one / MANIFEST).is_file()]
    return sorted((read_backup(entry) for entry in entries), key=lambda backup: str(backup.facts["made_at"]))


def read_backup(folder: Path) -> Backup:
    """The backup in ``folder``, as its manifest tells of it.

    Raises:
        UsageError: there is none.
        DataRefusedError: its manifest can't be read.
    """
    if not (folder / MANIFEST).is_file():
        raise UsageError(f"{folder} is no backup: it has no {MANIFEST} → name the folder that ratemill backup made")
    try:
        facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = facts.pop("files")
        whole = facts["kind"] == _KIND and all(map(_is_entry, files, files.values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise DataRefusedError(
            f"{folder / MANIFEST} is damaged: it is no list of a backup's files → use another backup"
        )
    return Backup(folder, facts, files)


def _is_entry(name: str, entry: dict[str, Any]) -> bool:
    """Whether a manifest's line is one of ours; a name that leads out of the folder is not."""
    inside = PurePosixPath(name)
    return {"sha256", "size", "modified"} <= entry.keys() and not inside.is_absolute() and ".." not in inside.parts


def files_to_keep(root: Path, usage: Iterable[Path], *, with_usage: bool) -> Iterator[tuple[str, Path]]:
    """Path in the workspace and place of every file that can't be made again, linked folders followed.

    ``usage``: usage files inside the workspace; left out unless ``with_usage``.
    """
    left_out = set() if with_usage else set(usage)
    for parent, folders, names in os.walk(root, followlinks=True):
        base = root.__class__(parent)
        inside = base.relative_to(root)
        folders[:] = sorted(name for name in folders if _is_kept(inside / name))
        for name in sorted(names):
            path = base / name
            if _is_kept(inside / name) and path not in left_out and path.is_file():
                yield (inside / name).as_posix(), path


def _is_kept(inside: Path) -> bool:
    name = inside.as_posix()
    if inside.name.startswith(".") or name in _MADE_AGAIN:
        return False
    if name in _SQLITE[1:]:
        return False
    return not any(name == passing or name.startswith((f"{passing}/", f"{passing}.")) for passing in _PASSING)


def write_backup(
    folder: Path, files: Iterable[tuple[str, Path]], facts: Mapping[str, Any], *, former: Backup | None
) -> tuple[Backup, int]:
    """Make a backup of ``files`` at ``folder``; it appears whole, or not at all. With how many files are links.

    Args:
        folder: its place.
        files: path in the workspace and place of each.
        facts: what its manifest says besides its files.
        former: the backup before; files that are the same as there (by size and time of change) are linked to it.

    Raises:
        TemporaryError: the disk is full.
        UsageError: the folder can't be written to.
    """
    kept: dict[str, dict[str, Any]] = {}
    linked = 0
    with StagedFolder(folder) as staged:
        for name, source in files:
            target = staged / name
            make_private_folder(target.parent)
            status = source.stat()
            seen = {"size": status.st_size, "modified": status.st_mtime_ns}
            before = former.files.get(name) if former is not None and _never_changes(name) else None
            if before is not None and former is not None and seen.items() <= before.items():
                os.link(former.folder / name, target)
                kept[name] = dict(before)
                linked += 1
            else:
                digest = _copy_sqlite(source, target) if name == _SQLITE[0] else _copy(source, target)
                kept[name] = {**seen, "sha256": digest, "size": target.stat().st_size}
                os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
        manifest = {"kind": _KIND, **facts, "files": kept}
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        (staged / MANIFEST).write_text(text + "\n", encoding="utf-8")
        (staged / MANIFEST).chmod(PRIVATE_FILE)
    return Backup(folder, {"kind": _KIND, **facts}, kept), linked


def _never_changes(name: str) -> bool:
    return name.startswith(("state/charges/", "state/issued/")) or name.endswith(".parquet")


def damages(backup: Backup) -> list[str]:
    """What is not as the manifest says, one sentence each."""
    found = []
    for name, entry in sorted(backup.files.items()):
        path = backup.folder / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif path.stat().st_size != entry["size"]:
            found.append(f"{name} has {path.stat().st_size:,} bytes instead of {entry['size']:,}")
        elif _sha256(path) != entry["sha256"]:
            found.append(f"{name} was changed: its SHA-256 is another one")
    known = {*backup.files, MANIFEST}
    there = {path.relative_to(backup.folder).as_posix() for path in backup.folder.rglob("*") if path.is_file()}
    return found + [f"{name} does not belong to it" for name in sorted(there - known)]


def restore_files(backup: Backup, target: Path) -> None:
    """Put the files of a backup, which has no damages, into a folder that is new or empty.

    Raises:
        UsageError: something is there.
        TemporaryError: the disk is full; nothing is there.
    """
    with translate_os_errors(f"restoring into {target}"):
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UsageError(f"{target} is not empty → name a folder that is new, or move away what is there")
        if target.is_dir():
            target.rmdir()
    with StagedFolder(target) as staged:
        for name in backup.files:
            make_private_folder((staged / name).parent)
            _copy(backup.folder / name, staged / name)
            shutil.copystat(backup.folder / name, staged / name)


def _copy(source: Path, target: Path) -> str:
    """Copy a file; the SHA-256 of what was written."""
    digest = hashlib.sha256()
    with source.open("rb") as reading, target.open("xb") as writing:
        os.fchmod(writing.fileno(), PRIVATE_FILE)
        while block := reading.read(_BLOCK):
            digest.update(block)
            writing.write(block)
    return digest.hexdigest()


def _copy_sqlite(source: Path, target: Path) -> str:
    """The same of a SQLite database that others may be writing to: as it is after the last whole transaction."""
    with closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as reading:
        target.touch(PRIVATE_FILE)
        with closing(sqlite3.connect(target)) as writing:
            reading.backup(writing)
    return _sha256(target)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
