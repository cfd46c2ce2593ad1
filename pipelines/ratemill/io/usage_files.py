"""Reading usage files: found by glob, identified by content, never trusted."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from glob import escape as glob_escape
from glob import iglob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from ratemill.errors import UsageError
from ratemill.frames import collect
from ratemill.memory import MOST_SLICE_ROWS
from ratemill.money import QUANTITY
from ratemill.object_urls import has_wildcards, is_object_url
from ratemill.resources import sql
from ratemill.usage.mapping import ColumnMapping, map_columns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratemill.config import Usage as UsageConfig

SLICE_ROWS = MOST_SLICE_ROWS
"""Rows read at a time: bounds memory whatever the file's row groups are."""
SLICE_VALUES = 16
"""Values of one column read at a time for each of these rows, where rows hold many (tags)."""
SLICE_BYTES = 512
"""Unfolded bytes read at a time for each of these rows, where rows are wide."""
SMALLEST_SLICE = 1_000
"""Slices are not made smaller than this: each costs some fixed work."""
WIDEST_ROW_BYTES = 256
"""Bytes that a row may unfold to where a file has as many rows a byte as [usage] max_rows_per_byte allows."""
MANIFEST_SUFFIX = ".manifest.json"


class FileRefusedError(Exception):
    """This file cannot be billed from; the others can. ``str()`` says why and what to do."""


@dataclass(frozen=True)
class UsageFile:
    """One file found, with what identifies it."""

    path: Path
    name: str
    """Relative to the workspace, as messages and tables name it."""
    sha256: str


@dataclass(frozen=True)
class OpenUsageFile:
    """A file whose footer was read and whose columns are usage."""

    file: UsageFile
    rows: int
    mapping: ColumnMapping
    slice_rows: int = SLICE_ROWS
    """Rows read at a time."""

    def slices(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """(number of the first row, frame) of bounded size, in file order.

        Raises:
            FileRefusedError: when the bytes turn out to be damaged.
        """
        scan = pl.scan_parquet(self.file.path, glob=False, hive_partitioning=False)
        columns = scan.select(self.mapping.file_columns)
        for offset in range(0, self.rows, self.slice_rows):
            with _damage_refused():
                frame = collect(columns.slice(offset, self.slice_rows))
            if frame.height != min(self.slice_rows, self.rows - offset):
                raise FileRefusedError("damaged Parquet: it holds fewer rows than its footer says → ask for it again")
            yield offset + 1, frame


def find_usage_files(root: Path, config: UsageConfig) -> list[UsageFile | tuple[str, str]]:
    """Every file that ``[usage] files`` names by path, by name; an unreadable one as (name, reason).

    Raises:
        UsageError: when a pattern points outside of what can be listed, or none is given.
    """
    if not config.files:
        raise UsageError('[usage] files is empty; name at least one pattern, such as "usage/*.parquet"')
    patterns = [pattern for pattern in config.files if not is_object_url(pattern)]
    matches = {path for pattern in patterns for path in _matches(root, pattern)}
    found: list[UsageFile | tuple[str, str]] = []
    for path in sorted(path for path in matches if _is_meant(path, matches)):
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
        if _readable(name) != name:
            found.append((_readable(name), "its name is not UTF-8, so nothing can refer to it → rename it"))
            continue
        try:
            reason = _why_no_file(path, name)
            if reason is not None:
                found.append((name, reason))
                continue
            with path.open("rb") as handle:
                digest = hashlib.file_digest(handle, "sha256").hexdigest()
        except OSError as error:
            found.append((name, f"cannot be read: {error.strerror} → check the file, its owner and permissions"))
        else:
            found.append(UsageFile(path, name, digest))
    return found


def _readable(name: str) -> str:
    r"""A file's name with bytes that are no UTF-8 as ``\xf6``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _matches(root: Path, pattern: str) -> set[Path]:
    """What a pattern matches, links to nowhere included; a path without wildcards matches itself, there or not."""
    if not has_wildcards(pattern):
        return {root / pattern}
    anchor = Path(pattern).anchor
    folder, relative = Path(anchor or root), pattern.removeprefix(anchor)
    _require_listable(folder, relative)
    try:
        names = iglob(relative, root_dir=folder, recursive=True, include_hidden=True)  # noqa: PTH207 - finds such links
        return {folder / name for name in names}
    except ValueError as error:
        raise UsageError(f"[usage] files: {pattern!r} is not a usable pattern: {error}") from None


def _require_listable(folder: Path, pattern: str) -> None:
    """A folder that may not be listed would look like one without files."""
    for part in Path(pattern).parts[:-1]:
        if has_wildcards(part):
            break
        folder /= part
    try:
        with os.scandir(folder) as entries:
            next(entries, None)
    except (FileNotFoundError, NotADirectoryError):
        return  # matches nothing, which is told when there is nothing to bill
    except OSError as error:
        raise UsageError(
            f"[usage] files: the folder {folder} cannot be listed: {error.strerror} → check its owner and permissions"
        ) from None


def _is_meant(path: Path, matches: set[Path]) -> bool:
    """Whether a match is to be read. Folders on the way to other matches are not; a folder named like a file is."""
    if path.name.endswith(MANIFEST_SUFFIX):
        return False
    if not path.is_dir():
        return True
    return path.suffix == ".parquet" and not any(path in other.parents for other in matches)


def _why_no_file(path: Path, name: str) -> str | None:
    """Why there is no file to read; reading a pipe or a device would never end."""
    if path.is_symlink() and not path.exists():
        return f"is a link to {path.readlink()}, which is not there → mend the link, or remove it"
    if not path.exists():
        return "is named in [usage] files and is not there → put it there, or correct [usage] files"
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        return f'is a folder and not a file → name the files in it: [usage] files = [..., "{name}/*.parquet"]'
    if not stat.S_ISREG(mode):
        return "is no regular file but a pipe, a socket or a device → remove it"
    return None


def open_usage_file(file: UsageFile, config: UsageConfig, *, most_rows: int = SLICE_ROWS) -> OpenUsageFile:
    """Check size, footer, columns and the supplier's manifest, before any data is read.

    ``most_rows``: how many rows of usual width there is memory for at a time.

    Raises:
        FileRefusedError: with every reason that can be seen from here.
    """
    with _damage_refused():
        size = file.path.stat().st_size
        _refuse_other_formats(file.path, size)
        rows, chunks = _read_footer(file.path)
        schema = pl.scan_parquet(file.path, glob=False, hive_partitioning=False).collect_schema()
    if rows > config.max_rows_per_file:
        raise FileRefusedError(
            f"{rows:,} rows are more than max_rows_per_file = {config.max_rows_per_file:,}"
            " → split the file, or raise [usage] max_rows_per_file"
        )
    if rows > size * config.max_rows_per_byte:
        raise FileRefusedError(
            f"{size:,} bytes unfold to {rows:,} rows, more than {config.max_rows_per_byte} a byte: this looks like a"
            " decompression bomb → check its origin, or raise [usage] max_rows_per_byte"
        )
    mapping = map_columns(dict(schema), config)
    if isinstance(mapping, list):
        raise FileRefusedError(
            "; ".join(f"{problem.message} → {problem.cure}" if problem.cure else problem.message for problem in mapping)
        )
    slice_rows = _slice_rows(chunks, mapping, size, config, most_rows)
    _check_manifest(file, rows, mapping)
    return OpenUsageFile(file, rows, mapping, slice_rows)


def _refuse_other_formats(path: Path, size: int) -> None:
    if size == 0:
        raise FileRefusedError("the file is empty (0 bytes) → ask its supplier for it again")
    with path.open("rb") as handle:
        first = handle.read(len(_MAGIC))
        handle.seek(max(0, size - len(_MAGIC)))
        last = handle.read()
    if first != _MAGIC:
        raise FileRefusedError(f"not a Parquet file: it begins with {first!r} → deliver usage as Parquet")
    if last != _MAGIC or size < _SMALLEST_FILE:
        raise FileRefusedError(
            "cut off: it begins as Parquet, and its end is missing → it was still being written, or was damaged on its"
            " way; deliver it again"
        )


_MAGIC = b"PAR1"
_SMALLEST_FILE = 12


def _read_footer(path: Path) -> tuple[int, pl.DataFrame]:
    """Rows of the file, and what its footer says of each chunk (see sql/raw/parquet_chunks.sql).

    By DuckDB: pyarrow ends the whole process when the statistics of a chunk are damaged.

    Raises:
        duckdb.Error: when the footer is damaged.
        ValueError: when it contradicts itself.
    """
    place = {"file": glob_escape(str(path))}
    reader = _footer_reader()
    ((rows,),) = reader.execute(sql("raw/parquet_rows"), place).fetchall()
    chunks = pl.DataFrame(
        reader.execute(sql("raw/parquet_chunks"), place).fetchall(),
        schema={"group": pl.Int64, "rows": pl.Int64, "path": pl.String, "values": pl.Int64, "bytes": pl.Int64},
        orient="row",
    )
    groups = chunks.unique("group")["rows"]
    if rows != groups.sum() or any(chunks.select((pl.col("rows", "values", "bytes") < 0).any()).row(0)):
        raise ValueError("its footer contradicts itself about the number of rows")
    return rows, chunks


@cache
def _footer_reader() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        config={"threads": 1, "autoinstall_known_extensions": False, "autoload_known_extensions": False}
    )


def _slice_rows(chunks: pl.DataFrame, mapping: ColumnMapping, size: int, config: UsageConfig, most_rows: int) -> int:
    """How many rows to read at a time, so that memory stays bounded where rows are wide or hold many values.

    A row count says nothing about what lies in a row: a million tags, all the same, take a few bytes in a file.

    Raises:
        FileRefusedError: when the columns that are read unfold too far altogether.
    """
    wanted = [(pl.col("path") == name) | pl.col("path").str.starts_with(f"{name}, ") for name in mapping.file_columns]
    read = chunks.filter(pl.any_horizontal(wanted))
    most_values = max(read.group_by("path").agg(pl.col("values").sum())["values"].to_list(), default=0)
    all_bytes = int(read["bytes"].sum())
    limit = size * config.max_rows_per_byte
    if most_values > limit or all_bytes > limit * WIDEST_ROW_BYTES:
        raise FileRefusedError(
            f"{size:,} bytes unfold to {most_values:,} values in one column and {all_bytes:,} bytes in all: this looks"
            " like a decompression bomb → check its origin, or raise [usage] max_rows_per_byte"
        )
    groups = read.lazy().group_by("group").agg(pl.col("rows").first(), pl.col("values").max(), pl.col("bytes").sum())
    fitting = collect(
        groups.select(
            pl.min_horizontal(
                pl.col("rows") * most_rows * SLICE_VALUES // pl.col("values").clip(1),
                pl.col("rows") * most_rows * SLICE_BYTES // pl.col("bytes").clip(1),
            ).min()
        )
    ).item()
    return max(SMALLEST_SLICE, min(most_rows, most_rows if fitting is None else fitting))


def _check_manifest(file: UsageFile, rows: int, mapping: ColumnMapping) -> None:
    """Compare with ``<file>.manifest.json`` (sha256, rows, quantity_total; each optional), if there is one."""
    path = file.path.with_name(file.path.name + MANIFEST_SUFFIX)
    if not path.exists():
        return
    shown = file.name.rpartition("/")[2] + MANIFEST_SUFFIX
    manifest = _read_manifest(path, shown)
    problems = []
    if "sha256" in manifest and str(manifest["sha256"]).lower() != file.sha256:
        problems.append(f"its SHA-256 is {file.sha256}, the manifest says {manifest['sha256']}")
    if "rows" in manifest and manifest["rows"] != rows:
        problems.append(f"it has {rows:,} rows, the manifest says {manifest['rows']}")
    if "quantity_total" in manifest and not problems:
        total = _quantity_total(file, mapping)
        try:
            expected = Decimal(str(manifest["quantity_total"]))
        except InvalidOperation:
            raise FileRefusedError(
                f"{shown}: quantity_total = {manifest['quantity_total']!r} is no decimal → mend the manifest"
            ) from None
        if total != expected:
            problems.append(f"its quantities add up to {total:f}, the manifest says {expected:f}")
    if problems:
        raise FileRefusedError(
            f"differs from {shown}: {'; '.join(problems)} → it was damaged or changed on its way; fetch it again"
        )


def _read_manifest(path: Path, shown: str) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, ValueError) as error:
        raise FileRefusedError(f"{shown} cannot be read: {error} → mend or remove the manifest") from None
    if not isinstance(manifest, dict):
        raise FileRefusedError(f"{shown} is no JSON object → mend or remove the manifest")
    return manifest


def _quantity_total(file: UsageFile, mapping: ColumnMapping) -> Decimal:
    column = pl.col(mapping.columns["quantity"])
    with _damage_refused():
        scan = pl.scan_parquet(file.path, glob=False, hive_partitioning=False)
        total = collect(scan.select(column.cast(QUANTITY).sum())).item()
    return Decimal(0) if total is None else Decimal(total)


class _damage_refused:  # noqa: N801  reads as a verb at the call site
    """Turn whatever a damaged file makes a reader raise into a refusal."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, pl.exceptions.PanicException):  # no Exception, so nothing else would catch it
            raise _damaged("its pages contradict its footer") from None
        if isinstance(error, pl.exceptions.PolarsError | duckdb.Error | OSError | ValueError | OverflowError):
            raise _damaged(str(error).strip() or type(error).__name__) from None


def _damaged(reason: str) -> FileRefusedError:
    return FileRefusedError(f"damaged Parquet: {reason.splitlines()[0][:300]} → ask its supplier for it again")
