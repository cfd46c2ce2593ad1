"""Files and folders that appear whole or not at all, and disk trouble told in words.

Everything is built beside its target under a hidden name, ``.<name>.<pid>.tmp``, flushed to disk, and renamed. What a
killed run left behind is removed by the next use of the same target. Callers hold the workspace lock: two processes
never build the same target at once.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ratemill.errors import RatemillError, TemporaryError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_WRONG_KIND = frozenset({errno.ENOTDIR, errno.EISDIR, errno.EEXIST})

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def names_full_disk(text: str) -> bool:
    """Whether a library's message says that the disk is full."""
    return "No space left on device" in text or "Disk quota exceeded" in text


def from_os_error(error: OSError, doing: str) -> RatemillError | None:
    """The user's view of ``error`` while ``doing`` ("writing out/x.csv"); None when it isn't theirs to mend."""
    if error.errno in _DISK_FULL:
        return TemporaryError(f"disk full while {doing}: free space and run again; nothing was changed")
    if error.errno in _REFUSED:
        reason = os.strerror(error.errno or 0).lower()
        return UsageError(f"{doing} is not allowed: {reason} ({_path_of(error)}); check owner and mode of the folder")
    if error.errno in _WRONG_KIND:
        reason = os.strerror(error.errno or 0).lower()
        return UsageError(f"{doing} failed: {_path_of(error)}: {reason}; move what is there out of the way")
    return None


@contextmanager
def translate_os_errors(doing: str) -> Iterator[None]:
    """Turn a full disk into TemporaryError, and missing rights or a file in the way into UsageError.

    Args:
        doing: what the message says was going on, for example ``writing out/2026-10/lines.csv``.
    """
    try:
        yield
    except OSError as error:
        translated = from_os_error(error, doing)
        if translated is None:
            raise
        raise translated from error


def make_private_folder(folder: Path) -> None:
    """Create ``folder`` and its missing parents, readable by the user alone; existing folders keep their mode."""
    for missing in reversed([one for one in (folder, *folder.parents) if not one.exists()]):
        missing.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def write_file(path: Path, data: bytes, *, mode: int = PRIVATE_FILE) -> None:
    """Write ``data`` to ``path``: readers see the former content or all of the new.

    Raises:
        TemporaryError: the disk is full; the former content stands.
        UsageError: the folder can't be written to.
    """
    with staged_file(path, mode=mode) as staged:
        staged.write_bytes(data)


@contextmanager
def staged_file(path: Path, *, mode: int = PRIVATE_FILE) -> Iterator[Path]:
    """A path to build a file at; it takes the place of ``path`` when the block ends well, and vanishes otherwise.

    For files that a library writes (a database, Parquet). The library may replace the file, but must have closed it.

    Raises:
        TemporaryError, UsageError: as :func:`write_file`.
    """
    with translate_os_errors(f"writing {path}"):
        make_private_folder(path.parent)
        _clean_leftovers(path)
        staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            yield staged
            staged.chmod(mode)
            _flush(staged)
            staged.replace(path)
            _flush(path.parent)
        except BaseException:
            with suppress(OSError):
                staged.unlink(missing_ok=True)
            raise


class StagedFolder:
    """Build a folder aside and swap it into place when the block ends well.

    ::

        with StagedFolder(workspace.out(period)) as folder:
            (folder / "lines.csv").write_bytes(data)

    Readers see the whole former folder or the whole new one. Where the file system can't exchange two names in one
    step (some network file systems), there is an instant with neither; a run killed in it is repaired by the next.

    Raises:
        TemporaryError: the disk is full; the former folder stands.
        UsageError: the parent folder can't be written to.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self._staged = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        self._doing = f"writing {target}"

    def __enter__(self) -> Path:
        with translate_os_errors(self._doing):
            make_private_folder(self.target.parent)
            _clean_leftovers(self.target)
            self._staged.mkdir(mode=PRIVATE_FOLDER)
        return self._staged

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with translate_os_errors(self._doing):
                if error is None:
                    _flush_tree(self._staged)
                    _swap(self._staged, self.target)
                elif isinstance(error, OSError):
                    raise error
        finally:
            shutil.rmtree(self._staged, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Delete a folder that others take for whole while it has its name: it loses the name first."""
    doomed = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with translate_os_errors(f"removing {folder}"), suppress(FileNotFoundError):
        folder.rename(doomed)
        shutil.rmtree(doomed)


def _swap(new: Path, target: Path) -> None:
    if not target.exists():
        new.rename(target)
    elif not _exchange(new, target):
        old = target.with_name(f".{target.name}.{os.getpid()}.old")
        target.rename(old)
        new.rename(target)
        shutil.rmtree(old)
    _flush(target.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step (Linux renameat2); False where system or file system can't."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    return bool(renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)


def remove_leftovers(folder: Path, names: str = ".+") -> None:
    """Undo what killed processes left in ``folder`` beside any target whose name matches the expression ``names``.

    Only for the holder of the workspace's lock: whoever built there is dead, even where its process id lives on as
    that of another process.
    """
    if not folder.is_dir():
        return
    pattern = re.compile(rf"\.(?P<target>{names})\.\d+\.(?P<kind>tmp|old)(?P<part>\..+)?")
    for entry in sorted(folder.iterdir()):
        match = pattern.fullmatch(entry.name)
        if match is not None:
            _undo(entry, folder / match["target"], whole=match["kind"] == "old" and match["part"] is None)


def _clean_leftovers(target: Path) -> None:
    """Undo what runs that were killed left beside ``target``.

    The own process id counts as dead: in containers every run has the same one.
    """
    pattern = re.compile(rf"\.{re.escape(target.name)}\.(\d+)\.(tmp|old)(\..+)?")
    for entry in sorted(target.parent.iterdir()):
        match = pattern.fullmatch(entry.name)
        if match is None or (int(match[1]) != os.getpid() and is_alive(int(match[1]))):
            continue
        _undo(entry, target, whole=match[2] == "old" and match[3] is None)


def _undo(entry: Path, target: Path, *, whole: bool) -> None:
    """Remove a leftover; the former ``target`` as a ``whole`` comes back if nothing took its place."""
    if whole and not target.exists():
        entry.rename(target)  # killed between the two renames
    elif entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Whether a process of this machine has the id ``pid``."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # somebody else's, but alive
    return True


def _flush_tree(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            _flush(Path(parent, name))
        _flush(Path(parent))


def _flush(path: Path) -> None:
    """Make a file's content, or a folder's entries, survive a power cut."""
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _path_of(error: OSError) -> str:
    name = error.filename2 or error.filename
    return os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else "a file"
