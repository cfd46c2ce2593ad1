"""Reading usage files: found by glob, identified by content, never trusted."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ratemill.errors import UsageError
from ratemill.frames import collect
from ratemill.money import QUANTITY
from ratemill.usage.mapping import ColumnMapping, map_columns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratemill.config import Usage as UsageConfig

SLICE_ROWS = 2_000_000
"""Rows read at a time: bounds memory whatever the file's row groups are."""
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

    def slices(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """(number of the first row, frame) of bounded size, in file order.

        Raises:
            FileRefusedError: when the bytes turn out to be damaged.
        """
        scan = pl.scan_parquet(self.file.path, glob=False, hive_partitioning=False)
        columns = scan.select(self.mapping.file_columns)
        for offset in range(0, self.rows, SLICE_ROWS):
            with _damage_refused():
                frame = collect(columns.slice(offset, SLICE_ROWS))
            if frame.height != min(SLICE_ROWS, self.rows - offset):
                raise FileRefusedError("damaged Parquet: it holds fewer rows than its footer says → ask for it again")
            yield offset + 1, frame


def find_usage_files(root: Path, config: UsageConfig) -> list[UsageFile | tuple[str, str]]:
    """Every file that ``[usage] files`` names, by name; an unreadable one as (name, reason).

    Raises:
        UsageError: when a pattern points outside of what can be listed, or none is given.
    """
    if not config.files:
        raise UsageError('[usage] files is empty; name at least one pattern, such as "usage/*.parquet"')
    paths: set[Path] = set()
    for pattern in config.files:
        anchor = Path(pattern)
        folder, glob = (Path(anchor.anchor), str(anchor.relative_to(anchor.anchor))) if anchor.is_absolute() else (
            root, pattern)  # fmt: skip
        try:
            paths.update(path for path in folder.glob(glob) if path.is_file() or path.is_symlink())
        except (ValueError, NotImplementedError) as error:
            raise UsageError(f"[usage] files: {pattern!r} is not a usable pattern: {error}") from None
    found: list[UsageFile | tuple[str, str]] = []
    for path in sorted(path for path in paths if not path.name.endswith(MANIFEST_SUFFIX)):
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
        try:
            with path.open("rb") as handle:
                digest = hashlib.file_digest(handle, "sha256").hexdigest()
        except OSError as error:
            found.append((name, f"cannot be read: {error.strerror} → check the file and its permissions"))
        else:
            found.append(UsageFile(path, name, digest))
    return found


def open_usage_file(file: UsageFile, config: UsageConfig) -> OpenUsageFile:
    """Check size, footer, columns and the supplier's manifest, before any data is read.

    Raises:
        FileRefusedError: with every reason that can be seen from here.
    """
    size = file.path.stat().st_size
    if size == 0:
        raise FileRefusedError("the file is empty (0 bytes) → ask its supplier for it again")
    with _damage_refused():
        metadata = pq.read_metadata(file.path)
        schema = pl.read_parquet_schema(file.path)
    rows = metadata.num_rows
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
    _check_manifest(file, rows, mapping)
    return OpenUsageFile(file, rows, mapping)


def _check_manifest(file: UsageFile, rows: int, mapping: ColumnMapping) -> None:
    """Compare with ``<file>.manifest.json`` (sha256, rows, quantity_total; each optional), if there is one."""
    path = file.path.with_name(file.path.name + MANIFEST_SUFFIX)
    if not path.exists():
        return
    manifest = _read_manifest(path)
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
                f"{path.name}: quantity_total = {manifest['quantity_total']!r} is no decimal → mend the manifest"
            ) from None
        if total != expected:
            problems.append(f"its quantities add up to {total:f}, the manifest says {expected:f}")
    if problems:
        raise FileRefusedError(
            f"differs from {path.name}: {'; '.join(problems)} → it was damaged or changed on its way; fetch it again"
        )


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, ValueError) as error:
        raise FileRefusedError(f"{path.name} cannot be read: {error} → mend or remove the manifest") from None
    if not isinstance(manifest, dict):
        raise FileRefusedError(f"{path.name} is no JSON object → mend or remove the manifest")
    return manifest


def _quantity_total(file: UsageFile, mapping: ColumnMapping) -> Decimal:
    column = pl.col(mapping.columns["quantity"])
    with _damage_refused():
        scan = pl.scan_parquet(file.path, glob=False, hive_partitioning=False)
        total = collect(scan.select(column.cast(QUANTITY).sum())).item()
    return Decimal(0) if total is None else Decimal(total)


class _damage_refused:  # noqa: N801  reads as a verb at the call site
    """Turn whatever a damaged file makes a reader raise into a refusal.

    Polars can panic on damaged pages; its PanicException is no ``Exception``, so naming it is the only way.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(
            error, (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException, OSError, ValueError,
                    OverflowError)
        ):  # fmt: skip
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise FileRefusedError(
                f"not a readable Parquet file: {reason[:300]} → ask its supplier for it again"
            ) from None
